"""The relay: publishes the log to the topic, in order, from where the last one stopped.

Any number of relays may run; one at a time has the turn, by a lock that its database session holds
and that ends with it. The checkpoint moves after the brokers have a batch, in a statement of its
own: a writing transaction that waited for Kafka would hold every reader of the log back. So a
relay that is killed in between, or one that lost its turn without noticing, publishes again what is
there already. Consumers drop what is not above the place that they have reached on a partition;
``kafka_publisher`` says why that loses nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVarTuple, Unpack

from domain.ports import StoreUnavailableError
from infra.kafka_access import KafkaAccess, KafkaAwayError, reader_of
from infra.kafka_messages import message_of
from infra.kafka_metrics import RelayMetrics
from infra.kafka_publisher import Publisher
from infra.postgres import Connection, connect, translated_faults
from infra.tail import START, Place, TailLag, read_tail_records, tail_lag

_ArgumentsT = TypeVarTuple("_ArgumentsT")
logger = logging.getLogger(__name__)

_AT_ONCE: Final = 1000
_POLL_S: Final = (0.01, 0.02, 0.04, 0.08)
"""Pauses when there is nothing new: what an event may wait for, against a query's cost each."""
_TURN_S: Final = 0.5
_LOOK_S: Final = 1.0
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0)

_OCCURRED_AT: Final = 7
"""Where a row of the tail has its time."""

_MOVE = """
INSERT INTO checkpoints (reader, transaction_id, position, updated_at)
VALUES (%s, %s::text::xid8, %s, clock_timestamp())
    ON CONFLICT (reader) DO UPDATE
   SET transaction_id = excluded.transaction_id, position = excluded.position,
       updated_at = excluded.updated_at
"""

_WAITING = """
SELECT count(*) FROM events
 WHERE transaction_id >= %s::text::xid8 AND (transaction_id, position) > (%s::text::xid8, %s)
"""


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """Where publishing stands.

    Attributes:
        place: The last event that is on the topic.
        waiting: Events that are not there yet.
        lag: How old the oldest of them is, and who holds the log's tail back, if anybody.
    """

    place: Place
    waiting: int
    lag: TailLag


async def relay_status(conninfo: str, topic: str) -> RelayStatus:
    """How far the relay of a topic is, whichever process it runs in.

    Raises:
        StoreUnavailableError: The database cannot be reached.
    """
    with translated_faults():
        async with await connect(conninfo) as connection:
            place = await _checkpoint(connection, topic)
            transaction_id = str(place.transaction_id)
            cursor = await connection.execute(
                _WAITING, (transaction_id, transaction_id, place.position)
            )
            row = await cursor.fetchone()
            return RelayStatus(place, row[0] if row else 0, await tail_lag(connection, place))


class KafkaRelay:
    """Publishes the log to a topic until it is told to stop."""

    def __init__(self, conninfo: str, access: KafkaAccess, metrics: RelayMetrics) -> None:
        """Connects to nothing yet.

        Args:
            conninfo: The database, as the service's role.
            access: The brokers and the topic.
            metrics: Told what happens.
        """
        self._conninfo = conninfo
        self._topic = access.topic
        self._publisher = Publisher(access)
        self._metrics = metrics
        self._failures = 0
        self._stands_by = False
        self._look_again_at = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until ``stopping`` is set; then finish the batch under way.

        A database or brokers that are away are waited for; nothing is lost or out of order.
        """
        with ThreadPoolExecutor(1, "kafka-relay") as thread:  # joined at the end of the block
            try:
                while not stopping.is_set():
                    try:
                        await self._take_turn(thread, stopping)
                    except (StoreUnavailableError, KafkaAwayError) as error:
                        self._note_failure(error)
                        await _wait(stopping, _BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1])
            finally:
                await _in(thread, self._publisher.close)

    async def _take_turn(self, thread: ThreadPoolExecutor, stopping: asyncio.Event) -> None:
        """Relay if nobody else does, or else wait for a moment."""
        with translated_faults():
            async with await connect(self._conninfo) as connection:
                while not await _has_lock(connection, self._topic):
                    self._note_standing_by()
                    if await _wait(stopping, _TURN_S):
                        return
                self._stands_by = False
                self._metrics.has_turn()
                await self._relay(connection, thread, stopping)

    async def _relay(
        self, connection: Connection, thread: ThreadPoolExecutor, stopping: asyncio.Event
    ) -> None:
        place = await _checkpoint(connection, self._topic)
        pauses = _Pauses(stopping)
        while not stopping.is_set():
            records = await read_tail_records(connection, place, _AT_ONCE)
            if not records:
                await self._note_what_waits(connection, place)
                await pauses.next()
                continue
            pauses.reset()
            self._metrics.oldest_waiting(records[0][_OCCURRED_AT])
            messages = [message_of(record) for record in records]
            await _in(thread, self._publisher.publish, messages)
            place = messages[-1].place
            await _move_checkpoint(connection, self._topic, place)
            self._metrics.published(len(messages))
            self._metrics.oldest_waiting(None)
            self._note_success()

    async def _note_what_waits(self, connection: Connection, place: Place) -> None:
        """Events that the tail does not hand out yet, because a transaction is still open."""
        now = asyncio.get_running_loop().time()
        if now < self._look_again_at:
            return
        self._look_again_at = now + _LOOK_S
        behind = (await tail_lag(connection, place)).behind
        self._metrics.oldest_waiting(datetime.now(UTC) - behind if behind else None)

    def _note_failure(self, error: StoreUnavailableError | KafkaAwayError) -> None:
        self._failures += 1
        away = "kafka" if isinstance(error, KafkaAwayError) else "database"
        self._metrics.failed(away)
        if self._failures == 1:
            logger.warning("the relay waits, and will go on where it stopped: %s", error)
        else:
            logger.info("the relay still waits: %s", error, extra={"attempts": self._failures})

    def _note_success(self) -> None:
        if self._failures:
            logger.warning("the relay goes on", extra={"failed_attempts": self._failures})
        self._failures = 0

    def _note_standing_by(self) -> None:
        if not self._stands_by:
            logger.info("another relay publishes to %s: standing by", self._topic)
        self._stands_by = True
        self._metrics.stands_by()


class _Pauses:
    """Pauses between looks at a log with nothing new: short at first, then longer."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._count = 0

    def reset(self) -> None:
        self._count = 0

    async def next(self) -> None:
        await _wait(self._stopping, _POLL_S[min(self._count, len(_POLL_S) - 1)])
        self._count += 1


async def _wait(stopping: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until told to stop; returns whether told."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
    return stopping.is_set()


async def _in(
    thread: ThreadPoolExecutor,
    function: Callable[[Unpack[_ArgumentsT]], None],
    *arguments: *_ArgumentsT,
) -> None:
    """Run what blocks in the relay's thread."""
    await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)


async def _has_lock(connection: Connection, topic: str) -> bool:
    """Take the turn if nobody has it. It lasts as long as the connection."""
    cursor = await connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (reader_of(topic),)
    )
    return await cursor.fetchone() == (True,)


async def _checkpoint(connection: Connection, topic: str) -> Place:
    cursor = await connection.execute(
        "SELECT transaction_id, position FROM checkpoints WHERE reader = %s",
        (reader_of(topic),),
        binary=True,
    )
    record = await cursor.fetchone()
    return START if record is None else Place(*record)


async def _move_checkpoint(connection: Connection, topic: str, place: Place) -> None:
    await connection.execute(_MOVE, (reader_of(topic), str(place.transaction_id), place.position))
