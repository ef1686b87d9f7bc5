"""The fold of an alert: what each event does to it."""

from datetime import timedelta

import pytest

from domain.alert import Alert, AlertStatus, Answer, evolve_alert, fold_new_alert
from domain.detection import Outcome, Response, Severity, Verdict
from domain.events.alerts import (
    AlertAcknowledged,
    AlertAnswered,
    AlertAssigned,
    AlertCommented,
    AlertEvent,
    AlertReopened,
    AlertResolved,
    WeighedFact,
)
from domain.events.envelope import NewEvent
from domain.events.personal import Personal, Sealed
from domain.family import ImpossibleEventError
from domain.ids import SYSTEM_SUBJECT
from tests.alerts import ALERT_ID, FACTS, MINUTE, NOW, TEXTS, THIEF, raised, repeated
from tests.unit.domain.builders import FAMILY_ID, USER_ID

LATER = NOW + timedelta(hours=1)
BOX = Sealed("0195513a-0000-7000-8000-0000000e0001", b"a box")


def alert_of(*events: NewEvent | AlertEvent) -> Alert:
    """An alert that these events lead to, all of them an hour after it happened."""
    new = [each if isinstance(each, NewEvent) else NewEvent(each) for each in events]
    return fold_new_alert(None, ALERT_ID, new, LATER)


def test_a_raised_alert_is_open_and_has_its_evidence() -> None:
    alert = alert_of(raised(user_id=USER_ID, family_id=FAMILY_ID, count=3))

    assert (alert.version, alert.status, alert.verdict) == (1, AlertStatus.OPEN, None)
    assert (alert.user_id, alert.family_id) == (USER_ID, FAMILY_ID)
    assert (alert.raised_at, alert.first_at, alert.last_at) == (LATER, NOW, NOW)
    assert (alert.count, alert.score_m) == (3, 1_234)
    assert alert.facts == tuple(FACTS)
    assert (alert.client, alert.fact_texts) == (THIEF, TEXTS)


def test_an_alert_about_no_user_belongs_to_the_service() -> None:
    alert = alert_of(raised())

    assert (alert.user_id, alert.subject_id) == (None, SYSTEM_SUBJECT)


def test_what_is_only_to_be_recorded_is_not_in_the_queue() -> None:
    assert alert_of(raised(response=Response.RECORD)).status is AlertStatus.RECORDED


def test_a_recorded_alert_comes_into_the_queue_when_its_response_becomes_stricter() -> None:
    record = raised(response=Response.RECORD)

    assert alert_of(record, repeated(response=Response.RECORD)).status is AlertStatus.RECORDED
    assert alert_of(record, repeated(response=Response.ALERT)).status is AlertStatus.OPEN


def test_a_repeated_alert_takes_the_worst_and_counts() -> None:
    alert = alert_of(
        raised(severity=Severity.MEDIUM, response=Response.STEP_UP),
        repeated(severity=Severity.CRITICAL, response=Response.ALERT, count=4),
        repeated(severity=Severity.LOW, response=Response.REVOKE_ALL),
    )

    assert (alert.severity, alert.response) == (Severity.CRITICAL, Response.REVOKE_ALL)
    assert (alert.version, alert.count) == (3, 6)


def test_occurrences_that_come_out_of_order_are_between_the_first_and_the_last() -> None:
    alert = alert_of(raised(), repeated(at=NOW + MINUTE), repeated(at=NOW - MINUTE))

    assert (alert.first_at, alert.last_at) == (NOW - MINUTE, NOW + MINUTE)


@pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
def test_new_evidence_that_is_as_bad_takes_the_place_of_the_old(severity: Severity) -> None:
    alert = alert_of(raised(), repeated(severity=severity, facts={"new_city": "Oslo"}))

    assert alert.facts == (WeighedFact("new_city", 50),)
    assert alert.fact_texts == {"new_city": "Oslo"}
    assert alert.score_m is None


@pytest.mark.parametrize(
    "repeat",
    [repeated(severity=Severity.LOW, facts={"new_city": "Oslo"}), repeated()],
    ids=["lesser", "none"],
)
def test_evidence_stays_where_nothing_as_bad_is_new(repeat: NewEvent) -> None:
    alert = alert_of(raised(), repeat)

    assert (alert.facts, alert.fact_texts, alert.score_m) == (tuple(FACTS), TEXTS, 1_234)


@pytest.mark.parametrize(
    "worse",
    [repeated(severity=Severity.CRITICAL), repeated(response=Response.STEP_UP)],
    ids=["severity", "response"],
)
def test_a_verdict_does_not_cover_what_is_worse_than_it_judged(worse: NewEvent) -> None:
    alert = alert_of(raised(), AlertResolved(verdict=Verdict.BENIGN), worse)

    assert (alert.status, alert.verdict, alert.resolved_at) == (AlertStatus.OPEN, None, None)


def test_a_verdict_covers_more_of_the_same() -> None:
    alert = alert_of(raised(), AlertResolved(verdict=Verdict.BENIGN), repeated(count=100))

    assert (alert.status, alert.verdict) == (AlertStatus.RESOLVED, Verdict.BENIGN)
    assert (alert.count, alert.resolved_at) == (101, LATER)


def test_an_acknowledged_alert_that_gets_worse_stays_acknowledged() -> None:
    alert = alert_of(raised(), AlertAcknowledged(), repeated(severity=Severity.CRITICAL))

    assert alert.status is AlertStatus.ACKNOWLEDGED


def test_answers_are_kept_one_for_each_response() -> None:
    def answered(response: Response, outcome: Outcome, families: int = 0) -> AlertAnswered:
        return AlertAnswered(response=response, outcome=outcome, families=families)

    alert = alert_of(
        raised(),
        answered(Response.REVOKE_FAMILY, Outcome.HELD_BACK),
        answered(Response.STEP_UP, Outcome.DONE, 1),
        answered(Response.REVOKE_FAMILY, Outcome.DONE, 1),
        answered(Response.REVOKE_FAMILY, Outcome.DONE, 2),
    )

    assert alert.answers == (
        Answer(Response.REVOKE_FAMILY, Outcome.DONE, 3),
        Answer(Response.STEP_UP, Outcome.DONE, 1),
    )


def test_an_alert_is_assigned_to_one_at_a_time() -> None:
    assigned = alert_of(raised(), AlertAssigned(assignee=USER_ID))
    nobodys = alert_of(
        raised(), AlertAssigned(assignee=USER_ID), AlertAssigned(assignee=None), AlertCommented()
    )

    assert (assigned.assignee, assigned.status) == (USER_ID, AlertStatus.OPEN)
    assert (nobodys.assignee, nobodys.version) == (None, 4)


def test_a_reopened_alert_has_no_verdict() -> None:
    alert = alert_of(raised(), AlertResolved(verdict=Verdict.TRUE_POSITIVE), AlertReopened())

    assert (alert.status, alert.verdict, alert.resolved_at) == (AlertStatus.OPEN, None, None)


def test_a_sealed_part_is_carried_along_for_all_that_it_holds() -> None:
    first = evolve_alert(None, ALERT_ID, raised().event, BOX, LATER)  # type: ignore[arg-type]  # an AlertRaised
    second = evolve_alert(first, ALERT_ID, repeated().event, None, LATER)  # type: ignore[arg-type]  # an AlertRepeated

    assert first.client is first.fact_texts is BOX
    assert second.client is second.fact_texts is BOX


def test_an_alert_is_raised_once_and_first() -> None:
    with pytest.raises(ImpossibleEventError, match="raised a second time"):
        alert_of(raised(), raised())
    with pytest.raises(ImpossibleEventError, match="begins with AlertRepeated"):
        alert_of(repeated())
    with pytest.raises(ImpossibleEventError, match="has no events"):
        alert_of()


def test_personal_data_is_none_where_none_was_given() -> None:
    bare = NewEvent(raised().event, Personal())

    assert (alert_of(bare).client, alert_of(bare).fact_texts) == (None, None)
