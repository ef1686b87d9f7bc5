"""The false-positive traps of honest life: every one must stay silent under the whole rulebook.

Each plays many hours of refreshes and sign-ins by somebody of whom enough is known that novelty
means something. Nothing may be found, not even for the record.
"""

from itertools import cycle
from typing import TypeVar

import pytest
from msgspec.structs import replace

from detector.observations import Kind
from domain.detection import Response
from domain.evidence import Device, Network
from tests.unit.detector.builders import (
    BERGEN,
    DAY,
    HOSTING,
    HOUR,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    OTHER_PHONE,
    PHONE,
    TOKYO,
    VPN,
    Watch,
    moved,
)
from tests.unit.detector.family_in_use import TOKEN_S, FamilyInUse, all_rules, responses

EachT = TypeVar("EachT")
CHROME = replace(LAPTOP, browser="Chrome", engine="Blink", browser_version=143, hinted=True)
SIX = replace(OSLO, prefix="2001:db8:1:1::/64", version=6)
SIX_OF_ANOTHER_CARRIER = replace(SIX, asn=64503, as_org="Tunnel Broker")
OFFICE = replace(OSLO, prefix="192.0.2.0/24", asn=64504, as_org="Office")
GATEWAY_IN_BERGEN = replace(BERGEN, asn=OSLO_MOBILE.asn, prefix=OSLO_MOBILE.prefix)
COOKIES = pytest.mark.parametrize("cookie", ["mine", None])
DEVICES = pytest.mark.parametrize("device", [LAPTOP, CHROME, PHONE, OTHER_PHONE])


def known(
    network: Network = OSLO, device: Device = PHONE, cookie: str | None = "mine"
) -> FamilyInUse:
    """Somebody who has signed in six times on as many days, and used the last session since."""
    watch = Watch(*all_rules())
    watch.settle("ada", network, device, cookie=cookie)
    family = FamilyInUse(watch, network, device, cookie=cookie)
    assert family.at_sign_in == []
    assert family.use_for_days(3) == []
    return family


def without_geo(network: Network) -> Network:
    return Network(prefix=network.prefix, version=network.version)


@COOKIES
@DEVICES
def test_carrier_nat_flapping_within_one_autonomous_system(
    device: Device, cookie: str | None
) -> None:
    family = known(OSLO_MOBILE, device, cookie)

    for number in range(300):
        assert family.refresh(moved(OSLO_MOBILE, number * 7919 % 65536), after=310) == []


@COOKIES
def test_carrier_nat_flapping_without_geo_data(cookie: str | None) -> None:
    family = known(without_geo(OSLO_MOBILE), PHONE, cookie)

    for number in range(300):
        network = without_geo(moved(OSLO_MOBILE, number * 7919 % 65536))
        assert family.refresh(network, after=310) == []


@COOKIES
def test_ipv6_privacy_addresses_within_a_64(cookie: str | None) -> None:
    family = known(SIX, PHONE, cookie)

    # The address changes with every request; what is judged is the /64.
    assert family.use(300) == []


@COOKIES
@DEVICES
@pytest.mark.parametrize("six", [SIX, SIX_OF_ANOTHER_CARRIER])
def test_dual_stack(six: Network, device: Device, cookie: str | None) -> None:
    family = known(OSLO, device, cookie)

    for network in cycle_of(six, OSLO, OSLO, six, times=60):
        assert family.refresh(network) == []


def test_dual_stack_without_geo_data() -> None:
    family = known(without_geo(OSLO), PHONE, None)

    for network in cycle_of(without_geo(SIX), without_geo(OSLO), times=60):
        assert family.refresh(network) == []


@COOKIES
@DEVICES
def test_updates_of_browser_and_system(device: Device, cookie: str | None) -> None:
    family = known(OSLO, device, cookie)

    for version in range(8):
        updated = replace(
            device,
            browser_version=(device.browser_version or 0) + version,
            platform_version=str(11 + version),
        )
        assert family.refresh(device=updated, after=DAY) == []
        assert family.watch.sign_in("ada", OSLO, updated, cookie=cookie) == []


def test_an_update_that_is_taken_back() -> None:
    family = known(OSLO, LAPTOP, None)
    family.refresh(device=replace(LAPTOP, browser_version=148))

    assert family.refresh(device=replace(LAPTOP, browser_version=146)) == []
    assert family.refresh(OSLO_MOBILE, replace(LAPTOP, browser_version=146)) == []


@COOKIES
@DEVICES
def test_somebody_who_always_comes_through_a_vpn(device: Device, cookie: str | None) -> None:
    exits = [replace(VPN, prefix=f"10.1.{n}.0/24", asn=64540 + n % 4) for n in range(12)]
    exits = [
        replace(each, country=country) for each, country in zip(exits, "JPUSDE" * 2, strict=True)
    ]
    family = known(VPN, device, cookie)

    for network in exits * 10:
        assert family.refresh(network, after=900) == []


@pytest.mark.parametrize("network", [HOSTING, replace(TOKYO, satellite=True)])
def test_somebody_who_always_comes_through_a_data_centre_or_satellite(network: Network) -> None:
    family = known(network, LAPTOP, None)

    assert family.use(100) == []
    assert family.refresh(moved(network, 5)) == []


def test_a_vpn_that_goes_on_and_off() -> None:
    family = known(OSLO, LAPTOP, "mine")

    for network in cycle_of(VPN, OSLO, times=60):
        assert family.refresh(network) == []


def test_a_relay_that_goes_on_and_off_without_geo_data() -> None:
    family = known(without_geo(OSLO), PHONE, None)

    for network in cycle_of(without_geo(VPN), without_geo(OSLO), times=60):
        assert family.refresh(network) == []


@COOKIES
@DEVICES
@pytest.mark.parametrize("away", [OSLO_MOBILE, OFFICE])
def test_a_commute_every_day(away: Network, device: Device, cookie: str | None) -> None:
    family = known(OSLO, device, cookie)

    for _ in range(20):
        for network, hours in ((OSLO, 1), (away, 8), (OSLO, 7)):
            for _ in range(hours):
                assert family.refresh(network, after=HOUR) == []
        family.watch.wait(8 * HOUR)


@COOKIES
def test_a_commute_with_a_carrier_whose_gateway_is_in_another_city(cookie: str | None) -> None:
    family = known(OSLO, OTHER_PHONE, cookie)

    for network in cycle_of(GATEWAY_IN_BERGEN, OSLO, times=100):
        assert family.refresh(network) == []


@COOKIES
def test_a_commute_between_three_networks_without_geo_data(cookie: str | None) -> None:
    places = [without_geo(each) for each in (OSLO, OSLO_MOBILE, OFFICE)]
    family = known(places[0], OTHER_PHONE, cookie)

    for network in cycle_of(*places, times=60):
        assert family.refresh(network, after=1200) == []


@COOKIES
def test_a_holiday(cookie: str | None) -> None:
    hotel = replace(TOKYO, prefix="10.2.0.0/24", asn=64551)
    family = known(OSLO, PHONE, cookie)

    assert family.refresh(TOKYO, after=16 * HOUR) == []
    for network in cycle_of(hotel, TOKYO, times=40):
        assert family.refresh(network, after=3 * HOUR) == []
    assert family.refresh(OSLO, after=16 * HOUR) == []


def test_a_holiday_without_geo_data() -> None:
    family = known(without_geo(OSLO), PHONE, None)

    for network in cycle_of(without_geo(TOKYO), without_geo(moved(TOKYO, 1)), times=40):
        assert family.refresh(network, after=3 * HOUR) == []


@DEVICES
def test_a_conference_city(device: Device) -> None:
    watch = Watch(*all_rules())
    users = [f"user{number}" for number in range(12)]
    for user in users:
        watch.settle(user, OSLO, device, cookie=user)
    guests = [FamilyInUse(watch, OSLO, device, cookie=u, user=u, family=f"{u}-1") for u in users]
    for guest in guests:
        guest.use(2)

    watch.wait(20 * HOUR)

    for guest in guests:
        assert guest.refresh(BERGEN, after=60) == []
        assert guest.refresh(BERGEN) == []


def test_a_corporate_proxy() -> None:
    watch = Watch(*all_rules())
    for number in range(100):
        user = f"user{number}"
        assert watch.sign_in(user, OFFICE, CHROME, family=f"{user}-1") == []
        watch.wait(30)
    for generation in range(1, 6):
        for number in range(100):
            user = f"user{number}"
            assert watch.refresh(f"{user}-1", generation, user, OFFICE, CHROME) == []
            watch.wait(6)


@COOKIES
def test_two_tabs_and_lost_answers(cookie: str | None) -> None:
    family = known(OSLO, LAPTOP, cookie)

    for _ in range(50):
        assert family.refresh() == []
        assert family.refresh(after=0, kind=Kind.RETRY) == []
        assert family.refresh(after=7, kind=Kind.RETRY) == []


def test_an_answer_lost_between_wifi_and_carrier() -> None:
    family = known(OSLO, PHONE, "mine")
    family.use(2, OSLO_MOBILE)

    for network in cycle_of(OSLO, OSLO_MOBILE, times=20):
        assert family.refresh(after=TOKEN_S) == []
        assert family.refresh(network, after=4, kind=Kind.RETRY) == []


def test_one_late_retry_a_day() -> None:
    family = known(OSLO, PHONE, "mine")

    for _ in range(10):
        assert family.refresh(after=DAY) == []
        assert family.refresh(after=40, kind=Kind.LATE_RETRY) == []


def test_a_new_telephone_at_home() -> None:
    family = known(OSLO, PHONE, "mine")
    watch = family.watch

    fresh = FamilyInUse(watch, OSLO, OTHER_PHONE, cookie="new", family="ada-2")

    # A sign-in on a new device is put on record: nobody is told.
    assert {response for _, response in responses(fresh.at_sign_in)} <= {Response.RECORD}
    assert fresh.use_for_days(5) == []


def test_a_new_telephone_at_home_set_up_from_a_backup() -> None:
    family = known(OSLO, PHONE, None)

    assert family.refresh(device=OTHER_PHONE) == []
    assert family.use_for_days(5) == []


def test_a_page_asked_for_as_on_a_computer() -> None:
    family = known(OSLO, OTHER_PHONE, None)

    for device in cycle_of(replace(OTHER_PHONE, platform="Linux", form="desktop"), OTHER_PHONE):
        assert family.refresh(device=device) == []


@DEVICES
def test_clocks_that_disagree(device: Device) -> None:
    family = known(OSLO, device, "mine")

    for network in cycle_of(OSLO, moved(OSLO, 1), OSLO_MOBILE, OSLO, times=40):
        assert family.refresh(network, after=TOKEN_S) == []
        assert family.refresh(network, after=-3) == []


@DEVICES
@COOKIES
def test_the_same_autonomous_system_and_device_is_never_an_alert(
    device: Device, cookie: str | None
) -> None:
    family = known(OSLO, device, cookie)

    for number in range(200):
        found = family.refresh(moved(OSLO, number % 9), after=(61, 605, 4000, 50_000)[number % 4])
        assert responses(found) == []


def cycle_of(*each: EachT, times: int = 20) -> list[EachT]:
    turns = cycle(each)
    return [next(turns) for _ in range(times)]
