"""OCSF: what the published schema (1.5) requires of the two classes that are written."""

from typing import Any

import msgspec
import pytest

from audit.ocsf import ocsf_event
from domain.client import ClientContext
from domain.events.canonical import EventFields
from domain.events.personal import Personal
from tests.unit.domain.golden import FOLDER

# Of the published schema: what these classes require, and which values their enums have.
_BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
_REQUIRED = {3002: _BASE | {"user"}, 2004: _BASE | {"finding_info"}}
_CATEGORIES = {3002: 3, 2004: 2}
_ACTIVITIES = {3002: {0, 1, 2, 3, 4, 5, 6, 99}, 2004: {0, 1, 2, 3, 99}}
_STATUSES = {3002: {0, 1, 2, 99}, 2004: {0, 1, 2, 3, 4, 5, 99}}
_SEVERITIES = {0, 1, 2, 3, 4, 5, 6, 99}


def event(type_: str, stream: str, data: str = "{}") -> EventFields:
    return EventFields(
        actor="user",
        causation_id=None,
        correlation_id="0195513a-0000-7000-8000-000000000009",
        data=msgspec.Raw(data.encode()),
        event_id="0195513a-0000-7000-8000-000000000001",
        occurred_at=1_764_028_800_123_456,
        personal=None,
        position=7,
        schema_version=1,
        stream=stream,
        subject_id="0195513a-0000-7000-8000-000000000002",
        type=type_,
        version=1,
    )


def made(type_: str, personal: Personal | None = None) -> dict[str, Any] | None:
    prefix = "alert-" if type_.startswith("Alert") else "family-"
    data = '{"rule": "impossible-travel", "severity": "high", "secret_hash": "x", "salt": "y"}'
    return ocsf_event(event(type_, prefix + "0195513a-0000-7000-8000-000000000003", data), personal)


def types() -> list[str]:
    return sorted(path.name.split(".")[0] for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("type_", types())
def test_what_is_written_is_valid(type_: str) -> None:
    written = made(type_)

    if written is None:
        return
    class_uid = written["class_uid"]
    assert _REQUIRED[class_uid] <= written.keys()
    assert written["category_uid"] == _CATEGORIES[class_uid]
    assert written["activity_id"] in _ACTIVITIES[class_uid]
    assert written["type_uid"] == class_uid * 100 + written["activity_id"]
    assert written["status_id"] in _STATUSES[class_uid]
    assert written["severity_id"] in _SEVERITIES
    assert written["time"] == 1_764_028_800_123
    assert {"version", "product"} <= written["metadata"].keys()
    assert "vendor_name" in written["metadata"]["product"]
    assert "secret_hash" not in str(written)
    assert "salt" not in str(written)


@pytest.mark.parametrize(
    ("type_", "activity", "status"),
    [
        ("SessionStarted", 1, 1),
        ("SignInFailuresCounted", 1, 2),
        ("RefreshTokenRotated", 5, 1),
        ("RefreshTokenReused", 5, 2),
        ("SessionEnded", 2, 1),
        ("FamilyRevoked", 2, 1),
    ],
)
def test_what_happens_to_sessions_is_authentication(type_: str, activity: int, status: int) -> None:
    written = made(type_)

    assert written is not None
    assert (written["class_uid"], written["activity_id"], written["status_id"]) == (
        3002,
        activity,
        status,
    )
    assert written["user"]["uid"] == "0195513a-0000-7000-8000-000000000002"


def test_an_alert_is_a_detection_finding_with_its_rule_and_severity() -> None:
    written = made("AlertRaised")

    assert written is not None
    assert (written["class_uid"], written["activity_id"]) == (2004, 1)
    assert written["severity_id"] == 4
    assert written["finding_info"]["title"] == "impossible-travel"
    assert written["finding_info"]["uid"] == "0195513a-0000-7000-8000-000000000003"


def test_keys_policies_and_audits_are_left_out() -> None:
    assert made("SigningKeyCreated") is None
    assert made("RuleConfigured") is None
    assert made("LogExported") is None


def test_what_was_opened_names_client_and_user() -> None:
    personal = Personal(client=ClientContext("203.0.113.7", "curl/8", {}), username="ada")

    written = made("SessionStarted", personal)

    assert written is not None
    assert written["src_endpoint"] == {"ip": "203.0.113.7"}
    assert written["http_request"] == {"user_agent": "curl/8"}
    assert written["user"]["name"] == "ada"
