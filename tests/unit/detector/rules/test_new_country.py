from detector.findings import Response
from detector.rules.new_country import RULE
from tests.unit.detector.builders import (
    DAY,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    PHONE,
    TOKYO,
    VPN,
    Watch,
)


def watch_over_ada(sign_ins: int = 6) -> Watch:
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP, sign_ins=sign_ins)
    return watch


def test_a_new_device_in_a_new_country_has_to_prove_itself() -> None:
    watch = watch_over_ada()

    (finding,) = watch.sign_in("ada", TOKYO, PHONE)

    assert finding.response is Response.STEP_UP
    assert finding.score is not None
    assert "new_country" in {fact.code for fact in finding.facts}


def test_a_holiday_with_ones_own_device_is_silent() -> None:
    watch = watch_over_ada()
    watch.wait(2 * DAY)

    assert watch.sign_in("ada", TOKYO, LAPTOP) == []


def test_a_new_device_in_another_network_of_the_country_is_another_rules() -> None:
    watch = watch_over_ada()

    assert watch.sign_in("ada", OSLO_MOBILE, PHONE) == []


def test_the_country_of_a_vpn_is_nobodys_country() -> None:
    watch = watch_over_ada()

    assert watch.sign_in("ada", VPN, PHONE) == []


def test_somebody_hardly_known_is_left_alone() -> None:
    watch = watch_over_ada(sign_ins=2)

    assert watch.sign_in("ada", TOKYO, PHONE) == []
