"""Filters of the queue: in the address, so that a view can be kept, shared and gone back to."""

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from api.alert_cursors import place_of
from api.problems import ProblemError, ProblemKind
from domain.alert import AlertStatus
from domain.alert_lists import AlertFilter, AlertPlace
from domain.detection import Severity
from domain.ids import FamilyId, UserId, parse_uuid

QUEUE = "/console/alerts"
_TO_DO = (AlertStatus.OPEN, AlertStatus.ACKNOWLEDGED)
VIEWS = {
    "to-do": ("To do", _TO_DO),
    "open": ("Open", (AlertStatus.OPEN,)),
    "mine": ("Mine", _TO_DO),
    "resolved": ("Resolved", (AlertStatus.RESOLVED,)),
    "recorded": ("On record", (AlertStatus.RECORDED,)),
    "all": ("All", ()),
}
"""What each view is called, and the statuses in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """What a view of the queue shows, as its address says.

    Attributes:
        view: One of ``VIEWS``.
        severity: This or worse.
        rule: Raised by this rule.
        user: About this user.
        family: About this session family.
        after: Behind this place of the list.
    """

    view: str = "to-do"
    severity: Severity | None = None
    rule: str | None = None
    user: UserId | None = None
    family: FamilyId | None = None
    after: str | None = None

    @property
    def narrowed(self) -> bool:
        """Whether there is more to it than the view."""
        return any((self.severity, self.rule, self.user, self.family))

    @property
    def place(self) -> AlertPlace | None:
        """Where the page begins.

        Raises:
            ProblemError: The address says nothing that we gave out.
        """
        return None if self.after is None else place_of(self.after)

    def wanted(self, reader: UserId) -> AlertFilter:
        """What to ask for, when this member of staff looks."""
        return AlertFilter(
            statuses=VIEWS[self.view][1],
            at_least=self.severity,
            rule=self.rule,
            user_id=self.user,
            family_id=self.family,
            assignee=reader if self.view == "mine" else None,
        )

    def address(self, **changes: object) -> str:
        """The address of this view, or of one that differs so."""
        # Any dataclass field may be named; a wrong one fails at once.
        changed = replace(self, **{"after": None, **changes})  # type: ignore[arg-type]
        said = {
            "view": None if changed.view == "to-do" else changed.view,
            "severity": changed.severity,
            "rule": changed.rule,
            "user": changed.user,
            "family": changed.family,
            "after": changed.after,
        }
        query = urlencode({name: value for name, value in said.items() if value})
        return f"{QUEUE}?{query}" if query else QUEUE


def filter_in(query: QueryParams) -> QueueFilter:
    """The filter that an address holds.

    Raises:
        ProblemError: It is not one of ours.
    """
    view = query.get("view") or "to-do"
    if view not in VIEWS:
        raise ProblemError(ProblemKind.NOT_FOUND, "there is no such view")
    severity = query.get("severity") or None
    if severity is not None and severity not in set(Severity):
        raise ProblemError(ProblemKind.INVALID_INPUT, "severity is none")
    user, family = _id_in(query, "user"), _id_in(query, "family")
    return QueueFilter(
        view=view,
        severity=None if severity is None else Severity(severity),
        rule=query.get("rule") or None,
        user=None if user is None else UserId(user),
        family=None if family is None else FamilyId(family),
        after=query.get("after") or None,
    )


def _id_in(query: QueryParams, name: str) -> str | None:
    text = query.get(name)
    if not text:
        return None
    parsed = parse_uuid(text)
    if parsed is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, f"{name} is not an id")
    return parsed
