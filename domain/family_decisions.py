"""What a command may do to a session family: ``decide(state, command) -> Decision``.

Pure: the instant, the salts and the keys come in as arguments. The commands, and the questions of
time that go with them, can be had from here too.
"""

from datetime import datetime
from typing import assert_never

from domain.events.envelope import NewEvent
from domain.events.families import FamilyRevoked, SessionEnded, SessionRenamed, SessionStarted
from domain.events.personal import Personal
from domain.family import Family
from domain.family_commands import (
    CheckToken,
    CompleteStepUp,
    Decision,
    EndSession,
    ExpireSessions,
    FamilyCommand,
    Reauthenticate,
    Refresh,
    RenameSession,
    RequireStepUp,
    RevokeFamily,
    StartSession,
)
from domain.lifetimes import expire, expiry_of, is_usable, refusal_if_over, usable_session
from domain.refresh_decisions import REFUSAL_RECORD_INTERVAL, refresh
from domain.refresh_token import hash_secret
from domain.refusals import Refusal
from domain.step_up_decisions import decide_step_up

__all__ = [
    "REFUSAL_RECORD_INTERVAL",
    "CheckToken",
    "CompleteStepUp",
    "Decision",
    "EndSession",
    "ExpireSessions",
    "FamilyCommand",
    "Reauthenticate",
    "Refresh",
    "RenameSession",
    "RequireStepUp",
    "RevokeFamily",
    "StartSession",
    "decide",
    "expiry_of",
    "is_usable",
]


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
            return refresh(family, command, now)
        case EndSession():
            return _end(family, command, now)
        case RevokeFamily():
            return _revoke(family, command, now)
        case ExpireSessions():
            return expire(family, now)
        case RenameSession():
            return _rename(family, command, now)
        case RequireStepUp() | CompleteStepUp() | CheckToken() | Reauthenticate():
            return decide_step_up(family, command, now)
        case _:
            assert_never(command)


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


def _end(family: Family, command: EndSession, now: datetime) -> Decision:
    session = usable_session(family, command.session_id, now)
    if isinstance(session, Decision):
        return session
    ended = SessionEnded(session=session.ordinal, reason=command.reason)
    return Decision((NewEvent(ended),))


def _revoke(family: Family, command: RevokeFamily, now: datetime) -> Decision:
    over = refusal_if_over(family, now)
    if over is not None:
        return over
    return Decision((NewEvent(FamilyRevoked(reason=command.reason)),))


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
