"""Events as the Open Cybersecurity Schema Framework has them, for SIEMs (OCSF 1.5).

Sessions become Authentication events (class 3002), alerts Detection Findings (class 2004). What is
neither is left out: keys, policies, and what auditors do.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from domain.detection import Verdict
from domain.events.canonical import EventFields
from domain.events.personal import Personal
from domain.ids import SYSTEM_SUBJECT

VERSION = "1.5.0"

_AUTHENTICATION = 3002
_DETECTION_FINDING = 2004
_SUCCESS, _FAILURE, _OTHER_STATUS = 1, 2, 99
_LOGON, _LOGOFF, _TICKET_RENEWAL, _OTHER = 1, 2, 5, 99
_CREATE, _UPDATE, _CLOSE = 1, 2, 3
_NEW, _IN_PROGRESS, _SUPPRESSED, _RESOLVED = 1, 2, 3, 4
_UNKNOWN = 0
_INFORMATIONAL = 1
_SEVERITIES = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_ACTIVITIES = {_LOGON: "Logon", _LOGOFF: "Logoff", _TICKET_RENEWAL: "Service Ticket Renew"}
_FINDING_ACTIVITIES = {_CREATE: "Create", _UPDATE: "Update", _CLOSE: "Close"}
_FINDING_STATUSES = {
    _NEW: "New",
    _IN_PROGRESS: "In Progress",
    _SUPPRESSED: "Suppressed",
    _RESOLVED: "Resolved",
}
_STATUSES = {_SUCCESS: "Success", _FAILURE: "Failure", _OTHER_STATUS: "Other"}

# Activity and status of what happens to sessions.
_SESSIONS: Mapping[str, tuple[int, int]] = {
    "SessionStarted": (_LOGON, _SUCCESS),
    "StepUpCompleted": (_LOGON, _SUCCESS),
    "SignInFailuresCounted": (_LOGON, _FAILURE),
    "RefreshTokenRotated": (_TICKET_RENEWAL, _SUCCESS),
    "RefreshRetried": (_TICKET_RENEWAL, _SUCCESS),
    "RefreshTokenReused": (_TICKET_RENEWAL, _FAILURE),
    "RefreshTokenUnrecognised": (_TICKET_RENEWAL, _FAILURE),
    "EndedSessionRefreshRefused": (_TICKET_RENEWAL, _FAILURE),
    "SessionEnded": (_LOGOFF, _SUCCESS),
    "SessionExpired": (_LOGOFF, _SUCCESS),
    "FamilyRevoked": (_LOGOFF, _SUCCESS),
}
# Activity of what happens to alerts, and the status that it leads to; None where it leads to none.
_ALERTS: Mapping[str, tuple[int, int | None]] = {
    "AlertRaised": (_CREATE, _NEW),
    "AlertRepeated": (_UPDATE, None),
    "AlertAnswered": (_UPDATE, None),
    "AlertCommented": (_UPDATE, None),
    "AlertAcknowledged": (_UPDATE, _IN_PROGRESS),
    "AlertAssigned": (_UPDATE, None),
    "AlertReopened": (_UPDATE, _NEW),
    "AlertResolved": (_CLOSE, _RESOLVED),
}
_NO_RULE = "Alert"


class RaisedAlert(NamedTuple):
    """What an alert was raised with: only one of its events says it.

    Attributes:
        rule: Name of the rule.
        severity: How bad it is.
    """

    rule: str
    severity: str


def alert_of(event: EventFields) -> str | None:
    """The id of the alert that an event is of; None where it is of none."""
    return event.stream.removeprefix("alert-") if event.type in _ALERTS else None


def ocsf_event(
    event: EventFields, personal: Personal | None, raised: RaisedAlert | None = None
) -> dict[str, Any] | None:
    """An event in OCSF; None where it has no class there.

    Args:
        event: The event.
        personal: What is personal in it, where that was opened.
        raised: Of an event of an alert, what that is, where it is known.

    Returns:
        JSON; Any: OCSF's own shapes.
    """
    if event.type in _SESSIONS:
        return _authentication(event, personal)
    if event.type in _ALERTS:
        return _finding(event, personal, raised)
    return None


def _common(event: EventFields, class_uid: int, category: int, activity: int) -> dict[str, Any]:
    """What every class has; Any: as above."""
    return {
        "category_uid": category,
        "class_uid": class_uid,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "time": event.occurred_at // 1000,  # OCSF counts milliseconds
        "severity_id": _INFORMATIONAL,
        "metadata": {
            "version": VERSION,
            "product": {"name": "Sessiontrail", "vendor_name": "Sessiontrail"},
            "uid": event.event_id,
            "correlation_uid": event.correlation_id,
            "event_code": event.type,
            "sequence": event.position,
        },
        "unmapped": {
            "stream": event.stream,
            "version": event.version,
            "actor": event.actor,
            "data": _shown(event),
        },
    }


def _authentication(event: EventFields, personal: Personal | None) -> dict[str, Any]:
    """Any: as above."""
    activity, status = _SESSIONS[event.type]
    made = _common(event, _AUTHENTICATION, 3, activity)
    user: dict[str, Any] = {"uid": event.subject_id or "unknown"}  # Any: as above
    client = None if personal is None else personal.client
    if personal is not None and personal.username is not None:
        user["name"] = personal.username
    made |= {
        "activity_name": _ACTIVITIES[activity],
        "class_name": "Authentication",
        "category_name": "Identity & Access Management",
        "status_id": status,
        "status": _STATUSES[status],
        "status_detail": event.type,
        "user": user,
        "service": {"name": "Sessiontrail"},
        "is_remote": True,
    }
    if event.stream.startswith("family-"):
        made["session"] = {"uid": event.stream.removeprefix("family-")}
    if client is not None and client.ip is not None:
        made["src_endpoint"] = {"ip": client.ip}
    if client is not None and client.user_agent is not None:
        made["http_request"] = {"user_agent": client.user_agent}
    return made


def _finding(
    event: EventFields, personal: Personal | None, raised: RaisedAlert | None
) -> dict[str, Any]:
    """Any: as above."""
    activity, status = _ALERTS[event.type]
    data: dict[str, Any] = msgspec.json.decode(event.data)  # Any: of whatever alert event
    rule = data.get("rule", raised and raised.rule)
    severity = data.get("severity", raised and raised.severity)
    if data.get("verdict") in {Verdict.FALSE_POSITIVE, Verdict.BENIGN}:
        status = _SUPPRESSED
    made = _common(event, _DETECTION_FINDING, 2, activity)
    info: dict[str, Any] = {  # Any: as above
        "uid": event.stream.removeprefix("alert-"),
        "title": rule or _NO_RULE,
    }
    if rule:
        info["analytic"] = {"name": rule, "type_id": 1, "type": "Rule"}
    made |= {
        "activity_name": _FINDING_ACTIVITIES[activity],
        "class_name": "Detection Finding",
        "category_name": "Findings",
        "severity_id": _SEVERITIES.get(str(severity), _UNKNOWN),
        "finding_info": info,
    }
    if activity == _CREATE:
        made["is_alert"] = True
    if status is not None:
        made |= {"status_id": status, "status": _FINDING_STATUSES[status]}
    if event.subject_id not in {None, SYSTEM_SUBJECT}:
        made["evidences"] = [{"actor": {"user": {"uid": event.subject_id}}}]
    if personal is not None and personal.comment is not None:
        made["comment"] = personal.comment
    return made


def _shown(event: EventFields) -> dict[str, Any]:
    """The event's data less hashes and salts; Any: of whatever type."""
    data: dict[str, Any] = msgspec.json.decode(event.data)
    return {name: value for name, value in data.items() if name not in {"secret_hash", "salt"}}
