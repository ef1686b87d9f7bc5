"""What may be done to an alert: ``decide_alert(state, command)``."""

from typing import assert_never

import msgspec

from domain.alert import Alert, AlertStatus
from domain.detection import Outcome, Response, Verdict
from domain.events.alerts import (
    AlertAcknowledged,
    AlertAnswered,
    AlertAssigned,
    AlertCommented,
    AlertReopened,
    AlertResolved,
)
from domain.events.envelope import NewEvent
from domain.events.personal import Personal
from domain.ids import UserId
from domain.refusals import Refusal


class Acknowledge(msgspec.Struct, frozen=True):
    """Look into it."""


class Assign(msgspec.Struct, frozen=True):
    """Make it somebody's to look into; None takes it from whoever has it."""

    assignee: UserId | None


class Comment(msgspec.Struct, frozen=True):
    """Write something about it."""

    text: str


class Resolve(msgspec.Struct, frozen=True):
    """Judge it."""

    verdict: Verdict
    comment: str | None = None


class Reopen(msgspec.Struct, frozen=True):
    """Take the verdict back."""


class NoteAnswer(msgspec.Struct, frozen=True):
    """Note what was done about it.

    Attributes:
        response: What.
        outcome: What became of it.
        families: How many families it had an effect on.
    """

    response: Response
    outcome: Outcome
    families: int = 0


AlertCommand = Acknowledge | Assign | Comment | Resolve | Reopen | NoteAnswer


class AlertDecision(msgspec.Struct, frozen=True):
    """Events to append, and why the command was refused where it was."""

    events: tuple[NewEvent, ...] = ()
    refusal: Refusal | None = None


def decide_alert(alert: Alert | None, command: AlertCommand) -> AlertDecision:
    """The rules of triage.

    Args:
        alert: The state, or None where there is no such alert.
        command: What is asked for.
    """
    if alert is None:
        return _refuse(Refusal.UNKNOWN_ALERT)
    match command:
        case Acknowledge():
            return _acknowledge(alert)
        case Assign():
            return _assign(alert, command)
        case Comment():
            return AlertDecision((NewEvent(AlertCommented(), Personal(comment=command.text)),))
        case Resolve():
            return _resolve(alert, command)
        case Reopen():
            if alert.status is not AlertStatus.RESOLVED:
                return _refuse(Refusal.NOTHING_TO_DO)
            return AlertDecision((NewEvent(AlertReopened()),))
        case NoteAnswer():
            answered = AlertAnswered(
                response=command.response, outcome=command.outcome, families=command.families
            )
            return AlertDecision((NewEvent(answered),))
        case _:
            assert_never(command)


def _acknowledge(alert: Alert) -> AlertDecision:
    if alert.status is AlertStatus.RESOLVED:
        return _refuse(Refusal.ALERT_RESOLVED)
    if alert.status is AlertStatus.ACKNOWLEDGED:
        return _refuse(Refusal.NOTHING_TO_DO)
    return AlertDecision((NewEvent(AlertAcknowledged()),))


def _assign(alert: Alert, command: Assign) -> AlertDecision:
    if alert.status is AlertStatus.RESOLVED:
        return _refuse(Refusal.ALERT_RESOLVED)
    if alert.assignee == command.assignee:
        return _refuse(Refusal.NOTHING_TO_DO)
    return AlertDecision((NewEvent(AlertAssigned(assignee=command.assignee)),))


def _resolve(alert: Alert, command: Resolve) -> AlertDecision:
    if alert.status is AlertStatus.RESOLVED:
        return _refuse(Refusal.ALERT_RESOLVED)
    personal = None if command.comment is None else Personal(comment=command.comment)
    resolved = AlertResolved(verdict=command.verdict, family_id=alert.family_id)
    return AlertDecision((NewEvent(resolved, personal),))


def _refuse(refusal: Refusal) -> AlertDecision:
    return AlertDecision(refusal=refusal)
