"""The worker: batches of events in, alerts and reactions out, all of it in the batch's transaction.

Two stages. The crowd's takes sign-ins, failures and alerts in the log's order and leaves for each
sign-in what the counts said of it; the users' judges each user's events, and waits for that. So
what is found does not depend on how many workers share the users.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from detector.alerting import Alerting
from detector.crowd import crowd_keys
from detector.crowd_context import CrowdContext
from detector.findings import Finding
from detector.forgetting import forget
from detector.loading import hold, loaded, save
from detector.memory import Key, Memory, Scope
from detector.observations import Kind, Observation
from detector.observing import observe_crowd, observe_user, user_keys
from detector.pace import Pace
from detector.policy import RulesInForce
from detector.ports import Source, Work
from detector.reading import EventReader
from detector.rulebook import Rulebook
from domain.detection_policy import DetectionPolicy
from domain.detection_work import Stage
from domain.events.envelope import RecordedEvent
from domain.events.registry import UnknownEventError
from domain.ports import ConcurrencyError, StoreUnavailableError

BATCH = 500
_log = logging.getLogger(__name__)

Seen = Sequence[tuple[int, RecordedEvent, Observation]]
"""What is to be judged of a batch: the event's index there, the event, what it says."""
Findings = list[tuple[RecordedEvent, Finding]]


class Gauge(Protocol):
    """Told what the worker does."""

    def judged(self, stage: str, events: int, newest: float) -> None:
        """A batch has committed.

        Args:
            stage: Which.
            events: How many events it had.
            newest: When the last of them happened, in seconds since 1970.
        """
        ...

    def found(self, rule: str, response: str) -> None:
        """A rule found something."""
        ...

    def poisoned(self, stage: str) -> None:
        """An event was set aside."""
        ...


class UnreadableError(Exception):
    """Several events at once cannot be read: they are tried one by one, with rests in between."""


class _Done(msgspec.Struct, frozen=True):
    """What a batch came to, to be told once it has committed."""

    events: Sequence[RecordedEvent] = ()
    findings: Findings = []
    poisoned: int = 0


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
        pace = Pace(self._batch)
        async for opening in self._source.batches(stage, pace.limit):
            try:
                async with opening as work:
                    done = await self._take(stage, work, pace)
            except (StoreUnavailableError, ConcurrencyError, UnknownEventError) as error:
                _log.warning("the detector waits: %s", error)
                await asyncio.sleep(pace.rest())
            except Exception:  # noqa: BLE001 (one event must not stop the rest)
                _log.exception("a batch of the detector failed")
                pace.careful()
                await asyncio.sleep(pace.rest())
            else:
                self._tell(stage, done)
                if done.poisoned:
                    # If it is not the event but us, let it not be all of them.
                    await asyncio.sleep(pace.rest())
                else:
                    pace.went_well()

    def _tell(self, stage: Stage, done: _Done) -> None:
        name = stage.name.lower()
        if done.events:
            newest = done.events[-1].occurred_at.timestamp()
            self._gauge.judged(name, len(done.events), newest)
        for _ in range(done.poisoned):
            self._gauge.poisoned(name)
        for _, finding in done.findings:
            self._gauge.found(finding.rule, finding.response.value)

    async def _take(self, stage: Stage, work: Work, pace: Pace) -> _Done:
        rules = self._under(await work.policy())
        events = work.events
        if pace.gives_up_on([event.event_id for event in events]):
            await work.set_aside(events[0], "it makes the batch fail; see the log")
            return _Done(poisoned=1)
        seen, unreadable = self._read(events)
        if len(unreadable) > 1:
            msg = "more than one event of a batch cannot be read: is it them, or us?"
            raise UnreadableError(msg)
        if stage is Stage.CROWD:
            findings, memory = await _of_crowd(work, seen, rules)
            taken = len(events)
        else:
            findings, memory, taken = await _of_users(work, seen, rules, len(events))
        await Alerting(work, memory, rules.policy.version).tell(findings)
        await save(work, memory)
        poisoned = [each for each in unreadable if each[0] < taken]
        for index, reason in poisoned:
            await work.set_aside(events[index], reason)
        return _Done(events[:taken], findings, len(poisoned))

    def _under(self, policy: DetectionPolicy) -> RulesInForce:
        if policy is not self._in_force.policy:
            self._in_force = RulesInForce(self._rules, policy)
        return self._in_force

    def _read(self, events: Iterable[RecordedEvent]) -> tuple[Seen, list[tuple[int, str]]]:
        """What there is to judge, and which events cannot be read, and why."""
        seen, unreadable = [], []
        for index, event in enumerate(events):
            try:
                observation = self._reader.read(event)
            except Exception as error:  # noqa: BLE001 (one event must not stop the rest)
                _log.exception("event %s cannot be read", event.event_id)
                unreadable.append((index, f"it cannot be read: {type(error).__name__}"))
                continue
            if observation is not None:
                seen.append((index, event, observation))
        return seen, unreadable


async def _of_crowd(work: Work, seen: Seen, rules: RulesInForce) -> tuple[Findings, Memory]:
    memory = await loaded(work, (key for _, _, each in seen for key in crowd_keys(each)))
    findings: Findings = []
    for _, event, each in seen:
        if each.kind is Kind.ERASED and each.user_id is not None:
            await forget(work, memory, Stage.CROWD, each.user_id)
            continue
        context, found = observe_crowd(memory, each, rules)
        if context is not None:
            memory.put(_context_key(each), context)
        findings.extend((event, finding) for finding in found)
    return findings, memory


async def _of_users(
    work: Work, seen: Seen, rules: RulesInForce, taken: int
) -> tuple[Findings, Memory, int]:
    """Judge as far as the crowd's stage has come; how many events of the batch that is."""
    keys: list[Key] = []
    for _, _, each in seen:
        keys.extend(user_keys(each))
        if each.kind is Kind.SIGN_IN:
            keys.append(_context_key(each))
    memory = await loaded(work, keys)
    findings: Findings = []
    for index, event, each in seen:
        if each.kind is Kind.ERASED and each.user_id is not None:
            await forget(work, memory, Stage.USERS, each.user_id)
            continue
        context = None
        if each.kind is Kind.SIGN_IN:
            key = _context_key(each)
            if not await _is_counted(work, memory, event, key):
                work.stop_before(index)
                return findings, memory, index
            context = memory.get(key, CrowdContext)
            memory.forget(key)
        found = observe_user(memory, each, context, rules)
        findings.extend((event, finding) for finding in found)
    return findings, memory, taken


async def _is_counted(work: Work, memory: Memory, event: RecordedEvent, key: Key) -> bool:
    """Whether the crowd's stage has come to a sign-in.

    Where it set the sign-in aside it has left no context, and never will.
    """
    if memory.get(key, CrowdContext) is not None:
        return True
    if not await work.is_past_crowd(event):
        return False
    await hold(memory, work, [key])  # it may have come since the states were loaded
    return True


def _context_key(seen: Observation) -> Key:
    return Scope.CONTEXT, str(seen.event_id)
