"""The same device in the same network, which tells of itself otherwise."""

from msgspec.structs import replace

from domain.detection import Response
from tests.unit.detector.builders import LAPTOP, OSLO_MOBILE, OTHER_PHONE
from tests.unit.detector.family_in_use import in_use, responses, rule_named

RULE = rule_named("client-contradiction")
RECORDED = [("client-contradiction", Response.RECORD)]
ALERTED = [("client-contradiction", Response.ALERT)]
HINTLESS = replace(OTHER_PHONE, hinted=False)
CONTRADICTED = replace(OTHER_PHONE, contradiction="engine: Chromium 140, but the hints say 143")


def test_lost_hints_are_put_on_record() -> None:
    family = in_use(RULE, device=OTHER_PHONE)

    assert responses(family.refresh(device=HINTLESS)) == RECORDED


def test_a_contradiction_is_put_on_record_once() -> None:
    family = in_use(RULE, device=OTHER_PHONE)

    assert responses(family.refresh(device=CONTRADICTED)) == RECORDED
    assert family.refresh(device=CONTRADICTED) == []


def test_a_browser_that_always_contradicted_itself_is_silent() -> None:
    family = in_use(RULE, device=CONTRADICTED)

    assert family.refresh() == []


def test_lost_hints_and_a_lost_cookie_alert() -> None:
    family = in_use(RULE, device=OTHER_PHONE, cookie="mine")

    assert responses(family.refresh(device=HINTLESS, cookie=None)) == ALERTED


def test_in_another_network_it_is_another_rule() -> None:
    family = in_use(RULE, device=OTHER_PHONE)

    assert family.refresh(OSLO_MOBILE, HINTLESS) == []


def test_a_browser_that_never_sent_hints_has_lost_none() -> None:
    family = in_use(RULE, device=LAPTOP)

    assert family.refresh(device=LAPTOP) == []


def test_a_browser_put_back_by_two_majors_is_silent_by_itself() -> None:
    family = in_use(RULE)

    assert family.refresh(device=replace(LAPTOP, browser_version=144)) == []


def test_asking_for_the_desktop_site_is_silent() -> None:
    family = in_use(RULE, device=OTHER_PHONE)

    assert family.refresh(device=replace(OTHER_PHONE, platform="Linux", form="desktop")) == []
