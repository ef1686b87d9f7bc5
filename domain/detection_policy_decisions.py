"""What may be done to the detection policy: ``decide_detection_policy(state, command)``."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import assert_never

import msgspec

from domain.detection_policy import DetectionPolicy, RuleSettings
from domain.events.canonical import microseconds
from domain.events.detection_policies import (
    AllowedKind,
    AllowListed,
    AllowListEntryRemoved,
    RuleConfigured,
    RuleHeldBack,
)
from domain.events.envelope import NewEvent
from domain.events.personal import Personal
from domain.ids import UserId
from domain.refusals import Refusal

RuleParameters = Mapping[str, Mapping[str, int]]
"""The rules that there are: by name, each with its parameters and their defaults."""

MAX_PARAMETER = 2**31 - 1
"""The largest value of a parameter; the least is 0."""
MAX_ENTRIES = 1_000
"""The most allow-list entries at a time, so that the policy stays small."""
LEAST_PREFIX_BITS = {4: 16, 6: 32}
"""The widest network of an allow-list entry, by IP version: it must not be half the internet."""
ANALYSTS_LONGEST_ALLOWANCE = timedelta(days=30)
"""How long an entry may hold that an analyst makes."""
LONGEST_ALLOWANCE = timedelta(days=366)
"""How long any entry may hold: who still needs it looks at it again."""
_MAX_ASN = 2**32 - 1


class ConfigureRule(msgspec.Struct, frozen=True):
    """Set everything there is to set about a rule."""

    rule: str
    settings: RuleSettings


class AllowList(msgspec.Struct, frozen=True, kw_only=True):
    """Let something raise no alert for a while.

    Attributes:
        entry_id: A fresh id.
        kind: What it is about; the one of ``network``, ``asn`` and ``user_id`` that says it is
            given.
        network: CIDR, or an address.
        asn: Autonomous system number.
        user_id: A user.
        rule: The one rule that it holds for; None is every rule.
        owner: The member of staff who answers for it.
        reason: Why.
        until: When it ends.
        longest: For how long whoever asks may ask.
    """

    entry_id: str
    kind: AllowedKind
    network: str | None = None
    asn: int | None = None
    user_id: UserId | None = None
    rule: str | None = None
    owner: UserId
    reason: str
    until: datetime
    longest: timedelta = LONGEST_ALLOWANCE


class RemoveEntry(msgspec.Struct, frozen=True):
    """End an allow-list entry before its time."""

    entry_id: str


class HoldBack(msgspec.Struct, frozen=True):
    """Keep a rule from acting for a while: it would end too many families."""

    rule: str
    families: int
    active: int
    until: datetime


DetectionPolicyCommand = ConfigureRule | AllowList | RemoveEntry | HoldBack


class DetectionPolicyDecision(msgspec.Struct, frozen=True):
    """Events to append, and why the command was refused where it was.

    Attributes:
        events: At most one.
        refusal: Why not.
        detail: What was wrong with it, in words; nothing personal.
    """

    events: tuple[NewEvent, ...] = ()
    refusal: Refusal | None = None
    detail: str | None = None


def decide_detection_policy(
    policy: DetectionPolicy, command: DetectionPolicyCommand, rules: RuleParameters, now: datetime
) -> DetectionPolicyDecision:
    """What may be set.

    Args:
        policy: The state.
        command: What is asked for.
        rules: The rules that there are.
        now: The database's clock.
    """
    match command:
        case ConfigureRule():
            return _configure(policy, command, rules)
        case AllowList():
            return _allow(policy, command, rules, now)
        case RemoveEntry():
            entry = policy.entries.get(command.entry_id)
            if entry is None or entry.until <= now:
                return _refuse(Refusal.UNKNOWN_ENTRY)
            return _decided(AllowListEntryRemoved(entry_id=command.entry_id))
        case HoldBack():
            held_back_until = policy.held_back.get(command.rule)
            if held_back_until is not None and held_back_until >= command.until:
                return _refuse(Refusal.NOTHING_TO_DO)
            return _decided(
                RuleHeldBack(
                    rule=command.rule,
                    families=command.families,
                    active=command.active,
                    until_us=microseconds(command.until),
                )
            )
        case _:
            assert_never(command)


def _configure(
    policy: DetectionPolicy, command: ConfigureRule, rules: RuleParameters
) -> DetectionPolicyDecision:
    known = rules.get(command.rule)
    if known is None:
        return _refuse(Refusal.UNKNOWN_RULE)
    settings = command.settings
    for name, value in settings.parameters.items():
        if name not in known:
            return _refuse(Refusal.INVALID_SETTING, f"the rule has no parameter {name!r}")
        if not 0 <= value <= MAX_PARAMETER:
            return _refuse(Refusal.INVALID_SETTING, f"{name} is from 0 to {MAX_PARAMETER}")
    if command.rule in policy.rules and policy.rules[command.rule] == settings:
        return _refuse(Refusal.NOTHING_TO_DO)
    return _decided(
        RuleConfigured(
            rule=command.rule,
            enabled=settings.enabled,
            severity=settings.severity,
            response=settings.response,
            parameters=dict(settings.parameters),
        )
    )


def _allow(
    policy: DetectionPolicy, command: AllowList, rules: RuleParameters, now: datetime
) -> DetectionPolicyDecision:
    if command.rule is not None and command.rule not in rules:
        return _refuse(Refusal.UNKNOWN_RULE)
    fault = _fault_of_target(command) or _fault_of_end(command, now)
    if fault is not None:
        return _refuse(Refusal.INVALID_SETTING, fault)
    if len(policy.entries_at(now)) >= MAX_ENTRIES:
        return _refuse(
            Refusal.ALLOW_LIST_FULL, f"the allow-list holds at most {MAX_ENTRIES} entries"
        )
    listed = AllowListed(
        entry_id=command.entry_id,
        kind=command.kind,
        asn=command.asn,
        user_id=command.user_id,
        rule=command.rule,
        owner=command.owner,
        until_us=microseconds(command.until),
    )
    networks = None if command.network is None else [str(ip_network(command.network))]
    return DetectionPolicyDecision(
        (NewEvent(listed, Personal(networks=networks, comment=command.reason)),)
    )


def _fault_of_target(command: AllowList) -> str | None:
    targets = {
        AllowedKind.NETWORK: command.network,
        AllowedKind.ASN: command.asn,
        AllowedKind.USER: command.user_id,
    }
    given = [kind for kind, value in targets.items() if value is not None]
    if given != [command.kind]:
        return f"an entry about a {command.kind} names that, and nothing else"
    if command.asn is not None and not 0 < command.asn <= _MAX_ASN:
        return f"an ASN is from 1 to {_MAX_ASN}"
    return None if command.network is None else _fault_of_network(command.network)


def _fault_of_network(text: str) -> str | None:
    try:
        network = ip_network(text)
    except ValueError:
        return "the network is an address or CIDR, with no bits set behind its prefix"
    least = LEAST_PREFIX_BITS[network.version]
    if network.prefixlen < least:
        return f"a network of IPv{network.version} is a /{least} at most"
    return None


def _fault_of_end(command: AllowList, now: datetime) -> str | None:
    if command.until <= now:
        return "the end has passed"
    if command.until - now > command.longest:
        return f"the end is at most {command.longest.days} days away"
    return None


def _decided(
    event: RuleConfigured | AllowListEntryRemoved | RuleHeldBack,
) -> DetectionPolicyDecision:
    return DetectionPolicyDecision((NewEvent(event),))


def _refuse(refusal: Refusal, detail: str | None = None) -> DetectionPolicyDecision:
    return DetectionPolicyDecision(refusal=refusal, detail=detail)
