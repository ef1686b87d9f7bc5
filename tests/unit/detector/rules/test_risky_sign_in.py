from msgspec.structs import replace

from detector.findings import Finding, Response
from detector.rules.new_device import RULE as NEW_DEVICE
from detector.rules.risky_sign_in import RULE
from domain.evidence import Device, Network
from tests.unit.detector.builders import (
    DAY,
    HOSTING,
    HOUR,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    OTHER_PHONE,
    PHONE,
    SCRIPT,
    TOKYO,
    Watch,
    moved,
)

OFFICE = replace(OSLO, prefix="192.0.2.0/24", asn=64504, as_org="Office")
OTHER_LAPTOP = replace(LAPTOP, platform="Windows", browser="Edge", engine="Blink")


def test_everyday_sign_ins_are_not_even_recorded() -> None:
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP)

    assert watch.sign_in("ada", OSLO, LAPTOP) == []


def test_a_first_sign_in_has_no_risk() -> None:
    watch = Watch(RULE)
    watch.populate()

    assert watch.sign_in("ada", TOKYO, PHONE) == []


def test_what_is_unusual_in_every_way_is_said_loudly_of_people_hardly_known() -> None:
    watch = Watch(RULE)
    watch.populate()
    watch.sign_in("ada", OSLO, LAPTOP)
    watch.wait(DAY)

    (finding,) = watch.sign_in("ada", HOSTING, SCRIPT)

    assert finding.response.rank >= Response.ALERT.rank
    assert finding.score is not None
    assert finding.score >= 62


def test_the_office_laptop_of_somebody_who_began_yesterday_is_only_put_on_record() -> None:
    begun_yesterday = second_device_after(DAY)
    begun_last_week = second_device_after(7 * DAY)

    assert begun_yesterday.response is Response.RECORD
    assert begun_last_week.response is Response.ALERT
    weights = {fact.code: fact.weight for fact in begun_yesterday.facts}
    assert weights["first_days"] < 0
    assert weights["activity"] <= 0


def test_the_first_days_excuse_no_data_centre() -> None:
    watch = Watch(RULE)
    watch.populate()
    watch.sign_in("ada", OSLO, PHONE)
    watch.wait(DAY)

    (finding,) = watch.sign_in("ada", HOSTING, SCRIPT)

    assert finding.response.rank >= Response.ALERT.rank


def second_device_after(seconds: float) -> Finding:
    """What is found about somebody's second sign-in, on another device in another network."""
    watch = Watch(RULE)
    for number in range(120):
        others = without_places(moved((OSLO, OSLO_MOBILE)[number % 2], number))
        watch.sign_in(f"other{number // 3}", others, (LAPTOP, PHONE, OTHER_PHONE)[number % 3])
    watch.sign_in("ada", without_places(OSLO), PHONE)
    watch.wait(seconds)
    (finding,) = watch.sign_in("ada", without_places(OFFICE), OTHER_LAPTOP)
    return finding


def without_places(network: Network) -> Network:
    return Network(prefix=network.prefix, version=network.version)


def test_what_another_rule_says_loudly_is_only_put_on_record() -> None:
    watch = Watch(RULE, NEW_DEVICE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP)

    loud, quiet = watch.sign_in("ada", HOSTING, SCRIPT)

    assert (loud.rule, quiet.rule) == ("new-device", "risky-sign-in")
    assert quiet.response is Response.RECORD
    assert quiet.score == loud.score


def test_scores_rank_sign_ins_by_how_little_they_fit() -> None:
    def score_of(network: Network, device: Device) -> float:
        watch = Watch(RULE)
        watch.populate()
        watch.settle("ada", OSLO, LAPTOP)
        watch.wait(HOUR)
        findings = watch.sign_in("ada", network, device)
        return findings[0].score or 0.0 if findings else 0.0

    usual = score_of(OSLO, LAPTOP)
    new_phone_at_home = score_of(OSLO, OTHER_PHONE)
    laptop_on_a_journey = score_of(TOKYO, LAPTOP)
    other_network = score_of(OSLO_MOBILE, OTHER_PHONE)
    abroad = score_of(TOKYO, OTHER_PHONE)
    script_in_a_data_centre = score_of(HOSTING, SCRIPT)

    assert usual <= new_phone_at_home < other_network < abroad
    assert laptop_on_a_journey < abroad
    assert usual < script_in_a_data_centre


def test_every_fact_says_what_it_weighs_and_the_weights_make_the_score() -> None:
    watch = Watch(RULE)
    watch.populate()
    watch.sign_in("ada", OSLO, LAPTOP)
    watch.wait(DAY)

    (finding,) = watch.sign_in("ada", HOSTING, SCRIPT)

    assert finding.score is not None
    assert abs(50 + sum(fact.weight for fact in finding.facts) - finding.score) < 1
