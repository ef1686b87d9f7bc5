"""What a presented token comes to, as whole decisions and states, for tests to compare with."""

from datetime import datetime

from domain.client import ClientContext
from domain.events.envelope import EXPIRY, REUSE_RULE, NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    ExpiryKind,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenUnrecognised,
    SessionExpired,
)
from domain.events.personal import Personal
from domain.family import Family
from domain.family_decisions import Decision
from domain.refusals import Refusal
from tests.unit.domain.builders import changed


def reuse(client: ClientContext, *, presented: int, current: int, session: int = 0) -> Decision:
    """What a reuse comes to."""
    reused = RefreshTokenReused(
        session=session, presented_generation=presented, current_generation=current
    )
    return Decision(
        (
            NewEvent(reused, Personal(client=client)),
            NewEvent(FamilyRevoked(reason=EndReason.TOKEN_REUSE), by=REUSE_RULE),
        ),
        Refusal.TOKEN_REUSED,
    )


def retry(
    client: ClientContext, *, generation: int, late: bool = False, session: int = 0
) -> Decision:
    """What an honest retry comes to."""
    retried = RefreshRetried(session=session, generation=generation, late=late)
    return Decision((NewEvent(retried, Personal(client=client)),))


def unrecognised(client: ClientContext, *, presented: int, current: int) -> Decision:
    """What a token that the history never issued comes to, when it goes on record."""
    event = RefreshTokenUnrecognised(presented_generation=presented, current_generation=current)
    return Decision((NewEvent(event, Personal(client=client)),), Refusal.TOKEN_UNRECOGNISED)


def refused_after_the_end(client: ClientContext, *, presented: int) -> Decision:
    """What a token of an ended session comes to, when it goes on record."""
    event = EndedSessionRefreshRefused(presented_generation=presented)
    return Decision((NewEvent(event, Personal(client=client)),), Refusal.SESSION_ENDED)


def revoked_for_reuse(family: Family, at: datetime) -> Family:
    """The state that a reuse leaves: the token stays as it was, the session is over."""
    return changed(family, events=2, ended_at=at, end_reason="token_reuse")


def expired(kind: ExpiryKind, refusal: Refusal | None, *, session: int = 0) -> Decision:
    """What a session that ran out of time comes to."""
    return Decision((NewEvent(SessionExpired(session=session, kind=kind), by=EXPIRY),), refusal)
