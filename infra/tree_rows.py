"""Rows of the log as leaves of the tree: read quickly, and whatever somebody put into them."""

import struct
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

from domain.events.canonical import StoredEvent, canonical_stored_bytes
from domain.transparency import LogEntry, LogPlace
from infra.postgres import Connection

POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01T00:00:00Z, in microseconds since 1970."""

# Ids as text, the transaction as a number, data as bytes: psycopg reads those without any Python.
# The transaction is named like the column, so an ORDER BY has to say which of the two it means.
ENTRY_COLUMNS = (
    "transaction_id::text::bigint, position, occurred_at, stream, version, event_id::text, type,"
    " schema_version, subject_id::text, actor, correlation_id::text, causation_id::text,"
    " convert_to(data::text, 'UTF8'), personal"
)
_NEXT = f"""
SELECT {ENTRY_COLUMNS}
  FROM events
 WHERE transaction_id >= %s::text::xid8
   AND (transaction_id, position) > (%s::text::xid8, %s)
   AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY events.transaction_id, events.position
 LIMIT %s
"""  # noqa: S608 (column names are ours)
_FROM = f"""
SELECT {ENTRY_COLUMNS}
  FROM events
 WHERE transaction_id >= %s::text::xid8
   AND (transaction_id, position) >= (%s::text::xid8, %s)
   AND (transaction_id, position) <= (%s::text::xid8, %s)
 ORDER BY events.transaction_id, events.position
 LIMIT %s
"""  # noqa: S608 (column names are ours)


class _Microseconds(Loader):
    """A ``timestamptz`` in microseconds since 1970: exact, and defined for every value it has."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        (since_2000,) = _read_int64(data)
        return int(since_2000) + POSTGRES_EPOCH_US


class StoredInstant:
    """Microseconds since 1970, to be sent as a ``timestamptz`` parameter."""

    __slots__ = ("microseconds",)

    def __init__(self, microseconds: int) -> None:
        """Hold them."""
        self.microseconds = microseconds


class _StoredInstantDumper(Dumper):
    format = Format.BINARY
    oid = psycopg.adapters.types["timestamptz"].oid

    def dump(self, obj: StoredInstant) -> bytes:
        return struct.pack("!q", obj.microseconds - POSTGRES_EPOCH_US)


def entry_cursor(connection: Connection) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    """A cursor whose rows of ``ENTRY_COLUMNS`` are for ``entry_of``; Any: rows as they come."""
    cursor = connection.cursor(binary=True)
    cursor.adapters.register_loader("timestamptz", _Microseconds)
    cursor.adapters.register_dumper(StoredInstant, _StoredInstantDumper)
    return cursor


async def next_entries(connection: Connection, after: LogPlace, limit: int) -> list[LogEntry]:
    """The next events after a place, in the log's order, none of them skippable (``infra.tail``).

    Events of types that this build does not know are entries like any other.

    Args:
        connection: Any connection.
        after: Where the reader stands.
        limit: At most this many.
    """
    xid = str(after[0])
    cursor = entry_cursor(connection)
    await cursor.execute(_NEXT, (xid, xid, after[1], limit))
    return entries_of(await cursor.fetchall())


async def entries_between(
    connection: Connection, first: LogPlace, last: LogPlace, limit: int
) -> list[LogEntry]:
    """The events from one place up to another, both included.

    Args:
        connection: Any connection.
        first: Of the first event.
        last: Of the last one that may be returned.
        limit: At most this many.
    """
    xid = str(first[0])
    cursor = entry_cursor(connection)
    await cursor.execute(_FROM, (xid, xid, first[1], str(last[0]), last[1], limit))
    return entries_of(await cursor.fetchall())


def entries_of(records: Sequence[tuple[Any, ...]]) -> list[LogEntry]:  # Any: rows as they came
    """Rows of ``ENTRY_COLUMNS`` as entries."""
    return [
        LogEntry((record[0], record[1]), record[2], canonical_stored_bytes(stored_of(record)))
        for record in records
    ]


def stored_of(record: tuple[Any, ...]) -> StoredEvent:  # Any: a row as it came
    """A row of ``ENTRY_COLUMNS`` as the columns that its canonical bytes are made of."""
    (
        _, position, occurred_at, stream, version, event_id, type_, schema_version, subject_id,
        actor, correlation_id, causation_id, data, personal,
    ) = record  # fmt: skip
    return StoredEvent(
        actor=actor,
        causation_id=causation_id,
        correlation_id=correlation_id,
        data=data,
        event_id=event_id,
        occurred_at=occurred_at,
        personal=personal,
        position=position,
        schema_version=schema_version,
        stream=stream,
        subject_id=subject_id,
        type=type_,
        version=version,
    )


_read_int64 = struct.Struct("!q").unpack
