"""The session family: its state, and ``evolve``, which alone knows what an event does to it.

The inline projection, the rebuild, time travel and the property tests all call this ``evolve``.
States are msgspec structs rather than dataclasses: a fold of a million events makes a million of
them, and ``structs.replace`` costs a thirtieth of ``dataclasses.replace`` (docs/performance.md).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import assert_never, cast

import msgspec
from msgspec.structs import replace

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    FamilyEvent,
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
from domain.events.personal import PersonalPart, Sealed, client_of, device_name_of
from domain.ids import FamilyId, SessionId, UserId
from domain.policy import MAX_LATE_RETRY_BUDGET


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One login on one device.

    Attributes:
        session_id: The ``sid`` of its access tokens.
        ordinal: Its place in the family: 0 for the login's own.
        delivery: Where its refresh token goes.
        persistent: Whether its cookie outlives the browser.
        generation: How many tokens it has had; 1 at sign-in.
        secret_hash: Hash of the current token's secret.
        previous_hash: Hash of the immediate predecessor's secret; None at generation 1.
        salt: What the current secret was derived with; None at generation 1.
        token_key: Id of the token key behind the current token.
        started_at: When it began.
        rotated_at: When the current token came to be.
        last_seen_at: When the client last refreshed or retried.
        idle_timeout: How long it may go without a refresh.
        idle_expires_at: When it ends if nothing more comes.
        late_retries: The latest retries after the overlap window, oldest first.
        client: The client of the last rotation (of the sign-in, at generation 1).
        device_name: What the user calls the device.
        refusal_recorded_at: When a refusal was last put on record, to bound the log.
        ended_at: When it ended, or None while it lives.
        end_reason: An ``EndReason`` or ``expired_idle`` / ``expired_absolute``.
    """

    session_id: SessionId
    ordinal: int = 0
    delivery: TokenDelivery
    persistent: bool
    generation: int
    secret_hash: str
    previous_hash: str | None = None
    salt: str | None = None
    token_key: int
    started_at: datetime
    rotated_at: datetime
    last_seen_at: datetime
    idle_timeout: timedelta
    idle_expires_at: datetime
    late_retries: tuple[datetime, ...] = ()
    client: ClientContext | Sealed | None = None
    device_name: str | Sealed | None = None
    refusal_recorded_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """A login and everything descended from it (RFC 9700 §4.14.2): the unit of revocation.

    Attributes:
        family_id: Names its stream.
        user_id: Whose it is.
        version: Version of the last event folded in.
        client_id: The OAuth client that it was opened for.
        auth_methods: RFC 8176 ``amr`` values: how the user proved themself last.
        signed_in_at: When that was: ``auth_time`` of its access tokens.
        expires_at: When it ends whatever happens.
        step_up_required_at: Since when nothing is refreshed until the user proves themself again;
            None where nobody asked for that.
        sessions: Its sessions, the login's own first.
    """

    family_id: FamilyId
    user_id: UserId
    version: int
    client_id: str
    auth_methods: tuple[str, ...]
    signed_in_at: datetime
    expires_at: datetime
    step_up_required_at: datetime | None = None
    sessions: tuple[Session, ...]

    def session(self, session_id: SessionId) -> Session | None:
        """The session of that id, or None where the family has no such session."""
        for session in self.sessions:
            if session.session_id == session_id:
                return session
        return None

    @property
    def is_live(self) -> bool:
        """Whether any of its sessions has not been ended (it may still have run out of time)."""
        return any(session.ended_at is None for session in self.sessions)

    def last_event_at(self) -> datetime:
        """A lower bound for the time of its next event, should a clock step back."""
        return max(
            self.signed_in_at,
            self.step_up_required_at or self.signed_in_at,
            *(
                max(
                    session.last_seen_at,
                    session.ended_at or session.last_seen_at,
                    session.refusal_recorded_at or session.last_seen_at,
                )
                for session in self.sessions
            ),
        )


class ImpossibleEventError(Exception):
    """An event that cannot follow the state it is folded into: the log is damaged."""


def evolve(
    family: Family | None,
    family_id: FamilyId,
    event: FamilyEvent,
    personal: PersonalPart,
    at: datetime,
) -> Family:
    """What one event does to a family.

    Args:
        family: The state before; None before the first event.
        family_id: The family's id, from the stream's name.
        event: What happened.
        personal: Its personal part, open or sealed: carried along, never looked into.
        at: When it happened.

    Raises:
        ImpossibleEventError: The event cannot follow that state.
    """
    if isinstance(event, SessionStarted):
        return _start(family, family_id, event, personal, at)
    if family is None:
        msg = f"family {family_id} begins with {event.TYPE}"
        raise ImpossibleEventError(msg)
    if isinstance(event, FamilyRevoked):
        return replace(
            family,
            version=family.version + 1,
            sessions=tuple(_ended(session, at, event.reason) for session in family.sessions),
        )
    if isinstance(event, StepUpRequired):
        return replace(family, version=family.version + 1, step_up_required_at=at)
    if not 0 <= event.session < len(family.sessions):
        msg = f"{event.TYPE} names session {event.session}, which family {family_id} does not have"
        raise ImpossibleEventError(msg)
    if isinstance(event, StepUpCompleted):
        return replace(
            family,
            version=family.version + 1,
            auth_methods=tuple(event.auth_methods),
            signed_in_at=at,
            step_up_required_at=None,
        )
    session = _evolve_session(family.sessions[event.session], event, personal, at)
    before, after = family.sessions[: event.session], family.sessions[event.session + 1 :]
    return replace(family, version=family.version + 1, sessions=(*before, session, *after))


def fold_new(
    family: Family | None, family_id: FamilyId, events: Iterable[NewEvent], at: datetime
) -> Family:
    """Fold decided events into the state that they were decided on.

    Raises:
        ImpossibleEventError: They cannot follow it, or there are none and there is no state.
    """
    for new in events:
        family = evolve(family, family_id, cast("FamilyEvent", new.event), new.personal, at)
    if family is None:
        msg = f"family {family_id} has no events"
        raise ImpossibleEventError(msg)
    return family


def _start(
    family: Family | None,
    family_id: FamilyId,
    event: SessionStarted,
    personal: PersonalPart,
    at: datetime,
) -> Family:
    if family is not None:
        msg = f"family {family_id} starts a second time"
        raise ImpossibleEventError(msg)
    idle_timeout = timedelta(seconds=event.idle_timeout_s)
    session = Session(
        session_id=event.session_id,
        delivery=event.delivery,
        persistent=event.persistent,
        generation=1,
        secret_hash=event.secret_hash,
        token_key=event.token_key,
        started_at=at,
        rotated_at=at,
        last_seen_at=at,
        idle_timeout=idle_timeout,
        idle_expires_at=at + idle_timeout,
        client=client_of(personal),
        device_name=device_name_of(personal),
    )
    return Family(
        family_id=family_id,
        user_id=event.user_id,
        version=1,
        client_id=event.client_id,
        auth_methods=tuple(event.auth_methods),
        signed_in_at=at,
        expires_at=at + timedelta(seconds=event.absolute_lifetime_s),
        sessions=(session,),
    )


def _evolve_session(
    session: Session,
    event: RefreshTokenRotated
    | RefreshRetried
    | RefreshTokenReused
    | RefreshTokenUnrecognised
    | EndedSessionRefreshRefused
    | SessionRenamed
    | SessionEnded
    | SessionExpired,
    personal: PersonalPart,
    at: datetime,
) -> Session:
    match event:
        case RefreshTokenRotated():
            return replace(
                session,
                generation=event.generation,
                secret_hash=event.secret_hash,
                previous_hash=session.secret_hash,
                salt=event.salt,
                token_key=event.token_key,
                rotated_at=at,
                last_seen_at=at,
                idle_expires_at=at + session.idle_timeout,
                client=client_of(personal),
            )
        case RefreshRetried():
            late = (*session.late_retries, at) if event.late else session.late_retries
            return replace(
                session,
                last_seen_at=at,
                idle_expires_at=at + session.idle_timeout,
                late_retries=late[-MAX_LATE_RETRY_BUDGET:],
            )
        case RefreshTokenReused():
            return session
        case RefreshTokenUnrecognised() | EndedSessionRefreshRefused():
            return replace(session, refusal_recorded_at=at)
        case SessionRenamed():
            return replace(session, device_name=device_name_of(personal))
        case SessionEnded():
            return _ended(session, at, event.reason)
        case SessionExpired():
            return _ended(session, at, f"expired_{event.kind}")
        case _:
            assert_never(event)


def _ended(session: Session, at: datetime, reason: str) -> Session:
    if session.ended_at is not None:
        return session
    return replace(session, ended_at=at, end_reason=str(reason))
