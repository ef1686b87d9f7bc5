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
_MAX_ROUNDS = 5
_LOCK_ATTEMPTS = 10

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
UPDATE rebuilt_{table} r SET ({personal}) = (NULL, NULL)
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
        counted = await _counter(reader, progress)
        for projection in _PROJECTIONS:
            states = _states(reader, projection, data_keys, _EVERYTHING, counted)
            async with aclosing(states):
                async for batch in states:
                    for difference in await _compared(reader, projection, batch):
                        yield difference
            async with reader.cursor("rows_without_stream") as cursor:
                statement = _sql(_ROWS_WITHOUT_STREAM, projection)
                await cursor.execute(statement, {"prefix": projection.rules.prefix})
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
            if events < _FEW_EVENTS:
                break
        for _ in range(_LOCK_ATTEMPTS):
            try:
                async with builder.transaction():
                    await _lock_tables(builder)
                    await _round(engine, builder, data_keys, since)
                    return [await _replace(builder, projection) for projection in _PROJECTIONS]
            except psycopg.errors.LockNotAvailable:
                since, _ = await _round(engine, builder, data_keys, since)
    msg = "other transactions keep the tables locked: find them in pg_stat_activity"
    raise StoreUnavailableError(msg)


# ---------------------------------------------------------------------------- reading and folding


@asynccontextmanager
async def _snapshot(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """A connection that sees one instant of the database; having no transaction id, it does not
    hold back the tail of the log, however long it reads."""
    async with transaction(engine) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # A cursor is read to its end here, so it is planned for that.
        await connection.execute("SET LOCAL cursor_tuple_fraction = 1")
        await connection.execute("SET LOCAL work_mem = '64MB'")
        yield connection


async def _counter(reader: Connection, progress: Progress) -> Callable[[int], None]:
    """Adds up what was folded and tells."""
    prefixes = [projection.rules.prefix for projection in _PROJECTIONS]
    cursor = await reader.execute(
        "SELECT count(*) FROM events WHERE starts_with(stream, %s) OR starts_with(stream, %s)",
        prefixes,
    )
    total = (await cursor.fetchall())[0][0]
    done = 0

    def counted(events: int) -> None:
        nonlocal done
        done += events
        progress(done, total)

    return counted


async def _states(
    reader: Connection,
    projection: _AnyProjection,
    data_keys: DataKeys,
    since: str,
    counted: Callable[[int], None],
    builder: Connection | None = None,
) -> AsyncIterator[list[Any]]:
    """Fold what happened since a snapshot, on the states in the rebuilt tables if there are any.

    Yields:
        States of the projection with their personal data opened, and ``DamagedStream``.
    """
    fold = Fold(projection.rules)
    async with reader.cursor("events") as cursor:
        parameters = {"prefix": projection.rules.prefix, "since": since}
        await cursor.execute(_EVENTS, parameters, binary=True)
        while records := cast("list[StoredEvent]", await cursor.fetchmany(_BATCH)):
            known = {} if builder is None else await _known(builder, projection, records)
            ended = list(fold.feed(records, known))
            counted(len(records))
            yield await _opened(reader, projection, data_keys, ended)
    yield await _opened(reader, projection, data_keys, list(fold.finish()))


async def _known(
    builder: Connection, projection: _AnyProjection, events: Sequence[StoredEvent]
) -> dict[str, Any]:
    """What the rebuilt table has of the streams of these events."""
    owners = {event[0].removeprefix(projection.rules.prefix) for event in events}
    rows = await _rows(builder, projection, "rebuilt_" + projection.table, owners)
    return {owner: projection.state_of(rows[owner]) for owner in rows}


async def _opened(
    reader: Connection, projection: _AnyProjection, data_keys: DataKeys, ended: list[Any]
) -> list[Any]:
    subjects = {each.user_id for each in ended if not isinstance(each, DamagedStream)}
    cursor = await reader.execute(
        "SELECT subject_id, wrapped_key FROM data_keys WHERE subject_id = ANY(%s::uuid[])",
        (list(filter(parse_uuid, subjects)),),
        binary=True,
    )
    wrapped = dict(await cursor.fetchall())
    return [
        each
        if isinstance(each, DamagedStream)
        else _open(projection, data_keys, each, wrapped.get(each.user_id))
        for each in ended
    ]


def _open(
    projection: _AnyProjection,
    data_keys: DataKeys,
    state: Any,  # noqa: ANN401 (of the projection)
    wrapped_key: bytes | None,
) -> Any:  # noqa: ANN401 (a state too, or DamagedStream)
    if wrapped_key is None:
        return projection.opened(state, nothing_left)
    try:
        return projection.opened(state, data_keys.unwrap(wrapped_key, state.user_id).open)
    except UnsealError as error:
        stream = projection.rules.prefix + getattr(state, projection.owner)
        return DamagedStream(Stream(stream), str(error))
