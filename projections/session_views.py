"""A session as auditors see it: everything but secrets and what is personal."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from domain.family import Family, Session
from domain.family_decisions import is_usable
from domain.ids import FamilyId, SessionId, UserId
from projections.replaying import AnyState
from projections.snapshot_states import bucket_of


class SessionStatus(StrEnum):
    """What a session was good for at a moment."""

    LIVE = "live"
    """Its refresh token was accepted."""
    STEP_UP = "step_up"
    """Likewise, once its user had proved themself again."""
    EXPIRED = "expired"
    """It had run out of time, and no event had said so yet."""
    ENDED = "ended"
    """An event had ended it."""


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it stood at a moment.

    Attributes:
        session_id: Its id.
        family_id: Its family's.
        user_id: Whose it is.
        status: What it was good for.
        client_id: The OAuth client that it was opened for.
        auth_methods: RFC 8176 ``amr`` values of the last proof.
        delivery: Where its refresh token went.
        persistent: Whether its cookie outlived the browser.
        generation: How many refresh tokens it had had.
        family_version: How many events its family had had.
        started_at: When it began.
        last_seen_at: When it was last refreshed.
        expires_at: When it was to end if nothing more came.
        ended_at: When it was ended; None if it was not.
        end_reason: Why.
    """

    session_id: SessionId
    family_id: FamilyId
    user_id: UserId
    status: SessionStatus
    client_id: str
    auth_methods: tuple[str, ...]
    delivery: str
    persistent: bool
    generation: int
    family_version: int
    started_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_reason: str | None


class SessionsPage(msgspec.Struct, frozen=True):
    """Some of the sessions as they stood at a moment.

    Attributes:
        sessions: In the order of ``place_of``.
        at: The instant that they are judged by.
        next_after: Pass as ``after`` for the next page; None on the last.
        damaged: What is wrong with streams that cannot be folded.
    """

    sessions: Sequence[SessionView]
    at: datetime
    next_after: str | None
    damaged: Sequence[str]


def view_of(family: Family, session: Session, at: datetime) -> SessionView:
    """A session, judged at an instant."""
    return SessionView(
        session_id=session.session_id,
        family_id=family.family_id,
        user_id=family.user_id,
        status=_status(family, session, at),
        client_id=family.client_id,
        auth_methods=family.auth_methods,
        delivery=session.delivery.value,
        persistent=session.persistent,
        generation=session.generation,
        family_version=family.version,
        started_at=session.started_at,
        last_seen_at=session.last_seen_at,
        expires_at=min(session.idle_expires_at, family.expires_at),
        ended_at=session.ended_at,
        end_reason=session.end_reason,
    )


def views_of(states: Iterable[AnyState], at: datetime) -> Iterator[SessionView]:
    """The sessions of families, judged at an instant, in the order of ``place_of``."""
    families = [state for state in states if isinstance(state, Family)]
    for family in sorted(families, key=lambda family: (*_order(family.user_id), family.family_id)):
        for session in family.sessions:
            yield view_of(family, session, at)


def place_of(view: SessionView) -> tuple[int, UserId, FamilyId]:
    """Where a session stands in lists: by the bucket of its user, the user, and the family."""
    return (*_order(view.user_id), view.family_id)


def _order(user_id: UserId) -> tuple[int, UserId]:
    return bucket_of(user_id), user_id


def _status(family: Family, session: Session, at: datetime) -> SessionStatus:
    if session.ended_at is not None:
        return SessionStatus.ENDED
    if not is_usable(family, session, at):
        return SessionStatus.EXPIRED
    return SessionStatus.LIVE if family.step_up_required_at is None else SessionStatus.STEP_UP
