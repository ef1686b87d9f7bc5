"""Putting a build in the place of what ``users``, ``sessions`` and ``alerts`` have otherwise.

Rows are replaced, tables are not: they keep their identity, privileges, indexes and statistics, and
whoever prepared a statement goes on with it (docs/decisions/023). What was replaced is kept for
``infra.projection_rollback``.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ports import StoreUnavailableError
from infra.postgres import Connection
from infra.projection_build import build, catch_up, catch_up_closely, count_rebuilt, misfit
from infra.projection_folds import PROJECTIONS, AnyProjection, Progress, statement
from infra.rebuild_session import Rebuilding, discard_build, empty, rebuilding, require_build
from infra.sealing import DataKeys

_LOCK_ATTEMPTS = 10
_LOCK_TIMEOUT = "2s"
_WITH_WRITERS_WAITING = "100ms"

_ResultT = TypeVar("_ResultT")

_FORGET_ERASED = """
UPDATE rebuilt_{table} r SET {forgotten}
 WHERE num_nonnulls({personal}) > 0
   AND NOT EXISTS (SELECT FROM data_keys k WHERE k.subject_id = r.{subject})
"""

ROWS_THAT_DIFFER = """
SELECT coalesce(t.{key}, r.{key}) AS key, t.{owner} AS live_owner, r.{owner} AS rebuilt_owner
  FROM {table} t FULL JOIN rebuilt_{table} r ON r.{key} = t.{key}
 WHERE t.{key} IS NULL OR r.{key} IS NULL OR NOT ROW({ours})::record *= ROW({theirs})::record
"""
"""Rows of a table and of what stands beside it that are not the same, byte for byte."""

_FIND = "CREATE TEMPORARY TABLE differing_{table} ON COMMIT DROP AS " + ROWS_THAT_DIFFER

# All rows of the user, family or alert, though only one may differ: what happens after the swap
# happens to all of them. Of who is erased nothing is kept.
_KEEP = """
WITH owners AS MATERIALIZED (
  SELECT live_owner AS owner FROM differing_{table} WHERE live_owner IS NOT NULL
   UNION
  SELECT rebuilt_owner FROM differing_{table} WHERE rebuilt_owner IS NOT NULL
), rebuilt AS (
  SELECT r.{owner} AS owner, max(r.{version}) AS version,
         (array_agg(r.{subject}))[1] AS subject
    FROM rebuilt_{table} r JOIN owners o ON o.owner = r.{owner} GROUP BY r.{owner}
), live AS (
  SELECT t.{owner} AS owner, array_agg(t::text) AS rows, (array_agg(t.{subject}))[1] AS subject
    FROM {table} t JOIN owners o ON o.owner = t.{owner} GROUP BY t.{owner}
)
INSERT INTO replaced_rows (table_name, owner, subject_id, version, replaced_at, rows)
SELECT '{table}', o.owner, k.subject_id, coalesce(rebuilt.version, 0), clock_timestamp(),
       coalesce(live.rows, '{{}}')
  FROM owners o
  LEFT JOIN rebuilt ON rebuilt.owner = o.owner
  LEFT JOIN live ON live.owner = o.owner
  JOIN data_keys k ON k.subject_id = coalesce(rebuilt.subject, live.subject)
"""

# Rows are taken away and put back rather than updated: two that have swapped a unique value would
# stand in each other's way.
_REMOVE = "DELETE FROM {table} t USING differing_{table} d WHERE t.{key} = d.key"
_WRITE = """
INSERT INTO {table} ({columns})
SELECT {ours} FROM rebuilt_{table} r JOIN differing_{table} d ON r.{key} = d.key
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a swap did to one table.

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


async def swap_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> list[Rebuilt]:
    """Make ``users``, ``sessions`` and ``alerts`` what the build says, in one transaction.

    It catches up, locks the tables, catches up with the last few events, and replaces the rows that
    differ. A table that was right is not written to. What was replaced is kept until the next swap
    that replaces something; the build is used up.

    Readers never wait and never see a table half swapped. Writers wait while the tables are locked
    and compared: some hundredths of a second, and up to five seconds for each million sessions.
    Before that they wait behind somebody else's long transaction, two seconds a table at most: the
    swap then lets them pass and tries again. A command decided on a damaged row before the swap
    and written after it may carry the damage on: verify afterwards.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log that the build is caught up with.

    Returns:
        What was done to each table.

    Raises:
        NoBuildError: There is none; nothing was changed.
        DamagedLogError: A stream cannot be folded; nothing was changed.
        NotTheOwnerError: The role may not delete rows; nothing was changed.
        RebuildUnderWayError: Somebody else is at it; nothing was changed.
        UnknownEventError: A newer build wrote to the log; nothing was changed.
        StoreUnavailableError: The database went away, or the tables stayed locked by others.
    """
    async with rebuilding(engine, data_keys) as at:
        await require_build(at)
        await catch_up_closely(at, progress)
        return await _swap(at)


async def rebuild_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> list[Rebuilt]:
    """Build from the beginning of the log and swap at once; a build that stood is done away with.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log as it was at the start.

    Returns:
        What was done to each table.

    Raises:
        Exception: As ``swap_projections``; nothing was changed.
    """
    async with rebuilding(engine, data_keys) as at:
        await discard_build(at.connection)
        await build(at, progress)
        return await _swap(at)


async def discard_rebuild(engine: AsyncEngine, data_keys: DataKeys) -> None:
    """Do away with the build, and with what the last swap replaced.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: As for the rest.

    Raises:
        NotTheOwnerError: The role may not empty the tables.
        RebuildUnderWayError: A rebuild is at work.
        StoreUnavailableError: The database went away.
    """
    async with rebuilding(engine, data_keys) as at, at.connection.transaction():
        await discard_build(at.connection)
        await forget_replaced(at.connection)


async def forget_replaced(connection: Connection) -> None:
    """Forget what the last swap replaced."""
    await empty(connection, ["replaced_rows"], _WITH_WRITERS_WAITING)


async def while_nobody_writes(
    connection: Connection,
    work: Callable[[], Awaitable[_ResultT]],
    meanwhile: Callable[[], Awaitable[object]],
) -> _ResultT:
    """Do something in one transaction that keeps writers out of the tables, readers not.

    Args:
        connection: In autocommit.
        work: Is done once the tables are locked, and commits.
        meanwhile: Is done each time that others would not let go of the tables.

    Raises:
        StoreUnavailableError: They never did.
    """
    for _ in range(_LOCK_ATTEMPTS):
        try:
            async with connection.transaction():
                await _lock_tables(connection)
                return await work()
        except psycopg.errors.LockNotAvailable:
            await meanwhile()
    msg = "other transactions keep the tables locked: find them in pg_stat_activity"
    raise StoreUnavailableError(msg)


async def _lock_tables(connection: Connection) -> None:
    """Lock in the order that everybody locks in."""
    # EXCLUSIVE refuses row locks too: somebody who holds one would otherwise wait for us with their
    # update, and we for their row.
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'".encode())
    for projection in PROJECTIONS:
        await connection.execute(statement("LOCK TABLE {table} IN EXCLUSIVE MODE", projection))


async def _swap(at: Rebuilding) -> list[Rebuilt]:
    async def swap() -> list[Rebuilt]:
        await catch_up(at)
        found = [await _find(at.connection, projection) for projection in PROJECTIONS]
        if any(found):
            await forget_replaced(at.connection)
        return [
            await _replace(at, projection, differing)
            for projection, differing in zip(PROJECTIONS, found, strict=True)
        ]

    async def meanwhile() -> None:
        await catch_up(at)

    rebuilt = await while_nobody_writes(at.connection, swap, meanwhile)
    await discard_build(at.connection)
    return rebuilt


async def _find(connection: Connection, projection: AnyProjection) -> int:
    """Find the rows of a table that are to be replaced; returns how many there are."""
    # Without statistics of a table that was empty a moment ago, the planner would compare each row
    # with all others; and everybody waits.
    await connection.execute("SET LOCAL enable_nestloop = off")
    await connection.execute("SET LOCAL work_mem = '64MB'")
    await connection.execute(statement(_FORGET_ERASED, projection))
    found = await connection.execute(statement(_FIND, projection))
    await connection.execute(statement("ANALYZE differing_{table}", projection))
    await connection.execute("SET LOCAL enable_nestloop = on")
    return found.rowcount


async def _replace(at: Rebuilding, projection: AnyProjection, differing: int) -> Rebuilt:
    """Keep what is there otherwise, and replace it."""
    rows = await count_rebuilt(at, projection)
    if not differing:
        return Rebuilt(projection.table, rows, 0, 0)
    # Dates in the one style that reads the same under every setting.
    await at.connection.execute("SET LOCAL datestyle = 'ISO'")
    await at.connection.execute(statement(_KEEP, projection))
    removed = await at.connection.execute(statement(_REMOVE, projection))
    try:
        written = await at.connection.execute(statement(_WRITE, projection))
    except psycopg.IntegrityError as error:
        raise misfit(projection, error) from error
    return Rebuilt(projection.table, rows, removed.rowcount, written.rowcount)
