"""Reading the log as folded states, and the rows that stand for them: for verify and rebuild.

The log is read by stream and version in one snapshot, through a server-side cursor: memory stays
flat, however long it is. Streams come in the order of their names' 64-bit hash, which the log's own
unique index keeps, so that PostgreSQL may choose between that index and a sort, and no collation
has a say in it.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.registry import MalformedEventError
from domain.ids import Stream, parse_uuid
from infra.instants import any_instant_cursor
from infra.postgres import Connection, transaction, translated_faults
from infra.sealing import DataKeys, UnsealError
from projections.comparison import ALERT_ROWS, SESSIONS, USER_ROWS, Projection
from projections.folding import DamagedStream, Fold, StoredEvent, nothing_left

Progress = Callable[[int, int], None]
"""Told how many events have been folded, and of how many."""

# Any: here users, families and alerts are treated alike, states, rows and all.
AnyProjection = Projection[Any, Any]
PROJECTIONS: tuple[AnyProjection, ...] = (USER_ROWS, SESSIONS, ALERT_ROWS)
"""In the order that everybody locks in."""

KnownStates = Callable[[AnyProjection, Iterable[StoredEvent]], Awaitable[Mapping[str, Any]]]
"""The states that events' streams had before them, by id; Any: of the projection."""

_BATCH = 2_000

EVENTS = """
SELECT e.stream, e.version, e.type, e.schema_version, e.occurred_at,
       convert_to(e.data::text, 'UTF8'), e.event_id::text, e.personal
  FROM events e
 WHERE starts_with(e.stream, %(prefix)s)
"""
"""What a fold needs of the events of one kind of stream; conditions may follow."""

SINCE = """
   AND e.transaction_id >= pg_snapshot_xmin(%(since)s::pg_snapshot)
   AND NOT pg_visible_in_snapshot(e.transaction_id, %(since)s::pg_snapshot)
"""
"""... and that a snapshot does not see."""

_ORDER = " ORDER BY hashtextextended(e.stream, 0), e.version"
_ANY_PREFIX = " OR ".join(f"starts_with(e.stream, %(_{each.table})s)" for each in PROJECTIONS)
_COUNT = f"SELECT count(*) FROM events e WHERE ({_ANY_PREFIX})"  # noqa: S608 (ours)

_WRAPPED_KEYS = """
SELECT subject_id, wrapped_key FROM data_keys WHERE subject_id = ANY(%s::uuid[])
"""

ROWS = "SELECT {columns} FROM {table} WHERE {owner} = ANY(%s::uuid[]) ORDER BY {order}"
"""Rows of some owners, for ``rows_of_owners``."""


async def _nothing_known(_: AnyProjection, __: Iterable[StoredEvent]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Part:
    """Which events are folded, and onto what.

    Attributes:
        query: ``EVENTS``, with conditions.
        parameters: Of the conditions.
        known: Has the states that the streams had before.
    """

    query: str = EVENTS
    parameters: Mapping[str, object] = field(default_factory=dict)
    known: KnownStates = _nothing_known


WHOLE_LOG = Part()


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """A connection that sees one instant of the database.

    Having no transaction id, it does not hold back the tail of the log, however long it reads.
    """
    async with transaction(engine) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SET LOCAL cursor_tuple_fraction = 1")  # read to the end
        await connection.execute("SET LOCAL work_mem = '64MB'")
        yield connection


@asynccontextmanager
async def own_connection(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """A connection for many short transactions, closed afterwards with its temporary tables."""
    with translated_faults():
        async with engine.connect() as checked_out:
            raw = await checked_out.get_raw_connection()
            connection = cast("Connection", raw.driver_connection)
            try:
                await connection.set_autocommit(True)
                yield connection
            finally:
                await checked_out.invalidate()


async def scalar(connection: Connection, query: str, values: Sequence[object] = ()) -> Any:  # noqa: ANN401
    """The one value of a query; Any: of whatever type."""
    cursor = await connection.execute(query.encode(), values)
    return (await cursor.fetchall())[0][0]


async def name_of_snapshot(reader: Connection) -> str:
    """What PostgreSQL calls the instant that a connection sees: ``since``, for another fold."""
    return str(await scalar(reader, "SELECT pg_current_snapshot()::text"))


async def counter(
    reader: Connection, progress: Progress, since: str | None = None
) -> Callable[[int], None]:
    """Adds up how many events were folded, and tells.

    Args:
        reader: From ``snapshot``.
        progress: Is told.
        since: A snapshot's text: what it does not see is folded; None for the whole log.
    """
    prefixes = {"_" + projection.table: projection.rules.prefix for projection in PROJECTIONS}
    query = _COUNT if since is None else _COUNT + SINCE
    cursor = await reader.execute(query.encode(), prefixes | {"since": since})
    total: int = (await cursor.fetchall())[0][0]
    done = 0

    def counted(events: int) -> None:
        nonlocal done
        done += events
        progress(done, total)

    return counted


async def folded(
    reader: Connection,
    projection: AnyProjection,
    data_keys: DataKeys,
    counted: Callable[[int], None],
    part: Part = WHOLE_LOG,
) -> AsyncGenerator[list[Any], None]:
    """Fold events of one kind of stream.

    Args:
        reader: From ``snapshot``.
        projection: What to fold.
        data_keys: Opens the subjects' data keys.
        counted: Told how many events were folded, after each piece.
        part: Which events.

    Yields:
        States, their personal data opened, and ``DamagedStream`` for those that there are not; in
        the order of the streams' hashes.

    Raises:
        UnknownEventError: A newer build wrote to the log.
        MalformedEventError: A row holds what no build of ours writes, such as an endless time.
    """
    fold = Fold(projection.rules)
    async with reader.cursor("events") as cursor:
        parameters = {"prefix": projection.rules.prefix, **part.parameters}
        await cursor.execute((part.query + _ORDER).encode(), parameters, binary=True)
        while records := await _next_events(cursor):
            ended = list(fold.feed(records, await part.known(projection, records)))
            counted(len(records))
            yield await opened_states(reader, projection, data_keys, ended)
    yield await opened_states(reader, projection, data_keys, list(fold.finish()))


async def _next_events(cursor: psycopg.AsyncServerCursor[Any]) -> list[StoredEvent]:
    """The next of them; Any: rows as they come."""
    try:
        return cast("list[StoredEvent]", await cursor.fetchmany(_BATCH))
    except psycopg.DataError as error:
        msg = f"an event cannot be read: {error}"
        raise MalformedEventError(msg) from error


async def rows_of_owners(
    connection: Connection, projection: AnyProjection, owners: Iterable[str], query: str = ROWS
) -> dict[str, list[Any]]:
    """Rows of the projection's table by owner, in order.

    What they hold is not trusted: there may be no state that they stand for.
    """
    cursor = any_instant_cursor(connection)
    await cursor.execute(statement(query, projection), (list(filter(parse_uuid, owners)),))
    rows: dict[str, list[Any]] = {}
    for record in await cursor.fetchall():
        row = projection.row(*record)
        rows.setdefault(getattr(row, projection.owner), []).append(row)
    return rows


def owners_of(projection: AnyProjection, events: Iterable[StoredEvent]) -> set[str]:
    """The ids of the states that events belong to."""
    return {event[0].removeprefix(projection.rules.prefix) for event in events}


def statement(template: str, projection: AnyProjection) -> bytes:
    """SQL about a projection's table, from a template that names the table's parts."""
    columns = projection.row.__struct_fields__
    kept = "CASE WHEN k.subject_id IS NOT NULL THEN r.{0} END"
    return template.format(
        table=projection.table,
        key=projection.key,
        owner=projection.owner,
        version=projection.version,
        prefix=projection.rules.prefix,
        order=projection.order,
        subject=projection.subject,
        personal=", ".join(projection.personal),
        forgotten=", ".join(f"{column} = NULL" for column in projection.personal),
        columns=", ".join(columns),
        put=", ".join(
            kept.format(each) if each in projection.personal else "r." + each for each in columns
        ),
        recalled=", ".join(f"(x.r).{column}" for column in columns),
        ours=", ".join("r." + column for column in columns),
        theirs=", ".join("t." + column for column in columns),
    ).encode()


async def opened_states(
    reader: Connection, projection: AnyProjection, data_keys: DataKeys, ended: list[Any]
) -> list[Any]:
    """Folded states with their personal data open, or what is wrong where a seal does not open.

    Any: states of the projection, and ``DamagedStream``.
    """
    sound = [each for each in ended if not isinstance(each, DamagedStream)]
    subjects = {getattr(state, projection.subject) for state in sound}
    cursor = await reader.execute(_WRAPPED_KEYS, (list(filter(parse_uuid, subjects)),), binary=True)
    wrapped: dict[str, bytes] = dict(await cursor.fetchall())

    def opened(state: Any) -> Any:  # noqa: ANN401 (of the projection; or DamagedStream)
        if isinstance(state, DamagedStream):
            return state
        subject = getattr(state, projection.subject)
        wrapped_key = wrapped.get(subject)
        if wrapped_key is None:
            return projection.opened(state, nothing_left)
        try:
            return projection.opened(state, data_keys.unwrap(wrapped_key, subject).open)
        except UnsealError as error:
            stream = projection.rules.prefix + getattr(state, projection.owner)
            return DamagedStream(Stream(stream), str(error))

    return [opened(state) for state in ended]
