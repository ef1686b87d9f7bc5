"""Step-up (RFC 9470): to require that the user proves themself again, and what it does."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import StepUpCompleted, StepUpRequired
from domain.events.personal import Personal
from domain.family import Family, Session
from domain.family_commands import (
    CheckToken,
    CompleteStepUp,
    Decision,
    Reauthenticate,
    RequireStepUp,
    StepUpCommand,
)
from domain.lifetimes import refusal_if_over, usable_session
from domain.refresh_decisions import refresh
from domain.refusals import Refusal


def decide_step_up(family: Family, command: StepUpCommand, now: datetime) -> Decision:
    """The rules of proving oneself again: the part of ``decide`` for these commands."""
    match command:
        case RequireStepUp():
            return _require_step_up(family, now)
        case CompleteStepUp():
            return _complete_step_up(family, command, now)
        case CheckToken():
            return _check_token(family, command, now)
        case Reauthenticate():
            return _reauthenticate(family, command, now)
        case _:
            assert_never(command)


def _require_step_up(family: Family, now: datetime) -> Decision:
    over = refusal_if_over(family, now)
    if over is not None:
        return over
    if family.step_up_required_at is not None:
        return Decision(refusal=Refusal.NOTHING_TO_DO)
    return Decision((NewEvent(StepUpRequired()),))


def _complete_step_up(family: Family, command: CompleteStepUp, now: datetime) -> Decision:
    session = usable_session(family, command.session_id, now)
    if isinstance(session, Decision):
        return session
    return Decision((_completed(session, command.auth_methods, command.client),))


def _check_token(family: Family, command: CheckToken, now: datetime) -> Decision:
    """A family under step-up exchanges nothing, and judges all the same."""
    judged = refresh(replace(family, step_up_required_at=now), command.refresh, now)
    return Decision() if judged.refusal is Refusal.STEP_UP_REQUIRED else judged


def _reauthenticate(family: Family, command: Reauthenticate, now: datetime) -> Decision:
    """The token is judged as at any refresh: whoever knows the password may still be the thief."""
    presented = command.refresh.presented
    session = family.session(presented.session_id)
    refreshed = refresh(replace(family, step_up_required_at=None), command.refresh, now)
    if refreshed.refusal is not None or session is None:
        return refreshed
    completed = _completed(session, command.auth_methods, command.refresh.client)
    return Decision((completed, *refreshed.events))


def _completed(session: Session, auth_methods: Sequence[str], client: ClientContext) -> NewEvent:
    completed = StepUpCompleted(session=session.ordinal, auth_methods=list(auth_methods))
    return NewEvent(completed, Personal(client=client))
