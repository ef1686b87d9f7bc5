"""Grouping: which findings are one alert, and what the alert is called."""

from hashlib import sha256

import msgspec

from detector.findings import Finding
from domain.ids import AlertId, uuid_text

GROUP_FOR_S = 3600.0
"""Findings of one rule about one subject within an hour are one alert (detection.md)."""
REPEAT_EVERY_S = 60.0
"""Repeats that change nothing go on record at most this often: a burst must not fill the log."""


class GroupState(msgspec.Struct, frozen=True, array_like=True):
    """The latest alert of a rule and subject.

    Attributes:
        alert_id: The alert.
        raised: When it was raised, in seconds since 1970.
        recorded: When a repeat was last put on record.
        pending: Occurrences since then that are not on record yet.
        severity: Rank of the worst severity so far.
        response: Rank of the strictest response so far.
    """

    alert_id: str
    raised: float
    recorded: float
    pending: int = 0
    severity: int = 0
    response: int = 0


class Raise(msgspec.Struct, frozen=True):
    """A finding that is a new alert."""

    alert_id: AlertId
    finding: Finding


class Repeat(msgspec.Struct, frozen=True):
    """A finding that an alert already stands for; ``count`` includes those not yet on record."""

    alert_id: AlertId
    finding: Finding
    count: int


def group_key(finding: Finding) -> str:
    """What findings that are one alert have in common."""
    return f"{finding.rule}|{finding.group}"


def alert_id_of(finding: Finding) -> AlertId:
    """A name that follows from rule, version, subject and event: a replay gives the same one."""
    text = f"{finding.rule}|{finding.rule_version}|{finding.group}|{finding.event_id}"
    digest = bytearray(sha256(text.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562: version 8, made from a hash
    digest[8] = digest[8] & 0x3F | 0x80
    return AlertId(uuid_text(bytes(digest)))


def grouped(
    state: GroupState | None, finding: Finding, *, acted: bool = False
) -> tuple[GroupState, Raise | Repeat | None]:
    """What a finding means for the alerts, given the latest of its group.

    Args:
        state: The latest alert of the group; None before the first.
        finding: The finding.
        acted: Whether something was done about it: that goes on record in any case.

    Returns:
        The group's new state, and what goes on record: a new alert, a repeat of the old, or nothing
        for the moment.
    """
    severity, response = finding.severity.rank, finding.response.rank
    if state is None or not 0 <= finding.second - state.raised < GROUP_FOR_S:
        alert_id = alert_id_of(finding)
        fresh = GroupState(
            alert_id, finding.second, finding.second, severity=severity, response=response
        )
        return fresh, Raise(alert_id, finding)
    pending = state.pending + finding.count
    graver = severity > state.severity or response > state.response
    if not (graver or acted) and finding.second - state.recorded < REPEAT_EVERY_S:
        return msgspec.structs.replace(state, pending=pending), None
    repeated = msgspec.structs.replace(
        state,
        recorded=finding.second,
        pending=0,
        severity=max(severity, state.severity),
        response=max(response, state.response),
    )
    return repeated, Repeat(AlertId(state.alert_id), finding, pending)
