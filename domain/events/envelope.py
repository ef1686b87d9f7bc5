"""The envelope that every event travels in (design §3)."""

from datetime import datetime
from enum import StrEnum

import msgspec

from domain.events.personal import Personal, PersonalPart
from domain.events.registry import Event
from domain.ids import CorrelationId, EventId, Stream, UserId


class ActorKind(StrEnum):
    """Who can cause an event."""

    USER = "user"
    """The subject of the event, through a client."""
    STAFF = "staff"
    """An analyst or administrator, named by user id."""
    SERVICE = "service"
    """A trusted backend, named by its service key id."""
    RULE = "rule"
    """A detection rule, named by its name."""
    SYSTEM = "system"
    """A job of ours, named by the job."""
    OPERATOR = "operator"
    """Somebody at the command line, named by their account on the machine."""
    ANONYMOUS = "anonymous"
    """A caller that has not authenticated."""


class Actor(msgspec.Struct, frozen=True):
    """Who caused an event: a kind and, where there are several, which one."""

    kind: ActorKind
    name: str = ""

    def __str__(self) -> str:
        """``kind`` or ``kind:name``: the stored form."""
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value


def parse_actor(text: str) -> Actor:
    """Read the stored form of an actor.

    Raises:
        ValueError: The kind is not one of ours.
    """
    kind, _, name = text.partition(":")
    return Actor(ActorKind(kind), name)


USER = Actor(ActorKind.USER)
"""The subject themself: ``subject_id`` says who, so the name is not stored twice."""
ANONYMOUS = Actor(ActorKind.ANONYMOUS)
REUSE_RULE = Actor(ActorKind.RULE, "refresh-token-reuse")
"""Revokes a family in the very refresh that presented a used token."""
EXPIRY = Actor(ActorKind.SYSTEM, "expiry")
"""Ends sessions that ran out of time, at use or in the sweep."""


class Cause(msgspec.Struct, frozen=True):
    """Why events are appended: by whom, in which request, following which event."""

    actor: Actor
    correlation_id: CorrelationId
    causation_id: EventId | None = None


class NewEvent(msgspec.Struct, frozen=True):
    """An event that a decision wants appended.

    Attributes:
        event: What is to happen.
        personal: Its personal part, in clear.
        by: Who causes it, where that is not who gave the command: the thief who presents a used
            token does not revoke the family, our rule does.
    """

    event: Event
    personal: Personal | None = None
    by: Actor | None = None


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as the log holds it.

    Attributes:
        position: Place in the store's global order of insertion.
        transaction_id: The PostgreSQL transaction (xid8) that committed it. Readers order by
            (``transaction_id``, ``position``).
        stream: Its stream; ``version`` counts from 1 within it.
        event_id: UUIDv7.
        event: What happened.
        personal: Whom it names: open, sealed, or None.
        occurred_at: When, by the database's clock, in UTC.
        subject_id: The user it is about, or None.
        cause: Actor, correlation and causation.
    """

    position: int
    transaction_id: int
    stream: Stream
    version: int
    event_id: EventId
    event: Event
    personal: PersonalPart
    occurred_at: datetime
    subject_id: UserId | None
    cause: Cause
