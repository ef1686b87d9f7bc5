"""Folding the log in its own order, where streams lie among one another: for time travel.

In that order an event can come before its predecessor in the stream: a transaction that wrote
something first may wait for another one, and then append behind it. Such an event waits here for
its turn, so a state is always the fold of a stream's first so many events, whatever is left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_args

from domain.alert import Alert
from domain.events.alerts import AlertEvent
from domain.events.families import FamilyEvent
from domain.events.personal import Sealed
from domain.events.registry import MalformedEventError, decode_event
from domain.events.users import UserEvent
from domain.family import Family, ImpossibleEventError
from domain.ids import Stream, UserId, parse_uuid
from domain.user import User
from projections.folding import ALERTS, FAMILIES, USERS, DamagedStream, FoldRules, StoredEvent

AnyState = Family | User | Alert


class StateKind(StrEnum):
    """What a stream's events fold into."""

    FAMILY = "family"
    USER = "user"
    ALERT = "alert"


# Any: here users, families and alerts are treated alike.
_RULES: Mapping[StateKind, FoldRules[Any]] = {
    StateKind.FAMILY: FAMILIES,
    StateKind.USER: USERS,
    StateKind.ALERT: ALERTS,
}
_BY_EVENT: Mapping[type, FoldRules[Any]] = {
    event_type: rules
    for rules, events in ((FAMILIES, FamilyEvent), (USERS, UserEvent), (ALERTS, AlertEvent))
    for event_type in get_args(events)
}


def prefix_of(kind: StateKind) -> str:
    """How the names of the streams of a kind begin."""
    return _RULES[kind].prefix


def kind_of(state: AnyState) -> StateKind:
    """What kind of state it is."""
    match state:
        case Family():
            return StateKind.FAMILY
        case User():
            return StateKind.USER
        case Alert():
            return StateKind.ALERT


def stream_of(state: AnyState) -> Stream:
    """The stream that it is the fold of."""
    match state:
        case Family():
            return Stream(FAMILIES.prefix + state.family_id)
        case User():
            return Stream(USERS.prefix + state.user_id)
        case Alert():
            return Stream(ALERTS.prefix + state.alert_id)


def subject_of(state: AnyState) -> UserId:
    """The user that it is about; the service's own subject where it is about none."""
    return state.subject_id if isinstance(state, Alert) else state.user_id


@dataclass(frozen=True, slots=True)
class Waiting:
    """A stream that has events whose predecessor did not come.

    Attributes:
        stream: Its name.
        due: The version that is missing.
        came: The first version that came without it.
    """

    stream: Stream
    due: int
    came: int


class LogFold:
    """Folds events of many streams as the log has them; personal parts stay sealed."""

    def __init__(self, states: Iterable[AnyState] = ()) -> None:
        """Go on from states, or from nothing."""
        self._states: dict[Stream, Any] = {stream_of(state): state for state in states}
        self._damaged: dict[Stream, DamagedStream] = {}
        self._waiting: dict[Stream, dict[int, StoredEvent]] = {}

    @property
    def states(self) -> Mapping[Stream, AnyState]:
        """The states, by stream; not of those that are damaged."""
        return self._states

    @property
    def damaged(self) -> list[DamagedStream]:
        """Streams that no history of ours could have left."""
        return list(self._damaged.values())

    @property
    def waiting(self) -> list[Waiting]:
        """Streams with events that were not folded, since those before them are missing."""
        return [
            Waiting(stream, self._due(stream), min(events))
            for stream, events in self._waiting.items()
        ]

    def feed(self, events: Iterable[StoredEvent]) -> None:
        """Fold events.

        Args:
            events: In the log's order, and following those that were fed before.

        Raises:
            UnknownEventError: A newer build wrote one of them.
        """
        states = self._states
        for stored in events:
            stream = stored[0]
            state = states.get(stream)
            if stored[1] != (1 if state is None else state.version + 1):
                self._out_of_turn(stored)
            elif stream not in self._damaged:
                self._fold(stored, state)
                if stream in self._waiting:
                    self._resume(stream)

    def damage(self, stream: Stream, fault: str) -> None:
        """Note that a stream cannot be folded: it has no state any more."""
        self._damaged[stream] = DamagedStream(stream, fault)
        self._states.pop(stream, None)
        self._waiting.pop(stream, None)

    def _due(self, stream: Stream) -> int:
        state = self._states.get(stream)
        return 1 if state is None else int(state.version) + 1

    def _out_of_turn(self, stored: StoredEvent) -> None:
        stream, version = stored[0], stored[1]
        if stream in self._damaged:
            return
        due = self._due(stream)
        if version < due:
            self.damage(stream, f"version {version} where version {due} is due")
        else:
            self._waiting.setdefault(stream, {})[version] = stored

    def _resume(self, stream: Stream) -> None:
        waiting = self._waiting[stream]
        while (stored := waiting.pop(self._due(stream), None)) is not None:
            self._fold(stored, self._states.get(stream))
        if not waiting:
            self._waiting.pop(stream, None)

    def _fold(self, stored: StoredEvent, state: Any) -> None:  # noqa: ANN401 (of any kind)
        """The step that a replay spends its time in."""
        stream, version, type_, schema_version, at, data, event_id, box = stored
        try:
            event = decode_event(type_, schema_version, data)
            rules = _BY_EVENT.get(type(event))
            if rules is None or not stream.startswith(rules.prefix):
                self.damage(stream, f"version {version}: {type_} does not belong there")
                return
            owner = stream[len(rules.prefix) :]
            if state is None and parse_uuid(owner) != owner:
                self.damage(stream, "its name holds no id")
                return
            personal = None if box is None else Sealed(event_id, box)
            self._states[stream] = rules.evolve(state, owner, event, personal, at)
        except (ImpossibleEventError, MalformedEventError, OverflowError) as error:
            self.damage(stream, f"version {version}: {error}")
