"""OCSF: what the published schema (1.5) requires of the two classes that are written."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from audit.ocsf import RaisedAlert, ocsf_event
from domain.client import ClientContext
from domain.events.canonical import EventFields
from domain.events.personal import Personal
from domain.ids import SYSTEM_SUBJECT
from tests.unit.domain.golden import FOLDER

# Facts of the published schema, 1.5.0. Of each object its required attributes, of which one has to
# be there, and the values of its enums with the captions that their siblings say.
_BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
_REQUIRED = {3002: _BASE | {"user"}, 2004: _BASE | {"finding_info"}}
_ONE_OF = {3002: {"service", "dst_endpoint"}, 2004: {"finding_info"}}
_CATEGORIES = {3002: (3, "Identity & Access Management"), 2004: (2, "Findings")}
_CLASSES = {3002: "Authentication", 2004: "Detection Finding"}
_ACTIVITIES = {
    3002: {
        0: "Unknown",
        1: "Logon",
        2: "Logoff",
        3: "Authentication Ticket",
        4: "Service Ticket Request",
        5: "Service Ticket Renew",
        6: "Preauth",
    },
    2004: {0: "Unknown", 1: "Create", 2: "Update", 3: "Close"},
}
_STATUSES = {
    3002: {0: "Unknown", 1: "Success", 2: "Failure"},
    2004: {0: "Unknown", 1: "New", 2: "In Progress", 3: "Suppressed", 4: "Resolved", 5: "Archived"},
}
_SEVERITIES = {0, 1, 2, 3, 4, 5, 6, 99}
_ANALYTICS = {0: "Unknown", 1: "Rule", 2: "Behavioral", 3: "Statistical", 4: "Learning (ML/DL)"}
# Every attribute that we write, and that the class has. Whatever else a SIEM would not know.
_KNOWN = {
    3002: _REQUIRED[3002]
    | {"activity_name", "category_name", "class_name", "status", "status_id", "status_detail"}
    | {"service", "session", "is_remote", "src_endpoint", "http_request", "unmapped"},
    2004: _REQUIRED[2004]
    | {"activity_name", "category_name", "class_name", "status", "status_id", "is_alert"}
    | {"comment", "evidences", "unmapped"},
}
_METADATA = {"version", "product", "uid", "correlation_uid", "event_code", "sequence"}


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
    class_uid, activity = written["class_uid"], written["activity_id"]
    assert _REQUIRED[class_uid] <= written.keys() <= _KNOWN[class_uid]
    assert _ONE_OF[class_uid] & written.keys()
    assert (written["category_uid"], written["category_name"]) == _CATEGORIES[class_uid]
    assert written["class_name"] == _CLASSES[class_uid]
    assert written["activity_name"] == _ACTIVITIES[class_uid][activity]
    assert written["type_uid"] == class_uid * 100 + activity
    if "status_id" in written:  # recommended, not required
        assert written["status"] == _STATUSES[class_uid][written["status_id"]]
    assert written["severity_id"] in _SEVERITIES
    assert written["time"] == 1_764_028_800_123
    assert {"version", "product"} <= written["metadata"].keys() <= _METADATA
    assert written["metadata"]["version"] == "1.5.0"
    assert written["metadata"]["product"].keys() == {"name", "vendor_name"}
    assert isinstance(written["unmapped"], dict)
    assert "secret_hash" not in str(written)
    assert "salt" not in str(written)


def users_in(written: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 (JSON)
    for name, value in written.items() if isinstance(written, dict) else ():
        if name == "user":
            yield value
        yield from users_in(value)
    for each in written if isinstance(written, list) else ():
        yield from users_in(each)


@pytest.mark.parametrize("type_", types())
def test_the_objects_within_are_valid(type_: str) -> None:
    written = made(type_)

    if written is None:
        return
    for user in users_in({**written, "unmapped": {}}):
        assert user.keys() & {"account", "name", "uid"}
        assert user.keys() <= {"name", "uid"}
    if written["class_uid"] == 3002:
        assert written["service"].keys() & {"name", "uid"}
        return
    info = written["finding_info"]
    assert {"uid", "title"} <= info.keys()
    assert info["analytic"]["type"] == _ANALYTICS[info["analytic"]["type_id"]]
    assert info["analytic"].keys() & {"name", "uid"}
    for each in written["evidences"]:
        assert each.keys() == {"actor"}
        assert each["actor"].keys() == {"user"}


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


@pytest.mark.parametrize(
    "type_",
    ["AlertAcknowledged", "AlertAnswered", "AlertAssigned", "AlertCommented", "AlertReopened"],
)
def test_each_event_of_an_alert_says_what_it_was_raised_for(type_: str) -> None:
    stream = "alert-0195513a-0000-7000-8000-000000000003"

    written = ocsf_event(event(type_, stream), None, RaisedAlert("token-reuse", "critical"))
    unknown = ocsf_event(event(type_, stream), None)

    assert written is not None
    assert unknown is not None
    assert written["finding_info"]["title"] == "token-reuse"
    assert written["finding_info"]["analytic"]["name"] == "token-reuse"
    assert written["severity_id"] == 5
    assert unknown["finding_info"] == {"uid": stream.removeprefix("alert-"), "title": "Alert"}
    assert unknown["severity_id"] == 0


@pytest.mark.parametrize(
    ("verdict", "status"), [("true_positive", 4), ("false_positive", 3), ("benign", 3)]
)
def test_a_verdict_is_a_status(verdict: str, status: int) -> None:
    resolved = event("AlertResolved", "alert-1", f'{{"verdict": "{verdict}"}}')

    written = ocsf_event(resolved, Personal(comment="her new phone"))

    assert written is not None
    assert (written["activity_id"], written["status_id"]) == (3, status)
    assert written["comment"] == "her new phone"


def test_an_alert_about_nobody_names_nobody() -> None:
    about_none = replace(event("AlertRaised", "alert-1"), subject_id=SYSTEM_SUBJECT)

    written = ocsf_event(about_none, None)

    assert written is not None
    assert "evidences" not in written


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
