"""What a command may do to a session family: ``decide(state, command) -> Decision``.

Pure: the instant, the salts and the keys come in as arguments.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import assert_never

import msgspec
from msgspec.structs import replace

from domain.client import ClientContext, same_client
from domain.events.envelope import EXPIRY, REUSE_RULE, NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    ExpiryKind,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionEnded,
    SessionExpired,
    SessionRenamed,
    SessionStarted,
    StepUpCompleted,
    StepUpRequired,
    TokenDelivery,
)
from domain.events.personal import Personal
from domain.family import Family, Session
from domain.ids import SessionId, UserId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, TokenKeys, hash_secret, successor_of
from domain.refusals import Refusal

REFUSAL_RECORD_INTERVAL = timedelta(minutes=1)
"""Refusals that change nothing go on record at most this often for each session."""


class StartSession(msgspec.Struct, frozen=True, kw_only=True):
    """Open a family with one session in it, for a user who has proved themself."""

    session_id: SessionId
    user_id: UserId
    client_id: str
    auth_methods: Sequence[str]
    delivery: TokenDelivery
    persistent: bool
    secret: bytes
    token_key: int
    client: ClientContext
    device_name: str | None
    policy: SessionPolicy

    def __repr__(self) -> str:
        """Without the secret, so that a traceback or a log line cannot leak it."""
        return f"StartSession(session_id={self.session_id!r}, user_id={self.user_id!r})"


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """Exchange a refresh token whose MAC held. ``salt`` is 16 fresh random bytes, base64url.

    ``client_id`` is what the caller says it is; None where it does not say.
    """

    presented: RefreshToken
    client: ClientContext
    salt: str
    keys: TokenKeys
    policy: SessionPolicy
    client_id: str | None = None


class EndSession(msgspec.Struct, frozen=True):
    """End one session."""

    session_id: SessionId
    reason: EndReason


class RevokeFamily(msgspec.Struct, frozen=True):
    """End every session of the family."""

    reason: EndReason


class ExpireSessions(msgspec.Struct, frozen=True):
    """End the sessions whose time has run out."""


class RenameSession(msgspec.Struct, frozen=True):
    """Give the device a name."""

    session_id: SessionId
    device_name: str


class RequireStepUp(msgspec.Struct, frozen=True):
    """Refuse refreshes until the user proves themself again."""


class CompleteStepUp(msgspec.Struct, frozen=True):
    """The user has proved themself again, to a backend that keeps them; needed or not.

    ``auth_methods`` says how, as RFC 8176 ``amr`` values; ``client`` with what.
    """

    session_id: SessionId
    auth_methods: Sequence[str]
    client: ClientContext


class Reauthenticate(msgspec.Struct, frozen=True):
    """The user has proved themself again, and presents their refresh token: exchange it.

    One command, so that no copy of the token is exchanged between the proof and the refresh.
    """

    refresh: Refresh
    auth_methods: Sequence[str]


FamilyCommand = (
    StartSession
    | Refresh
    | EndSession
    | RevokeFamily
    | ExpireSessions
    | RenameSession
    | RequireStepUp
    | CompleteStepUp
    | Reauthenticate
)


class Decision(msgspec.Struct, frozen=True):
    """What a command comes to: events to append, and why it was refused where it was.

    A refusal may come with events: a reuse is refused *and* revokes.
    """

    events: tuple[NewEvent, ...] = ()
    refusal: Refusal | None = None


def decide(family: Family | None, command: FamilyCommand, now: datetime) -> Decision:
    """The rules of a session family.

    Args:
        family: Its state, or None where it has no events.
        command: What is asked for.
        now: The database's clock, not earlier than the family's last event.

    Returns:
        Events to append (possibly none) and the refusal, if it is one.
    """
    if isinstance(command, StartSession):
        return _start(command) if family is None else Decision(refusal=Refusal.NOTHING_TO_DO)
    if family is None:
        return Decision(refusal=Refusal.UNKNOWN_SESSION)
    match command:
        case Refresh():
            return _refresh(family, command, now)
        case EndSession():
            return _end(family, command, now)
        case RevokeFamily():
            return _revoke(family, command, now)
        case ExpireSessions():
            return _expire(family, now)
        case RenameSession():
            return _rename(family, command, now)
        case RequireStepUp():
            return _require_step_up(family, now)
        case CompleteStepUp():
            return _complete_step_up(family, command, now)
        case Reauthenticate():
            return _reauthenticate(family, command, now)
        case _:
            assert_never(command)


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


def _start(command: StartSession) -> Decision:
    policy = command.policy
    idle = policy.idle_timeout if command.persistent else policy.shared_computer_idle_timeout
    started = SessionStarted(
        session_id=command.session_id,
        user_id=command.user_id,
        client_id=command.client_id,
        auth_methods=list(command.auth_methods),
        delivery=command.delivery,
        persistent=command.persistent,
        secret_hash=hash_secret(command.secret),
        token_key=command.token_key,
        idle_timeout_s=int(idle.total_seconds()),
        absolute_lifetime_s=int(policy.absolute_lifetime.total_seconds()),
    )
    personal = Personal(client=command.client, device_name=command.device_name)
    return Decision((NewEvent(started, personal),))


def _refresh(family: Family, command: Refresh, now: datetime) -> Decision:
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


def _end(family: Family, command: EndSession, now: datetime) -> Decision:
    session = _usable_session(family, command.session_id, now)
    if isinstance(session, Decision):
        return session
    ended = SessionEnded(session=session.ordinal, reason=command.reason)
    return Decision((NewEvent(ended),))


def _usable_session(family: Family, session_id: SessionId, now: datetime) -> Session | Decision:
    """The family's session of that id, or the refusal where it is unknown or over."""
    session = family.session(session_id)
    if session is None:
        return Decision(refusal=Refusal.UNKNOWN_SESSION)
    if session.ended_at is not None:
        return Decision(refusal=Refusal.SESSION_ENDED)
    if expiry_of(family, session, now) is not None:
        return Decision(_expire(family, now).events, Refusal.SESSION_EXPIRED)
    return session


def _revoke(family: Family, command: RevokeFamily, now: datetime) -> Decision:
    over = _over(family, now)
    if over is not None:
        return over
    return Decision((NewEvent(FamilyRevoked(reason=command.reason)),))


def _over(family: Family, now: datetime) -> Decision | None:
    """The refusal where no session of the family is left, or none has time left."""
    if not family.is_live:
        return Decision(refusal=Refusal.SESSION_ENDED)
    expired = _expire(family, now)
    if len(expired.events) == sum(1 for session in family.sessions if session.ended_at is None):
        return Decision(expired.events, Refusal.SESSION_EXPIRED)
    return None


def _expire(family: Family, now: datetime) -> Decision:
    events = []
    for session in family.sessions:
        kind = expiry_of(family, session, now) if session.ended_at is None else None
        if kind is not None:
            expired = SessionExpired(session=session.ordinal, kind=kind)
            events.append(NewEvent(expired, by=EXPIRY))
    return Decision(tuple(events), None if events else Refusal.NOTHING_TO_DO)


def _rename(family: Family, command: RenameSession, now: datetime) -> Decision:
    session = family.session(command.session_id)
    if session is None:
        return Decision(refusal=Refusal.UNKNOWN_SESSION)
    if not is_usable(family, session, now):
        return Decision(refusal=Refusal.SESSION_ENDED)
    if session.device_name == command.device_name:
        return Decision()
    renamed = SessionRenamed(session=session.ordinal)
    return Decision((NewEvent(renamed, Personal(device_name=command.device_name)),))


def _require_step_up(family: Family, now: datetime) -> Decision:
    over = _over(family, now)
    if over is not None:
        return over
    if family.step_up_required_at is not None:
        return Decision(refusal=Refusal.NOTHING_TO_DO)
    return Decision((NewEvent(StepUpRequired()),))


def _complete_step_up(family: Family, command: CompleteStepUp, now: datetime) -> Decision:
    session = _usable_session(family, command.session_id, now)
    if isinstance(session, Decision):
        return session
    return Decision((_completed(session, command.auth_methods, command.client),))


def _reauthenticate(family: Family, command: Reauthenticate, now: datetime) -> Decision:
    """The token is judged as at any refresh: whoever knows the password may still be the thief."""
    presented = command.refresh.presented
    session = family.session(presented.session_id)
    refreshed = _refresh(replace(family, step_up_required_at=None), command.refresh, now)
    if refreshed.refusal is not None or session is None:
        return refreshed
    completed = _completed(session, command.auth_methods, command.refresh.client)
    return Decision((completed, *refreshed.events))


def _completed(session: Session, auth_methods: Sequence[str], client: ClientContext) -> NewEvent:
    completed = StepUpCompleted(session=session.ordinal, auth_methods=list(auth_methods))
    return NewEvent(completed, Personal(client=client))
