"""One family in two places at once."""

from collections.abc import Iterable

from msgspec.structs import replace

from detector.findings import Finding
from detector.observations import Kind
from domain.detection import Response
from domain.evidence import Network
from tests.unit.detector.builders import BERGEN, HOUR, OSLO, OSLO_MOBILE, PHONE, TOKYO, VPN
from tests.unit.detector.family_in_use import FamilyInUse, in_use, responses, rule_named

RULE = rule_named("interleaved-networks")
STEPPED_UP = [("interleaved-networks", Response.STEP_UP)]
ALERTED = [("interleaved-networks", Response.ALERT)]
TROMSO = replace(BERGEN, city="Tromso", latitude=69.65, longitude=18.96)


def back_and_forth(
    family: FamilyInUse, networks: Iterable[Network], *, after: float = 400
) -> list[Finding]:
    found = []
    for network in networks:
        found += family.refresh(network, after=after)
    return found


def test_back_and_forth_between_two_countries_asks_for_a_proof() -> None:
    family = in_use(RULE)

    found = back_and_forth(family, [TOKYO, OSLO, TOKYO, OSLO])

    assert responses(found) == STEPPED_UP
    assert found[0].facts[0].code == "two_places_at_once"


def test_a_computer_at_both_ends_of_a_country_alerts() -> None:
    family = in_use(RULE)

    assert responses(back_and_forth(family, [TROMSO, OSLO, TROMSO, OSLO])) == ALERTED


def test_there_and_back_once_is_silent() -> None:
    family = in_use(RULE)

    assert back_and_forth(family, [TOKYO, OSLO]) == []


def test_between_wifi_and_a_carrier_in_the_same_country_a_telephone_is_silent() -> None:
    family = in_use(RULE, device=PHONE)

    assert back_and_forth(family, [TROMSO, OSLO] * 10, after=120) == []


def test_between_two_networks_of_a_city_it_is_silent() -> None:
    family = in_use(RULE)

    assert back_and_forth(family, [OSLO_MOBILE, OSLO] * 10, after=120) == []


def test_a_vpn_that_goes_on_and_off_is_silent() -> None:
    family = in_use(RULE)

    assert back_and_forth(family, [VPN, OSLO] * 10, after=120) == []


def test_somebody_who_flies_to_and_fro_is_silent() -> None:
    family = in_use(RULE)

    assert back_and_forth(family, [TOKYO, OSLO] * 4, after=20 * HOUR) == []


def test_once_the_user_has_proved_themself_the_two_places_are_theirs() -> None:
    family = in_use(RULE, device=PHONE)
    back_and_forth(family, [TOKYO, OSLO, TOKYO])
    family.refresh(TOKYO, kind=Kind.STEPPED_UP)

    assert back_and_forth(family, [OSLO, TOKYO] * 4) == []
