"""A stream as people read it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from domain.events.personal import Personal
from domain.ids import CorrelationId, EventId


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        version: Its number in its stream.
        event_id: Its id.
        type: Its type; perhaps one that this build does not know.
        at: When it happened.
        actor: Who caused it, as stored: ``kind`` or ``kind:name``.
        correlation_id: The request that it came of.
        data: What the log holds of it in clear.
        personal: Whom it names; empty where nobody, or where they were erased.
    """

    version: int
    event_id: EventId
    type: str
    at: datetime
    actor: str
    correlation_id: CorrelationId
    data: Mapping[str, object]
    personal: Personal


class History(msgspec.Struct, frozen=True):
    """The end of a stream.

    Attributes:
        entries: Its last events, in order.
        earlier: How many came before these.
    """

    entries: Sequence[HistoryEntry]
    earlier: int
