"""The rules of triage."""

import pytest

from domain.alert import Alert, fold_new_alert
from domain.alert_decisions import (
    Acknowledge,
    AlertCommand,
    Assign,
    Comment,
    NoteAnswer,
    Reopen,
    Resolve,
    decide_alert,
)
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
from domain.refusals import Refusal
from tests.alerts import ALERT_ID, NOW, raised
from tests.unit.domain.builders import FAMILY_ID, USER_ID

OPEN = fold_new_alert(None, ALERT_ID, [raised(user_id=USER_ID, family_id=FAMILY_ID)], NOW)
RECORDED = fold_new_alert(None, ALERT_ID, [raised(response=Response.RECORD)], NOW)
COMMANDS: list[AlertCommand] = [
    Acknowledge(),
    Assign(USER_ID),
    Comment("odd"),
    Resolve(Verdict.BENIGN),
    Reopen(),
    NoteAnswer(Response.REVOKE_ALL, Outcome.DONE, 2),
]


def after(alert: Alert, *commands: AlertCommand) -> Alert:
    """The alert once these were carried out."""
    for command in commands:
        decision = decide_alert(alert, command)
        assert decision.refusal is None
        alert = fold_new_alert(alert, ALERT_ID, decision.events, NOW)
    return alert


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_done_to_an_alert_that_there_is_not(command: AlertCommand) -> None:
    decision = decide_alert(None, command)

    assert (decision.events, decision.refusal) == ((), Refusal.UNKNOWN_ALERT)


@pytest.mark.parametrize("alert", [OPEN, RECORDED], ids=["open", "recorded"])
def test_each_command_is_one_event(alert: Alert) -> None:
    assert decide_alert(alert, Acknowledge()).events == (NewEvent(AlertAcknowledged()),)
    assert decide_alert(alert, Assign(USER_ID)).events == (
        NewEvent(AlertAssigned(assignee=USER_ID)),
    )
    assert decide_alert(alert, NoteAnswer(Response.STEP_UP, Outcome.DONE, 1)).events == (
        NewEvent(AlertAnswered(response=Response.STEP_UP, outcome=Outcome.DONE, families=1)),
    )
    assert decide_alert(after(alert, Resolve(Verdict.BENIGN)), Reopen()).events == (
        NewEvent(AlertReopened()),
    )


def test_what_was_written_is_personal() -> None:
    comment = decide_alert(OPEN, Comment("she moved")).events
    verdict = decide_alert(OPEN, Resolve(Verdict.BENIGN, "she moved")).events

    assert comment == (NewEvent(AlertCommented(), Personal(comment="she moved")),)
    resolved = AlertResolved(verdict=Verdict.BENIGN, family_id=FAMILY_ID)
    assert verdict == (NewEvent(resolved, Personal(comment="she moved")),)


def test_a_verdict_without_a_comment_has_nothing_personal() -> None:
    (resolved,) = decide_alert(RECORDED, Resolve(Verdict.TRUE_POSITIVE)).events

    assert resolved == NewEvent(AlertResolved(verdict=Verdict.TRUE_POSITIVE))


@pytest.mark.parametrize("command", [Acknowledge(), Assign(USER_ID), Resolve(Verdict.BENIGN)])
def test_a_resolved_alert_is_to_be_reopened_first(command: AlertCommand) -> None:
    resolved = after(OPEN, Resolve(Verdict.FALSE_POSITIVE))

    assert decide_alert(resolved, command).refusal is Refusal.ALERT_RESOLVED
    assert decide_alert(after(resolved, Reopen()), command).refusal is None


@pytest.mark.parametrize(
    "command", [Comment("later"), NoteAnswer(Response.REVOKE_ALL, Outcome.DONE)]
)
def test_a_resolved_alert_may_be_commented_on_and_acted_from(command: AlertCommand) -> None:
    resolved = after(OPEN, Resolve(Verdict.TRUE_POSITIVE))

    assert decide_alert(resolved, command).refusal is None


@pytest.mark.parametrize(
    ("alert", "command"),
    [
        (after(OPEN, Acknowledge()), Acknowledge()),
        (after(OPEN, Assign(USER_ID)), Assign(USER_ID)),
        (OPEN, Assign(None)),
        (OPEN, Reopen()),
        (RECORDED, Reopen()),
    ],
    ids=["acknowledged", "assigned", "nobody's", "open", "recorded"],
)
def test_what_is_so_already_is_nothing_to_do(alert: Alert, command: AlertCommand) -> None:
    decision = decide_alert(alert, command)

    assert (decision.events, decision.refusal) == ((), Refusal.NOTHING_TO_DO)
