"""What is learned from an event, and what is not."""

import pytest
from msgspec.structs import replace

from detector.familiar import knows
from detector.memory import Scope
from detector.networks import asn_key
from detector.observations import Kind
from detector.profile import FamilyTrace
from domain.detection import Response, Verdict
from tests.unit.detector.builders import (
    DAY,
    HOSTING,
    HOUR,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    PHONE,
    TOKYO,
    VPN,
    Watch,
)
from tests.unit.detector.family_in_use import FamilyInUse, in_use, responses, rule_named

COUNTRY = rule_named("country-change")
ANONYMOUS = rule_named("anonymous-network")
RULES = (COUNTRY, ANONYMOUS, rule_named("network-change"))


def test_what_nothing_speaks_against_is_learned() -> None:
    family = in_use(*RULES)

    family.refresh(OSLO_MOBILE)

    assert knows(family.profile.asns, asn_key(OSLO_MOBILE))
    assert knows(family.trace.asns, asn_key(OSLO_MOBILE))


def test_an_alerted_refresh_teaches_the_profile_nothing() -> None:
    family = in_use(*RULES)
    before = family.profile

    assert family.refresh(TOKYO, after=HOUR) != []

    after = family.profile
    assert (after.asns, after.countries, after.places, after.anchors) == (
        before.asns,
        before.countries,
        before.places,
        before.anchors,
    )
    assert [kept.asn for kept in after.unlearned] == [asn_key(TOKYO)]


def test_a_doubted_family_teaches_nothing_however_long_it_goes_on() -> None:
    family = in_use(*RULES)
    family.refresh(HOSTING)

    family.use_for_days(5)

    assert family.trace.doubted
    assert not knows(family.profile.asns, asn_key(HOSTING))
    assert not family.profile.tunnels


def test_a_doubted_sign_in_teaches_nothing_by_its_refreshes() -> None:
    watch = Watch(*RULES)
    watch.settle()
    thief = FamilyInUse(watch, HOSTING, PHONE)

    assert [found.response for found in thief.at_sign_in] == [Response.ALERT]
    thief.use_for_days(3)

    assert not knows(thief.profile.asns, asn_key(HOSTING))
    assert not knows(thief.profile.devices, PHONE.signature)


def test_one_change_is_one_finding_though_the_thief_stays() -> None:
    family = in_use(*RULES)
    assert len(family.refresh(TOKYO, after=HOUR)) == 1

    assert family.use(20) == []


@pytest.mark.parametrize("verdict", [Verdict.FALSE_POSITIVE, Verdict.BENIGN])
def test_a_verdict_that_clears_teaches_what_was_set_aside(verdict: Verdict) -> None:
    family = in_use(*RULES)
    family.refresh(TOKYO, after=HOUR)

    family.watch.verdict(verdict, family.family)

    assert knows(family.profile.asns, asn_key(TOKYO))
    assert knows(family.profile.countries, "JP")
    assert family.profile.unlearned == ()
    assert not family.trace.doubted


def test_a_verdict_that_it_was_a_thief_forgets_what_was_set_aside() -> None:
    family = in_use(*RULES)
    family.refresh(TOKYO, after=HOUR)

    family.watch.verdict(Verdict.TRUE_POSITIVE, family.family)

    assert family.profile.unlearned == ()
    assert not knows(family.profile.asns, asn_key(TOKYO))
    assert family.trace.doubted


def test_a_proof_teaches_what_was_set_aside_and_where_the_user_is_now() -> None:
    family = in_use(*RULES)
    family.refresh(HOSTING)
    family.refresh(TOKYO, after=20 * HOUR)

    family.refresh(OSLO_MOBILE, kind=Kind.STEPPED_UP)

    assert knows(family.profile.asns, asn_key(HOSTING))
    assert knows(family.profile.asns, asn_key(OSLO_MOBILE))
    assert not family.trace.doubted


def test_a_verdict_on_one_family_clears_no_other() -> None:
    family = in_use(*RULES)
    family.refresh(TOKYO, after=HOUR)

    family.watch.verdict(Verdict.FALSE_POSITIVE, "another")

    assert not knows(family.profile.asns, asn_key(TOKYO))
    assert family.trace.doubted


def test_one_family_cannot_push_out_what_was_set_aside_of_another() -> None:
    watch = Watch(*RULES)
    first = FamilyInUse(watch, cookie="one", family="one")
    first.use_for_days()
    second = FamilyInUse(watch, cookie="two", family="two")
    first.use(2)
    first.refresh(TOKYO)

    for number in range(50):
        second.refresh(replace(HOSTING, prefix=f"10.0.{number}.0/24", asn=65000 + number))

    assert {kept.family_id for kept in first.profile.unlearned} == {"one", "two"}


def test_the_place_of_a_vpn_is_no_place_to_travel_from() -> None:
    family = in_use(*RULES)
    before = family.profile.anchors

    family.refresh(replace(VPN, city="Osaka"))

    assert [key for key, _ in family.profile.anchors] == [key for key, _ in before]
    anchor = family.trace.anchor4
    assert anchor is not None
    assert (anchor.country, anchor.latitude, anchor.longitude) == (None, None, None)


def test_the_two_ip_versions_are_remembered_apart() -> None:
    six = replace(OSLO, prefix="2001:db8:1:1::/64", version=6)
    family = in_use(*RULES)

    family.refresh(six)

    assert family.trace.anchor4 is not None
    assert family.trace.anchor6 is not None
    assert family.trace.anchor6.prefix == six.prefix


def test_quiet_refreshes_replace_the_profile_once_an_hour_at_most() -> None:
    family = in_use(*RULES)
    profiles = set()

    for _ in range(36):
        family.refresh(after=600)
        profiles.add(id(family.profile))

    assert len(profiles) <= 8


def test_a_family_that_is_over_is_forgotten() -> None:
    family = in_use(*RULES)

    family.refresh(kind=Kind.ENDED)

    assert family.watch.memory.get((Scope.TRACE, family.family), FamilyTrace) is None


def test_a_refresh_of_a_family_that_was_forgotten_begins_it_anew() -> None:
    family = in_use(*RULES)
    family.refresh(kind=Kind.ENDED)

    assert responses(family.refresh(TOKYO, LAPTOP, after=DAY)) == []
    assert family.trace.started == family.watch.now
