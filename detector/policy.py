"""The rules under a detection policy: whom to ask about what, and what their answers come to."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from detector.findings import Finding, Signal, Subject
from detector.observations import Kind, Observation
from detector.rule import CrowdRule, Description, Parameters, Rule, UserRule
from detector.rulebook import Rulebook
from domain.detection_policy import NO_POLICY, DetectionPolicy

_RuleT = TypeVar("_RuleT", bound=Rule)
AskedUserRules = tuple[tuple[UserRule, Parameters], ...]
AskedCrowdRules = tuple[tuple[CrowdRule, Parameters], ...]


class RulesInForce:
    """Every rule that is enabled, with its thresholds. Made once for each version of the policy.

    Attributes:
        policy: The policy.
        of_users: What to ask about each kind of observation of a user.
        of_quiet: The same, where nothing changed since the last.
        of_crowds: What to ask about the crowd's counts.
    """

    def __init__(self, rules: Rulebook, policy: DetectionPolicy = NO_POLICY) -> None:
        """Take the policy's thresholds in."""
        self.policy = policy
        self.of_users: dict[Kind, AskedUserRules] = {}
        self.of_quiet: dict[Kind, AskedUserRules] = {}
        self.of_crowds: dict[Kind, AskedCrowdRules] = {}
        for kind in Kind:
            self.of_users[kind] = tuple(self._asked(rules.user_rules[kind]))
            self.of_quiet[kind] = tuple(self._asked(rules.quiet_rules[kind]))
            self.of_crowds[kind] = tuple(self._asked(rules.crowd_rules[kind]))

    def _asked(self, rules: Iterable[_RuleT]) -> Iterable[tuple[_RuleT, Parameters]]:
        for rule in rules:
            settings = self.policy.settings_of(rule.about.name)
            if settings.enabled:
                chosen = settings.parameters
                defaults = rule.about.parameters
                yield rule, {name: chosen.get(name, value) for name, value in defaults.items()}


def finding_of(
    about: Description, signal: Signal, seen: Observation, policy: DetectionPolicy
) -> Finding | None:
    """What a signal comes to under the policy; None where the allow-list keeps the rule silent."""
    at = datetime.fromtimestamp(seen.second, UTC)
    if policy.entries and policy.allowing(
        about.name, user_id=seen.user_id, asn=seen.network.asn, ip=seen.client.ip, at=at
    ):
        return None
    in_force = policy.in_force(
        about.name,
        severity=signal.severity or about.severity,
        response=signal.response or about.response,
        parameters=about.parameters,
        at=at,
    )
    is_crowd = about.subject is Subject.CROWD
    return Finding(
        rule=about.name,
        rule_version=about.version,
        severity=in_force.severity,
        response=in_force.response,
        facts=signal.facts,
        score=signal.score,
        second=seen.second,
        event_id=seen.event_id,
        user_id=None if is_crowd and seen.family_id is None else seen.user_id,
        family_id=seen.family_id,
        group=signal.group or _group(about.subject, seen),
        count=seen.failures.total if seen.failures is not None else 1,
    )


def _group(subject: Subject, seen: Observation) -> str:
    match subject:
        case Subject.FAMILY:
            return f"family:{seen.family_id}"
        case Subject.USER:
            return f"user:{seen.user_id}"
        case Subject.CROWD:
            return f"source:{seen.failures.source if seen.failures else seen.names.network}"
