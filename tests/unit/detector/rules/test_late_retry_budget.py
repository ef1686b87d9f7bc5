"""Late retries, until none is left."""

from detector.observations import Kind
from domain.detection import Response
from tests.unit.detector.builders import DAY
from tests.unit.detector.family_in_use import codes, in_use, responses, rule_named

RULE = rule_named("late-retry-budget")
ALERTED = [("late-retry-budget", Response.ALERT)]


def test_a_late_retry_at_each_of_two_generations_alerts() -> None:
    family = in_use(RULE)
    family.refresh(after=60, kind=Kind.LATE_RETRY)
    family.refresh()

    found = family.refresh(after=60, kind=Kind.LATE_RETRY)

    assert responses(found) == ALERTED
    assert codes(found) == {"late_retries", "every_generation"}


def test_one_late_retry_is_silent() -> None:
    family = in_use(RULE)

    assert family.refresh(after=60, kind=Kind.LATE_RETRY) == []


def test_two_lost_answers_hours_apart_are_silent() -> None:
    family = in_use(RULE)
    family.refresh(after=60, kind=Kind.LATE_RETRY)
    family.use(10)

    assert family.refresh(after=60, kind=Kind.LATE_RETRY) == []


def test_those_of_the_day_before_are_forgotten() -> None:
    family = in_use(RULE)
    family.refresh(after=60, kind=Kind.LATE_RETRY)
    family.refresh(after=DAY)

    assert family.refresh(after=60, kind=Kind.LATE_RETRY) == []


def test_retries_in_time_are_silent_however_many() -> None:
    family = in_use(RULE)

    for _ in range(10):
        assert family.refresh(after=2, kind=Kind.RETRY) == []
        assert family.refresh() == []
