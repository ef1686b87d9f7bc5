"""Reading the log as folded states, and the rows that stand for them: for verify and rebuild.

The log is read by stream and version in one snapshot, through a server-side cursor: memory stays
flat, however long it is. Streams come in the order of their names' 64-bit hash, which the log's own
unique index keeps, so that PostgreSQL may choose between that index and a sort, and no collation
has a say in it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzBinaryLoader
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ids import Stream, parse_uuid
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

EVERYTHING = "1:1:"
"""A snapshot that sees no transaction: what happened since is the whole log."""

_BATCH = 2_000
_OUT_OF_RANGE = datetime.min.replace(tzinfo=UTC)

_EVENTS = """
SELECT stream, version, type, schema_version, occurred_at, convert_to(data::text, 'UTF8'),
       event_id::text, personal
  FROM events
 WHERE starts_with(stream, %(prefix)s)
   AND transaction_id >= pg_snapshot_xmin(%(since)s::pg_snapshot)
   AND NOT pg_visible_in_snapshot(transaction_id, %(since)s::pg_snapshot)
 ORDER BY hashtextextended(stream, 0), version
"""

_ANY_PREFIX = " OR ".join("starts_with(stream, %s)" for _ in PROJECTIONS)
_COUNT = f"SELECT count(*) FROM events WHERE {_ANY_PREFIX}"  # noqa: S608 (ours)

_WRAPPED_KEYS = """
SELECT subject_id, wrapped_key FROM data_keys WHERE subject_id = ANY(%s::uuid[])
"""

_ROWS = "SELECT {columns} FROM {table} WHERE {owner} = ANY(%s::uuid[]) ORDER BY {order}"
_REBUILT_ROWS = _ROWS.replace("{table}", "rebuilt_{table}")


class _AnyInstant(TimestamptzBinaryLoader):
    """Takes also what Python has no ``datetime`` for, such as infinity: a row may hold it."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            return _OUT_OF_RANGE


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


async def counter(reader: Connection, progress: Progress) -> Callable[[int], None]:
    """Adds up how many events were folded, and tells."""
    prefixes = [projection.rules.prefix for projection in PROJECTIONS]
    total: int = await scalar(reader, _COUNT, prefixes)
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
    *,
    since: str = EVERYTHING,
    builder: Connection | None = None,
) -> AsyncGenerator[list[Any], None]:
    """Fold what happened since a snapshot.

    Args:
        reader: From ``snapshot``.
        projection: What to fold.
        data_keys: Opens the subjects' data keys.
        counted: Told how many events were folded, after each piece.
        since: A snapshot's text: what it does not see is folded.
        builder: Has the rebuilt table whose states are folded onto.

    Yields:
        States, their personal data opened, and ``DamagedStream`` for those that there are not.

    Raises:
        UnknownEventError: A newer build wrote to the log.
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


async def rows_of_owners(
    connection: Connection, projection: AnyProjection, owners: Iterable[str], query: str = _ROWS
) -> dict[str, list[Any]]:
    """Rows of the projection's table by owner, in order.

    What they hold is not trusted: there may be no state that they stand for.
    """
    cursor = connection.cursor(binary=True)
    cursor.adapters.register_loader("timestamptz", _AnyInstant)
    await cursor.execute(statement(query, projection), (list(filter(parse_uuid, owners)),))
    rows: dict[str, list[Any]] = {}
    for record in await cursor.fetchall():
        row = projection.row(*record)
        rows.setdefault(getattr(row, projection.owner), []).append(row)
    return rows


def statement(template: str, projection: AnyProjection) -> bytes:
    """SQL about a projection's table, from a template that names the table's parts."""
    columns = projection.row.__struct_fields__
    return template.format(
        table=projection.table,
        key=projection.key,
        owner=projection.owner,
        order=projection.order,
        subject=projection.subject,
        personal=", ".join(projection.personal),
        forgotten=", ".join(f"{column} = NULL" for column in projection.personal),
        columns=", ".join(columns),
        ours=", ".join("r." + column for column in columns),
        theirs=", ".join("t." + column for column in columns),
    ).encode()


async def _known(
    builder: Connection, projection: AnyProjection, events: Iterable[StoredEvent]
) -> dict[str, Any]:
    """The states that the rebuilt table has of these events' streams."""
    owners = {event[0].removeprefix(projection.rules.prefix) for event in events}
    rows = await rows_of_owners(builder, projection, owners, _REBUILT_ROWS)
    return {owner: projection.state_of(rows[owner]) for owner in rows}


async def _opened(
    reader: Connection, projection: AnyProjection, data_keys: DataKeys, ended: list[Any]
) -> list[Any]:
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
