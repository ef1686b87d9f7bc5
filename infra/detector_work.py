"""One batch of the detector, in its transaction: states, reactions, alerts, what is set aside."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from domain.alert import Alert
from domain.detection_policy import DetectionPolicy
from domain.detection_work import AlertChange, Reacted, Reaction, Stage
from domain.events.alerts import AlertRaised
from domain.events.envelope import Actor, ActorKind, Cause, NewEvent, RecordedEvent
from domain.events.personal import Sealed
from domain.ids import SYSTEM_SUBJECT, AlertId, UserId
from domain.ports import ConcurrencyError
from infra.alert_store import AlertAppend, append_of, load_alerts, put_alerts
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_leases import TRANSPORT
from infra.detector_reactions import Reactions
from infra.detector_set_aside import Unread, set_aside
from infra.detector_states import DetectorStates
from infra.event_store import database_clock
from infra.postgres import Connection
from infra.sealing import DataKey, DataKeys, UnsealError
from infra.subject_keys import hold_subject_keys, system_key
from infra.tail import Place

_KEYS = "SELECT subject_id, wrapped_key FROM data_keys WHERE subject_id = ANY(%s::uuid[])"
_CROWD_IS_AT = """
SELECT (transaction_id, position) >= (%s::text::xid8, %s) FROM detector_partitions
 WHERE transport = %s AND stage = %s AND partition = 0
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workbench:
    """What every batch of a worker is dealt with, whatever transport its events come by.

    Attributes:
        policies: The detection policy.
        reactions: Carries reactions out.
        data_keys: Opens what events say of persons, and seals what alerts do.
    """

    policies: DetectionPolicyStore
    reactions: Reactions
    data_keys: DataKeys

    def begin(
        self, connection: Connection, stage: Stage, events: Sequence[RecordedEvent]
    ) -> "DetectorWork":
        """Begin a batch.

        Args:
            connection: In the transaction that holds its partitions.
            stage: What the events are read for.
            events: The batch, opened.
        """
        return DetectorWork(self, connection, stage, events)


class DetectorWork(DetectorStates):
    """``detector.ports.Work`` over PostgreSQL; ``Workbench.begin`` makes it."""

    def __init__(
        self,
        bench: Workbench,
        connection: Connection,
        stage: Stage,
        events: Sequence[RecordedEvent],
    ) -> None:
        """See ``Workbench.begin``."""
        super().__init__(connection)
        self._stage = stage
        self._events = events
        self._policies = bench.policies
        self._reactions = bench.reactions
        self._data_keys = bench.data_keys
        self.taken = len(events)
        """How many of the events count as dealt with."""

    @property
    def events(self) -> Sequence[RecordedEvent]:
        """See ``detector.ports.Work.events``."""
        return self._events

    async def policy(self) -> DetectionPolicy:
        """See ``detector.ports.Work.policy``."""
        return await self._policies.read(self._connection)

    async def react(self, reactions: Sequence[Reaction]) -> Sequence[Reacted]:
        """See ``detector.ports.Work.react``."""
        if not reactions:
            return []
        return await self._reactions.carry_out(self._connection, reactions)

    async def put_alerts(self, changes: Sequence[AlertChange]) -> None:
        """See ``detector.ports.Work.put_alerts``.

        An alert that is there already stays as it is where it would be raised again.
        """
        if not changes:
            return
        alert_ids = sorted({change.alert_id for change in changes})
        keys = await self._keys_of(changes)
        loaded = await load_alerts(self._connection, alert_ids)
        alerts: dict[AlertId, Alert] = {key: each.alert for key, each in loaded.items()}
        at = await database_clock(self._connection)
        appends: dict[AlertId, list[AlertAppend]] = {}
        for change in changes:
            before = alerts.get(change.alert_id)
            if before is not None and isinstance(change.events[0][0], AlertRaised):
                continue
            cause = Cause(
                Actor(ActorKind.RULE, change.actor), change.correlation_id, change.causation_id
            )
            new = [(NewEvent(event, personal), cause) for event, personal in change.events]
            key = keys.get(change.subject_id or SYSTEM_SUBJECT)
            append = append_of(before, change.alert_id, new, key, at)
            alerts[change.alert_id] = append.after
            appends.setdefault(change.alert_id, []).append(append)
        # One alert may change several times in a batch: each change builds on the one before.
        while appends:
            now = [each.pop(0) for each in appends.values()]
            if len(await put_alerts(self._connection, now)) != len(now):
                msg = "an alert moved on although its row was held"
                raise ConcurrencyError(msg)
            appends = {key: each for key, each in appends.items() if each}

    async def set_aside(self, event: RecordedEvent, reason: str) -> None:
        """See ``detector.ports.Work.set_aside``."""
        place = Place(event.transaction_id, event.position)
        unread = Unread(place, event.event_id, event.stream, event.event.TYPE, reason)
        await set_aside(self._connection, self._stage, [unread])

    def stop_before(self, index: int) -> None:
        """See ``detector.ports.Work.stop_before``."""
        self.taken = min(self.taken, index)

    async def is_past_crowd(self, event: RecordedEvent) -> bool:
        """See ``detector.ports.Work.is_past_crowd``."""
        cursor = await self._connection.execute(
            _CROWD_IS_AT,
            (str(event.transaction_id), event.position, TRANSPORT, int(Stage.CROWD)),
        )
        row = await cursor.fetchone()
        return row is not None and bool(row[0])

    async def _keys_of(self, changes: Sequence[AlertChange]) -> dict[UserId, DataKey]:
        subjects = {change.subject_id for change in changes}
        held = await hold_subject_keys(
            self._connection, [each for each in subjects if each is not None]
        )
        keys = {each: self._data_keys.unwrap(wrapped, each) for each, wrapped in held.items()}
        if None in subjects:
            keys[SYSTEM_SUBJECT] = await system_key(self._connection, self._data_keys)
        return keys


async def opened(
    connection: Connection, events: Sequence[RecordedEvent], data_keys: DataKeys
) -> list[RecordedEvent]:
    """Events with their personal parts open, as far as their subjects' keys still exist."""
    sealed = {
        event.subject_id
        for event in events
        if event.subject_id is not None and isinstance(event.personal, Sealed)
    }
    cursor = await connection.execute(_KEYS, (list(sealed),), binary=True)
    keys: dict[UserId, bytes] = dict(await cursor.fetchall())
    return [
        unsealed(event, None if event.subject_id is None else keys.get(event.subject_id), data_keys)
        for event in events
    ]


def unsealed(event: RecordedEvent, wrapped_key: bytes | None, data_keys: DataKeys) -> RecordedEvent:
    """An event with its personal part open; as it is where its subject was erased.

    One that does not open although there is a key stays sealed too: what the rest of it tells is
    judged, and the log says so.
    """
    personal, subject_id = event.personal, event.subject_id
    if wrapped_key is None or subject_id is None or not isinstance(personal, Sealed):
        return event
    try:
        return replace(event, personal=data_keys.unwrap(wrapped_key, subject_id).open(personal))
    except UnsealError as error:
        _log.error("event %s is judged without its client: %s", event.event_id, error)
        return event
