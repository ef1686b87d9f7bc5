"""The pace of refreshes."""

from detector.findings import Finding
from domain.detection import Response
from tests.unit.detector.builders import DAY, HOSTING, OSLO, OSLO_MOBILE, SCRIPT, Watch
from tests.unit.detector.family_in_use import FamilyInUse, codes, in_use, responses, rule_named

RULE = rule_named("refresh-cadence")
ALERTED = [("refresh-cadence", Response.ALERT)]


def at_a_pace(family: FamilyInUse, *intervals: float) -> list[Finding]:
    return [finding for interval in intervals for finding in family.refresh(after=interval)]


def test_every_thirty_seconds_to_the_second_alerts_once() -> None:
    family = in_use(RULE)

    found = at_a_pace(family, *[30.0] * 25)

    assert responses(found) == ALERTED
    assert codes(found) == {"clockwork", "time_and_again"}


def test_clockwork_in_a_data_centre_alerts() -> None:
    family = FamilyInUse(Watch(RULE), HOSTING, SCRIPT)

    assert responses(at_a_pace(family, *[600.0] * 14)) == ALERTED


def test_clockwork_without_a_night_adds_to_the_rest() -> None:
    family = FamilyInUse(Watch(RULE), OSLO, SCRIPT)
    family.refresh(OSLO_MOBILE, after=900)

    found = at_a_pace(family, *[600.0] * 160)

    assert responses(found) == ALERTED
    assert codes(found) == {"clockwork", "around_the_clock", "no_browser", "began_elsewhere"}


def test_a_kiosk_that_is_never_switched_off_is_silent() -> None:
    family = in_use(RULE)

    assert at_a_pace(family, *[600.0] * 600) == []


def test_once_a_day_at_the_same_second_is_silent() -> None:
    family = in_use(RULE)

    assert at_a_pace(family, *[DAY] * 30) == []


def test_a_tab_with_a_timer_left_open_for_the_working_day_is_silent() -> None:
    family = in_use(RULE)

    assert at_a_pace(family, *[600.0] * 48) == []


def test_a_person_is_silent() -> None:
    family = in_use(RULE)

    assert family.use_for_days(10) == []


def test_a_long_row_within_a_minute_of_each_other_alerts() -> None:
    family = in_use(RULE)

    assert responses(at_a_pace(family, *[5.0, 17.0, 11.0] * 11)) == ALERTED


def test_somebody_who_reloads_a_page_some_times_is_silent() -> None:
    family = in_use(RULE)

    assert at_a_pace(family, *[5.0, 17.0, 11.0] * 4, 300.0, *[5.0, 17.0, 11.0] * 4) == []
