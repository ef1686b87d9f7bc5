"""The policy file: session policy, rules and allow-list to play with, as one JSON object."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import msgspec

from detector.rule import Rule
from detector.rulebook import Rulebook
from domain.detection import Response, Severity
from domain.detection_policy import AllowListEntry, DetectionPolicy, RuleSettings
from domain.detection_policy_decisions import MAX_PARAMETER
from domain.events.detection_policies import AllowedKind
from domain.ids import UserId
from domain.policy import SessionPolicy

_FAR_OFF = datetime(9999, 1, 1, tzinfo=UTC)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class PolicyFileError(ValueError):
    """A policy file that cannot be used; the message says what is wrong with it."""


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool = True
    severity: Severity | None = None
    response: Response | None = None
    parameters: dict[str, int] = {}


class _Allowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    network: str | None = None
    asn: int | None = None
    user: str | None = None
    rule: str | None = None
    until: datetime | None = None


class _Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    access_lifetime: int | None = None
    idle_timeout: int | None = None
    absolute_lifetime: int | None = None
    overlap_window: int | None = None
    late_retry_budget: int | None = None
    late_retry_period: int | None = None
    session_limit: int | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: _Session = _Session()
    rules: dict[str, _Rule] = {}
    allow: list[_Allowed] = []


class PlayedPolicy(msgspec.Struct, frozen=True):
    """What requests are played under."""

    session: SessionPolicy = SessionPolicy()
    detection: DetectionPolicy = DetectionPolicy()


def read_policy(text: bytes, rules: Rulebook) -> PlayedPolicy:
    """The policy that a file says.

    Args:
        text: The file: ``{"session": {…seconds and counts…}, "rules": {NAME: {"enabled",
            "severity", "response", "parameters"}}, "allow": [{"network" | "asn" | "user",
            "rule"?, "until"?}]}``; every part is optional.
        rules: The rules that it may name.

    Raises:
        PolicyFileError: It cannot be used.
    """
    try:
        read = msgspec.json.decode(text, type=_File)
        session = _session_policy(read.session)
    except (ValueError, OverflowError, RecursionError) as error:  # msgspec's are ValueErrors
        raise PolicyFileError(str(error)) from error
    for name, rule in read.rules.items():
        _check_rule(name, rule, rules)
    detection = DetectionPolicy(
        version=1,
        rules={name: _settings(rule) for name, rule in read.rules.items()},
        entries={
            str(number): _entry(str(number), allowed, rules)
            for number, allowed in enumerate(read.allow, 1)
        },
    )
    return PlayedPolicy(session, detection)


def _check_rule(name: str, rule: _Rule, rules: Rulebook) -> None:
    known = _known_rule(name, rules)
    for parameter, value in rule.parameters.items():
        if parameter not in known.about.parameters:
            names = ", ".join(known.about.parameters) or "none"
            msg = f"rule {name} has no parameter {parameter}; it has {names}"
            raise PolicyFileError(msg)
        if not 0 <= value <= MAX_PARAMETER:
            msg = f"{parameter} of rule {name} is not between 0 and {MAX_PARAMETER}"
            raise PolicyFileError(msg)


def _known_rule(name: str, rules: Rulebook) -> Rule:
    known = rules.by_name.get(name)
    if known is None:
        msg = f"there is no rule {name}; the rules are {', '.join(rules.by_name)}"
        raise PolicyFileError(msg)
    return known


def _settings(rule: _Rule) -> RuleSettings:
    return RuleSettings(
        enabled=rule.enabled,
        severity=rule.severity,
        response=rule.response,
        parameters=rule.parameters,
    )


def _entry(entry_id: str, allowed: _Allowed, rules: Rulebook) -> AllowListEntry:
    told = [kind for kind in AllowedKind if getattr(allowed, kind.value) is not None]
    if len(told) != 1:
        msg = f"entry {entry_id} of `allow` names one of network, asn and user"
        raise PolicyFileError(msg)
    if allowed.rule is not None:
        _known_rule(allowed.rule, rules)
    if allowed.until is not None and allowed.until.tzinfo is None:
        msg = f"`until` of entry {entry_id} of `allow` has no offset: end it with Z"
        raise PolicyFileError(msg)
    try:
        network = None if allowed.network is None else str(ip_network(allowed.network))
    except ValueError as error:
        msg = f"entry {entry_id} of `allow`: {error}"
        raise PolicyFileError(msg) from error
    return AllowListEntry(
        entry_id=entry_id,
        kind=told[0],
        network=network,
        asn=allowed.asn,
        user_id=None if allowed.user is None else UserId(allowed.user),
        rule=allowed.rule,
        owner=UserId(""),
        added_at=_LONG_AGO,
        until=allowed.until or _FAR_OFF,
    )


def _session_policy(told: _Session) -> SessionPolicy:
    chosen: Mapping[str, int] = {
        name: value for name, value in msgspec.structs.asdict(told).items() if value is not None
    }
    counts = {"late_retry_budget", "session_limit"}
    return SessionPolicy(
        **{
            name: value if name in counts else timedelta(seconds=value)  # type: ignore[arg-type]
            for name, value in chosen.items()
        }
    )
