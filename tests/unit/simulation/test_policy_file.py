"""The policy file: what it may say, and one line about what it may not."""

from datetime import UTC, datetime, timedelta

import pytest

from detector.simulation.policy_file import PlayedPolicy, PolicyFileError, read_policy
from domain.detection import Response, Severity
from domain.events.detection_policies import AllowedKind
from domain.policy import SessionPolicy
from tests.unit.simulation.builders import rules

RULES = rules(("odd", Response.ALERT), ("thief", Response.REVOKE_FAMILY))


def test_an_empty_object_changes_nothing() -> None:
    played = read_policy(b"{}", RULES)

    assert played.session == SessionPolicy()
    assert (played.detection.rules, played.detection.entries) == ({}, {})
    assert PlayedPolicy().session == SessionPolicy()


def test_the_sessions_policy_is_told_in_seconds_and_counts() -> None:
    played = read_policy(
        b'{"session": {"access_lifetime": 60, "idle_timeout": 3600, "absolute_lifetime": 7200,'
        b' "overlap_window": 0, "late_retry_budget": 0, "late_retry_period": 10,'
        b' "session_limit": 3}}',
        RULES,
    )

    assert played.session == SessionPolicy(
        access_lifetime=timedelta(minutes=1),
        idle_timeout=timedelta(hours=1),
        absolute_lifetime=timedelta(hours=2),
        overlap_window=timedelta(0),
        late_retry_budget=0,
        late_retry_period=timedelta(seconds=10),
        session_limit=3,
    )


def test_a_rule_is_configured() -> None:
    played = read_policy(
        b'{"rules": {"odd": {"severity": "low", "response": "step_up",'
        b' "parameters": {"points": 9}}, "thief": {"enabled": false}}}',
        RULES,
    )

    odd = played.detection.settings_of("odd")
    assert (odd.enabled, odd.severity, odd.response) == (True, Severity.LOW, Response.STEP_UP)
    assert odd.parameters == {"points": 9}
    assert not played.detection.settings_of("thief").enabled


@pytest.mark.parametrize("value", [0, 1, 2**31 - 1])
def test_a_parameter_may_be_anything_from_zero_on(value: int) -> None:
    text = b'{"rules": {"odd": {"parameters": {"points": %d}}}}' % value

    played = read_policy(text, RULES)

    assert played.detection.settings_of("odd").parameters == {"points": value}


def test_networks_systems_and_users_are_allowed() -> None:
    played = read_policy(
        b'{"allow": [{"network": "203.0.113.0/24"}, {"asn": 64500, "rule": "odd"},'
        b' {"user": "ada", "until": "2026-02-01T00:00:00+01:00"}]}',
        RULES,
    )

    network, asn, user = played.detection.entries.values()
    assert (network.kind, network.network) == (AllowedKind.NETWORK, "203.0.113.0/24")
    assert (asn.asn, asn.rule) == (64500, "odd")
    assert user.until == datetime(2026, 1, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "object"),
        (b'{"rule": {}}', "rule"),
        (b'{"session": {"idle": 1}}', "idle"),
        (b'{"session": {"idle_timeout": 0}}', "idle_timeout must be positive"),
        (b'{"session": {"idle_timeout": -5}}', "idle_timeout must be positive"),
        (b'{"session": {"idle_timeout": 1e30}}', "int"),
        (b'{"session": {"idle_timeout": 999999999999999999}}', "too large"),
        (b'{"session": {"late_retry_budget": 99}}', "late_retry_budget"),
        (b'{"session": {"session_limit": 0}}', "session_limit"),
        (b'{"rules": {"even": {}}}', "there is no rule even; the rules are odd, thief"),
        (b'{"rules": {"odd": {"volume": 11}}}', "volume"),
        (b'{"rules": {"odd": {"severity": "mild"}}}', "mild"),
        (b'{"rules": {"odd": {"response": "shout"}}}', "shout"),
        (b'{"rules": {"odd": {"parameters": {"x": 1}}}}', "has no parameter x; it has points"),
        (b'{"rules": {"odd": {"parameters": {"points": -1}}}}', "points of rule odd"),
        (b'{"rules": {"odd": {"parameters": {"points": 99999999999}}}}', "points of rule odd"),
        (b'{"rules": {"odd": {"parameters": {"points": 1.5}}}}', "int"),
        (b'{"allow": [{}]}', "entry 1 of `allow` names one of network, asn and user"),
        (b'{"allow": [{"asn": 1}, {"asn": 1, "user": "a"}]}', "entry 2 of `allow`"),
        (b'{"allow": [{"network": "Oslo"}]}', "Oslo"),
        (b'{"allow": [{"network": "203.0.113.7/24"}]}', "host bits"),
        (b'{"allow": [{"user": "ada", "rule": "even"}]}', "there is no rule even"),
        (b'{"allow": [{"user": "ada", "until": "2026-01-01T00:00:00"}]}', "no offset"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: bytes, why: str) -> None:
    with pytest.raises(PolicyFileError) as refused:
        read_policy(text, RULES)

    assert why.lower() in str(refused.value).lower()
