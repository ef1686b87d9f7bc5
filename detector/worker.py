"""The worker: batches of events in, alerts and reactions out, all of it in the batch's transaction.

Two stages. The crowd's takes sign-ins, failures and alerts in the log's order and leaves for each
sign-in what the counts said of it; the users' judges each user's events, and waits for that. So
what is found does not depend on how many workers share the users.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from detector.alerting import Alerting
from detector.crowd import crowd_keys
from detector.crowd_context import CrowdContext
from detector.findings import Finding
from detector.memory import Key, Memory, Scope, State, decode_state, encode_state
from detector.observations import Kind, Observation
from detector.observing import observe_crowd, observe_user, user_keys
from detector.policy import RulesInForce
from detector.ports import Source, Work
from detector.profile import FamilyTrace
from detector.reading import EventReader
from detector.rulebook import Rulebook
from domain.detection_policy import DetectionPolicy
from domain.detection_work import Stage, StoredState
from domain.events.envelope import RecordedEvent
from domain.ids import UserId
from domain.ports import ConcurrencyError, StoreUnavailableError

BATCH = 500
_REST_S = (0.1, 0.5, 2.0, 5.0)
_log = logging.getLogger(__name__)


class Gauge(Protocol):
    """Told what the worker does."""

    def judged(self, stage: str, events: int, newest: float) -> None:
        """A batch is about to commit.

        Args:
            stage: Which.
            events: How many events it had.
            newest: When the latest of them happened, in seconds since 1970.
        """
        ...

    def found(self, rule: str, response: str) -> None:
        """A rule found something."""
        ...

    def poisoned(self, stage: str) -> None:
        """An event was set aside."""
        ...


class Worker:
    """Reads both stages until cancelled."""

    def __init__(
        self,
        source: Source,
        rules: Rulebook,
        reader: EventReader,
        gauge: Gauge,
        batch: int = BATCH,
    ) -> None:
        """Prepare; nothing is read before ``run``.

        Args:
            source: Where events come from and results go.
            rules: The rules.
            reader: Makes observations of events.
            gauge: Told what happens.
            batch: Events a transaction.
        """
        self._source = source
        self._rules = rules
        self._reader = reader
        self._gauge = gauge
        self._batch = batch
        self._in_force = RulesInForce(rules)

    async def run(self) -> None:
        """Work until cancelled; the batch under way then is finished or comes again."""
        async with asyncio.TaskGroup() as tasks:
            for stage in Stage:
                tasks.create_task(self._run(stage), name=f"detector {stage.name.lower()}")

    async def _run(self, stage: Stage) -> None:
        pace = _Pace(self._batch)
        async for opening in self._source.batches(stage, pace.limit):
            try:
                async with opening as work:
                    await self._take(stage, work, pace)
            except (StoreUnavailableError, ConcurrencyError) as error:
                _log.warning("the detector waits: %s", error)
                await asyncio.sleep(pace.rest())
            except Exception:  # noqa: BLE001 (one event must not stop the rest)
                _log.exception("a batch of the detector failed")
                pace.careful()
                await asyncio.sleep(pace.rest())
            else:
                pace.went_well()

    async def _take(self, stage: Stage, work: Work, pace: "_Pace") -> None:
        self._follow(await work.policy())
        events = list(work.events)
        if pace.gives_up_on(events):
            await work.set_aside(events[0], "it makes the batch fail; see the log")
            self._gauge.poisoned(stage.name.lower())
            return
        seen = await self._read(stage, work, events)
        if stage is Stage.CROWD:
            findings, memory = await self._crowd(work, seen)
        else:
            findings, memory = await self._users(work, seen)
        await Alerting(work, memory, self._in_force.policy.version).tell(findings)
        await work.save(list(_stored(memory)))
        if events:
            newest = events[-1].occurred_at.timestamp()
            self._gauge.judged(stage.name.lower(), len(events), newest)
        for _, finding in findings:
            self._gauge.found(finding.rule, finding.response.value)

    def _follow(self, policy: DetectionPolicy) -> None:
        if policy is not self._in_force.policy:
            self._in_force = RulesInForce(self._rules, policy)

    async def _read(
        self, stage: Stage, work: Work, events: Iterable[RecordedEvent]
    ) -> list[tuple[int, RecordedEvent, Observation]]:
        seen = []
        for index, event in enumerate(events):
            try:
                observation = self._reader.read(event)
            except Exception as error:  # noqa: BLE001 (one event must not stop the rest)
                _log.exception("event %s cannot be read", event.event_id)
                await work.set_aside(event, f"it cannot be read: {type(error).__name__}")
                self._gauge.poisoned(stage.name.lower())
                continue
            if observation is not None:
                seen.append((index, event, observation))
        return seen

    # ------------------------------------------------------------------------------- the crowd

    async def _crowd(
        self, work: Work, seen: Sequence[tuple[int, RecordedEvent, Observation]]
    ) -> tuple[list[tuple[RecordedEvent, Finding]], Memory]:
        memory = await _loaded(work, (key for _, _, each in seen for key in crowd_keys(each)))
        findings: list[tuple[RecordedEvent, Finding]] = []
        for _, event, each in seen:
            context, found = observe_crowd(memory, each, self._in_force)
            if context is not None:
                memory.put((Scope.CONTEXT, str(each.event_id)), context)
            findings.extend((event, finding) for finding in found)
        return findings, memory

    # ------------------------------------------------------------------------------- the users

    async def _users(
        self, work: Work, seen: Sequence[tuple[int, RecordedEvent, Observation]]
    ) -> tuple[list[tuple[RecordedEvent, Finding]], Memory]:
        keys: list[Key] = []
        for _, _, each in seen:
            keys.extend(user_keys(each))
            if each.kind is Kind.SIGN_IN:
                keys.append((Scope.CONTEXT, str(each.event_id)))
        memory = await _loaded(work, keys)
        findings: list[tuple[RecordedEvent, Finding]] = []
        for index, event, each in seen:
            context = None
            if each.kind is Kind.SIGN_IN:
                key: Key = (Scope.CONTEXT, str(each.event_id))
                context = memory.get(key, CrowdContext)
                if context is None:  # the crowd has not come so far
                    work.stop_before(index)
                    break
                memory.forget(key)
            found = observe_user(memory, each, context, self._in_force)
            findings.extend((event, finding) for finding in found)
        return findings, memory


class _Pace:
    """How many events at a time, and how long to rest after what went wrong."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._failures = 0
        self._one_by_one = 0
        self._suspect: str | None = None

    def limit(self) -> int:
        return 1 if self._one_by_one else self._batch

    def rest(self) -> float:
        self._failures += 1
        return _REST_S[min(self._failures, len(_REST_S)) - 1]

    def careful(self) -> None:
        """A batch failed for a reason of its own: find the event by going one by one."""
        if not self._one_by_one:
            self._one_by_one = self._batch
            self._suspect = None

    def gives_up_on(self, events: Sequence[RecordedEvent]) -> bool:
        """Whether the one event was tried alone before, and failed."""
        if not self._one_by_one or len(events) != 1:
            return False
        known, self._suspect = self._suspect, str(events[0].event_id)
        return known == self._suspect

    def went_well(self) -> None:
        self._failures = 0
        self._suspect = None
        self._one_by_one = max(0, self._one_by_one - 1)


async def _loaded(work: Work, keys: Iterable[Key]) -> Memory:
    memory = Memory()
    await hold(memory, work, keys)
    return memory


async def hold(memory: Memory, work: Work, keys: Iterable[Key]) -> None:
    """Load the states of keys that are not at hand."""
    missing = memory.missing(keys)
    if missing:
        stored = await work.load([(int(scope), key) for scope, key in missing])
        states: dict[Key, State] = {}
        for (number, key), state in stored.items():
            scope = Scope(number)
            states[scope, key] = decode_state(scope, state)
        memory.hold(states)


def _stored(memory: Memory) -> Iterable[StoredState]:
    for (scope, key), state in memory.changes():
        encoded = None if state is None else encode_state(state)
        yield StoredState((int(scope), key), _subject(scope, key, state), encoded)


def _subject(scope: Scope, key: str, state: State | None) -> UserId | None:
    """Whose erasure takes a state along."""
    match scope:
        case Scope.PROFILE | Scope.ACCOUNT:
            return UserId(key)
        case Scope.TRACE if isinstance(state, FamilyTrace):
            return state.user_id
        case _:
            return None
