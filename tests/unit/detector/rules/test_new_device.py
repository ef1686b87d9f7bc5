from detector.findings import Response
from detector.rules.new_device import RULE
from domain.detection import Verdict
from tests.unit.detector.builders import (
    DAY,
    HOUR,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    PHONE,
    VPN,
    Watch,
)


def watch_over_ada(*, sign_ins: int = 6, cookie: str | None = None) -> Watch:
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP, sign_ins=sign_ins, cookie=cookie)
    return watch


def test_a_new_device_in_a_new_network_is_found() -> None:
    watch = watch_over_ada()

    (finding,) = watch.sign_in("ada", OSLO_MOBILE, PHONE)

    assert finding.rule == "new-device"
    assert finding.response in {Response.ALERT, Response.STEP_UP}
    assert finding.score is not None
    assert {"new_device", "new_network"} <= {fact.code for fact in finding.facts}


def test_a_new_telephone_on_the_home_network_is_silent() -> None:
    watch = watch_over_ada()

    assert watch.sign_in("ada", OSLO, PHONE) == []


def test_a_known_device_in_a_new_network_is_silent() -> None:
    watch = watch_over_ada()
    watch.wait(8 * HOUR)

    assert watch.sign_in("ada", OSLO_MOBILE, LAPTOP) == []


def test_a_known_cookie_is_a_known_device_whatever_it_says_it_is() -> None:
    watch = watch_over_ada(cookie="c1")

    assert watch.sign_in("ada", OSLO_MOBILE, PHONE, cookie="c1") == []


def test_somebody_hardly_known_is_left_alone() -> None:
    watch = watch_over_ada(sign_ins=2)

    assert watch.sign_in("ada", OSLO_MOBILE, PHONE) == []


def test_three_sign_ins_in_one_day_do_not_make_somebody_known() -> None:
    watch = Watch(RULE)
    for _ in range(4):
        watch.sign_in("ada", OSLO, LAPTOP)
        watch.wait(HOUR)

    assert watch.sign_in("ada", OSLO_MOBILE, PHONE) == []


def test_nothing_is_learned_from_it_until_somebody_vouches() -> None:
    watch = watch_over_ada()
    watch.sign_in("ada", OSLO_MOBILE, PHONE)
    watch.wait(DAY)

    assert len(watch.sign_in("ada", OSLO_MOBILE, PHONE)) == 1


def test_what_somebody_vouched_for_is_known() -> None:
    watch = watch_over_ada()
    watch.sign_in("ada", OSLO_MOBILE, PHONE, family="new")
    watch.verdict(Verdict.FALSE_POSITIVE, "new", "ada")
    watch.wait(DAY)

    assert watch.sign_in("ada", OSLO_MOBILE, PHONE) == []


def test_a_vpn_in_a_new_country_is_a_new_network_and_no_journey() -> None:
    watch = watch_over_ada()

    (finding,) = watch.sign_in("ada", VPN, PHONE)

    assert "new_country" not in {fact.code for fact in finding.facts}


def test_somebody_whose_every_sign_in_is_new_raises_fewer_eyebrows() -> None:
    creature_of_habit, vagabond = watch_over_ada(), watch_over_ada()
    for number in range(6):
        network = OSLO if number % 2 else OSLO_MOBILE
        vagabond.sign_in("ada", network, LAPTOP)
        vagabond.wait(DAY)
        creature_of_habit.sign_in("ada", OSLO, LAPTOP)
        creature_of_habit.wait(DAY)

    (expected,) = creature_of_habit.sign_in("ada", VPN, PHONE)
    (less,) = vagabond.sign_in("ada", VPN, PHONE)

    assert expected.score is not None
    assert less.score is not None
    assert less.score < expected.score
