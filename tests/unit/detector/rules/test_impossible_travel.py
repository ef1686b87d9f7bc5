from detector.findings import Response
from detector.rules.impossible_travel import RULE
from tests.unit.detector.builders import (
    BERGEN,
    DAY,
    HOSTING,
    HOUR,
    LAPTOP,
    MINUTE,
    OSLO,
    PHONE,
    TOKYO,
    VPN,
    Watch,
)


def watch_over_ada(cookie: str | None = None) -> Watch:
    """Ada was at home in Oslo on her laptop just now."""
    watch = Watch(RULE)
    watch.settle("ada", OSLO, LAPTOP, cookie=cookie)
    watch.sign_in("ada", OSLO, LAPTOP, cookie=cookie)
    return watch


def test_two_places_at_once_on_two_devices_ends_the_session() -> None:
    watch = watch_over_ada()
    watch.wait(HOUR)

    (finding,) = watch.sign_in("ada", TOKYO, PHONE)

    assert finding.response is Response.REVOKE_SESSION
    assert finding.facts[0].code == "impossible_travel"


def test_a_device_that_is_faster_than_a_plane_has_to_prove_itself() -> None:
    watch = watch_over_ada()
    watch.wait(HOUR)

    (finding,) = watch.sign_in("ada", TOKYO, LAPTOP)

    assert finding.response is Response.STEP_UP


def test_a_flight_is_silent() -> None:
    watch = watch_over_ada()
    watch.wait(14 * HOUR)

    assert watch.sign_in("ada", TOKYO, LAPTOP) == []


def test_a_short_way_is_silent_at_any_speed() -> None:
    watch = watch_over_ada()
    watch.wait(MINUTE)

    assert watch.sign_in("ada", BERGEN, LAPTOP) == []


def test_vpns_and_data_centres_are_no_places() -> None:
    watch = watch_over_ada()
    watch.wait(MINUTE)

    assert watch.sign_in("ada", VPN, LAPTOP) == []
    assert watch.sign_in("ada", HOSTING, LAPTOP) == []
    assert watch.sign_in("ada", OSLO, LAPTOP) == []


def test_a_device_has_its_own_last_place() -> None:
    watch = watch_over_ada()
    watch.wait(14 * HOUR)
    watch.sign_in("ada", TOKYO, PHONE)
    watch.wait(3 * DAY)
    watch.sign_in("ada", OSLO, LAPTOP)  # left on at home
    watch.wait(MINUTE)

    assert watch.sign_in("ada", TOKYO, PHONE) == []


def test_a_known_device_cookie_beats_a_database_of_places() -> None:
    watch = watch_over_ada(cookie="c1")
    watch.wait(HOUR)

    assert watch.sign_in("ada", TOKYO, LAPTOP, cookie="c1") == []


def test_a_way_out_that_many_share_is_no_place_for_a_known_device() -> None:
    watch = watch_over_ada()
    for number in range(8):
        watch.sign_in(f"colleague{number}", TOKYO, LAPTOP)
    watch.wait(MINUTE)

    assert watch.sign_in("ada", TOKYO, LAPTOP) == []


def test_a_thief_in_a_place_of_many_is_found_by_the_device() -> None:
    watch = watch_over_ada()
    for number in range(8):
        watch.sign_in(f"guest{number}", TOKYO, LAPTOP)
    watch.wait(MINUTE)

    assert len(watch.sign_in("ada", TOKYO, PHONE)) == 1
