"""What the worker needs from outside, as Protocols; ``infra`` implements them."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from domain.detection_policy import DetectionPolicy
from domain.detection_work import AlertChange, Reacted, Reaction, Stage, StateKey, StoredState
from domain.events.envelope import RecordedEvent
from domain.ids import UserId


class States(Protocol):
    """What is kept between events, in one transaction."""

    async def load(self, keys: Collection[StateKey]) -> Mapping[StateKey, bytes]:
        """States that exist."""
        ...

    async def save(self, states: Sequence[StoredState]) -> None:
        """Keep states; the last of one key counts."""
        ...


class Work(States, Protocol):
    """A batch of events, in one transaction: all that is written here commits with the checkpoint.

    If the body raises, nothing of it remains and the batch comes again.
    """

    @property
    def events(self) -> Sequence[RecordedEvent]:
        """In order; personal parts open where their keys still exist, else sealed."""
        ...

    async def forget(self, user_id: UserId, scopes: Collection[int]) -> None:
        """Drop the states of some scopes that are about one user."""
        ...

    async def naming(self, user_id: UserId, scope: int) -> Sequence[str]:
        """Keys of the states of a scope that name a user among others."""
        ...

    async def policy(self) -> DetectionPolicy:
        """The detection policy in force. Cheap to ask: the same object until it changes."""
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

    async def is_past_crowd(self, event: RecordedEvent) -> bool:
        """Whether the crowd's stage is done with an event: what it left can be loaded by now."""
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
