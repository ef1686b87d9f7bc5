"""The log as the detector's source of events: ``detector.ports.Source``, for one worker of many.

A worker reads all of its partitions at once as long as they stand at the same place, which they do
but for the moments after one changed hands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.events.envelope import RecordedEvent
from domain.ports import ConcurrencyError
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_leases import PARTITIONS, TRANSPORT, Leases
from infra.detector_reactions import Reactions
from infra.detector_work import DetectorWork, opened
from infra.postgres import Connection, transaction
from infra.sealing import DataKeys
from infra.tail import COLUMNS, Place, recorded

_LAST_POSITION = 2**63 - 1
_SHORTEST_REST_S = 0.005
_LONGEST_REST_S = 0.05

# The users of a partition: by their ids' hash, which is the same in every version and on every
# machine. Of a crowd's stage, everybody.
_READ = f"""
SELECT {COLUMNS}, pg_snapshot_xmin(pg_current_snapshot())
  FROM (SELECT 1) one
  LEFT JOIN LATERAL (
    SELECT {COLUMNS}
      FROM events
     WHERE transaction_id >= %(xid)s::text::xid8
       AND (transaction_id, position) > (%(xid)s::text::xid8, %(position)s)
       AND (transaction_id, position) <= (%(until_xid)s::text::xid8, %(until_position)s)
       AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
       AND type = ANY(%(types)s)
       AND (%(partitions)s::int[] IS NULL
            OR mod(hashtextextended(subject_id::text, 0) & 9223372036854775807, %(of)s)
               = ANY(%(partitions)s))
     ORDER BY transaction_id, position
     LIMIT %(limit)s
  ) found ON true
"""  # noqa: S608 (column names are ours)
_HOLD = """
SELECT partition, transaction_id, position FROM detector_partitions
 WHERE transport = %(transport)s AND stage = %(stage)s AND partition = ANY(%(partitions)s)
   AND owner = %(worker)s
 ORDER BY partition FOR UPDATE
"""
_MOVE = """
UPDATE detector_partitions
   SET transaction_id = %(xid)s::text::xid8, position = %(position)s,
       updated_at = clock_timestamp()
 WHERE transport = %(transport)s AND stage = %(stage)s AND partition = ANY(%(partitions)s)
"""
_END = Place(2**64 - 1, _LAST_POSITION)


class PartitionLostError(ConcurrencyError):
    """Another worker has taken a partition over: what was done here is undone."""


@dataclass(slots=True)
class _Cursor:
    """Where a partition stands: as the database has it, and as far as it was looked through."""

    stored: Place
    looked: Place


class LogSource:
    """Reads a worker's share of the log."""

    def __init__(
        self,
        engine: AsyncEngine,
        leases: Leases,
        policies: DetectionPolicyStore,
        reactions: Reactions,
        data_keys: DataKeys,
        types: Callable[[Stage], Collection[str]],
    ) -> None:
        """Read as the owner of these leases.

        Args:
            engine: The pool.
            leases: Which partitions are this worker's.
            policies: The detection policy.
            reactions: Carries reactions out.
            data_keys: Opens and seals personal parts.
            types: The event types that a stage wants.
        """
        self._engine = engine
        self._leases = leases
        self._policies = policies
        self._reactions = reactions
        self._data_keys = data_keys
        self._types = {stage: sorted(types(stage)) for stage in Stage}
        self._cursors: dict[Stage, dict[int, _Cursor]] = {stage: {} for stage in Stage}

    async def batches(
        self, stage: Stage, limit: Callable[[], int]
    ) -> AsyncIterator[AbstractAsyncContextManager[DetectorWork]]:
        """See ``detector.ports.Source.batches``."""
        rest = _SHORTEST_REST_S
        while True:
            partitions, events = await self._next(stage, limit())
            if events:
                rest = _SHORTEST_REST_S
                yield self._batch(stage, partitions, events)
                continue
            await asyncio.sleep(rest)
            rest = min(_LONGEST_REST_S, rest * 2)

    async def _next(self, stage: Stage, limit: int) -> tuple[list[int], list[RecordedEvent]]:
        """The next events of the partitions that are furthest behind."""
        async with transaction(self._engine) as connection:
            await self._follow_leases(connection, stage)
            cursors = self._cursors[stage]
            if not cursors:
                return [], []
            behind = min(cursor.looked for cursor in cursors.values())
            partitions = [key for key, cursor in cursors.items() if cursor.looked == behind]
            others = [cursor.looked for cursor in cursors.values() if cursor.looked != behind]
            until = min(others, default=_END)
            events, horizon = await self._read(connection, stage, partitions, until, limit)
        if len(events) < limit:
            for partition in partitions:
                last = events[-1] if events else None
                if last is None:
                    cursors[partition].looked = max(behind, min(until, horizon))
        return partitions, events

    async def _follow_leases(self, connection: Connection, stage: Stage) -> None:
        places = await self._leases.places(connection, stage)
        cursors = self._cursors[stage]
        for lost in cursors.keys() - places.keys():
            del cursors[lost]
        for partition, place in places.items():
            known = cursors.get(partition)
            if known is None or known.stored != place:
                cursors[partition] = _Cursor(place, place)

    async def _read(
        self,
        connection: Connection,
        stage: Stage,
        partitions: Sequence[int],
        until: Place,
        limit: int,
    ) -> tuple[list[RecordedEvent], Place]:
        after = self._cursors[stage][partitions[0]].looked
        everybody = stage is Stage.CROWD or len(partitions) == PARTITIONS
        cursor = await connection.execute(
            _READ,
            {
                "xid": str(after.transaction_id),
                "position": after.position,
                "until_xid": str(until.transaction_id),
                "until_position": until.position,
                "types": self._types[stage],
                "partitions": None if everybody else list(partitions),
                "of": PARTITIONS,
                "limit": limit,
            },
            binary=True,
        )
        records = await cursor.fetchall()
        xmin: int = records[0][-1]
        found = [recorded(record[:-1]) for record in records if record[0] is not None]
        events = await opened(connection, found, self._data_keys)
        return events, Place(xmin - 1, _LAST_POSITION)

    @asynccontextmanager
    async def _batch(
        self, stage: Stage, partitions: list[int], events: list[RecordedEvent]
    ) -> AsyncIterator[DetectorWork]:
        cursors = self._cursors[stage]
        async with transaction(self._engine) as connection:
            await self._hold(connection, stage, partitions)
            work = DetectorWork(
                connection, stage, events, self._policies, self._reactions, self._data_keys
            )
            yield work
            if not work.taken:
                moved = None
            else:
                last = events[work.taken - 1]
                moved = Place(last.transaction_id, last.position)
                await self._move(connection, stage, partitions, moved)
        if moved is not None:
            for partition in partitions:
                cursors[partition] = _Cursor(moved, moved)
        if work.taken < len(events):
            await asyncio.sleep(_SHORTEST_REST_S)

    async def _hold(self, connection: Connection, stage: Stage, partitions: list[int]) -> None:
        """Lock the partitions, if they are still this worker's and stand where it thinks.

        Raises:
            PartitionLostError: They are not, or do not.
        """
        cursor = await connection.execute(_HOLD, self._values(stage, partitions), binary=True)
        held = {
            partition: Place(transaction_id, position)
            for partition, transaction_id, position in await cursor.fetchall()
        }
        expected = {key: self._cursors[stage][key].stored for key in partitions}
        if held != expected:
            msg = "another worker has taken over"
            raise PartitionLostError(msg)

    async def _move(
        self, connection: Connection, stage: Stage, partitions: list[int], place: Place
    ) -> None:
        await connection.execute(
            _MOVE,
            self._values(stage, partitions)
            | {"xid": str(place.transaction_id), "position": place.position},
        )

    def _values(self, stage: Stage, partitions: Sequence[int]) -> dict[str, object]:
        return {
            "transport": TRANSPORT,
            "stage": int(stage),
            "partitions": list(partitions),
            "worker": self._leases.worker_id,
        }
