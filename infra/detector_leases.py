"""Who works on which partitions of the log: leases, shared fairly among the workers that are alive.

A lease only spares work. What makes a partition's events count once is the check in the worker's
own transaction that it still owns the partition and that its place has not moved.
"""

import asyncio
import logging
from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.ports import StoreUnavailableError
from infra.ids import new_uuid
from infra.postgres import Connection, transaction
from infra.tail import Place

TRANSPORT = "log"
PARTITIONS = 16
"""Of the users' stage; the crowd's has one. More workers than that find nothing to do."""
LEASE_S = 6
"""A worker that has not been heard of for so long is taken for dead. One that stands still within a
transaction is cut off by then too (``IDLE_LIMIT`` between statements, ``_CUT_OFF`` within one), or
its locks would keep everybody waiting."""
IDLE_LIMIT = f"set_config('idle_in_transaction_session_timeout', '{LEASE_S}s', true)"
"""For the first statement of a transaction."""
_RENEW_EVERY_S = 1.5
_log = logging.getLogger(__name__)

_CREATE = """
INSERT INTO detector_partitions (transport, stage, partition, transaction_id, position, updated_at)
SELECT %(transport)s, %(stage)s, generate_series(0, %(count)s - 1), '0', 0, clock_timestamp()
ON CONFLICT DO NOTHING
"""
_REGISTER = f"""
INSERT INTO detector_workers (worker_id, seen_at) VALUES (%(worker)s, clock_timestamp())
ON CONFLICT (worker_id) DO UPDATE SET seen_at = excluded.seen_at
RETURNING {IDLE_LIMIT}
"""  # noqa: S608 (a constant of ours)
# What lies in the future was written before a clock stepped back: nobody will wait for it.
_FORGET_THE_DEAD = """
WITH dead AS MATERIALIZED (
  SELECT worker_id FROM detector_workers
   WHERE abs(extract(epoch FROM clock_timestamp() - seen_at)) > %(lease)s
     FOR UPDATE SKIP LOCKED
)
DELETE FROM detector_workers w USING dead WHERE w.worker_id = dead.worker_id
"""
_ALIVE = "SELECT count(*) FROM detector_workers"
# No limit of PostgreSQL's ends a statement whose client reads no answer or does not send the rest.
_CUT_OFF = """
SELECT pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.usename = current_user
   AND a.state = 'active' AND a.wait_event_type = 'Client'
   AND a.state_change < clock_timestamp() - make_interval(secs => %(lease)s)
   AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.mode = 'RowShareLock'
                                        AND l.relation = 'detector_partitions'::regclass)
"""
# Likewise a lease of more than twice the length counts as over (in ``_CLAIM``).
# Those that are locked are in a batch, which renews them itself. All that locks several partitions
# and waits does so in their order, or a worker's batch and its leases would wait for each other.
_RENEW = """
WITH mine AS MATERIALIZED (
  SELECT stage, partition FROM detector_partitions
   WHERE transport = %(transport)s AND owner = %(worker)s
   ORDER BY stage, partition FOR UPDATE SKIP LOCKED
)
UPDATE detector_partitions p
   SET leased_until = clock_timestamp() + make_interval(secs => %(lease)s)
  FROM mine
 WHERE p.transport = %(transport)s AND p.stage = mine.stage AND p.partition = mine.partition
"""
_OWNED = f"""
SELECT stage, partition, {IDLE_LIMIT} FROM detector_partitions
 WHERE transport = %(transport)s AND owner = %(worker)s ORDER BY stage, partition
"""  # noqa: S608 (a constant of ours)
_CLAIM = """
WITH free AS MATERIALIZED (
  SELECT partition FROM detector_partitions
   WHERE transport = %(transport)s AND stage = %(stage)s
     AND (owner IS NULL OR leased_until IS NULL
          OR abs(extract(epoch FROM leased_until - clock_timestamp()) - %(lease)s) > %(lease)s)
     AND owner IS DISTINCT FROM %(worker)s
   ORDER BY partition LIMIT %(wanted)s FOR UPDATE SKIP LOCKED
)
UPDATE detector_partitions p
   SET owner = %(worker)s, leased_until = clock_timestamp() + make_interval(secs => %(lease)s)
  FROM free
 WHERE p.transport = %(transport)s AND p.stage = %(stage)s AND p.partition = free.partition
RETURNING p.partition
"""
_RELEASE = """
WITH mine AS MATERIALIZED (
  SELECT stage, partition FROM detector_partitions
   WHERE transport = %(transport)s AND owner = %(worker)s
     AND (%(stage)s::smallint IS NULL OR stage = %(stage)s AND partition = ANY(%(partitions)s))
   ORDER BY stage, partition FOR UPDATE
)
UPDATE detector_partitions p SET owner = NULL, leased_until = NULL
  FROM mine
 WHERE p.transport = %(transport)s AND p.stage = mine.stage AND p.partition = mine.partition
"""
_PLACES = """
SELECT partition, transaction_id, position FROM detector_partitions
 WHERE transport = %(transport)s AND stage = %(stage)s AND owner = %(worker)s
 ORDER BY partition
"""
_HOLD_ALL = """
SELECT 1 FROM detector_partitions ORDER BY transport, stage, partition FOR UPDATE
"""
_COUNTS = {Stage.CROWD: 1, Stage.USERS: PARTITIONS}


async def hold_all_partitions(connection: Connection) -> None:
    """Keep every worker from working, and none from starting, until the transaction ends."""
    for stage, count in _COUNTS.items():
        values = {"transport": TRANSPORT, "stage": int(stage), "count": count}
        await connection.execute(_CREATE, values)
    await connection.execute(_HOLD_ALL)


class Leases:
    """The partitions of one worker."""

    def __init__(self, engine: AsyncEngine, stages: Collection[Stage] = tuple(Stage)) -> None:
        """Begin as a new worker, without partitions.

        Args:
            engine: The pool.
            stages: What to take part in. Where the users' stage is read from Kafka, the crowd's is
                all that is left to the log.
        """
        self._engine = engine
        self._stages = sorted(stages)
        self._owned: frozenset[tuple[int, int]] = frozenset()
        self._is_created = False
        self.worker_id = new_uuid()
        self.changes = 0
        """How often this worker has found that it owns other partitions than before."""

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
            if not self._is_created:
                for stage in self._stages:
                    values = self._values(stage=int(stage), count=_COUNTS[stage])
                    await connection.execute(_CREATE, values)
            alive = 1
            if Stage.USERS in self._stages:
                await connection.execute(_REGISTER, self._values())
                await connection.execute(_FORGET_THE_DEAD, self._values())
                alive = await _count(connection)
            await connection.execute(_RENEW, self._values())
            await connection.execute(_CUT_OFF, self._values())
        self._is_created = True
        # A transaction of its own, since this one may wait for a batch of this worker to end.
        async with transaction(self._engine) as connection:
            owned = await self._owned_now(connection)
            for stage in self._stages:
                fair = -(-_COUNTS[stage] // max(1, alive))
                owned = await self._share(connection, stage, owned, fair)
        if owned != self._owned:
            self._owned = owned
            self.changes += 1

    async def places(self, connection: Connection, stage: Stage) -> dict[int, Place]:
        """The partitions that this worker owns, and where each stands."""
        cursor = await connection.execute(_PLACES, self._values(stage=int(stage)), binary=True)
        return {
            partition: Place(transaction_id, position)
            for partition, transaction_id, position in await cursor.fetchall()
        }

    async def _owned_now(self, connection: Connection) -> frozenset[tuple[int, int]]:
        cursor = await connection.execute(_OWNED, self._values())
        return frozenset((stage, partition) for stage, partition, _ in await cursor.fetchall())

    async def _share(
        self, connection: Connection, stage: Stage, owned: frozenset[tuple[int, int]], fair: int
    ) -> frozenset[tuple[int, int]]:
        """Take or hand back partitions of a stage; what is owned then."""
        mine = sorted(partition for of, partition in owned if of == stage)
        if len(mine) > fair:
            surplus = mine[fair:]
            await connection.execute(_RELEASE, self._values(stage=int(stage), partitions=surplus))
            return owned - {(int(stage), partition) for partition in surplus}
        if len(mine) == fair:
            return owned
        wanted = fair - len(mine)
        cursor = await connection.execute(_CLAIM, self._values(stage=int(stage), wanted=wanted))
        return owned | {(int(stage), row[0]) for row in await cursor.fetchall()}

    async def _hand_back(self) -> None:
        try:
            async with transaction(self._engine) as connection:
                await connection.execute(
                    "DELETE FROM detector_workers WHERE worker_id = %s", (self.worker_id,)
                )
                await connection.execute(_RELEASE, self._values(stage=None, partitions=[]))
        except StoreUnavailableError:
            _log.warning("the detector's leases run out by themselves: the database is away")

    def _values(self, **more: object) -> dict[str, object]:
        return {"transport": TRANSPORT, "worker": self.worker_id, "lease": LEASE_S} | more


async def _count(connection: Connection) -> int:
    cursor = await connection.execute(_ALIVE)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
