"""Who works on which partitions of the log: leases, shared fairly among the workers that are alive.

A lease only spares work. What makes a partition's events count once is the check in the worker's
own transaction that it still owns the partition and that its place has not moved.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.ports import StoreUnavailableError
from infra.ids import new_uuid
from infra.postgres import Connection, transaction
from infra.tail import Place

TRANSPORT = "log"
PARTITIONS = 16
"""Of the users' stage; the crowd's has one. More workers than that find nothing to do."""
_LEASE_S = 10
_RENEW_EVERY_S = 2.0
_log = logging.getLogger(__name__)

_REGISTER = """
INSERT INTO detector_workers (worker_id, seen_at) VALUES (%(worker)s, clock_timestamp())
ON CONFLICT (worker_id) DO UPDATE SET seen_at = excluded.seen_at
"""
_FORGET_THE_DEAD = """
DELETE FROM detector_workers WHERE seen_at < clock_timestamp() - make_interval(secs => %(lease)s)
"""
_ALIVE = "SELECT count(*) FROM detector_workers"
_RENEW = """
UPDATE detector_partitions
   SET leased_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE transport = %(transport)s AND owner = %(worker)s
RETURNING stage, partition
"""
_CLAIM = """
UPDATE detector_partitions p
   SET owner = %(worker)s, leased_until = clock_timestamp() + make_interval(secs => %(lease)s)
  FROM (SELECT stage, partition FROM detector_partitions
         WHERE transport = %(transport)s AND stage = %(stage)s
           AND (owner IS NULL OR leased_until < clock_timestamp())
         ORDER BY partition LIMIT %(wanted)s FOR UPDATE SKIP LOCKED) free
 WHERE p.transport = %(transport)s AND p.stage = free.stage AND p.partition = free.partition
"""
_RELEASE = """
UPDATE detector_partitions SET owner = NULL, leased_until = NULL
 WHERE transport = %(transport)s AND owner = %(worker)s
   AND (%(stage)s::smallint IS NULL OR stage = %(stage)s AND partition = ANY(%(partitions)s))
"""
_CREATE = """
INSERT INTO detector_partitions (transport, stage, partition, transaction_id, position, updated_at)
SELECT %(transport)s, s.stage, generate_series(0, s.partitions - 1), '0', 0, clock_timestamp()
  FROM (VALUES (%(crowd)s::smallint, 1), (%(users)s::smallint, %(partitions)s)) s(stage, partitions)
ON CONFLICT DO NOTHING
"""
_PLACES = """
SELECT partition, transaction_id, position FROM detector_partitions
 WHERE transport = %(transport)s AND stage = %(stage)s AND owner = %(worker)s
 ORDER BY partition
"""


class Leases:
    """The partitions of one worker."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Begin as a new worker, without partitions."""
        self._engine = engine
        self.worker_id = new_uuid()
        self.changed = asyncio.Event()
        """Set whenever this worker may own other partitions than before."""

    async def run(self) -> None:
        """Keep a fair share until cancelled, then hand everything back."""
        try:
            while True:
                try:
                    await self.renew()
                except StoreUnavailableError as error:
                    _log.warning("the detector's leases are not renewed: %s", error)
                await asyncio.sleep(_RENEW_EVERY_S)
        finally:
            await asyncio.shield(self._hand_back())

    async def renew(self) -> None:
        """Say that this worker is alive; take free partitions up to its share, hand back the rest.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            await connection.execute(_CREATE, self._values())
            await connection.execute(_REGISTER, self._values())
            await connection.execute(_FORGET_THE_DEAD, self._values())
            alive = await _count(connection, _ALIVE)
            cursor = await connection.execute(_RENEW, self._values())
            owned = await cursor.fetchall()
            moved = await self._share(connection, Stage.CROWD, owned, 1)
            fair = -(-PARTITIONS // max(1, alive))
            moved = await self._share(connection, Stage.USERS, owned, fair) or moved
        if moved:
            self.changed.set()

    async def places(self, connection: Connection, stage: Stage) -> dict[int, Place]:
        """The partitions that this worker owns, and where each stands."""
        cursor = await connection.execute(_PLACES, self._values(stage=int(stage)), binary=True)
        return {
            partition: Place(transaction_id, position)
            for partition, transaction_id, position in await cursor.fetchall()
        }

    async def _share(
        self, connection: Connection, stage: Stage, owned: Sequence[tuple[int, int]], fair: int
    ) -> bool:
        """Take or hand back partitions of a stage; whether that was tried."""
        mine = sorted(partition for of, partition in owned if of == stage)
        if len(mine) > fair:
            surplus = self._values(stage=int(stage), partitions=mine[fair:])
            await connection.execute(_RELEASE, surplus)
            return True
        if len(mine) == fair:
            return False
        cursor = await connection.execute(
            _CLAIM, self._values(stage=int(stage), wanted=fair - len(mine))
        )
        return cursor.rowcount > 0

    async def _hand_back(self) -> None:
        try:
            async with transaction(self._engine) as connection:
                await connection.execute(_RELEASE, self._values(stage=None, partitions=[]))
                await connection.execute(
                    "DELETE FROM detector_workers WHERE worker_id = %s", (self.worker_id,)
                )
        except StoreUnavailableError:
            _log.warning("the detector's leases run out by themselves: the database is away")

    def _values(self, **more: object) -> dict[str, object]:
        return {
            "transport": TRANSPORT,
            "worker": self.worker_id,
            "lease": _LEASE_S,
            "crowd": int(Stage.CROWD),
            "users": int(Stage.USERS),
            "partitions": PARTITIONS,
        } | more


async def _count(connection: Connection, query: str) -> int:
    cursor = await connection.execute(query.encode())
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
