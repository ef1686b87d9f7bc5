"""The log as the detector's source of events: ``detector.ports.Source``, for one worker of many.

A worker reads all of its partitions at once as long as they stand at the same place, which they do
but for the moments after one changed hands.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.events.registry import UnknownEventError
from domain.ports import ConcurrencyError, StoreUnavailableError
from infra.detector_leases import IDLE_LIMIT, LEASE_S, PARTITIONS, TRANSPORT, Leases
from infra.detector_reading import END, Passage, read_passage
from infra.detector_set_aside import set_aside
from infra.detector_work import DetectorWork, Workbench
from infra.postgres import Connection, transaction
from infra.tail import Place

_SHORTEST_REST_S: Final = 0.005
_LONGEST_REST_S: Final = 0.05
_BACKOFF_S: Final = 1.0
_BOOKMARK_EVERY_S: Final = 5.0
_log = logging.getLogger(__name__)

_HOLD = f"""
SELECT partition, transaction_id, position, {IDLE_LIMIT}
  FROM detector_partitions
 WHERE transport = %(transport)s AND stage = %(stage)s AND partition = ANY(%(partitions)s)
   AND owner = %(worker)s
 ORDER BY partition FOR UPDATE
"""  # noqa: S608 (a constant of ours)
_MOVE = """
UPDATE detector_partitions
   SET transaction_id = %(xid)s::text::xid8, position = %(position)s,
       updated_at = clock_timestamp(),
       leased_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE transport = %(transport)s AND stage = %(stage)s AND partition = ANY(%(partitions)s)
   AND owner = %(worker)s
   AND (transaction_id, position) < (%(xid)s::text::xid8, %(position)s)
RETURNING partition
"""


class PartitionLostError(ConcurrencyError):
    """Another worker has taken a partition over: what was done here is undone."""


@dataclass(slots=True)
class _Cursor:
    """Where a partition stands: as the database has it, and as far as it was looked through."""

    stored: Place
    looked: Place


class _Reader:
    """What one stage keeps between its batches."""

    def __init__(self) -> None:
        self.cursors: dict[int, _Cursor] = {}
        self.changes = -1
        """Of the leases, when the cursors were made to follow them."""
        self.bookmarked_at = 0.0
        self.rest_s = _SHORTEST_REST_S

    async def rest(self) -> None:
        """A little longer each time, until there was something to do."""
        await asyncio.sleep(self.rest_s)
        self.rest_s = min(_LONGEST_REST_S, self.rest_s * 2)


class LogSource:
    """Reads a worker's share of the log."""

    def __init__(
        self,
        engine: AsyncEngine,
        leases: Leases,
        bench: Workbench,
        types: Callable[[Stage], Collection[str]],
    ) -> None:
        """Read as the owner of these leases.

        Args:
            engine: The pool.
            leases: Which partitions are this worker's.
            bench: Begins batches.
            types: The event types that a stage wants.
        """
        self._engine = engine
        self._leases = leases
        self._bench = bench
        self._types = {stage: sorted(types(stage)) for stage in Stage}
        self._readers = {stage: _Reader() for stage in Stage}

    async def batches(
        self, stage: Stage, limit: Callable[[], int]
    ) -> AsyncIterator[AbstractAsyncContextManager[DetectorWork]]:
        """See ``detector.ports.Source.batches``.

        While the database is away, and at an event that only a newer build can read, it waits.
        """
        reader = self._readers[stage]
        while True:
            try:
                partitions, passage = await self._next(stage, limit())
            except StoreUnavailableError as error:
                _log.warning("the detector waits for the database: %s", error)
                await asyncio.sleep(_BACKOFF_S)
                continue
            except UnknownEventError as error:
                _log.error("the detector waits: %s", error)
                await asyncio.sleep(_BACKOFF_S)
                continue
            if passage is None:
                await reader.rest()
            else:
                yield self._batch(stage, partitions, passage)

    async def _next(self, stage: Stage, limit: int) -> tuple[list[int], Passage | None]:
        """The next events of the partitions that are furthest behind."""
        reader = self._readers[stage]
        async with transaction(self._engine) as connection:
            await self._follow_leases(connection, stage)
            cursors = reader.cursors
            if not cursors:
                return [], None
            behind = min(cursor.looked for cursor in cursors.values())
            partitions = [key for key, cursor in cursors.items() if cursor.looked == behind]
            others = [cursor.looked for cursor in cursors.values() if cursor.looked != behind]
            everybody = stage is Stage.CROWD or len(partitions) == PARTITIONS
            passage = await read_passage(
                connection,
                behind,
                min(others, default=END),
                self._types[stage],
                None if everybody else partitions,
                self._bench.data_keys,
                limit,
            )
            if passage.places:
                return partitions, passage
            for partition in partitions:
                cursors[partition].looked = max(behind, passage.end)
            await self._bookmark(connection, stage)
        return [], None

    async def _follow_leases(self, connection: Connection, stage: Stage) -> None:
        reader = self._readers[stage]
        changes = self._leases.changes
        if reader.changes == changes:
            return
        places = await self._leases.places(connection, stage)
        kept = {}
        for partition, place in places.items():
            known = reader.cursors.get(partition)
            is_unmoved = known is not None and known.stored == place
            kept[partition] = known if known and is_unmoved else _Cursor(place, place)
        reader.cursors, reader.changes = kept, changes

    async def _bookmark(self, connection: Connection, stage: Stage) -> None:
        """Now and then put on record how far there was nothing for this worker.

        So that the next owner does not look there again, and everybody sees how far it is.
        """
        reader = self._readers[stage]
        now = asyncio.get_running_loop().time()
        looked = min(cursor.looked for cursor in reader.cursors.values())
        passed = [key for key, cursor in reader.cursors.items() if cursor.stored < looked]
        if not passed or now - reader.bookmarked_at < _BOOKMARK_EVERY_S:
            return
        reader.bookmarked_at = now
        for partition in await self._move(connection, stage, passed, looked):
            reader.cursors[partition].stored = looked

    @asynccontextmanager
    async def _batch(
        self, stage: Stage, partitions: list[int], passage: Passage
    ) -> AsyncIterator[DetectorWork]:
        reader = self._readers[stage]
        async with transaction(self._engine) as connection:
            await self._hold(connection, stage, partitions)
            work = self._bench.begin(connection, stage, passage.events)
            yield work
            moved, unread = passage.before(work.taken)
            if unread:
                await set_aside(connection, stage, unread)
            if moved is not None:
                await self._move(connection, stage, partitions, moved)
        if moved is None:
            await reader.rest()  # for what it waits for to come nearer
            return
        reader.rest_s = _SHORTEST_REST_S
        for partition in partitions:
            reader.cursors[partition] = _Cursor(moved, moved)
        if unread:
            await asyncio.sleep(_BACKOFF_S)  # if it is not the event but us, let it not be all

    async def _hold(self, connection: Connection, stage: Stage, partitions: list[int]) -> None:
        """Lock the partitions, if they are still this worker's and stand where it thinks.

        Raises:
            PartitionLostError: They are not, or do not.
        """
        reader = self._readers[stage]
        cursor = await connection.execute(_HOLD, self._values(stage, partitions), binary=True)
        held = {
            partition: Place(transaction_id, position)
            for partition, transaction_id, position, _ in await cursor.fetchall()
        }
        expected = {key: reader.cursors[key].stored for key in partitions}
        if held != expected:
            reader.changes = -1
            msg = "another worker has taken over"
            raise PartitionLostError(msg)

    async def _move(
        self, connection: Connection, stage: Stage, partitions: list[int], place: Place
    ) -> list[int]:
        """Move partitions on, as far as they are still this worker's; which of them were."""
        values = self._values(stage, partitions) | {
            "xid": str(place.transaction_id),
            "position": place.position,
            "lease": LEASE_S,
        }
        cursor = await connection.execute(_MOVE, values)
        return [record[0] for record in await cursor.fetchall()]

    def _values(self, stage: Stage, partitions: Sequence[int]) -> dict[str, object]:
        return {
            "transport": TRANSPORT,
            "stage": int(stage),
            "partitions": list(partitions),
            "worker": self._leases.worker_id,
        }
