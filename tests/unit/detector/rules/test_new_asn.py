from msgspec.structs import replace

from detector.findings import Response
from detector.rules.new_asn import RULE
from tests.unit.detector.builders import LAPTOP, OSLO, OSLO_MOBILE, PHONE, TOKYO, Watch


def watch_over_ada(cookie: str | None = "c1") -> Watch:
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP, cookie=cookie)
    return watch


def test_a_familiar_browser_without_its_cookie_in_a_new_network_is_found() -> None:
    watch = watch_over_ada()

    (finding,) = watch.sign_in("ada", TOKYO, LAPTOP)

    assert finding.response in {Response.ALERT, Response.STEP_UP}
    assert "missing_device_cookie" in {fact.code for fact in finding.facts}


def test_the_same_browser_with_its_cookie_is_silent() -> None:
    watch = watch_over_ada()

    assert watch.sign_in("ada", TOKYO, LAPTOP, cookie="c1") == []


def test_a_cleared_cookie_at_home_is_silent() -> None:
    watch = watch_over_ada()

    assert watch.sign_in("ada", OSLO, LAPTOP) == []


def test_somebody_who_never_had_a_cookie_is_not_missed_one() -> None:
    watch = watch_over_ada(cookie=None)

    assert watch.sign_in("ada", OSLO_MOBILE, LAPTOP) == []


def test_a_user_agent_that_contradicts_its_hints_in_a_new_network_is_found() -> None:
    watch = watch_over_ada(cookie=None)
    odd = replace(LAPTOP, contradiction="platform")

    (finding,) = watch.sign_in("ada", TOKYO, odd)

    assert "contradicting_hints" in {fact.code for fact in finding.facts}


def test_another_device_is_another_rules_to_judge() -> None:
    watch = watch_over_ada()

    assert watch.sign_in("ada", TOKYO, PHONE) == []
