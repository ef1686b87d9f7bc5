"""Events as rows of the log: their columns, how they are sealed, how they travel.

All appends send one JSON document that the database unfolds, with the SQL below.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg

from domain.events.envelope import Cause, NewEvent
from domain.ids import EventId, Stream, UserId
from domain.ports import ConcurrencyError
from infra.ids import new_uuid
from infra.postgres import Connection, JsonDocument
from infra.sealing import DataKey

_LARGEST_ROW: Final = 0xFFFF - 64
"""An entry's length is told in 16 bits. Its canonical bytes are those that an event is sent with,
its time shorter and its position added."""
_SMALLEST_ROW: Final = 250


class StreamConflictError(ConcurrencyError):
    """Another writer appended to the stream first; or, once in a long while, two names collide."""


class EventTooLargeError(ValueError):
    """An event that has no place in the transparency log; the message says which, and how large."""


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


def event_document(rows: Sequence[EventRow]) -> JsonDocument:
    """Events, as the one document that the database unfolds.

    Raises:
        EventTooLargeError: An entry bundle (C2SP tlog-tiles) could not hold one of them.
    """
    encoded = _encoder.encode(rows)
    # As a rule the size of all of them says enough, and none has to be looked at.
    if len(encoded) - (len(rows) - 1) * _SMALLEST_ROW > _LARGEST_ROW:
        for row in rows:
            size = len(_encoder.encode(row))
            if size > _LARGEST_ROW:
                msg = f"{row.type} of {size} bytes is too large for the log: {_LARGEST_ROW} at most"
                raise EventTooLargeError(msg)
    return JsonDocument(encoded)


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
