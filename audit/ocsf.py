"""Events as the Open Cybersecurity Schema Framework has them, for SIEMs (OCSF 1.5).

Sessions become Authentication events (class 3002), alerts Detection Findings (class 2004). What is
neither is left out: keys, policies, and what auditors do.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.events.canonical import EventFields
from domain.events.personal import Personal

VERSION = "1.5.0"

_AUTHENTICATION = 3002
_DETECTION_FINDING = 2004
_SUCCESS, _FAILURE, _OTHER_STATUS = 1, 2, 99
_LOGON, _LOGOFF, _TICKET_RENEWAL, _OTHER = 1, 2, 5, 99
_CREATE, _UPDATE, _CLOSE = 1, 2, 3
_INFORMATIONAL = 1
_SEVERITIES = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_ACTIVITIES = {_LOGON: "Logon", _LOGOFF: "Logoff", _TICKET_RENEWAL: "Service Ticket Renew"}
_FINDING_ACTIVITIES = {_CREATE: "Create", _UPDATE: "Update", _CLOSE: "Close"}
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
_ALERTS: Mapping[str, int] = {
    "AlertRaised": _CREATE,
    "AlertRepeated": _UPDATE,
    "AlertAcknowledged": _UPDATE,
    "AlertAssigned": _UPDATE,
    "AlertReopened": _UPDATE,
    "AlertResolved": _CLOSE,
}


def ocsf_event(event: EventFields, personal: Personal | None) -> dict[str, Any] | None:
    """An event in OCSF; None where it has no class there.

    Args:
        event: The event.
        personal: What is personal in it, where that was opened.

    Returns:
        JSON; Any: OCSF's own shapes.
    """
    if event.type in _SESSIONS:
        return _authentication(event, personal)
    if event.type in _ALERTS:
        return _finding(event)
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


def _finding(event: EventFields) -> dict[str, Any]:
    """Any: as above."""
    activity = _ALERTS[event.type]
    data: dict[str, Any] = msgspec.json.decode(event.data)  # Any: of whatever alert event
    rule = str(data.get("rule", event.stream))
    made = _common(event, _DETECTION_FINDING, 2, activity)
    made |= {
        "activity_name": _FINDING_ACTIVITIES[activity],
        "class_name": "Detection Finding",
        "category_name": "Findings",
        "severity_id": _SEVERITIES.get(str(data.get("severity")), 0),
        "status_id": {_CREATE: 1, _UPDATE: 2, _CLOSE: 4}[activity],
        "finding_info": {
            "uid": event.stream.removeprefix("alert-"),
            "title": rule,
            "analytic": {"name": rule, "type_id": 1, "type": "Rule"},
        },
    }
    if event.subject_id is not None:
        made["evidences"] = [{"actor": {"user": {"uid": event.subject_id}}}]
    return made


def _shown(event: EventFields) -> dict[str, Any]:
    """The event's data less hashes and salts; Any: of whatever type."""
    data: dict[str, Any] = msgspec.json.decode(event.data)
    return {name: value for name, value in data.items() if name not in {"secret_hash", "salt"}}
