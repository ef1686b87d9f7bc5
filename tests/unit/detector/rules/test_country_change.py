"""Another country within a family, on the same device."""

import pytest
from msgspec.structs import replace

from domain.detection import Response
from domain.evidence import Network
from tests.unit.detector.builders import HOUR, OSLO, OTHER_PHONE, PHONE, TOKYO, VPN
from tests.unit.detector.family_in_use import codes, in_use, responses, rule_named

RULE = rule_named("country-change")
REVOKED = [("country-change", Response.REVOKE_FAMILY)]
STEPPED_UP = [("country-change", Response.STEP_UP)]
TOKYO_HOTEL = replace(TOKYO, prefix="192.0.2.0/24", asn=64511)
STROMSTAD = Network(
    prefix="192.0.2.0/24",
    asn=64600,
    country="SE",
    city="Stromstad",
    latitude=58.94,
    longitude=11.17,
    radius_km=25,
)


@pytest.mark.parametrize("hours", [0.2, 2, 8, 11])
def test_another_country_sooner_than_a_flight_asks_for_a_proof(hours: float) -> None:
    family = in_use(RULE)

    found = family.refresh(TOKYO, after=hours * HOUR)

    assert responses(found) == STEPPED_UP
    assert {"impossible_travel", "new_country", "new_asn"} == codes(found)


@pytest.mark.parametrize("hours", [14, 24, 72])
def test_a_journey_is_silent(hours: float) -> None:
    family = in_use(RULE, cookie="mine")

    assert family.refresh(TOKYO, after=hours * HOUR) == []


def test_a_device_cookie_that_matches_does_not_make_a_flight_faster() -> None:
    family = in_use(RULE, cookie="mine")

    assert responses(family.refresh(TOKYO, after=HOUR)) == STEPPED_UP


def test_a_journey_on_which_cookie_and_hints_were_lost_asks_for_a_proof() -> None:
    family = in_use(RULE, device=OTHER_PHONE, cookie="mine")

    found = family.refresh(TOKYO, after=24 * HOUR, cookie=None)

    assert responses(found) == STEPPED_UP


def test_a_flight_too_fast_without_cookie_and_hints_ends_the_family() -> None:
    family = in_use(RULE, device=OTHER_PHONE, cookie="mine")

    found = family.refresh(TOKYO, replace(OTHER_PHONE, hinted=False), after=HOUR, cookie=None)

    assert responses(found) == REVOKED


def test_across_a_border_nearby_is_silent() -> None:
    family = in_use(RULE)

    assert family.refresh(STROMSTAD, after=600) == []


def test_the_country_of_a_vpn_is_no_country() -> None:
    family = in_use(RULE)

    assert family.refresh(VPN, after=600) == []
    assert family.refresh(OSLO, after=600) == []


def test_within_the_country_one_has_come_to_all_is_silent() -> None:
    family = in_use(RULE, device=PHONE)
    family.refresh(TOKYO, after=20 * HOUR)

    assert family.refresh(TOKYO_HOTEL, after=600) == []


def test_coming_home_is_silent() -> None:
    family = in_use(RULE, device=PHONE)
    family.refresh(TOKYO, after=20 * HOUR)

    assert family.refresh(OSLO, after=20 * HOUR) == []


def test_without_places_a_change_of_country_within_two_hours_asks_for_a_proof() -> None:
    unplaced = replace(TOKYO, latitude=None, longitude=None)
    family = in_use(RULE)

    assert responses(family.refresh(unplaced, after=HOUR)) == STEPPED_UP


def test_without_places_a_change_of_country_overnight_is_silent() -> None:
    unplaced = replace(TOKYO, latitude=None, longitude=None)
    family = in_use(RULE)

    assert family.refresh(unplaced, after=12 * HOUR) == []


def test_over_the_other_ip_version_it_is_the_same_journey() -> None:
    six = replace(TOKYO, prefix="2001:db8:1:1::/64", version=6)
    family = in_use(RULE)

    assert responses(family.refresh(six, after=HOUR)) == STEPPED_UP


def test_databases_that_place_the_two_ip_versions_in_two_countries_are_silent() -> None:
    six = replace(OSLO, prefix="2001:db8:1:1::/64", version=6, country="SE", city="Stockholm")
    family = in_use(RULE)

    assert [family.refresh((six, OSLO)[count % 2]) for count in range(6)] == [[]] * 6
