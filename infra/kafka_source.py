"""Kafka as the detector's source of events: ``detector.ports.Source``, for one worker of a group.

The group says which partitions are whose, the database how far each was read: a batch's results and
its bookmarks commit together, and only if the bookmarks are still as this worker knows them. So a
worker that was taken for dead, or messages that come twice, change nothing.

The users' stage comes from the topic. The crowd's needs everybody's events in the log's order; a
topic with partitions has no such order, so it is read from the log, by one owner, as without Kafka.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.events.envelope import RecordedEvent
from domain.events.registry import MalformedEventError, UnknownEventError
from domain.ids import EventId, Stream
from domain.ports import StoreUnavailableError
from infra.detector_log import PartitionLostError
from infra.detector_set_aside import Unread, set_aside, unreadable
from infra.detector_work import DetectorWork, Workbench, opened
from infra.ids import new_uuid
from infra.kafka_access import KafkaAccess, KafkaAwayError
from infra.kafka_bookmarks import Bookmarks
from infra.kafka_consumer import BEGINNING, GroupConsumer, Polled
from infra.kafka_messages import Envelope, MalformedMessageError, envelope_of, event_of
from infra.kafka_partition import (
    Bookmark,
    EventsMissingError,
    HeldPartition,
    Verdict,
    Waiting,
)
from infra.postgres import Connection, transaction

logger = logging.getLogger(__name__)

_BACKOFF_S: Final = 1.0
_REST_S: Final = 0.005
_ENOUGH: Final = 4000
_LONGEST_WAIT_S: Final = 60.0
_BOOKMARK_EVERY_S: Final = 5.0


class CrowdSource(Protocol):
    """Where the crowd's stage comes from."""

    def batches(
        self, stage: Stage, limit: Callable[[], int]
    ) -> AsyncIterator[AbstractAsyncContextManager[DetectorWork]]:
        """See ``detector.ports.Source.batches``."""
        ...


class KafkaSource:
    """Reads a worker's share of the topic. ``run`` has to run beside whoever asks for batches."""

    def __init__(
        self,
        engine: AsyncEngine,
        access: KafkaAccess,
        group: str,
        crowd: CrowdSource,
        bench: Workbench,
        types: Callable[[Stage], Collection[str]],
    ) -> None:
        """Connects to nothing yet.

        Args:
            engine: The pool.
            access: The brokers and the topic.
            group: The consumer group of all workers.
            crowd: The log, for the crowd's stage.
            bench: Begins batches.
            types: The event types that a stage wants.
        """
        self._engine = engine
        self._consumer = GroupConsumer(access, group)
        self._crowd = crowd
        self._bench = bench
        self._types = frozenset(types(Stage.USERS))
        self._bookmarks = Bookmarks(new_uuid())
        self._held: dict[int, HeldPartition] = {}
        self._to_take: set[int] = set()
        self._seeks: dict[int, int] = {}
        self._news = asyncio.Event()
        self._is_away = False

    async def batches(
        self, stage: Stage, limit: Callable[[], int]
    ) -> AsyncIterator[AbstractAsyncContextManager[DetectorWork]]:
        """See ``detector.ports.Source.batches``.

        While Kafka is away it waits. A partition waits whose next event only a newer build can
        read, or whose topic lacks events that were not judged; the others go on.
        """
        if stage is Stage.CROWD:
            async for opening in self._crowd.batches(stage, limit):
                yield opening
            return
        while True:
            self._news.clear()
            batch = self._next(limit())
            if batch:
                yield self._batch(batch)
                continue
            await self._news.wait()

    # ------------------------------------------------------------------------------- reading

    async def run(self) -> None:
        """Read on until cancelled, then leave the group."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "kafka-source") as thread:  # joined at the end of the block
            try:
                bookmarked_at = loop.time()
                while True:
                    await self._room()
                    await self._read(thread)
                    if loop.time() - bookmarked_at > _BOOKMARK_EVERY_S:
                        bookmarked_at = loop.time()
                        await self._bookmark_what_was_passed_over()
                        await loop.run_in_executor(thread, self._consumer.show, self._offsets())
            finally:
                await asyncio.shield(loop.run_in_executor(thread, self._consumer.close))

    async def _room(self) -> None:
        """Read no more while enough waits to be judged; heartbeats go on meanwhile.

        Partitions are not paused for it: kafka-python 3.0 does not always resume one that it had
        messages of at hand. Nor is there no end to the wait: a member that never reads is put out.
        """
        deadline = asyncio.get_running_loop().time() + _LONGEST_WAIT_S
        while sum(len(held.waiting) for held in self._held.values()) > _ENOUGH:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(_REST_S)

    async def _read(self, thread: ThreadPoolExecutor) -> None:
        try:
            await self._take()
            seeks, self._seeks = self._seeks, {}
            paused = {number for number, held in self._held.items() if held.is_stuck}
            loop = asyncio.get_running_loop()
            polled = await loop.run_in_executor(thread, self._consumer.poll, seeks, paused)
        except (KafkaAwayError, StoreUnavailableError) as error:
            self._note_away(error)
            if isinstance(error, KafkaAwayError):
                self._held.clear()
                self._to_take.clear()
            await asyncio.sleep(_BACKOFF_S)
            return
        self._is_away = False
        self._follow(polled)
        for number, messages in polled.messages.items():
            held = self._held.get(number)
            if held is not None:
                self._accept(held, messages)
        if any(held.waiting for held in self._held.values()):
            self._news.set()

    def _follow(self, polled: Polled) -> None:
        """Let go of what is gone; what is fresh is taken before anything is read of it."""
        for number in polled.gone | polled.fresh:
            self._held.pop(number, None)
            self._seeks.pop(number, None)
            self._to_take.discard(number)
        self._to_take |= polled.fresh

    async def _take(self) -> None:
        """Become the owner of fresh partitions, and find out where each stands."""
        if not self._to_take:
            return
        async with transaction(self._engine) as connection:
            stored = await self._bookmarks.take(connection, sorted(self._to_take))
        for number, bookmark in stored.items():
            self._held[number] = held = HeldPartition(number, bookmark)
            self._seeks[number] = held.first_offset
        self._to_take.clear()

    def _accept(self, held: HeldPartition, messages: Sequence[tuple[int, bytes]]) -> None:
        for offset, value in messages:
            if held.is_stuck:
                return
            try:
                envelope = envelope_of(value)
                verdict = held.judge(offset, envelope.place)
                if verdict is Verdict.READ_FROM_BEGINNING:
                    self._seeks[held.number] = BEGINNING
                    return
                if verdict is Verdict.TAKE and envelope.type in self._types:
                    held.waiting.append(Waiting(offset, envelope.place, _event_of(envelope)))
            except MalformedMessageError as error:
                where = {"partition": held.number, "offset": offset}
                logger.error("passed over: %s", error, extra=where)  # noqa: TRY400
            except (EventsMissingError, UnknownEventError) as error:
                held.is_stuck = True
                logger.error("the detector waits: %s", error)  # noqa: TRY400

    async def _bookmark_what_was_passed_over(self) -> None:
        """Move bookmarks over events that nobody wants, so that they may expire on the topic."""
        idle = [
            held
            for held in self._held.values()
            if not held.waiting and held.read != held.stored and not held.is_stuck
        ]
        if not idle:
            return
        moved = {held.number: held.read for held in idle}
        with contextlib.suppress(StoreUnavailableError, PartitionLostError):
            async with transaction(self._engine) as connection:
                await self._bookmarks.hold(connection, _stored(idle))
                await self._bookmarks.move(connection, moved)
            for held in idle:
                held.settle(0, moved[held.number])

    def _offsets(self) -> dict[int, int]:
        return {
            number: held.stored.offset
            for number, held in self._held.items()
            if held.stored.offset is not None
        }

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            logger.warning("the detector waits for events, and will go on: %s", error)
        self._is_away = True

    # ------------------------------------------------------------------------------- batches

    def _next(self, limit: int) -> list[tuple[HeldPartition, Waiting]]:
        """The next events of all partitions, in the log's order as far as they have come."""
        waiting = [
            (held, each) for held in self._held.values() for each in list(held.waiting)[:limit]
        ]
        return sorted(waiting, key=lambda each: each[1].place)[:limit]

    @asynccontextmanager
    async def _batch(
        self, batch: Sequence[tuple[HeldPartition, Waiting]]
    ) -> AsyncIterator[DetectorWork]:
        partitions = {held.number: held for held, _ in batch}
        try:
            async with transaction(self._engine) as connection:
                await self._bookmarks.hold(connection, _stored(partitions.values()))
                work = await self._work(connection, [each for _, each in batch])
                yield work
                taken = _taken(batch, work)
                moved = {number: partitions[number].counted(each) for number, each in taken.items()}
                await set_aside(connection, Stage.USERS, _unread(taken))
                await self._bookmarks.move(connection, moved)
        except PartitionLostError:
            self._give_up(partitions)
            raise
        for number, bookmark in moved.items():
            if self._held.get(number) is partitions[number]:
                partitions[number].settle(len(taken[number]), bookmark)
        if work.taken < len(work.events):
            await asyncio.sleep(_REST_S)  # for what it waits for to come nearer

    async def _work(self, connection: Connection, waiting: Sequence[Waiting]) -> DetectorWork:
        """What there is to judge of these: not what nobody can read, nor what was judged before."""
        events = [each.event for each in waiting if isinstance(each.event, RecordedEvent)]
        before = await self._bookmarks.judged_on_the_log(connection, events)
        events = [each for each in events if each.event_id not in before]
        events = await opened(connection, events, self._bench.data_keys)
        return self._bench.begin(connection, Stage.USERS, events)

    def _give_up(self, partitions: Mapping[int, HeldPartition]) -> None:
        """Another worker has been here: ask the database anew, if the group says they are ours."""
        for number, held in partitions.items():
            if self._held.get(number) is held:
                del self._held[number]
                self._to_take.add(number)


def _event_of(envelope: Envelope) -> RecordedEvent | Unread:
    try:
        return event_of(envelope)
    except MalformedEventError as error:
        return unreadable(
            envelope.place,
            EventId(envelope.event_id),
            Stream(envelope.stream),
            envelope.type,
            error,
        )


def _unread(taken: Mapping[int, Sequence[Waiting]]) -> list[Unread]:
    return [
        each.event for group in taken.values() for each in group if isinstance(each.event, Unread)
    ]


def _stored(partitions: Iterable[HeldPartition]) -> dict[int, Bookmark]:
    return {held.number: held.stored for held in partitions}


def _taken(
    batch: Sequence[tuple[HeldPartition, Waiting]], work: DetectorWork
) -> dict[int, list[Waiting]]:
    """What the work took of each partition: all, or what comes before the event it stopped at."""
    end = work.events[work.taken] if work.taken < len(work.events) else None
    taken: dict[int, list[Waiting]] = {}
    for held, each in batch:
        if end is not None and each.place >= (end.transaction_id, end.position):
            break
        taken.setdefault(held.number, []).append(each)
    return taken
