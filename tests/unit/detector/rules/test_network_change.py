"""Another network within a family, on the same device and in the same country."""

import pytest
from msgspec.structs import replace

from detector.observations import Kind
from domain.detection import Response
from domain.evidence import Network
from tests.unit.detector.builders import (
    BERGEN,
    DAY,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    OTHER_PHONE,
    PHONE,
    TOKYO,
    moved,
)
from tests.unit.detector.family_in_use import TOKEN_S, codes, in_use, responses, rule_named

RULE = rule_named("network-change")
REVOKED = [("network-change", Response.REVOKE_FAMILY)]
STEPPED_UP = [("network-change", Response.STEP_UP)]
ALERTED = [("network-change", Response.ALERT)]
NOWHERE = replace(OSLO, asn=None, country=None, city=None, latitude=None, longitude=None)
ELSEWHERE = replace(NOWHERE, prefix="192.0.2.0/24")
TROMSO = replace(BERGEN, city="Tromso", latitude=69.65, longitude=18.96)


def test_a_new_network_alone_says_nothing() -> None:
    family = in_use(RULE)

    assert family.refresh(OSLO_MOBILE) == []


def test_a_lost_device_cookie_in_a_new_network_asks_for_a_proof() -> None:
    family = in_use(RULE, cookie="mine")

    found = family.refresh(OSLO_MOBILE, cookie=None)

    assert responses(found) == STEPPED_UP
    assert codes(found) == {"device_cookie_lost", "new_asn"}


def test_lost_client_hints_in_a_new_network_ask_for_a_proof() -> None:
    family = in_use(RULE, device=OTHER_PHONE)

    found = family.refresh(OSLO_MOBILE, replace(OTHER_PHONE, hinted=False))

    assert responses(found) == STEPPED_UP
    assert "client_hints_lost" in codes(found)


def test_a_client_that_did_not_always_send_its_cookie_has_lost_nothing() -> None:
    family = in_use(RULE, cookie="mine")
    family.refresh(cookie=None)
    family.refresh(cookie="mine")

    assert family.refresh(OSLO_MOBILE, cookie=None) == []


def test_several_heavy_facts_together_end_the_family() -> None:
    family = in_use(RULE, device=OTHER_PHONE, cookie="mine")
    copied = replace(OTHER_PHONE, hinted=False, contradiction="platform: Windows")

    assert responses(family.refresh(OSLO_MOBILE, copied, cookie=None)) == REVOKED


@pytest.mark.parametrize(
    ("hours", "expected"), [(0.5, ALERTED), (0.9, ALERTED), (3.5, []), (12, [])]
)
def test_a_computer_cannot_be_in_another_city_within_the_hour(
    hours: float, expected: list[tuple[str, Response]]
) -> None:
    family = in_use(RULE)

    assert responses(family.refresh(BERGEN, after=hours * 3600)) == expected


def test_a_telephone_off_the_wifi_for_the_first_time_may_be_at_a_gateway_elsewhere() -> None:
    family = in_use(RULE, device=PHONE)

    assert family.refresh(BERGEN, after=TOKEN_S) == []


def test_a_telephone_whose_networks_are_known_is_not_excused() -> None:
    family = in_use(RULE, device=PHONE)
    family.use(2, OSLO_MOBILE)

    assert responses(family.refresh(BERGEN, after=TOKEN_S)) == ALERTED


def test_no_gateway_is_at_the_other_end_of_the_country() -> None:
    family = in_use(RULE, device=PHONE)

    assert responses(family.refresh(TROMSO, after=TOKEN_S)) == ALERTED


def test_a_refresh_sooner_than_the_client_ever_asked_for_one_adds_to_the_rest() -> None:
    family = in_use(RULE, device=replace(PHONE, form="desktop"), cookie="mine")

    found = family.refresh(BERGEN, after=60)

    assert responses(found) == STEPPED_UP
    assert "early_refresh" in codes(found)


def test_a_telephone_that_never_came_early_is_not_excused_by_a_gateway() -> None:
    family = in_use(RULE, device=PHONE)
    family.use(10)

    found = family.refresh(BERGEN, after=180)

    assert responses(found) == ALERTED
    assert "early_refresh" in codes(found)


@pytest.mark.parametrize(("days", "expected"), [(5, []), (9, ALERTED)])
def test_coming_early_for_once_weighs_more_the_longer_it_never_happened(
    days: int, expected: list[tuple[str, Response]]
) -> None:
    family = in_use(RULE, cookie="mine", days=days)

    assert responses(family.refresh(OSLO_MOBILE, after=180)) == expected


def test_a_client_that_has_come_as_early_before_may_do_so_elsewhere() -> None:
    family = in_use(RULE, cookie="mine")
    family.use(10)
    family.refresh(after=170)

    assert family.refresh(OSLO_MOBILE, after=180) == []


def test_a_timer_that_is_a_little_off_is_not_early() -> None:
    family = in_use(RULE, cookie="mine")
    family.use(10)

    assert family.refresh(OSLO_MOBILE, after=TOKEN_S * 0.92) == []


def test_the_first_cookie_of_a_family_comes_with_its_first_refresh() -> None:
    family = in_use(RULE, days=0)

    assert family.refresh(OSLO_MOBILE, cookie="set at sign-in") == []


def test_a_strange_cookie_of_a_family_that_did_without_counts() -> None:
    family = in_use(RULE)

    found = family.refresh(OSLO_MOBILE, cookie="another's")

    assert responses(found) == ALERTED
    assert "device_cookie_strange" in codes(found)


def test_a_retry_from_a_network_that_is_new_alerts() -> None:
    family = in_use(RULE, cookie="mine")

    found = family.refresh(OSLO_MOBILE, after=3, kind=Kind.RETRY)

    assert responses(found) == ALERTED
    assert "retried_elsewhere" in codes(found)


@pytest.mark.parametrize("network", [OSLO, moved(OSLO, 3), moved(OSLO, 4)])
def test_the_same_autonomous_system_is_never_an_alert(network: Network) -> None:
    family = in_use(RULE, device=OTHER_PHONE, cookie="mine")

    assert family.refresh(network, replace(OTHER_PHONE, hinted=False), cookie=None) == []


def test_without_geo_data_a_new_prefix_says_nothing() -> None:
    family = in_use(RULE, network=NOWHERE)

    assert family.refresh(ELSEWHERE, after=60) == []


def test_without_geo_data_a_lost_cookie_in_a_new_prefix_alerts() -> None:
    family = in_use(RULE, network=NOWHERE, cookie="mine")

    assert responses(family.refresh(ELSEWHERE, cookie=None)) == ALERTED


def test_a_browser_two_majors_older_counts_a_little() -> None:
    family = in_use(RULE, cookie="mine")

    found = family.refresh(OSLO_MOBILE, replace(LAPTOP, browser_version=143), cookie=None)

    assert "browser_downgrade" in codes(found)


def test_another_country_is_another_rule() -> None:
    family = in_use(RULE)

    assert family.refresh(TOKYO) == []


def test_a_network_that_is_known_is_silent_the_next_time() -> None:
    family = in_use(RULE)
    family.use(3, OSLO_MOBILE)
    family.watch.wait(DAY)
    family.use(3, OSLO)

    assert family.refresh(OSLO_MOBILE, after=30) == []
