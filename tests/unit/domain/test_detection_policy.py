"""The detection policy: its fold, what is in force, and what may be set."""

from datetime import timedelta
from typing import cast

import pytest

from domain.detection import Response, Severity
from domain.detection_policy import (
    NO_POLICY,
    AllowListEntry,
    DetectionPolicy,
    RuleInForce,
    RuleSettings,
    evolve_detection_policy,
)
from domain.detection_policy_decisions import (
    ANALYSTS_LONGEST_ALLOWANCE,
    MAX_ENTRIES,
    AllowList,
    ConfigureRule,
    DetectionPolicyCommand,
    HoldBack,
    RemoveEntry,
    decide_detection_policy,
)
from domain.events.detection_policies import AllowedKind, AllowListed, DetectionPolicyEvent
from domain.events.personal import Personal, Sealed
from domain.refusals import Refusal
from tests.unit.domain.builders import DAY, HOUR, MICROSECOND, NOW, USER_ID

RULE = "impossible-travel"
RULES = {RULE: {"min_km": 500, "max_kmh": 900}, "dormant": {}}
OWNER = USER_ID


def allow(entry_id: str = "e1", **fields: object) -> AllowList:
    """An entry about a network, for a day, unless said otherwise."""
    chosen: dict[str, object] = {
        "entry_id": entry_id,
        "kind": AllowedKind.NETWORK,
        "network": "203.0.113.0/24",
        "owner": OWNER,
        "reason": "our office",
        "until": NOW + DAY,
    }
    return AllowList(**{**chosen, **fields})  # type: ignore[arg-type]  # as its fields are


def about(kind: AllowedKind, **target: object) -> AllowList:
    return allow("e1", kind=kind, **{"network": None} | target)


def after(
    *commands: DetectionPolicyCommand, policy: DetectionPolicy = NO_POLICY
) -> DetectionPolicy:
    """The policy once these were carried out, now."""
    for command in commands:
        decision = decide_detection_policy(policy, command, RULES, NOW)
        assert decision.refusal is None, decision
        (new,) = decision.events
        event = cast("DetectionPolicyEvent", new.event)
        policy = evolve_detection_policy(policy, event, new.personal, NOW)
    return policy


def refusal_of(
    command: DetectionPolicyCommand, policy: DetectionPolicy = NO_POLICY
) -> Refusal | None:
    decision = decide_detection_policy(policy, command, RULES, NOW)
    assert bool(decision.events) == (decision.refusal is None)
    return decision.refusal


def in_force(policy: DetectionPolicy) -> RuleInForce:
    return policy.in_force(
        RULE,
        severity=Severity.HIGH,
        response=Response.REVOKE_FAMILY,
        parameters=RULES[RULE],
        at=NOW,
    )


# ------------------------------------------------------------------------------------- rules


def test_without_a_policy_a_rule_is_as_it_describes_itself() -> None:
    assert in_force(NO_POLICY) == RuleInForce(
        enabled=True,
        severity=Severity.HIGH,
        response=Response.REVOKE_FAMILY,
        parameters={"min_km": 500, "max_kmh": 900},
    )


def test_what_was_set_is_in_force_instead() -> None:
    settings = RuleSettings(
        enabled=False,
        severity=Severity.LOW,
        response=Response.RECORD,
        parameters={"max_kmh": 1_000},
    )

    assert in_force(after(ConfigureRule(RULE, settings))) == RuleInForce(
        enabled=False,
        severity=Severity.LOW,
        response=Response.RECORD,
        parameters={"min_km": 500, "max_kmh": 1_000},
    )


def test_settings_replace_those_before_them_whole() -> None:
    policy = after(
        ConfigureRule(RULE, RuleSettings(severity=Severity.LOW, parameters={"min_km": 1})),
        ConfigureRule(RULE, RuleSettings(response=Response.ALERT)),
    )

    assert policy.settings_of(RULE) == RuleSettings(response=Response.ALERT)
    assert policy.version == 2


def test_a_parameter_that_the_rule_no_longer_has_is_not_in_force() -> None:
    policy = after(ConfigureRule(RULE, RuleSettings(parameters={"min_km": 1})))

    found = policy.in_force(
        RULE, severity=Severity.HIGH, response=Response.ALERT, parameters={"km": 2}, at=NOW
    )

    assert found.parameters == {"km": 2}


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (ConfigureRule("unheard-of", RuleSettings()), Refusal.UNKNOWN_RULE),
        (ConfigureRule("dormant", RuleSettings(parameters={"km": 1})), Refusal.INVALID_SETTING),
        (ConfigureRule(RULE, RuleSettings(parameters={"min_km": -1})), Refusal.INVALID_SETTING),
        (ConfigureRule(RULE, RuleSettings(parameters={"min_km": 2**31})), Refusal.INVALID_SETTING),
    ],
)
def test_settings_that_no_rule_has_are_refused(command: ConfigureRule, refusal: Refusal) -> None:
    assert refusal_of(command) is refusal


def test_the_same_settings_again_are_nothing_to_do() -> None:
    command = ConfigureRule(RULE, RuleSettings(enabled=False))

    assert refusal_of(command, after(command)) is Refusal.NOTHING_TO_DO


def test_a_rule_that_is_held_back_alerts_and_does_not_act() -> None:
    policy = after(HoldBack(RULE, families=200, active=10_000, until=NOW + HOUR))

    held = in_force(policy)

    assert (held.response, held.held_back_until) == (Response.ALERT, NOW + HOUR)


def test_a_rule_that_would_not_act_is_held_back_from_nothing() -> None:
    policy = after(
        ConfigureRule(RULE, RuleSettings(response=Response.RECORD)),
        HoldBack(RULE, families=200, active=10_000, until=NOW + HOUR),
    )

    assert in_force(policy).response is Response.RECORD


def test_a_rule_acts_again_when_its_time_is_over() -> None:
    policy = after(HoldBack(RULE, families=200, active=10_000, until=NOW))

    assert in_force(policy).response is Response.REVOKE_FAMILY
    assert in_force(policy).held_back_until is None


def test_a_rule_is_held_back_for_longer_and_not_for_shorter() -> None:
    policy = after(HoldBack(RULE, families=1, active=1, until=NOW + HOUR))

    assert refusal_of(HoldBack(RULE, 1, 1, NOW + HOUR), policy) is Refusal.NOTHING_TO_DO
    assert refusal_of(HoldBack(RULE, 1, 1, NOW + HOUR + MICROSECOND), policy) is None


# -------------------------------------------------------------------------------- allow-list


@pytest.mark.parametrize(
    "command",
    [
        allow(network="203.0.113.0/24"),
        allow(network="203.0.113.7"),
        allow(network="203.0.0.0/16"),
        about(AllowedKind.ASN, asn=64_500),
        about(AllowedKind.USER, user_id=USER_ID),
        allow(rule=RULE),
    ],
)
def test_a_finding_that_an_entry_covers_is_allowed(command: AllowList) -> None:
    policy = after(command)

    allowing = policy.allowing(RULE, user_id=USER_ID, asn=64_500, ip="203.0.113.7", at=NOW)

    assert allowing is not None
    assert allowing.entry_id == "e1"


@pytest.mark.parametrize(
    "command",
    [
        allow(network="203.0.113.8"),
        allow(network="2001:db8::/32"),
        about(AllowedKind.ASN, asn=64_501),
        about(AllowedKind.USER, user_id=OWNER[:-1] + "0"),
        allow(rule="dormant"),
    ],
)
def test_a_finding_that_no_entry_covers_is_not(command: AllowList) -> None:
    policy = after(command)

    assert policy.allowing(RULE, user_id=USER_ID, asn=64_500, ip="203.0.113.7", at=NOW) is None


def test_an_entry_covers_nothing_of_which_nothing_is_known() -> None:
    policy = after(
        allow("n"),
        allow("a", kind=AllowedKind.ASN, network=None, asn=1),
        allow("u", kind=AllowedKind.USER, network=None, user_id=USER_ID),
    )

    assert policy.allowing(RULE, user_id=None, asn=None, ip=None, at=NOW) is None


def test_an_entry_holds_up_to_its_end_and_not_at_it() -> None:
    policy = after(allow(until=NOW + HOUR))

    def allows(at: timedelta) -> bool:
        found = policy.allowing(RULE, user_id=None, asn=None, ip="203.0.113.7", at=NOW + at)
        return found is not None

    assert allows(HOUR - MICROSECOND)
    assert not allows(HOUR)


def test_an_entry_that_has_ended_leaves_the_state_with_the_next_event() -> None:
    policy = after(allow(until=NOW + HOUR))
    listed = AllowListed(entry_id="e2", kind=AllowedKind.ASN, asn=1, owner=OWNER, until_us=2**52)

    policy = evolve_detection_policy(policy, listed, None, NOW + HOUR)

    assert list(policy.entries) == ["e2"]


def test_what_names_somebody_is_personal() -> None:
    (new,) = decide_detection_policy(NO_POLICY, allow(), RULES, NOW).events

    assert new.personal == Personal(networks=["203.0.113.0/24"], comment="our office")
    assert "203.0.113" not in repr(new.event)


def test_a_sealed_entry_is_carried_along_and_covers_nothing() -> None:
    (new,) = decide_detection_policy(NO_POLICY, allow(), RULES, NOW).events
    box = Sealed("an event", b"a box")

    policy = evolve_detection_policy(NO_POLICY, cast("AllowListed", new.event), box, NOW)

    assert (policy.entries["e1"].network, policy.entries["e1"].reason) == (box, box)
    assert policy.allowing(RULE, user_id=None, asn=None, ip="203.0.113.7", at=NOW) is None


def test_an_entry_has_all_that_was_said_of_it() -> None:
    policy = after(allow(rule=RULE))

    assert policy.entries_at(NOW) == [
        AllowListEntry(
            entry_id="e1",
            kind=AllowedKind.NETWORK,
            network="203.0.113.0/24",
            rule=RULE,
            owner=OWNER,
            reason="our office",
            added_at=NOW,
            until=NOW + DAY,
        )
    ]


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (allow(network=None), Refusal.INVALID_SETTING),
        (allow(asn=1), Refusal.INVALID_SETTING),
        (allow(network="203.0.113.7/24"), Refusal.INVALID_SETTING),
        (allow(network="an office"), Refusal.INVALID_SETTING),
        (allow(network="0.0.0.0/0"), Refusal.INVALID_SETTING),
        (allow(network="203.0.0.0/15"), Refusal.INVALID_SETTING),
        (allow(network="2001:db8::/31"), Refusal.INVALID_SETTING),
        (about(AllowedKind.ASN, asn=0), Refusal.INVALID_SETTING),
        (about(AllowedKind.ASN, asn=2**32), Refusal.INVALID_SETTING),
        (allow(until=NOW), Refusal.INVALID_SETTING),
        (allow(until=NOW + 367 * DAY), Refusal.INVALID_SETTING),
        (allow(rule="unheard-of"), Refusal.UNKNOWN_RULE),
    ],
)
def test_an_entry_that_says_too_much_or_too_little_is_refused(
    command: AllowList, refusal: Refusal
) -> None:
    assert refusal_of(command) is refusal


def test_an_analysts_entry_holds_for_a_month_at_most() -> None:
    month = ANALYSTS_LONGEST_ALLOWANCE

    assert refusal_of(allow(until=NOW + month, longest=month)) is None
    too_long = allow(until=NOW + month + MICROSECOND, longest=month)
    decision = decide_detection_policy(NO_POLICY, too_long, RULES, NOW)
    assert decision.detail == "the end is at most 30 days away"


def test_the_allow_list_is_bounded_and_has_room_again_when_entries_end() -> None:
    full = NO_POLICY
    for number in range(MAX_ENTRIES):
        full = after(allow(f"e{number}", until=NOW + HOUR), policy=full)

    assert refusal_of(allow("one more"), full) is Refusal.ALLOW_LIST_FULL
    later = decide_detection_policy(full, allow("one more"), RULES, NOW + HOUR)
    assert later.refusal is None


def test_an_entry_is_removed_once() -> None:
    policy = after(allow("e1"), allow("e2"))

    policy = after(RemoveEntry("e1"), policy=policy)

    assert list(policy.entries) == ["e2"]
    assert refusal_of(RemoveEntry("e1"), policy) is Refusal.UNKNOWN_ENTRY
    ended = decide_detection_policy(policy, RemoveEntry("e2"), RULES, NOW + DAY)
    assert ended.refusal is Refusal.UNKNOWN_ENTRY
