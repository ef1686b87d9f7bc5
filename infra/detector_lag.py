"""How far the detector is behind on the log, asked of the database: so anybody can tell.

Also who runs no worker. When all workers are dead it is what grows.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

import psycopg
from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.ports import StoreUnavailableError
from infra.detector_leases import PARTITIONS, TRANSPORT
from infra.postgres import Connection, transaction

_EVERY_S = 5.0
_log = logging.getLogger(__name__)

# The first event that is behind the place of its own partition. Partitions that have nothing to do
# move their places along every few seconds, so there is not much between the last place and it.
_OLDEST = f"""
SELECT extract(epoch FROM clock_timestamp() - e.occurred_at)::float8
  FROM events e
  JOIN detector_partitions p
    ON p.transport = %(transport)s AND p.stage = %(stage)s
   AND p.partition = CASE WHEN %(shared)s
         THEN mod(hashtextextended(coalesce(e.subject_id::text, ''), 0) & 9223372036854775807,
                  {PARTITIONS})
         ELSE 0 END
   AND (e.transaction_id, e.position) > (p.transaction_id, p.position)
 WHERE e.transaction_id >= %(xid)s::text::xid8
   AND e.type = ANY(%(types)s)
 ORDER BY e.transaction_id, e.position
 LIMIT 1
"""  # noqa: S608 (a number of ours)
_LAST_PLACE = """
SELECT transaction_id FROM detector_partitions
 WHERE transport = %(transport)s AND stage = %(stage)s
 ORDER BY transaction_id LIMIT 1
"""


async def lag_s(connection: Connection, stage: Stage, types: Collection[str]) -> float | None:
    """Age of the oldest event that a stage has not dealt with yet, in seconds.

    Args:
        connection: Any connection.
        stage: Which stage.
        types: The event types that it wants.

    Returns:
        Zero where it is up to date; None where no detector has ever been at work on the log.
    """
    values = {
        "transport": TRANSPORT,
        "stage": int(stage),
        "types": list(types),
        "shared": stage is Stage.USERS,
    }
    cursor = await connection.execute(_LAST_PLACE, values, binary=True)
    place = await cursor.fetchone()
    if place is None:
        return None
    cursor = await connection.execute(_OLDEST, values | {"xid": str(place[0])}, binary=True)
    oldest = await cursor.fetchone()
    return 0.0 if oldest is None else max(0.0, float(oldest[0]))


class DetectorLag:
    """Keeps a gauge of it."""

    def __init__(
        self,
        engine: AsyncEngine,
        registry: CollectorRegistry,
        types: Callable[[Stage], Collection[str]],
        stages: Collection[Stage] = tuple(Stage),
    ) -> None:
        """Register the gauge; it has no value before ``run``.

        Args:
            engine: The pool.
            registry: Of the process's metrics.
            types: The event types that a stage wants.
            stages: Those that are read from the log.
        """
        self._engine = engine
        self._types: Mapping[Stage, list[str]] = {stage: list(types(stage)) for stage in stages}
        self._gauge = Gauge(
            "sessiontrail_detector_lag_seconds",
            "Age of the oldest event that no detector has judged yet.",
            ["stage"],
            registry=registry,
        )

    async def run(self) -> None:
        """Ask every few seconds until cancelled; the last answer stays while nobody answers."""
        while True:
            try:
                async with transaction(self._engine) as connection:
                    for stage, types in self._types.items():
                        lag = await lag_s(connection, stage, types)
                        if lag is not None:
                            self._gauge.labels(stage.name.lower()).set(lag)
            except (StoreUnavailableError, psycopg.errors.UndefinedTable) as error:
                # A service also runs on a database that an older release has migrated.
                _log.warning("the detector's lag is not known: %s", error)
            await asyncio.sleep(_EVERY_S)
