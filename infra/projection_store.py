"""Proving that ``users``, ``sessions`` and ``alerts`` are the fold of the log; making them so."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import psycopg
from msgspec.json import encode
from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ports import StoreUnavailableError
from infra.postgres import Connection, JsonDocument
from infra.projection_folds import (
    PROJECTIONS,
    AnyProjection,
    Progress,
    counter,
    folded,
    name_of_snapshot,
    own_connection,
    rows_of_owners,
    scalar,
    snapshot,
    statement,
)
from infra.sealing import DataKeys
from projections.comparison import Difference, damage, differences, extra_row
from projections.folding import DamagedStream

_FEW_EVENTS = 500
_MAX_ROUNDS = 5
_LOCK_ATTEMPTS = 10
_LOCK_TIMEOUT = "2s"

_ROWS_WITHOUT_STREAM = """
SELECT {key}::text FROM {table} t
 WHERE NOT EXISTS (
   SELECT FROM events e WHERE e.stream = %(prefix)s || t.{owner}
      AND hashtextextended(e.stream, 0) = hashtextextended(%(prefix)s || t.{owner}, 0))
"""

_MAY_DELETE = "SELECT has_table_privilege(%s, 'DELETE')"
_CLEAR = "DELETE FROM rebuilt_{table} WHERE {owner} = ANY(%s::uuid[])"

_CREATE = """
CREATE TEMPORARY TABLE rebuilt_{table} (LIKE {table}, PRIMARY KEY ({key}));
CREATE INDEX ON rebuilt_{table} ({owner})
"""

_PUT = """
INSERT INTO rebuilt_{table} ({columns})
SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, %b)
"""

# Somebody erased while the fold was under way must not come back with it.
_FORGET_ERASED = """
UPDATE rebuilt_{table} r SET {forgotten}
 WHERE num_nonnulls({personal}) > 0
   AND NOT EXISTS (SELECT FROM data_keys k WHERE k.subject_id = r.{subject})
"""

# Rows are taken away and put back rather than updated: two that have swapped a unique value would
# stand in each other's way.
_REMOVE = """
DELETE FROM {table} t
 WHERE NOT EXISTS (
   SELECT FROM rebuilt_{table} r
    WHERE r.{key} = t.{key} AND ROW({ours}) IS NOT DISTINCT FROM ROW({theirs}))
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
) -> AsyncGenerator[Difference, None]:
    """Compare ``users``, ``sessions`` and ``alerts`` with the fold of the log, in one snapshot.

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
    async with snapshot(engine) as reader:
        counted = await counter(reader, progress)
        for projection in PROJECTIONS:
            states = folded(reader, projection, data_keys, counted)
            async with aclosing(states):
                async for batch in states:
                    for difference in await _compared(reader, projection, batch):
                        yield difference
            async with reader.cursor("rows_without_stream") as cursor:
                await cursor.execute(
                    statement(_ROWS_WITHOUT_STREAM, projection),
                    {"prefix": projection.rules.prefix},
                )
                async for (key,) in cursor:
                    yield extra_row(projection.table, key)


async def rebuild_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> list[Rebuilt]:
    """Fold the whole log beside ``users``, ``sessions`` and ``alerts``, then make them that.

    The fold goes to temporary tables: a rebuild that dies leaves nothing behind. It catches up with
    what was written meanwhile, then locks the tables, catches up with the last few events, and
    replaces the rows that differ, in one transaction. Tables, indexes and privileges stay as they
    are, and a table that was right is not written to.

    Readers never wait and never see a table half rebuilt. Writers wait while the tables are locked
    and compared: some hundredths of a second, and up to five seconds for each million sessions.
    Before that they wait behind somebody else's long transaction, two seconds a table at most: the
    rebuild then lets them pass and tries again. A command decided on a damaged row before the swap
    and written after it may carry the damage on: verify afterwards.

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
    async with own_connection(engine) as builder:
        await _create_tables(builder)
        since = await _build(engine, builder, data_keys, progress)
        for _ in range(_MAX_ROUNDS):
            since, events = await _catch_up(engine, builder, data_keys, since)
            if events < _FEW_EVENTS:
                break
        for _ in range(_LOCK_ATTEMPTS):
            try:
                async with builder.transaction():
                    await _lock_tables(builder)
                    await _catch_up(engine, builder, data_keys, since)
                    return [await _replace(builder, projection) for projection in PROJECTIONS]
            except psycopg.errors.LockNotAvailable:
                since, _ = await _catch_up(engine, builder, data_keys, since)
    msg = "other transactions keep the tables locked: find them in pg_stat_activity"
    raise StoreUnavailableError(msg)


async def _compared(
    reader: Connection, projection: AnyProjection, batch: Sequence[Any]
) -> list[Difference]:
    """What differs; Any: ``batch`` is as ``folded`` yields it."""
    sound = [each for each in batch if not isinstance(each, DamagedStream)]
    owners = [getattr(state, projection.owner) for state in sound]
    found = await rows_of_owners(reader, projection, owners)
    result = [damage(each) for each in batch if isinstance(each, DamagedStream)]
    for owner, state in zip(owners, sound, strict=True):
        result.extend(differences(projection, state, found.get(owner, [])))
    return result


async def _create_tables(builder: Connection) -> None:
    async with builder.transaction():
        for projection in PROJECTIONS:
            if not await scalar(builder, _MAY_DELETE, [projection.table]):
                msg = f"a rebuild needs to delete rows of {projection.table}: connect as its owner"
                raise NotTheOwnerError(msg)
            await builder.execute(statement(_CREATE, projection))


async def _build(
    engine: AsyncEngine, builder: Connection, data_keys: DataKeys, progress: Progress
) -> str:
    """Fold the whole log into the rebuilt tables; returns the snapshot that it was seen in."""
    async with snapshot(engine) as reader:
        counted = await counter(reader, progress)
        for projection in PROJECTIONS:
            await _put_all(builder, projection, folded(reader, projection, data_keys, counted))
        seen = await name_of_snapshot(reader)
    async with builder.transaction():
        for projection in PROJECTIONS:
            await builder.execute(statement("ANALYZE rebuilt_{table}", projection))
    return seen


async def _catch_up(
    engine: AsyncEngine, builder: Connection, data_keys: DataKeys, since: str
) -> tuple[str, int]:
    """Fold what happened since a snapshot onto the rebuilt tables.

    Returns:
        The snapshot that they stand at now, and how many events that took.
    """
    pieces: list[int] = []
    async with snapshot(engine) as reader:
        for projection in PROJECTIONS:
            states = folded(
                reader, projection, data_keys, pieces.append, since=since, builder=builder
            )
            await _put_all(builder, projection, states)
        return await name_of_snapshot(reader), sum(pieces)


async def _put_all(
    builder: Connection, projection: AnyProjection, states: AsyncGenerator[list[Any], None]
) -> None:
    async with aclosing(states):
        async for batch in states:
            for each in batch:
                if isinstance(each, DamagedStream):
                    raise DamagedLogError(str(damage(each)))
            if batch:
                await _put(builder, projection, batch)


async def _put(builder: Connection, projection: AnyProjection, states: Sequence[Any]) -> None:
    """One short transaction: a long one would hold back the tail of the log.

    The rows travel as the JSON that the live path sends, and the database unfolds them alike. Any:
    states of the projection.
    """
    owners = [getattr(state, projection.owner) for state in states]
    rows = [asdict(row) for state in states for row in projection.rows_of(state)]
    document = JsonDocument(encode(rows))
    try:
        async with builder.transaction():
            await builder.execute(statement(_CLEAR, projection), (owners,))
            await builder.execute(statement(_PUT, projection), (document,), binary=True)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        msg = f"what the log says does not fit {projection.table}: {error}"
        raise DamagedLogError(msg) from error


async def _lock_tables(builder: Connection) -> None:
    """Keep writers out, readers not; in the order that everybody locks in."""
    # EXCLUSIVE refuses row locks too: somebody who holds one would otherwise wait for us with their
    # update, and we for their row.
    await builder.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'".encode())
    for projection in PROJECTIONS:
        await builder.execute(statement("LOCK TABLE {table} IN EXCLUSIVE MODE", projection))


async def _replace(builder: Connection, projection: AnyProjection) -> Rebuilt:
    # Without statistics of a table that was empty a moment ago, the planner would compare each row
    # with all others; and everybody waits.
    await builder.execute("SET LOCAL enable_nestloop = off")
    await builder.execute("SET LOCAL work_mem = '64MB'")
    await builder.execute(statement(_FORGET_ERASED, projection))
    removed = await builder.execute(statement(_REMOVE, projection))
    written = await builder.execute(statement(_WRITE, projection))
    rows = await scalar(builder, f"SELECT count(*) FROM rebuilt_{projection.table}")  # noqa: S608
    return Rebuilt(projection.table, rows, removed.rowcount, written.rowcount)
