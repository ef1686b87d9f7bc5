"""VPNs, relays and data centres."""

from msgspec.structs import replace

from domain.detection import Response
from tests.unit.detector.builders import (
    HOSTING,
    LAPTOP,
    OSLO,
    OTHER_PHONE,
    PHONE,
    SCRIPT,
    VPN,
    Watch,
)
from tests.unit.detector.family_in_use import FamilyInUse, codes, in_use, responses, rule_named

RULE = rule_named("anonymous-network")
ALERTED = [("anonymous-network", Response.ALERT)]
STEPPED_UP = [("anonymous-network", Response.STEP_UP)]
OTHER_VPN = replace(VPN, prefix="192.0.2.0/24", asn=64521)
SATELLITE = replace(OSLO, prefix="192.0.2.0/24", asn=64522, satellite=True)
WARP = replace(HOSTING, prefix="192.0.2.0/24", asn=13335)


def test_a_family_that_goes_on_in_a_data_centre_alerts() -> None:
    family = in_use(RULE)

    found = family.refresh(HOSTING)

    assert responses(found) == ALERTED
    assert codes(found) == {"hosting_network", "new_asn"}


def test_it_alerts_though_the_device_cookie_was_stolen_as_well() -> None:
    family = in_use(RULE, cookie="mine")

    assert responses(family.refresh(HOSTING)) == ALERTED


def test_a_data_centre_and_a_lost_cookie_ask_for_a_proof() -> None:
    family = in_use(RULE, cookie="mine")

    assert responses(family.refresh(HOSTING, cookie=None)) == STEPPED_UP


def test_the_first_vpn_of_a_device_with_its_cookie_is_silent() -> None:
    family = in_use(RULE, cookie="mine")

    assert family.refresh(VPN) == []


def test_the_first_vpn_of_a_new_user_is_silent() -> None:
    family = in_use(RULE, days=0)

    assert family.refresh(VPN) == []


def test_a_vpn_without_the_cookie_asks_for_a_proof() -> None:
    family = in_use(RULE, cookie="mine")

    assert responses(family.refresh(VPN, cookie=None)) == STEPPED_UP


def test_a_relay_that_no_database_calls_anonymous_weighs_as_a_vpn() -> None:
    family = in_use(RULE, cookie="mine")

    assert family.refresh(WARP) == []


def test_people_who_always_use_one_change_exits_in_silence() -> None:
    family = in_use(RULE, network=VPN)

    assert family.refresh(OTHER_VPN) == []
    assert family.refresh(VPN) == []


def test_a_data_centre_is_not_where_users_of_vpns_are() -> None:
    family = in_use(RULE, network=VPN)

    assert responses(family.refresh(HOSTING)) == ALERTED


def test_people_who_work_in_data_centres_do_so_in_silence() -> None:
    family = in_use(RULE, network=HOSTING)

    assert family.refresh(replace(HOSTING, prefix="192.0.2.0/24", asn=64531)) == []


def test_a_satellite_carrier_is_an_ordinary_carrier() -> None:
    family = in_use(RULE)

    assert family.refresh(SATELLITE) == []


def test_a_sign_in_on_a_new_device_from_a_data_centre_alerts() -> None:
    watch = Watch(RULE)
    watch.settle()

    assert responses(watch.sign_in(network=HOSTING, device=SCRIPT)) == ALERTED


def test_a_sign_in_on_a_known_device_or_of_a_new_user_does_not() -> None:
    watch = Watch(RULE)
    watch.settle()

    assert watch.sign_in(network=HOSTING, device=LAPTOP) == []
    assert watch.sign_in("new", HOSTING, SCRIPT) == []


def test_a_sign_in_on_a_new_telephone_over_a_vpn_does_not() -> None:
    watch = Watch(RULE)
    watch.settle(network=VPN, device=PHONE)

    assert FamilyInUse(watch, VPN, OTHER_PHONE).at_sign_in == []
