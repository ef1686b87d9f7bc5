"""What a presented refresh token comes to (design §5, RFC 9700 §4.14.2)."""

from datetime import datetime, timedelta
from hmac import compare_digest

from domain.client import ClientContext, same_client
from domain.events.envelope import EXPIRY, REUSE_RULE, NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionExpired,
)
from domain.events.personal import Personal
from domain.family import Family, Session
from domain.family_commands import Decision, Refresh
from domain.lifetimes import expiry_of
from domain.refresh_token import RefreshToken, hash_secret, successor_of
from domain.refusals import Refusal

REFUSAL_RECORD_INTERVAL = timedelta(minutes=1)
"""Refusals that change nothing go on record at most this often for each session."""


def refresh(family: Family, command: Refresh, now: datetime) -> Decision:
    """Rotate, answer an honest retry, or refuse; a reuse revokes, whatever else is pending."""
    presented = command.presented
    session = family.session(presented.session_id)
    if session is None:
        return Decision(refusal=Refusal.UNKNOWN_SESSION)
    if command.client_id is not None and command.client_id != family.client_id:
        return Decision(refusal=Refusal.WRONG_CLIENT)
    if session.ended_at is not None:
        refused = EndedSessionRefreshRefused(
            session=session.ordinal, presented_generation=presented.generation
        )
        return _refused_on_record(session, refused, command.client, Refusal.SESSION_ENDED, now)
    expiry = expiry_of(family, session, now)
    if expiry is not None:
        expired = SessionExpired(session=session.ordinal, kind=expiry)
        return Decision((NewEvent(expired, by=EXPIRY),), Refusal.SESSION_EXPIRED)

    secret_hash = hash_secret(presented.secret)
    if presented.generation == session.generation and compare_digest(
        secret_hash, session.secret_hash
    ):
        if family.step_up_required_at is not None:
            return Decision(refusal=Refusal.STEP_UP_REQUIRED)
        return _rotate(session, command)
    if presented.generation >= session.generation:
        unrecognised = RefreshTokenUnrecognised(
            session=session.ordinal,
            presented_generation=presented.generation,
            current_generation=session.generation,
        )
        return _refused_on_record(
            session, unrecognised, command.client, Refusal.TOKEN_UNRECOGNISED, now
        )
    if _is_immediate_predecessor(session, presented, secret_hash):
        retry = _retry(session, command, now)
        if retry is not None:
            if family.step_up_required_at is not None:
                return Decision(refusal=Refusal.STEP_UP_REQUIRED)
            return retry
    return _reuse(session, command)


def _rotate(session: Session, command: Refresh) -> Decision:
    successor = successor_of(
        command.presented,
        salt=command.salt,
        key_id=command.keys.current_id,
        keys=command.keys,
    )
    rotated = RefreshTokenRotated(
        session=session.ordinal,
        generation=successor.generation,
        secret_hash=hash_secret(successor.secret),
        salt=command.salt,
        token_key=successor.key_id,
    )
    return Decision((NewEvent(rotated, Personal(client=command.client)),))


def _is_immediate_predecessor(session: Session, presented: RefreshToken, secret_hash: str) -> bool:
    return (
        presented.generation == session.generation - 1
        and session.previous_hash is not None
        and compare_digest(secret_hash, session.previous_hash)
    )


def _retry(session: Session, command: Refresh, now: datetime) -> Decision | None:
    """The honest retry of design §5, or None where it is not one.

    The retry must come from the client that used the token up: the one of the last rotation.
    """
    policy = command.policy
    if not policy.overlap_window or not isinstance(session.client, ClientContext):
        return None
    if not same_client(session.client, command.client):
        return None
    if session.token_key not in command.keys.keys:
        return None  # the key that derived the successor was removed: it cannot be given again
    late = now - session.rotated_at > policy.overlap_window
    if late:
        period_start = now - policy.late_retry_period
        spent = sum(1 for at in session.late_retries if at > period_start)
        if spent >= policy.late_retry_budget:
            return None
    retried = RefreshRetried(session=session.ordinal, generation=session.generation, late=late)
    return Decision((NewEvent(retried, Personal(client=command.client)),))


def _reuse(session: Session, command: Refresh) -> Decision:
    reused = RefreshTokenReused(
        session=session.ordinal,
        presented_generation=command.presented.generation,
        current_generation=session.generation,
    )
    return Decision(
        (
            NewEvent(reused, Personal(client=command.client)),
            NewEvent(FamilyRevoked(reason=EndReason.TOKEN_REUSE), by=REUSE_RULE),
        ),
        Refusal.TOKEN_REUSED,
    )


def _refused_on_record(
    session: Session,
    event: EndedSessionRefreshRefused | RefreshTokenUnrecognised,
    client: ClientContext,
    refusal: Refusal,
    now: datetime,
) -> Decision:
    recorded_at = session.refusal_recorded_at
    if recorded_at is not None and now - recorded_at < REFUSAL_RECORD_INTERVAL:
        return Decision(refusal=refusal)
    return Decision((NewEvent(event, Personal(client=client)),), refusal)
