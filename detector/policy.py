"""Applying the detection policy in force to what a rule says."""

from collections.abc import Mapping
from typing import Protocol

from detector.findings import Finding, Signal, Subject
from detector.observations import Observation
from detector.rule import Description, Parameters
from domain.events.detection_policies import RuleConfigured
from domain.ids import UserId


class Policy(Protocol):
    """The detection policy in force; ``domain.detection_policy`` folds one from its stream."""

    @property
    def version(self) -> int:
        """Of the stream's last event; 0 before the first."""
        ...

    def settings_of(self, rule: str) -> RuleConfigured | None:
        """How a rule was configured last; None leaves it as it is."""
        ...

    def allows(
        self, rule: str, *, ip: str | None, asn: int | None, user_id: UserId | None, second: float
    ) -> bool:
        """Whether an allow-list entry keeps the rule silent about this."""
        ...


class DefaultPolicy:
    """Every rule as it comes, nobody on the allow-list."""

    version = 0

    def settings_of(self, rule: str) -> RuleConfigured | None:
        """None: nothing was configured."""
        return None

    def allows(
        self,
        rule: str,
        *,
        ip: str | None,
        asn: int | None,
        user_id: UserId | None,
        second: float,
    ) -> bool:
        """False: nothing is on the list."""
        return False


def parameters_of(about: Description, settings: RuleConfigured | None) -> Parameters:
    """A rule's thresholds in force."""
    if settings is None or not settings.parameters:
        return about.parameters
    changed: Mapping[str, int] = settings.parameters
    return {name: changed.get(name, default) for name, default in about.parameters.items()}


def finding_of(
    about: Description,
    signal: Signal,
    settings: RuleConfigured | None,
    seen: Observation,
) -> Finding:
    """What a signal comes to under the policy."""
    severity, response = signal.severity or about.severity, signal.response or about.response
    if settings is not None:
        severity, response = settings.severity or severity, settings.response or response
    is_crowd = about.subject is Subject.CROWD
    return Finding(
        rule=about.name,
        rule_version=about.version,
        severity=severity,
        response=response,
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
            return f"source:{seen.failures.source if seen.failures else seen.network.prefix}"
