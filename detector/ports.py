"""What the worker needs from outside, as Protocols; ``infra`` implements them."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from typing import Protocol

import msgspec

from domain.detection import Outcome, Response
from domain.detection_policy import DetectionPolicy
from domain.events.alerts import AlertEvent
from domain.events.envelope import RecordedEvent
from domain.events.personal import Personal
from domain.ids import AlertId, CorrelationId, EventId, FamilyId, UserId

StateKey = tuple[int, str]
"""A scope's number and a key: see ``detector.memory``."""


class Stage(IntEnum):
    """Which half of the work an event is read for."""

    CROWD = 1
    """Sign-ins, failures and alerts of everybody, in the log's order, through one owner."""
    USERS = 2
    """Each user's events in order, shared among owners by user."""


class StoredState(msgspec.Struct, frozen=True):
    """A state to keep.

    Attributes:
        key: Its scope and key.
        subject_id: The user whose erasure takes it along; None where it is about no one user.
        state: Encoded; None drops it.
    """

    key: StateKey
    subject_id: UserId | None
    state: bytes | None


class AlertChange(msgspec.Struct, frozen=True, kw_only=True):
    """Events for one alert.

    Attributes:
        alert_id: The alert.
        subject_id: The user it is about; None for a crowd's.
        actor: Name of the rule.
        events: In order, each with its personal part.
        causation_id: The event that led to them.
        correlation_id: Of the request that that event came from.
    """

    alert_id: AlertId
    subject_id: UserId | None
    actor: str
    events: Sequence[tuple[AlertEvent, Personal | None]]
    causation_id: EventId
    correlation_id: CorrelationId


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done about a finding.

    Attributes:
        rule: The rule that asks for it: the actor of what follows.
        response: What; one that acts.
        user_id: Whose families.
        family_id: Which family the finding is about.
        causation_id: The event that led to it.
        correlation_id: Of the request that that event came from.
    """

    rule: str
    response: Response
    user_id: UserId
    family_id: FamilyId | None
    causation_id: EventId
    correlation_id: CorrelationId


class Reacted(msgspec.Struct, frozen=True):
    """What became of a reaction."""

    outcome: Outcome
    families: int


class Work(Protocol):
    """A batch of events, in one transaction: all that is written here commits with the checkpoint.

    If the body raises, nothing of it remains and the batch comes again.
    """

    @property
    def events(self) -> Sequence[RecordedEvent]:
        """In order; personal parts open where their keys still exist, else sealed."""
        ...

    async def policy(self) -> DetectionPolicy:
        """The detection policy in force. Cheap to ask: the same object until it changes."""
        ...

    async def load(self, keys: Collection[StateKey]) -> Mapping[StateKey, bytes]:
        """States that exist."""
        ...

    async def save(self, states: Sequence[StoredState]) -> None:
        """Keep states; the last of one key counts."""
        ...

    async def react(self, reactions: Sequence[Reaction]) -> Sequence[Reacted]:
        """Carry reactions out through the domain's commands, one outcome for each."""
        ...

    async def put_alerts(self, changes: Sequence[AlertChange]) -> None:
        """Append to alerts' streams."""
        ...

    async def set_aside(self, event: RecordedEvent, reason: str) -> None:
        """Keep a poison event where people see it; the work goes on without it."""
        ...

    def stop_before(self, index: int) -> None:
        """Let the batch end before one of its events: it comes again later."""
        ...


class Source(Protocol):
    """Where events come from: the log, or Kafka. Owns some partitions of a stage at a time."""

    def batches(
        self, stage: Stage, limit: Callable[[], int]
    ) -> AsyncIterator[AbstractAsyncContextManager[Work]]:
        """Batches of this worker's partitions, for ever; waits while there is nothing new.

        Args:
            stage: Which events, and in what order.
            limit: Asked before each batch: the most events that it may have.
        """
        ...
