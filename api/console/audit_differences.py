"""Audit: what became different between two moments."""

from datetime import datetime, timedelta

import msgspec
from fastapi import APIRouter, Request, Response

from api.console.audit_addresses import (
    DIFFERENCES,
    After,
    Asked,
    correctable,
    first_and_next,
    moment_asked,
    written,
)
from api.console.pages import page
from api.console.visits import AuditVisit, Visit
from api.ports import Services
from api.problems import ProblemError
from api.replay import told, user_in
from api.security import ServicesIn
from domain.as_of import AtInstant
from projections.state_diffs import FieldChange

router = APIRouter(prefix=DIFFERENCES, include_in_schema=False)

_CHANGES = 20
_LONGEST_VALUE = 120


@router.get("")
async def differences(
    request: Request,
    visit: AuditVisit,
    services: ServicesIn,
    *,
    since: Asked = "",
    until: Asked = "",
    user: Asked = "",
    after: After = "",
) -> Response:
    """What became different between two moments: a day, unless the address says others."""
    try:
        content = await _content(visit, services, since, until, user, after)
    except ProblemError as error:
        content = {
            "since": since,
            "until": until,
            "user": user,
            "first": None,
            "next": None,
            "changes": [],
            "names": {},
            "damaged": [],
            "problem": correctable(error),
        }
        return await page(request, "audit_diff.html", visit, content, status=error.kind.status)
    return await page(request, "audit_diff.html", visit, {**content, "problem": None})


async def _content(
    visit: Visit, services: Services, since: str, until: str, user: str, after: str
) -> dict[str, object]:
    now = visit.caller.at
    first = moment_asked("from", since, now) if since.strip() else await _a_day_back(services, now)
    second = moment_asked("to", until, now)
    user_id = user_in(user.strip() or None)
    with told():
        found = await services.past.changes(
            first, second, user_id=user_id, limit=_CHANGES, after=after or None
        )
    said = {"since": written(first), "until": written(second), "user": user_id}
    return {
        **said,
        **first_and_next(DIFFERENCES, said, after, found.next_after),
        "changes": [(change, [_shown(each) for each in change.fields]) for change in found.changes],
        "names": await services.console.names({each.user_id for each in found.changes}),
        "damaged": found.damaged,
    }


async def _a_day_back(services: Services, now: datetime) -> AtInstant:
    """A day before, or as far back as the log goes."""
    return AtInstant(max(now - timedelta(days=1), await services.past.begins_at() or now))


def _shown(field: FieldChange) -> tuple[str, str, str]:
    """A field's name and both values, short enough for a table; both empty where personal."""
    return field.name.replace("_", " "), _text(field.before), _text(field.after)


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
