"""Events as rows of the log: their columns, how they are sealed, how they travel.

All appends send one JSON document that the database unfolds, with the SQL below.
"""

from datetime import datetime
from typing import Any

import msgspec
import psycopg

from domain.events.envelope import Cause, NewEvent
from domain.ids import EventId, Stream, UserId
from domain.ports import ConcurrencyError
from infra.ids import new_uuid
from infra.postgres import Connection, JsonDocument
from infra.sealing import DataKey


class StreamConflictError(ConcurrencyError):
    """Another writer appended to the stream first; or, once in a long while, two names collide."""


class EventRow(msgspec.Struct, frozen=True):
    """One row of ``events``, but for what the database fills in."""

    stream: Stream
    version: int
    event_id: EventId
    type: str
    schema_version: int
    occurred_at: datetime
    subject_id: UserId | None
    actor: str
    correlation_id: str
    causation_id: str | None
    data: object
    personal: bytes | None


EVENT_COLUMNS = ", ".join(EventRow.__struct_fields__)
EVENT_RECORD = (
    "stream text, version int, event_id uuid, type text, schema_version smallint, "
    "occurred_at timestamptz, subject_id uuid, actor text, correlation_id uuid, "
    "causation_id uuid, data jsonb, personal text"
)
"""How ``jsonb_to_recordset`` reads them."""
EVENT_VALUES = EVENT_COLUMNS.replace("personal", "decode(personal, 'base64')")


def event_row(
    stream: Stream,
    version: int,
    new: NewEvent,
    cause: Cause,
    at: datetime,
    subject_id: UserId | None,
    data_key: DataKey | None,
) -> EventRow:
    """A new event as a row, its personal part sealed.

    Raises:
        ValueError: It has a personal part, and there is no data key to seal it with.
    """
    event_id = EventId(new_uuid())
    sealed = None
    if new.personal is not None:
        if data_key is None:
            msg = f"{new.event.TYPE} has a personal part but its subject has no data key"
            raise ValueError(msg)
        sealed = data_key.seal(new.personal, event_id)
    return EventRow(
        stream,
        version,
        event_id,
        new.event.TYPE,
        new.event.SCHEMA_VERSION,
        at,
        subject_id,
        str(new.by or cause.actor),
        cause.correlation_id,
        cause.causation_id,
        new.event,
        sealed,
    )


def document(value: object) -> JsonDocument:
    """Rows, as the one document that the database unfolds."""
    return JsonDocument(_encoder.encode(value))


async def insert(
    connection: Connection, statement: str, *documents: JsonDocument
) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    """Run a statement that appends; Any: a row's columns have whatever types it gives them.

    Raises:
        StreamConflictError: A stream has an event of that version already.
    """
    try:
        return await connection.execute(statement, documents, binary=True)
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != "events_stream_version_key":
            raise
        msg = "another writer appended to the stream first"
        raise StreamConflictError(msg) from error


_encoder = msgspec.json.Encoder()
