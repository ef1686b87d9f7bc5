"""Counts what happens, by the quarter of an hour: an overview must not read the log for it.

A reader of the gap-free tail like any other; counts and checkpoint move in one statement's
transaction. Any number of services may count: they take turns.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.activity import KINDS, Counted
from domain.ports import StoreUnavailableError
from infra.postgres import transaction

READER = "activity"
STRETCH = timedelta(minutes=15)
_AT_ONCE = 5_000
_PAUSE_S = 2.0
_log = logging.getLogger(__name__)

_HOLD = """
SELECT transaction_id::text, position FROM checkpoints WHERE reader = %s FOR UPDATE SKIP LOCKED
"""
_BEGIN = """
INSERT INTO checkpoints (reader, transaction_id, position, updated_at)
VALUES (%s, '0', 0, clock_timestamp()) ON CONFLICT (reader) DO NOTHING
"""
_COUNT = """
WITH batch AS MATERIALIZED (
  SELECT transaction_id, position, type, occurred_at, data
    FROM events
   WHERE transaction_id >= %(xid)s::text::xid8
     AND (transaction_id, position) > (%(xid)s::text::xid8, %(position)s)
     AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
   ORDER BY transaction_id, position
   LIMIT %(limit)s
), counted AS (
  INSERT INTO activity (began, type, count)
  SELECT date_bin('15 minutes', occurred_at, '2020-01-01 00:00:00+00'), type,
         sum(CASE type WHEN 'SignInFailuresCounted' THEN (data ->> 'failures')::bigint ELSE 1 END)
    FROM batch
   WHERE type = ANY(%(types)s)
   GROUP BY 1, 2
  ON CONFLICT (began, type) DO UPDATE SET count = activity.count + excluded.count
), moved AS (
  UPDATE checkpoints c
     SET transaction_id = last.transaction_id, position = last.position,
         updated_at = clock_timestamp()
    FROM (SELECT transaction_id, position FROM batch
           ORDER BY transaction_id DESC, position DESC LIMIT 1) AS last
   WHERE c.reader = %(reader)s
)
SELECT count(*) FROM batch
"""
_READ = """
SELECT date_bin(%(stretch)s, began, '2020-01-01 00:00:00+00'), type, sum(count)::bigint
  FROM activity
 WHERE began >= %(since)s AND began < %(until)s
 GROUP BY 1, 2
 ORDER BY 1
"""


async def count_once(engine: AsyncEngine) -> int:
    """Count what comes next in the log.

    Returns:
        How many events were read; 0 where there are none, or another service counts just now.

    Raises:
        StoreUnavailableError: The database cannot serve; nothing was counted.
    """
    async with transaction(engine) as connection:
        await connection.execute(_BEGIN, (READER,))
        cursor = await connection.execute(_HOLD, (READER,))
        place = await cursor.fetchone()
        if place is None:
            return 0
        values = {
            "xid": place[0],
            "position": place[1],
            "limit": _AT_ONCE,
            "types": list(KINDS),
            "reader": READER,
        }
        cursor = await connection.execute(_COUNT, values)
        read = await cursor.fetchone()
        return int(read[0]) if read else 0


async def read_activity(
    engine: AsyncEngine, since: datetime, until: datetime, stretch: timedelta
) -> Sequence[Counted]:
    """What was counted within a time, by stretches of this length."""
    async with transaction(engine) as connection:
        values = {"since": since, "until": until, "stretch": stretch}
        cursor = await connection.execute(_READ, values, binary=True)
        records = await cursor.fetchall()
    return [
        Counted(began, KINDS[type_], count) for began, type_, count in records if type_ in KINDS
    ]


class ActivityCounter:
    """Counts for as long as the service runs."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Read and write through this pool."""
        self._engine = engine

    async def run(self) -> None:
        """Count until cancelled; while the database is away, or too old, wait."""
        while True:
            try:
                read = await count_once(self._engine)
            except (StoreUnavailableError, psycopg.errors.UndefinedTable) as error:
                _log.warning("activity is not counted: %s", error)
                read = 0
            if read < _AT_ONCE:
                await asyncio.sleep(_PAUSE_S)
