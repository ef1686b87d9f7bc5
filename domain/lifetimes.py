"""How long sessions live, and what is left of a family at an instant."""

from datetime import datetime

from domain.events.envelope import EXPIRY, NewEvent
from domain.events.families import ExpiryKind, SessionExpired
from domain.family import Family, Session
from domain.family_commands import Decision
from domain.ids import SessionId
from domain.refusals import Refusal


def expiry_of(family: Family, session: Session, now: datetime) -> ExpiryKind | None:
    """Which limit the session has run into: it lives up to, and not at, the instant of expiry."""
    if now >= family.expires_at:
        return ExpiryKind.ABSOLUTE
    if now >= session.idle_expires_at:
        return ExpiryKind.IDLE
    return None


def is_usable(family: Family, session: Session, now: datetime) -> bool:
    """Whether the session has neither been ended nor run out of time."""
    return session.ended_at is None and expiry_of(family, session, now) is None


def expire(family: Family, now: datetime) -> Decision:
    """End the sessions whose time has run out; refused where there are none."""
    events = []
    for session in family.sessions:
        kind = expiry_of(family, session, now) if session.ended_at is None else None
        if kind is not None:
            expired = SessionExpired(session=session.ordinal, kind=kind)
            events.append(NewEvent(expired, by=EXPIRY))
    return Decision(tuple(events), None if events else Refusal.NOTHING_TO_DO)


def usable_session(family: Family, session_id: SessionId, now: datetime) -> Session | Decision:
    """The family's session of that id, or the refusal where it is unknown or over."""
    session = family.session(session_id)
    if session is None:
        return Decision(refusal=Refusal.UNKNOWN_SESSION)
    if session.ended_at is not None:
        return Decision(refusal=Refusal.SESSION_ENDED)
    if expiry_of(family, session, now) is not None:
        return Decision(expire(family, now).events, Refusal.SESSION_EXPIRED)
    return session


def refusal_if_over(family: Family, now: datetime) -> Decision | None:
    """The refusal where no session of the family is left, or none has time left."""
    if not family.is_live:
        return Decision(refusal=Refusal.SESSION_ENDED)
    expired = expire(family, now)
    if len(expired.events) == sum(1 for session in family.sessions if session.ended_at is None):
        return Decision(expired.events, Refusal.SESSION_EXPIRED)
    return None
