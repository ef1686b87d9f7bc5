"""A history as auditors read it: every event, whoever it names sealed unless they were told why."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from domain.events.personal import Personal
from domain.events.registry import registered_types
from domain.ids import CorrelationId, EventId, Stream, UserId
from domain.json_reading import UNREADABLE

_SECRET_FIELDS = frozenset({"secret_hash", "salt"})


class HistoryScope(StrEnum):
    """What a history is of."""

    USER = "user"
    """Everything about a user: their stream, their sessions, their alerts, what staff did."""
    SESSION = "session"
    """The family that a session belongs to."""
    FAMILY = "family"
    """A session family."""
    ALERT = "alert"
    """An alert."""


class HistoryOf(msgspec.Struct, frozen=True):
    """Whose history: a scope and the id of what it is about."""

    scope: HistoryScope
    id: str


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the log.

    Attributes:
        position: Its position.
        stream: Its stream.
        version: Its number in that.
        event_id: Its id.
        type: Its type.
        at: When it happened.
        subject_id: The user it is about.
        actor: Who caused it, as stored: ``kind`` or ``kind:name``.
        correlation_id: The request that it came of.
        causation_id: The event that it followed from.
        data: What the log holds of it in clear, but for hashes and salts; None where a newer build
            wrote it, for then nobody knows which fields are secret.
        sealed: Whether it has a personal part.
        personal: That part, where it was opened; None also where its subject was erased.
    """

    position: int
    stream: Stream
    version: int
    event_id: EventId
    type: str
    at: datetime
    subject_id: UserId | None
    actor: str
    correlation_id: CorrelationId
    causation_id: EventId | None
    data: Mapping[str, object] | None
    sealed: bool
    personal: Personal | None = None


class HistoryPage(msgspec.Struct, frozen=True):
    """Some of a history.

    Attributes:
        entries: Events, in the log's order.
        next_after: Pass as ``after`` for the next page; None on the last.
        archived: Files that may hold earlier events of it, which are not in the database.
    """

    entries: Sequence[AuditEntry]
    next_after: str | None
    archived: Sequence[str] = ()


class UnknownHistoryError(Exception):
    """There is nothing of that id in the log."""


class InvalidCursorError(Exception):
    """A cursor that was not given out."""


class NothingToRevealError(Exception):
    """Whoever it is about was erased: there is nothing left to open."""


def shown_data(type_: str, schema_version: int, data: bytes) -> Mapping[str, object] | None:
    """What is shown of stored event data.

    Args:
        type_: The stored type name.
        schema_version: The stored schema version.
        data: The stored JSON.

    Returns:
        Its fields less the secret ones; None for a type or version that this build does not know,
        and for what no build writes.
    """
    known = registered_types().get(type_)
    if known is None or schema_version > known.SCHEMA_VERSION:
        return None
    try:
        fields = msgspec.json.decode(data, type=dict[str, object])
    except UNREADABLE:
        return None
    return {name: value for name, value in fields.items() if name not in _SECRET_FIELDS}
