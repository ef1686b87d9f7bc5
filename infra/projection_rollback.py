"""Rolling a swap back: what it replaced, caught up with what has happened since."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import psycopg
from msgspec import MsgspecError
from msgspec.json import encode
from msgspec.structs import asdict, astuple
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.instants import OUT_OF_RANGE
from infra.postgres import Connection, JsonDocument
from infra.projection_folds import (
    EVENTS,
    PROJECTIONS,
    SINCE,
    AnyProjection,
    KnownStates,
    Part,
    Progress,
    folded,
    name_of_snapshot,
    owners_of,
    rows_of_owners,
    scalar,
    snapshot,
    statement,
)
from infra.projection_swap import forget_replaced, while_nobody_writes
from infra.rebuild_session import RebuildError, Rebuilding, rebuilding
from infra.sealing import DataKeys
from projections.comparison import AnyRow, row_differences
from projections.folding import DamagedStream, StoredEvent

_NAMED = 5

_LATER = """
  FROM replaced_rows p
  JOIN events e ON hashtextextended(e.stream, 0) = hashtextextended(%(prefix)s || p.owner, 0)
               AND e.stream = %(prefix)s || p.owner AND e.version > p.version
 WHERE p.table_name = %(table)s
"""
_LATER_EVENTS = EVENTS.partition("  FROM ")[0] + _LATER
_COUNT_LATER = "SELECT count(*)" + _LATER

# ``sound``: of as many events as the log had then, so that what came later can follow. Each row is
# read from its text once, not once a column: that is what OFFSET is for.
_RECALL = """
CREATE TEMPORARY TABLE recalled_{table} (LIKE {table}, sound boolean NOT NULL DEFAULT true);
CREATE INDEX ON recalled_{table} ({owner});
INSERT INTO recalled_{table} ({columns}, sound)
SELECT {recalled}, bool_and((x.r).{version} = p.version) OVER (PARTITION BY p.owner)
  FROM replaced_rows p
 CROSS JOIN unnest(p.rows) u(row_text)
 CROSS JOIN LATERAL (SELECT u.row_text::{table} AS r OFFSET 0) x
 WHERE p.table_name = '{table}'
"""

_RECALLED_ROWS = """
SELECT {columns} FROM recalled_{table} WHERE {owner} = ANY(%s::uuid[]) AND sound ORDER BY {order}
"""
_CLEAR = "DELETE FROM recalled_{table} WHERE {owner} = ANY(%s::uuid[])"
_PUT = """
INSERT INTO recalled_{table} ({columns})
SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, %b)
"""

# They went on, by events that are not in the log any more: an archive may have them.
_LEFT_BEHIND = """
SELECT DISTINCT '{prefix}' || p.owner
  FROM replaced_rows p JOIN {table} t ON t.{owner} = p.owner
 WHERE p.table_name = '{table}' AND t.{version} > p.version
   AND NOT EXISTS (SELECT FROM recalled_{table} r
                    WHERE r.{owner} = p.owner AND r.{version} = t.{version})
"""

# Whoever was erased in the meantime is in ``replaced_rows`` no more.
_REMOVE = """
DELETE FROM {table} t USING replaced_rows p WHERE p.table_name = '{table}' AND t.{owner} = p.owner
"""
_WRITE = """
INSERT INTO {table} ({columns})
SELECT {ours} FROM recalled_{table} r
  JOIN replaced_rows p ON p.table_name = '{table}' AND p.owner = r.{owner}
"""


class NothingReplacedError(RebuildError):
    """No swap has replaced anything, or it was rolled back or forgotten since."""


class CannotRollBackError(RebuildError):
    """What was replaced cannot be put back; says why."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a roll back did to one table.

    Attributes:
        table: Which.
        removed: Rows taken away.
        written: Rows put in the place of those, and rows that the swap had removed.
    """

    table: str
    removed: int
    written: int


async def rollback_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> list[RolledBack]:
    """Bring back what the last swap replaced, in one transaction.

    Users, families and alerts that were as the log says stay as they are. Those that were not come
    back as they were, and what has happened to them since is folded onto that. Who was erased since
    the swap does not come back. Readers never wait; writers do as in a swap.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of what has happened since the swap.

    Returns:
        What was done to each table.

    Raises:
        NothingReplacedError: There is nothing to bring back.
        CannotRollBackError: What happened since cannot follow on what there was, or something else
            has taken its place; nothing was changed.
        NotTheOwnerError: The role may not delete rows.
        RebuildUnderWayError: Somebody else is at it.
        UnknownEventError: A newer build wrote to the log.
        StoreUnavailableError: The database went away, or the tables stayed locked by others.
    """
    async with rebuilding(engine, data_keys) as at:
        if not await scalar(at.connection, "SELECT EXISTS (SELECT FROM replaced_rows)"):
            msg = "no swap has replaced anything that could be brought back"
            raise NothingReplacedError(msg)
        for projection in PROJECTIONS:
            await _recall(at.connection, projection)
        since = await _catch_up(at, None, progress)

        async def roll_back() -> list[RolledBack]:
            await _catch_up(at, since, _untold)
            done = [await _put_back(at.connection, projection) for projection in PROJECTIONS]
            await forget_replaced(at.connection)
            return done

        async def meanwhile() -> None:
            nonlocal since
            since = await _catch_up(at, since, _untold)

        return await while_nobody_writes(at.connection, roll_back, meanwhile)


def _untold(_done: int, _total: int) -> None:
    """Progress that nobody is told of."""


async def _recall(connection: Connection, projection: AnyProjection) -> None:
    try:
        async with connection.transaction():
            for each in _RECALL.split(";"):
                await connection.execute(statement(each, projection))
    except psycopg.DataError as error:
        msg = f"{projection.table} has other columns than when its rows were replaced"
        raise CannotRollBackError(msg) from error


async def _catch_up(at: Rebuilding, since: str | None, progress: Progress) -> str:
    """Fold what happened since the swap, or since a snapshot, onto what it replaced.

    Returns:
        The snapshot that this has seen.
    """
    query = _LATER_EVENTS if since is None else _LATER_EVENTS + SINCE
    count_query = _COUNT_LATER if since is None else _COUNT_LATER + SINCE
    stuck: list[DamagedStream] = []
    async with snapshot(at.engine) as reader:
        if since is not None:
            # Few events, of which the planner knows nothing: each would be compared with all rows
            # that were replaced, and everybody waits.
            await reader.execute("SET LOCAL enable_nestloop = off")
        total = done = 0
        parts = [
            (each, {"table": each.table, "since": since, "prefix": each.rules.prefix})
            for each in PROJECTIONS
        ]
        for _, parameters in parts:
            cursor = await reader.execute(count_query.encode(), parameters)
            total += (await cursor.fetchall())[0][0]

        def counted(events: int) -> None:
            nonlocal done
            done += events
            progress(done, total)

        for projection, parameters in parts:
            part = Part(query, parameters, _known(at.connection))
            states = folded(reader, projection, at.data_keys, counted, part)
            async with aclosing(states):
                async for batch in states:
                    stuck += [each for each in batch if isinstance(each, DamagedStream)]
                    if not stuck and batch:
                        await _put(at.connection, projection, batch)
        seen = await name_of_snapshot(reader)
    _refuse_where_stuck([each.stream for each in stuck])
    return seen


def _refuse_where_stuck(streams: Sequence[str]) -> None:
    if streams:
        names = ", ".join(streams[:_NAMED])
        msg = f"{len(streams)} streams went on, which what was replaced cannot follow: {names}"
        raise CannotRollBackError(msg)


def _known(connection: Connection) -> KnownStates:
    async def known(projection: AnyProjection, events: Iterable[StoredEvent]) -> Mapping[str, Any]:
        owners = owners_of(projection, events)
        rows = await rows_of_owners(connection, projection, owners, _RECALLED_ROWS)
        states = {owner: _state_of(projection, rows[owner]) for owner in rows}
        return {owner: state for owner, state in states.items() if state is not None}

    return known


def _state_of(projection: AnyProjection, rows: Sequence[Any]) -> Any:  # noqa: ANN401
    """The state that rows stand for, if it is all that they say; Any: of the projection."""
    try:
        state = projection.state_of(rows)
    except (ValueError, MsgspecError):
        return None
    if any(_holds_no_instant(row) for row in rows):
        return None
    by_key = [
        {getattr(row, projection.key): row for row in each}
        for each in (projection.rows_of(state), rows)
    ]
    return None if row_differences(projection.table, *by_key) else state


def _holds_no_instant(row: AnyRow) -> bool:
    """Whether it holds one that Python cannot."""
    values = astuple(row)
    return OUT_OF_RANGE in values or any(
        OUT_OF_RANGE in value for value in values if isinstance(value, list)
    )


async def _put(connection: Connection, projection: AnyProjection, states: Sequence[Any]) -> None:
    """Put states in the place of those that were recalled; Any: of the projection."""
    owners = [getattr(state, projection.owner) for state in states]
    rows = [asdict(row) for state in states for row in projection.rows_of(state)]
    async with connection.transaction():
        await connection.execute(statement(_CLEAR, projection), (owners,))
        await connection.execute(
            statement(_PUT, projection), (JsonDocument(encode(rows)),), binary=True
        )


async def _put_back(connection: Connection, projection: AnyProjection) -> RolledBack:
    left_behind = await connection.execute(statement(_LEFT_BEHIND, projection))
    _refuse_where_stuck([stream for (stream,) in await left_behind.fetchall()])
    removed = await connection.execute(statement(_REMOVE, projection))
    try:
        written = await connection.execute(statement(_WRITE, projection))
    except psycopg.IntegrityError as error:
        # Without the values: they may be personal.
        msg = f"something else took its place in {projection.table}: {error.diag.message_primary}"
        raise CannotRollBackError(msg) from error
    return RolledBack(projection.table, removed.rowcount, written.rowcount)
