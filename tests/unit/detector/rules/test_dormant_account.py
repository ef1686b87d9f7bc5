from detector.findings import Response
from detector.rules.dormant_account import RULE
from tests.unit.detector.builders import DAY, LAPTOP, OSLO, OSLO_MOBILE, PHONE, TOKYO, Watch


def watch_over_ada(asleep_days: int, sign_ins: int = 2) -> Watch:
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP, sign_ins=sign_ins, cookie="c1")
    watch.wait(asleep_days * DAY)
    return watch


def test_an_account_that_wakes_elsewhere_on_something_else_has_to_prove_itself() -> None:
    watch = watch_over_ada(asleep_days=120)

    (finding,) = watch.sign_in("ada", TOKYO, PHONE)

    assert finding.response is Response.STEP_UP
    assert finding.facts[0].code == "dormant"


def test_it_need_not_have_been_well_known() -> None:
    watch = watch_over_ada(asleep_days=120, sign_ins=1)

    assert len(watch.sign_in("ada", TOKYO, PHONE)) == 1


def test_an_owner_who_comes_back_with_their_device_is_welcome() -> None:
    watch = watch_over_ada(asleep_days=120)

    assert watch.sign_in("ada", OSLO_MOBILE, LAPTOP, cookie="c1") == []


def test_an_owner_who_comes_back_home_with_a_new_telephone_is_welcome() -> None:
    watch = watch_over_ada(asleep_days=120)

    assert watch.sign_in("ada", OSLO, PHONE) == []


def test_a_copied_browser_without_the_cookie_is_found() -> None:
    watch = watch_over_ada(asleep_days=120)

    assert len(watch.sign_in("ada", TOKYO, LAPTOP)) == 1


def test_a_month_is_not_sleep() -> None:
    watch = watch_over_ada(asleep_days=30)

    assert watch.sign_in("ada", TOKYO, PHONE) == []


def test_a_first_sign_in_wakes_nobody() -> None:
    watch = Watch(RULE)

    assert watch.sign_in("ada", TOKYO, PHONE) == []
