"""What a list of alerts is asked for, and what comes back: pages, the worst and latest first."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.alert import Alert, AlertStatus
from domain.detection import Severity
from domain.ids import AlertId, FamilyId, UserId


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts; what is None, or empty, is no condition.

    Attributes:
        statuses: Any of these.
        at_least: This severity or a worse one.
        rule: Raised by this rule.
        user_id: About this user.
        family_id: About this session family.
        assignee: This member of staff's.
        since: Last seen at this instant or later.
        until: Last seen before this instant.
    """

    statuses: Sequence[AlertStatus] = ()
    at_least: Severity | None = None
    rule: str | None = None
    user_id: UserId | None = None
    family_id: FamilyId | None = None
    assignee: UserId | None = None
    since: datetime | None = None
    until: datetime | None = None


class AlertPlace(msgspec.Struct, frozen=True, array_like=True):
    """An alert's place in the order of lists, for the page that follows it."""

    severity_rank: int
    last_at: datetime
    alert_id: AlertId


class AlertPage(msgspec.Struct, frozen=True):
    """Some alerts, and where to go on.

    Attributes:
        alerts: The worst first, and of those that are equally bad, the latest.
        next_after: Pass as ``after`` for the next page; None on the last.
    """

    alerts: list[Alert]
    next_after: AlertPlace | None


class AlertChange(msgspec.Struct, frozen=True):
    """An alert that something happened to.

    Attributes:
        cursor: The place of the last of these events in the log, for whoever goes on from there.
        types: What happened, in order.
        alert: The alert as it is by now.
    """

    cursor: str
    types: tuple[str, ...]
    alert: Alert


class AlertChanges(msgspec.Struct, frozen=True):
    """What happened to alerts behind a place of the log.

    Attributes:
        changes: In the order of the log; none where nothing happened.
        cursor: Where to go on.
    """

    changes: tuple[AlertChange, ...]
    cursor: str
