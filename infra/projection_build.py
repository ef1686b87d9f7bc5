"""Folding the log beside ``users``, ``sessions`` and ``alerts``, while they are written to.

The build stands in tables of its own, unlogged: a crash of the server empties them, all together.
Each piece of it commits with how far it is, so one that is killed goes on from there. It is caught
up before whatever is done with it, as often as need be.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import psycopg
from msgspec.json import encode
from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.archived_folds import folded_whole
from infra.log_archives import newest_archive
from infra.postgres import Connection, JsonDocument
from infra.projection_folds import (
    EVENTS,
    PROJECTIONS,
    ROWS,
    SINCE,
    WHOLE_LOG,
    AnyProjection,
    Part,
    Progress,
    counter,
    folded,
    name_of_snapshot,
    owners_of,
    rows_of_owners,
    scalar,
    snapshot,
    statement,
)
from infra.projection_leftovers import keep_erasures_out
from infra.rebuild_session import (
    Place,
    RebuildError,
    Rebuilding,
    begin_build,
    discard_build,
    note_end,
    note_snapshot,
    note_stream,
    places_of,
    rebuilding,
    require_build,
    since_build,
)
from infra.sealing import DataKeys
from projections.comparison import damage
from projections.folding import DamagedStream, StoredEvent

_AFTER = " AND hashtextextended(e.stream, 0) > %(folded_to)s"
_REBUILT_ROWS = ROWS.replace("{table}", "rebuilt_{table}")

_CLEAR = "DELETE FROM rebuilt_{table} WHERE {owner} = ANY(%s::uuid[])"
# Somebody erased while the fold was under way must not come back with it.
_PUT = """
INSERT INTO rebuilt_{table} ({columns})
SELECT {put}
  FROM jsonb_populate_recordset(NULL::{table}, %b) r
  LEFT JOIN data_keys k ON k.subject_id = r.{subject}
"""


_FEW_EVENTS = 500
_MAX_ROUNDS = 5


def _untold(_done: int, _total: int) -> None:
    """Progress that nobody is told of."""


class DamagedLogError(RebuildError):
    """The log cannot be folded; ``verify_projections`` names every stream that is damaged."""


async def build_projections(engine: AsyncEngine, data_keys: DataKeys, progress: Progress) -> int:
    """Fold the whole log beside the tables, or go on where a build was left, and catch up.

    Nobody waits for it, and it holds no transaction open that writes.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log.

    Returns:
        How many rows stand beside the tables.

    Raises:
        DamagedLogError: A stream cannot be folded; the build is gone, the tables were not touched.
        NotTheOwnerError: The role may not delete rows.
        RebuildUnderWayError: Somebody else is at it.
        UnknownEventError: A newer build wrote to the log.
        StoreUnavailableError: The database went away.
    """
    async with rebuilding(engine, data_keys) as at:
        await build(at, progress)
        counts = [await count_rebuilt(at, projection) for projection in PROJECTIONS]
        return sum(counts)


async def build(at: Rebuilding, progress: Progress) -> None:
    """See ``build_projections``; ``at`` is the one session that may."""
    try:
        if await _fold_all(at, progress):
            await catch_up_closely(at, _untold)
        else:
            await catch_up_closely(at, progress)
    except DamagedLogError:
        await discard_build(at.connection)
        raise


async def count_rebuilt(at: Rebuilding, projection: AnyProjection) -> int:
    """How many rows stand beside a table."""
    query = f"SELECT count(*) FROM rebuilt_{projection.table}"  # noqa: S608 (ours)
    rows: int = await scalar(at.connection, query)
    return rows


async def catch_up(at: Rebuilding, progress: Progress = _untold) -> int:
    """Fold onto the build what happened since.

    Returns:
        How many events that took.

    Raises:
        DamagedLogError: A stream cannot be folded any more.
        NoBuildError: Part of the log was archived since the build began.
    """
    since = await since_build(at.connection)
    events = 0

    def counted(done: int, total: int) -> None:
        nonlocal events
        events = done
        progress(done, total)

    async with snapshot(at.engine) as reader:
        count = await counter(reader, counted, since)
        part = part_since(at.connection, since)
        for projection in PROJECTIONS:
            states = folded(reader, projection, at.data_keys, count, part)
            async for batch in sound(states):
                async with at.connection.transaction():
                    await _put_again(at.connection, projection, batch)
        seen = await name_of_snapshot(reader)
    await require_build(at)  # if nothing of that was archived before it was read
    await note_snapshot(at.connection, seen)
    return events


async def catch_up_closely(at: Rebuilding, progress: Progress) -> None:
    """Catch up until hardly anything is left to catch up with.

    Args:
        at: The one session that may.
        progress: Told after each piece of what happened since the build was last caught up.
    """
    events = await catch_up(at, progress)
    for _ in range(_MAX_ROUNDS):
        if events < _FEW_EVENTS:
            break
        events = await catch_up(at)


def part_since(connection: Connection, since: str) -> Part:
    """What happened since a snapshot, to be folded onto the build as ``connection`` sees it."""

    async def known(projection: AnyProjection, events: Iterable[StoredEvent]) -> Mapping[str, Any]:
        owners = owners_of(projection, events)
        rows = await rows_of_owners(connection, projection, owners, _REBUILT_ROWS)
        return {owner: projection.state_of(rows[owner]) for owner in rows}

    return Part(EVENTS + SINCE, {"since": since}, known)


async def sound(states: AsyncGenerator[list[Any], None]) -> AsyncIterator[Sequence[Any]]:
    """Folded states, piece by piece, as long as there is one of every stream; Any: as folded.

    Raises:
        DamagedLogError: There is not.
    """
    async with aclosing(states):
        async for batch in states:
            for each in batch:
                if isinstance(each, DamagedStream):
                    raise DamagedLogError(str(damage(each)))
            if batch:
                yield batch


async def _fold_all(at: Rebuilding, progress: Progress) -> bool:
    """Fold the log as it stands now, but for what was folded before; whether that was not all."""
    async with snapshot(at.engine) as reader:
        places = await places_of(at.connection)
        if not places:
            places = await begin_build(at.connection, await name_of_snapshot(reader))
        if all(place.complete for place in places.values()):
            return False
        count = await counter(reader, progress)
        for projection in PROJECTIONS:
            place = places[projection.table]
            if not place.complete:
                await _fold_table(at, reader, projection, count, place)
    return True


async def _fold_table(
    at: Rebuilding,
    reader: Connection,
    projection: AnyProjection,
    count: Callable[[int], None],
    place: Place,
) -> None:
    connection = at.connection
    if await newest_archive(reader) is not None:
        await _fold_behind_archive(at, reader, projection, count)
    else:
        part = WHOLE_LOG
        if place.folded_to is not None:
            part = Part(EVENTS + _AFTER, {"folded_to": place.folded_to})
        async for batch in sound(folded(reader, projection, at.data_keys, count, part)):
            last = projection.rules.prefix + getattr(batch[-1], projection.owner)
            async with connection.transaction():
                await _put(connection, projection, batch)
                await note_stream(connection, projection.table, last)
    async with connection.transaction():
        await connection.execute(statement("ANALYZE rebuilt_{table}", projection))
        await note_end(connection, projection.table)


async def _fold_behind_archive(
    at: Rebuilding, reader: Connection, projection: AnyProjection, count: Callable[[int], None]
) -> None:
    """The same where the log begins with a snapshot: not in the order that one could go on in."""
    await at.connection.execute(statement("DELETE FROM rebuilt_{table}", projection))
    async for batch in sound(folded_whole(reader, projection, at.data_keys, count)):
        async with at.connection.transaction():
            await _put(at.connection, projection, batch)


async def _put(connection: Connection, projection: AnyProjection, states: Sequence[Any]) -> None:
    """Put states that were not there; within a short transaction.

    A long one would hold back the tail of the log. The rows travel as the JSON that the live path
    sends, and the database unfolds them alike. Any: states of the projection.
    """
    rows = [asdict(row) for state in states for row in projection.rows_of(state)]
    document = JsonDocument(encode(rows))
    await keep_erasures_out(connection)
    try:
        await connection.execute(statement(_PUT, projection), (document,), binary=True)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise misfit(projection, error) from error


async def _put_again(
    connection: Connection, projection: AnyProjection, states: Sequence[Any]
) -> None:
    """Put states in the place of those that were there; Any: of the projection."""
    owners = [getattr(state, projection.owner) for state in states]
    await connection.execute(statement(_CLEAR, projection), (owners,))
    await _put(connection, projection, states)


def misfit(projection: AnyProjection, error: psycopg.Error) -> DamagedLogError:
    """What a table refuses, without the values: they may be personal."""
    reason = error.diag.message_primary
    return DamagedLogError(f"what the log says does not fit {projection.table}: {reason}")
