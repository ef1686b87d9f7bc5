"""The detection policy: the fold of its stream. Which rules speak, how loudly, and on whom not.

What may be done to it is in ``domain.detection_policy_decisions``. The state is bounded: an entry
of the allow-list leaves it at the first event after its end.
"""

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import assert_never

import msgspec
from msgspec.structs import replace

from domain.detection import Response, Severity
from domain.events.canonical import from_microseconds
from domain.events.detection_policies import (
    AllowedKind,
    AllowListed,
    AllowListEntryRemoved,
    DetectionPolicyEvent,
    RuleConfigured,
    RuleHeldBack,
)
from domain.events.personal import PersonalPart, Sealed
from domain.ids import UserId


class RuleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What was set for a rule; None, or a parameter that is missing, is the rule's own default.

    Attributes:
        enabled: Whether it speaks at all.
        severity: Instead of its own.
        response: Instead of its own.
        parameters: Thresholds instead of its own, by name.
    """

    enabled: bool = True
    severity: Severity | None = None
    response: Response | None = None
    parameters: dict[str, int] = {}


class AllowListEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody or something that raises no alert for a while.

    Attributes:
        entry_id: Names it.
        kind: What it is about.
        network: The network (CIDR), where it is about one. Personal.
        asn: The autonomous system, where it is about one.
        user_id: The user, where it is about one.
        rule: The one rule that it holds for; None is every rule.
        owner: The member of staff who answers for it.
        reason: Why. Personal.
        added_at: When it was added.
        until: When it ends.
    """

    entry_id: str
    kind: AllowedKind
    network: str | Sealed | None = None
    asn: int | None = None
    user_id: UserId | None = None
    rule: str | None = None
    owner: UserId
    reason: str | Sealed | None = None
    added_at: datetime
    until: datetime

    def covers(self, *, user_id: UserId | None, asn: int | None, ip: str | None) -> bool:
        """Whether it is about any of these."""
        match self.kind:
            case AllowedKind.USER:
                return self.user_id is not None and self.user_id == user_id
            case AllowedKind.ASN:
                return self.asn is not None and self.asn == asn
            case AllowedKind.NETWORK:
                if ip is None or not isinstance(self.network, str):
                    return False
                return ip_address(ip) in ip_network(self.network)
            case _:
                assert_never(self.kind)


class RuleInForce(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule stands at an instant: its own defaults, and what the policy says instead.

    Attributes:
        enabled: Whether it speaks.
        severity: What its findings are said to be.
        response: What is done about them; no more than ``alert`` while the rule is held back.
        parameters: Every one of its thresholds.
        held_back_until: Until when it may not act, or None.
    """

    enabled: bool
    severity: Severity
    response: Response
    parameters: dict[str, int]
    held_back_until: datetime | None = None


class DetectionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was set.

    Attributes:
        version: Version of the last event folded in; 0 while nothing was set.
        rules: Settings, by rule.
        entries: The allow-list, by entry id; some may have ended.
        held_back: Until when a rule may not act, by rule; it may be over.
    """

    version: int = 0
    rules: dict[str, RuleSettings] = {}
    entries: dict[str, AllowListEntry] = {}
    held_back: dict[str, datetime] = {}

    def settings_of(self, rule: str) -> RuleSettings:
        """What was set for a rule."""
        return self.rules.get(rule, _OWN_DEFAULTS)

    def in_force(
        self,
        rule: str,
        *,
        severity: Severity,
        response: Response,
        parameters: Mapping[str, int],
        at: datetime,
    ) -> RuleInForce:
        """How a rule stands.

        Args:
            rule: Its name.
            severity: Its own default.
            response: Its own default.
            parameters: Its own defaults, by name.
            at: When.
        """
        settings = self.settings_of(rule)
        held_back_until = self.held_back.get(rule)
        if held_back_until is not None and held_back_until <= at:
            held_back_until = None
        wanted = settings.response or response
        known = {k: v for k, v in settings.parameters.items() if k in parameters}
        return RuleInForce(
            enabled=settings.enabled,
            severity=settings.severity or severity,
            response=Response.ALERT if held_back_until is not None and wanted.acts else wanted,
            parameters={**parameters, **known},
            held_back_until=held_back_until,
        )

    def entries_at(self, at: datetime) -> list[AllowListEntry]:
        """The allow-list as it stands, in the order in which entries were added."""
        return [entry for entry in self.entries.values() if entry.until > at]

    def allowing(
        self,
        rule: str,
        *,
        user_id: UserId | None,
        asn: int | None,
        ip: str | None,
        at: datetime,
    ) -> AllowListEntry | None:
        """The allow-list entry for which a finding raises no alert, if there is one.

        Args:
            rule: The rule that found something.
            user_id: Whom it is about.
            asn: Where the client was seen.
            ip: Its canonical address.
            at: When.
        """
        for entry in self.entries_at(at):
            if entry.rule in {None, rule} and entry.covers(user_id=user_id, asn=asn, ip=ip):
                return entry
        return None


_OWN_DEFAULTS = RuleSettings()
NO_POLICY = DetectionPolicy()
"""Before the first event: every rule as it describes itself."""


def evolve_detection_policy(
    policy: DetectionPolicy, event: DetectionPolicyEvent, personal: PersonalPart, at: datetime
) -> DetectionPolicy:
    """What one event does to the policy.

    Args:
        policy: The state before; ``NO_POLICY`` before the first event.
        event: What happened.
        personal: Its personal part, open or sealed: carried along, never looked into.
        at: When it happened.
    """
    policy = replace(
        policy,
        version=policy.version + 1,
        entries={k: entry for k, entry in policy.entries.items() if entry.until > at},
    )
    match event:
        case RuleConfigured():
            settings = RuleSettings(
                enabled=event.enabled,
                severity=event.severity,
                response=event.response,
                parameters=event.parameters,
            )
            return replace(policy, rules={**policy.rules, event.rule: settings})
        case AllowListed():
            entry = _entry_of(event, personal, at)
            return replace(policy, entries={**policy.entries, entry.entry_id: entry})
        case AllowListEntryRemoved():
            kept = {k: entry for k, entry in policy.entries.items() if k != event.entry_id}
            return replace(policy, entries=kept)
        case RuleHeldBack():
            until = from_microseconds(event.until_us)
            return replace(policy, held_back={**policy.held_back, event.rule: until})
        case _:
            assert_never(event)


def _entry_of(event: AllowListed, personal: PersonalPart, at: datetime) -> AllowListEntry:
    sealed = personal if isinstance(personal, Sealed) else None
    opened = None if isinstance(personal, Sealed) else personal
    networks = opened.networks if opened is not None else None
    about_network = event.kind is AllowedKind.NETWORK
    return AllowListEntry(
        entry_id=event.entry_id,
        kind=event.kind,
        network=(sealed or (networks[0] if networks else None)) if about_network else None,
        asn=event.asn,
        user_id=event.user_id,
        rule=event.rule,
        owner=event.owner,
        reason=sealed or (opened.comment if opened is not None else None),
        added_at=at,
        until=from_microseconds(event.until_us),
    )
