"""Reading the log: in commit order without gaps, and with a checkpoint that moves exactly once.

Identity values commit out of order, so "everything above the last position" can skip an event
that commits late. The tail takes only events whose transaction is below the oldest one still
running (``pg_snapshot_xmin``), ordered by (transaction, position): nothing can appear behind it
(design §4). The price is that a long *writing* transaction anywhere in the cluster holds the tail
back; ``tail_lag`` says which backend does.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Cause, RecordedEvent, parse_actor
from domain.events.personal import Sealed
from domain.events.registry import UnknownEventError, decode_event
from domain.ids import Stream
from infra.postgres import Connection, transaction

COLUMNS = (
    "position, transaction_id, stream, version, event_id, type, schema_version, occurred_at, "
    "subject_id, actor, correlation_id, causation_id, data, personal"
)

_TAIL = f"""
SELECT {COLUMNS}
  FROM events
 WHERE transaction_id >= %s::text::xid8
   AND (transaction_id, position) > (%s::text::xid8, %s)
   AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY transaction_id, position
 LIMIT %s
"""  # noqa: S608 (column names are ours)

_LAG = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(e.occurred_at)), 0)::float8,
       (SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL
         ORDER BY age(backend_xid) DESC LIMIT 1)
  FROM events e
 WHERE e.transaction_id >= %s::text::xid8
   AND (e.transaction_id, e.position) > (%s::text::xid8, %s)
"""


class Place(NamedTuple):
    """A place in the log's order: the last event that a reader has dealt with."""

    transaction_id: int
    position: int


START = Place(0, 0)
"""Before the first event."""


@dataclass(frozen=True, slots=True)
class TailLag:
    """How far a reader is behind.

    Attributes:
        behind: Age of the oldest event it has not dealt with; zero when there is none.
        held_by: Process id of the database backend with the oldest writing transaction, if any:
            the one to look at when the lag grows and the reader is idle.
    """

    behind: timedelta
    held_by: int | None


async def read_tail(connection: Connection, after: Place, limit: int) -> list[RecordedEvent]:
    """The next events after a place, in the log's order, none of them skippable.

    Args:
        connection: Any connection.
        after: Where the reader stands.
        limit: At most this many.

    Raises:
        UnknownEventError: A newer build wrote the next one. Those before it were returned by
            the read before.
    """
    events: list[RecordedEvent] = []
    for record in await read_tail_records(connection, after, limit):
        try:
            events.append(recorded(record))
        except UnknownEventError:
            if not events:
                raise
            break  # what comes before it is delivered first; the next read stops at it
    return events


async def read_tail_records(
    connection: Connection, after: Place, limit: int
) -> list[tuple[Any, ...]]:  # Any: rows as they come
    """The same as ``read_tail``, each row as it is stored: for one that only passes them on.

    Args:
        connection: Any connection.
        after: Where the reader stands.
        limit: At most this many.

    Returns:
        Rows that ``recorded`` can read.
    """
    cursor = await connection.execute(_TAIL, (*_bounds(after), limit), binary=True)
    return await cursor.fetchall()


def _bounds(place: Place) -> tuple[str, str, int]:
    return str(place.transaction_id), str(place.transaction_id), place.position


async def read_stream(connection: Connection, stream: Stream) -> list[RecordedEvent]:
    """Every event of one stream, in order."""
    cursor = await connection.execute(
        f"SELECT {COLUMNS} FROM events"  # noqa: S608 (column names are ours)
        " WHERE hashtextextended(stream, 0) = hashtextextended(%s, 0) AND stream = %s"
        " ORDER BY version",
        (stream, stream),
        binary=True,
    )
    return [recorded(record) for record in await cursor.fetchall()]


async def newest_place(connection: Connection) -> Place:
    """The place of the newest event that the tail would hand out; ``START`` in an empty log."""
    cursor = await connection.execute(
        "SELECT transaction_id, position FROM events"
        " WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())"
        " ORDER BY transaction_id DESC, position DESC LIMIT 1",
        binary=True,
    )
    record = await cursor.fetchone()
    return START if record is None else Place(*record)


async def tail_lag(connection: Connection, after: Place) -> TailLag:
    """How far behind a reader at that place is."""
    cursor = await connection.execute(_LAG, _bounds(after))
    record = await cursor.fetchone()
    seconds, held_by = record if record is not None else (0.0, None)
    return TailLag(timedelta(seconds=seconds), held_by)


@dataclass(slots=True)
class Reading:
    """One batch of a checkpointed reader, within its transaction.

    Attributes:
        connection: Whatever the reader writes through it commits with the checkpoint.
        events: The batch, in order; empty when there is nothing new.
    """

    connection: Connection
    events: Sequence[RecordedEvent]


@asynccontextmanager
async def next_batch(engine: AsyncEngine, reader: str, limit: int = 500) -> AsyncIterator[Reading]:
    """The next batch for a named reader: what it does with it and its checkpoint commit together.

    Readers of one name take turns: the checkpoint's row is locked for the transaction. If the
    body raises, nothing of it remains and the batch comes again.

    Raises:
        UnknownEventError: A newer build wrote the next event; the checkpoint stays before it.
    """
    async with transaction(engine) as connection:
        place = await _hold_checkpoint(connection, reader)
        events = await read_tail(connection, place, limit)
        yield Reading(connection, events)
        if events:
            await connection.execute(
                "UPDATE checkpoints SET transaction_id = %s::text::xid8, position = %s,"
                " updated_at = clock_timestamp() WHERE reader = %s",
                (str(events[-1].transaction_id), events[-1].position, reader),
            )


async def _hold_checkpoint(connection: Connection, reader: str) -> Place:
    await connection.execute(
        "INSERT INTO checkpoints (reader, transaction_id, position, updated_at)"
        " VALUES (%s, '0', 0, clock_timestamp()) ON CONFLICT (reader) DO NOTHING",
        (reader,),
    )
    cursor = await connection.execute(
        "SELECT transaction_id, position FROM checkpoints WHERE reader = %s FOR UPDATE",
        (reader,),
        binary=True,
    )
    record = await cursor.fetchone()
    return Place(*record) if record is not None else START


def recorded(record: tuple[Any, ...]) -> RecordedEvent:  # Any: a row as it came
    """A row of the log as an event, its personal part still sealed.

    Raises:
        UnknownEventError: A newer build wrote it.
    """
    (
        position, transaction_id, stream, version, event_id, type_, schema_version, occurred_at,
        subject_id, actor, correlation_id, causation_id, data, personal,
    ) = record  # fmt: skip
    try:
        by = parse_actor(actor)
    except ValueError as error:  # newer kinds of actor come with newer builds, like event types
        raise UnknownEventError(type_, schema_version) from error
    return RecordedEvent(
        position=position,
        transaction_id=transaction_id,
        stream=stream,
        version=version,
        event_id=event_id,
        event=decode_event(type_, schema_version, data),
        personal=None if personal is None else Sealed(event_id, personal),
        occurred_at=occurred_at,
        subject_id=subject_id,
        cause=Cause(by, correlation_id, causation_id),
    )
