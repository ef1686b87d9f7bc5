"""Proving that ``sessions`` and ``users`` are the fold of the log, and making them so again.

Both read the log by stream and version in one snapshot, through a server-side cursor, and fold it
with ``projections.folding``: memory stays flat, however long the log. Streams come in the order of
their names' 64-bit hash, which the log's own unique index keeps, so that PostgreSQL may choose
between that index and a sort, and no collation has a say in it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ports import StoreUnavailableError
from infra.sealing import DataKeys
from projections.comparison import (
    SESSIONS,
    USER_ROWS,
    Difference,
    Projection,
    extra_row,
)

Progress = Callable[[int, int], None]
"""Told how many events have been folded, and of how many."""

# Any: the rest of this module treats users and families alike, states, rows and all.
_AnyProjection = Projection[Any, Any]
_PROJECTIONS: tuple[_AnyProjection, ...] = (USER_ROWS, SESSIONS)

_BATCH = 2_000
_EVERYTHING = "1:1:"
"""A snapshot that sees no transaction: what happened since is the whole log."""
_FEW_EVENTS = 500
_MAX_ROUNDS = 50

_EVENTS = """
SELECT stream, version, type, schema_version, occurred_at, convert_to(data::text, 'UTF8'),
       event_id::text, personal
  FROM events
 WHERE starts_with(stream, %(prefix)s)
   AND transaction_id >= pg_snapshot_xmin(%(since)s::pg_snapshot)
   AND NOT pg_visible_in_snapshot(transaction_id, %(since)s::pg_snapshot)
 ORDER BY hashtextextended(stream, 0), version
"""

_ROWS_WITHOUT_STREAM = """
SELECT {key}::text FROM {table} t
 WHERE NOT EXISTS (
   SELECT FROM events e WHERE e.stream = %(prefix)s || t.{owner}
      AND hashtextextended(e.stream, 0) = hashtextextended(%(prefix)s || t.{owner}, 0))
"""

_PUT = """
INSERT INTO rebuilt_{table} ({columns})
SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, %b)
"""

# Somebody erased while the fold was under way must not come back with it.
_FORGET_ERASED = """
UPDATE rebuilt_{table} r SET ({personal}) = (SELECT NULL, NULL)
 WHERE num_nonnulls({personal}) > 0
   AND NOT EXISTS (SELECT FROM data_keys k WHERE k.subject_id = r.user_id)
"""

# Rows are taken away and put back rather than updated: two that have swapped a unique value would
# stand in each other's way.
_REMOVE = """
DELETE FROM {table} t
 WHERE NOT EXISTS (
   SELECT FROM rebuilt_{table} r
    WHERE r.{key} = t.{key} AND ROW({r_columns}) IS NOT DISTINCT FROM ROW({t_columns}))
"""

_WRITE = """
INSERT INTO {table} ({columns})
SELECT {columns} FROM rebuilt_{table} r
 WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = r.{key})
"""


class DamagedLogError(Exception):
    """The log cannot be folded; ``verify_projections`` names every stream that is damaged."""


class NotTheOwnerError(Exception):
    """The role that a rebuild was to run as may not delete rows."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did to one table.

    Attributes:
        table: Which.
        rows: How many rows the log says it has.
        removed: Rows taken away: not as the log says, or unknown to it.
        written: Rows put in the place of those, and rows that were missing.
    """

    table: str
    rows: int
    removed: int
    written: int


async def verify_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> AsyncIterator[Difference]:
    """Compare ``sessions`` and ``users`` with the fold of the log, in one snapshot.

    Nobody waits for it. Run it to its end, or close it (``contextlib.aclosing``).

    Args:
        engine: Any role that may read.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log.

    Yields:
        Whatever differs, and every stream that cannot be folded; nothing if all is well.

    Raises:
        UnknownEventError: A newer build wrote to the log.
        StoreUnavailableError: The database went away.
    """
    async with _snapshot(engine) as reader:
        count = await _Count.of_events(reader, progress)
        for projection in _PROJECTIONS:
            batches = _states(reader, reader, projection, data_keys, _EVERYTHING, count)
            async with aclosing(batches):
                async for batch in batches:
                    for difference in await _differences(reader, projection, batch):
                        yield difference
            async with reader.cursor("rows_without_stream") as cursor:
                await cursor.execute(
                    _sql(_ROWS_WITHOUT_STREAM, projection), {"prefix": projection.rules.prefix}
                )
                async for (key,) in cursor:
                    yield extra_row(projection.table, key)


async def rebuild_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> list[Rebuilt]:
    """Fold the whole log beside ``sessions`` and ``users``, then make them what it says.

    The fold goes to temporary tables of this connection: a rebuild that dies leaves nothing behind.
    It catches up with what was written meanwhile, then locks both tables, catches up with the last
    few events, and replaces the rows that differ, in one transaction. Tables, indexes and
    privileges stay as they are, and a table that was right is not written to.

    Readers never wait and never see a table half rebuilt. Writers wait while the tables are locked:
    for one comparison of the tables (see docs/performance.md), and until then at most two seconds
    behind somebody else's long transaction: the rebuild then lets them pass and tries again. A
    command decided on a damaged row before the swap and written after it may carry the damage on:
    verify afterwards.

    Args:
        engine: As the owner of the tables, or a role that may delete from them; of at least two
            connections.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log as it was at the start.

    Returns:
        What was done to each table.

    Raises:
        DamagedLogError: A stream cannot be folded; nothing was changed.
        NotTheOwnerError: The role may not delete rows; nothing was changed.
        UnknownEventError: A newer build wrote to the log; nothing was changed.
        StoreUnavailableError: The database went away, or the tables stayed locked by others.
    """
    async with _own_connection(engine) as builder:
        await _create_tables(builder)
        since, _ = await _round(engine, builder, data_keys, _EVERYTHING, progress)
        for _ in range(_MAX_ROUNDS):
            since, events = await _round(engine, builder, data_keys, since)
            if events > _FEW_EVENTS:
                continue
            try:
                async with builder.transaction():
                    await _lock_tables(builder)
                    await _round(engine, builder, data_keys, since)
                    return [await _replace(builder, projection) for projection in _PROJECTIONS]
            except psycopg.errors.LockNotAvailable:
                continue
    msg = "the tables could not be locked: other transactions hold them, or write too much"
    raise StoreUnavailableError(msg)
