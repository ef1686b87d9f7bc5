"""How we talk to PostgreSQL: connections, transactions, and its faults as one error of ours.

The append path uses psycopg directly, binary and prepared; everything else SQLAlchemy Core. Both
take their connections from the same pool.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

import msgspec
import psycopg
import sqlalchemy.exc
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.conninfo import make_conninfo
from psycopg.pq import Format
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.as_of import AlteredHistoryError
from domain.ids import uuid_text
from domain.ports import StoreUnavailableError

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
"""Any: a row's columns have whatever types its query gives them."""

_ResultT = TypeVar("_ResultT")

_CONNECT_TIMEOUT_S = 5
_HAS_ANSWERED = "has answered"
_LANE_OPTIONS = "-c enable_seqscan=off -c jit=off"
"""A lane only ever looks rows up by their keys. A plan made while the tables were small, or before
they were analysed, would read them whole, and stay with the prepared statement."""


class _UuidAsText(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return uuid_text(bytes(data))


class _JsonbAsBytes(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]  # the first byte is jsonb's wire version


class _Xid8AsInt(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return int.from_bytes(bytes(data), "big")


class JsonDocument(msgspec.Struct, frozen=True):
    """Encoded JSON, to be sent as a ``jsonb`` parameter."""

    text: bytes


class _JsonDocumentDumper(Dumper):
    format = Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: JsonDocument) -> bytes:
        return b"\x01" + obj.text


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("uuid", _UuidAsText)
    adapters.register_loader("jsonb", _JsonbAsBytes)
    adapters.register_dumper(JsonDocument, _JsonDocumentDumper)
    adapters.register_loader(5069, _Xid8AsInt)  # xid8: psycopg knows it by number only
    return adapters


class _OurForms:
    """Hands our loaders to a connection as it opens: ids as text, JSON as bytes."""

    adapters = _adapters()
    connection = None


async def connect(conninfo: str) -> Connection:
    """Open one connection for a refresh lane: autocommit, statements prepared at first use.

    Raises:
        StoreUnavailableError: The server does not answer within 5 seconds.
    """
    with translated_faults():
        return await psycopg.AsyncConnection.connect(
            _conninfo(conninfo, _LANE_OPTIONS),
            autocommit=True,
            prepare_threshold=0,
            context=_OurForms(),
        )


def _conninfo(conninfo: str, options: str = "") -> str:
    return make_conninfo(
        conninfo,
        connect_timeout=_CONNECT_TIMEOUT_S,
        application_name="sessiontrail",
        options=f"-c timezone=UTC {options}",
    )


def create_engine(conninfo: str, *, max_connections: int, wait_s: float) -> AsyncEngine:
    """The pool of connections for everything but the refresh lanes.

    They are in autocommit mode, so that one statement alone needs no COMMIT; whoever takes one
    through this module and does more begins a transaction.

    Args:
        conninfo: libpq connection string or ``postgresql://`` URL.
        max_connections: The most connections it opens.
        wait_s: Seconds that a caller waits for a free one.
    """

    async def creator() -> Connection:
        return await psycopg.AsyncConnection.connect(
            _conninfo(conninfo), autocommit=True, context=_OurForms()
        )

    return create_async_engine(
        "postgresql+psycopg://",
        async_creator=creator,
        pool_size=max_connections,
        max_overflow=0,
        pool_timeout=wait_s,
        hide_parameters=True,  # an error must not carry names or hashes into the log
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """A psycopg connection inside one READ COMMITTED transaction.

    Raises:
        StoreUnavailableError: No connection in time, or the server went away or cannot write.
    """
    with translated_faults():
        async with _checked_out(engine, _begin) as (_, connection, _):
            yield connection
            await connection.commit()  # what is not committed the pool rolls back


@asynccontextmanager
async def queries(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A SQLAlchemy connection inside one transaction, for queries off the append path.

    Raises:
        StoreUnavailableError: As ``transaction``.
    """
    with translated_faults():
        async with _checked_out(engine, _begin) as (checked_out, _, _), checked_out.begin():
            yield checked_out


async def fetch_one(engine: AsyncEngine, query: str, *values: object) -> tuple[Any, ...] | None:
    """The first row of a query that stands by itself, in one round trip.

    Args:
        engine: Where to.
        query: Reads only: it is sent once more if the connection was lost.
        values: Its parameters.

    Raises:
        StoreUnavailableError: As ``transaction``.
    """

    async def fetch(connection: Connection) -> tuple[Any, ...] | None:
        cursor = await connection.execute(query.encode(), values, binary=True)
        return await cursor.fetchone()

    with translated_faults():
        async with _checked_out(engine, fetch) as (_, _, record):
            return record


async def _begin(connection: Connection) -> None:
    await connection.execute("BEGIN", prepare=False)


@asynccontextmanager
async def _checked_out(
    engine: AsyncEngine, first: Callable[[Connection], Awaitable[_ResultT]]
) -> AsyncIterator[tuple[AsyncConnection, Connection, _ResultT]]:
    """A connection of the pool, as SQLAlchemy and as psycopg know it, and what ``first`` returned.

    What is done first on a connection shows whether it was lost while it lay in the pool, which
    saves asking. If it was, ``first`` is done again on another: it must do no harm twice.
    """
    while True:
        async with engine.connect() as checked_out:
            raw = await checked_out.get_raw_connection()
            connection = cast("Connection", raw.driver_connection)
            try:
                done = await first(connection)
            except psycopg.OperationalError:
                if connection.broken and raw.info.pop(_HAS_ANSWERED, False):
                    await checked_out.invalidate()
                    continue
                raise
            raw.info[_HAS_ANSWERED] = True
            yield checked_out, connection, done
            return


@contextmanager
def translated_faults() -> Iterator[None]:
    """Turn whatever says that the database cannot serve into ``StoreUnavailableError``.

    A time that Python does not have is what no service of ours writes: ``AlteredHistoryError``.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise _unavailable(error) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise _unavailable(error) from error
    except sqlalchemy.exc.TimeoutError as error:
        msg = "no database connection was free in time"
        raise StoreUnavailableError(msg) from error
    except psycopg.DataError as error:
        if _is_no_time(error):
            raise _altered() from error
        raise
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError):
            raise _unavailable(error.orig) from error
        if isinstance(error.orig, psycopg.DataError) and _is_no_time(error.orig):
            raise _altered() from error
        raise


def _unavailable(error: psycopg.Error) -> StoreUnavailableError:
    state = error.sqlstate or "connection"
    return StoreUnavailableError(f"the database cannot serve just now ({state})")


def _is_no_time(error: psycopg.DataError) -> bool:
    """Whether a row was read that has infinity, or a year that Python does not count to."""
    return error.sqlstate is None and str(error).startswith("timestamp too")


def _altered() -> AlteredHistoryError:
    return AlteredHistoryError(
        "the database holds a time that cannot have been written: run `sessiontrail audit verify`"
    )
