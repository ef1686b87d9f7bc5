"""What the detection policy does to every rule about a family in use."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from detector.findings import Finding
from detector.observations import Kind
from domain.detection import Response, Severity
from domain.detection_policy import AllowListEntry, DetectionPolicy, RuleSettings
from domain.events.detection_policies import AllowedKind
from domain.ids import UserId
from tests.unit.detector.builders import HOSTING, OSLO, OSLO_MOBILE, OTHER_PHONE, TOKYO, Watch
from tests.unit.detector.family_in_use import FamilyInUse, rule_named

HINTLESS = replace(OTHER_PHONE, hinted=False)
Incident = Callable[[FamilyInUse], list[Finding]]


def late_twice(family: FamilyInUse) -> list[Finding]:
    family.refresh(after=60, kind=Kind.LATE_RETRY)
    family.refresh()
    return family.refresh(after=60, kind=Kind.LATE_RETRY)


def to_and_fro(family: FamilyInUse) -> list[Finding]:
    return [found for each in (TOKYO, OSLO) * 2 for found in family.refresh(each, after=400)]


def every_half_minute(family: FamilyInUse) -> list[Finding]:
    return [found for _ in range(14) for found in family.refresh(after=30)]


INCIDENTS: dict[str, Incident] = {
    "anonymous-network": lambda family: family.refresh(HOSTING),
    "client-contradiction": lambda family: family.refresh(device=HINTLESS, cookie=None),
    "country-change": lambda family: family.refresh(TOKYO),
    "device-change": lambda family: family.refresh(TOKYO, cookie="another's"),
    "future-generation": lambda family: family.refresh(kind=Kind.UNRECOGNISED),
    "interleaved-networks": to_and_fro,
    "late-retry-budget": late_twice,
    "network-change": lambda family: family.refresh(OSLO_MOBILE, cookie=None),
    "refresh-cadence": every_half_minute,
    "refresh-token-reuse": lambda family: family.refresh(kind=Kind.REUSE),
}


def in_use_under(policy: DetectionPolicy, rule: str) -> FamilyInUse:
    watch = Watch(rule_named(rule), policy=policy)
    family = FamilyInUse(watch, device=OTHER_PHONE, cookie="mine")
    family.use_for_days()
    family.use(2)
    return family


def configured(rule: str, **settings: object) -> DetectionPolicy:
    return DetectionPolicy(rules={rule: RuleSettings(**settings)})  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", INCIDENTS)
def test_a_rule_speaks_of_its_family_with_facts_that_weigh_something(rule: str) -> None:
    found = INCIDENTS[rule](in_use_under(DetectionPolicy(), rule))

    assert [finding.rule for finding in found] == [rule]
    assert found[0].group == "family:ada-1"
    assert found[0].facts[0].weight == max(fact.weight for fact in found[0].facts) > 0


@pytest.mark.parametrize("rule", INCIDENTS)
def test_a_rule_that_is_switched_off_says_nothing(rule: str) -> None:
    family = in_use_under(configured(rule, enabled=False), rule)

    assert INCIDENTS[rule](family) == []


@pytest.mark.parametrize("rule", INCIDENTS)
def test_the_policy_decides_how_grave_it_is_and_what_is_done(rule: str) -> None:
    policy = configured(rule, response=Response.RECORD, severity=Severity.INFO)

    found = INCIDENTS[rule](in_use_under(policy, rule))

    assert [(each.response, each.severity) for each in found] == [(Response.RECORD, Severity.INFO)]


@pytest.mark.parametrize("rule", INCIDENTS)
def test_whom_the_allow_list_names_no_rule_speaks_of(rule: str) -> None:
    entry = AllowListEntry(
        entry_id="e",
        kind=AllowedKind.USER,
        user_id=UserId("ada"),
        owner=UserId("staff"),
        added_at=datetime(2026, 1, 1, tzinfo=UTC),
        until=datetime(2027, 1, 1, tzinfo=UTC),
    )

    family = in_use_under(DetectionPolicy(entries={"e": entry}), rule)

    assert INCIDENTS[rule](family) == []


WITH_THRESHOLDS = [name for name in INCIDENTS if "alert_at" in rule_named(name).about.parameters]


@pytest.mark.parametrize("rule", WITH_THRESHOLDS)
def test_the_points_that_raise_an_alert_are_a_setting(rule: str) -> None:
    never = {name: 1_000 for name in rule_named(rule).about.parameters if name.endswith("_at")}
    family = in_use_under(configured(rule, parameters=never), rule)

    assert INCIDENTS[rule](family) == []


def test_a_family_can_be_ended_at_fewer_points() -> None:
    family = in_use_under(
        configured("country-change", parameters={"revoke_at": 60}), "country-change"
    )

    assert [each.response for each in family.refresh(TOKYO)] == [Response.REVOKE_FAMILY]


def test_the_budget_of_late_retries_is_a_setting() -> None:
    policy = configured("late-retry-budget", parameters={"budget": 1, "alert_at": 40})
    family = in_use_under(policy, "late-retry-budget")

    assert len(family.refresh(after=60, kind=Kind.LATE_RETRY)) == 1
