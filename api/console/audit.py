"""Audit: the sessions as they stood at a moment, and what became different between two."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query, Request, Response

from api.console.audit_places import AUDIT, NewestHead, leaf_of, newest_head
from api.console.pages import page
from api.console.visits import AuditVisit
from api.ports import Services
from api.replay import moment_in, told, user_in
from api.security import ServicesIn
from domain.as_of import AsOf, AtInstant
from domain.ids import UserId
from projections.state_diffs import FieldChange

router = APIRouter(prefix=AUDIT, include_in_schema=False)

_PAGE_SIZE = 50
_CHANGES = 20
_LONGEST_VALUE = 120
Text = Annotated[str, Query(max_length=64)]
After = Annotated[str, Query(max_length=200)]


@router.get("")
async def sessions(
    request: Request,
    visit: AuditVisit,
    services: ServicesIn,
    as_of: Text = "",
    user: Text = "",
    after: After = "",
) -> Response:
    """The sessions as they stood at a moment; now, unless the address says another."""
    moment: AsOf = moment_in("moment", as_of) if as_of.strip() else AtInstant(visit.caller.at)
    user_id = user_in(user.strip() or None)
    with told():
        found = await services.past.sessions(
            moment, user_id=user_id, statuses=(), limit=_PAGE_SIZE, after=after or None
        )
    head = await newest_head(services)
    leaf = None if head is None else await leaf_of(services.tree, moment, head.head.size)
    said = {"as_of": written(moment), "user": user_id}
    return await page(
        request,
        "audit.html",
        visit,
        {
            "as_of": written(moment),
            "user": user_id,
            "at": found.at,
            "sessions": found.sessions,
            "names": await services.console.names({each.user_id for each in found.sessions}),
            "damaged": found.damaged,
            "head": head,
            "leaf": leaf,
            "back": _leaf_address(leaf, -1, head, user_id),
            "on": _leaf_address(leaf, 1, head, user_id),
            "slider": await _slider(services, found.at, visit.caller.at),
            "first": address(said) if after else None,
            "next": address({**said, "after": found.next_after}) if found.next_after else None,
            "diff": address({"since": written(moment), "user": user_id}, "/diff"),
        },
    )


@router.get("/diff")
async def differences(
    request: Request,
    visit: AuditVisit,
    services: ServicesIn,
    *,
    since: Text = "",
    until: Text = "",
    user: Text = "",
    after: After = "",
) -> Response:
    """What became different between two moments: a day, unless the address says others."""
    now = visit.caller.at
    first: AsOf = (
        moment_in("from", since) if since.strip() else AtInstant(await _a_day_back(services, now))
    )
    second: AsOf = moment_in("to", until) if until.strip() else AtInstant(now)
    user_id = user_in(user.strip() or None)
    with told():
        found = await services.past.changes(
            first, second, user_id=user_id, limit=_CHANGES, after=after or None
        )
    said = {"since": written(first), "until": written(second), "user": user_id}
    return await page(
        request,
        "audit_diff.html",
        visit,
        {
            "since": written(first),
            "until": written(second),
            "user": user_id,
            "changes": [
                (change, [_shown(each) for each in change.fields]) for change in found.changes
            ],
            "names": await services.console.names({each.user_id for each in found.changes}),
            "damaged": found.damaged,
            "first": address(said, "/diff") if after else None,
            "next": (
                address({**said, "after": found.next_after}, "/diff") if found.next_after else None
            ),
        },
    )


def address(said: Mapping[str, str | None], below: str = "") -> str:
    """The address of a page of the audit's, without what is not said."""
    query = urlencode({name: value for name, value in said.items() if value})
    return f"{AUDIT}{below}?{query}" if query else AUDIT + below


def written(moment: AsOf) -> str:
    """A moment as the form holds it, and as it is read again."""
    return str(moment).replace("+00:00", "Z")


def _leaf_address(
    leaf: int | None, by: int, head: NewestHead | None, user_id: UserId | None
) -> str | None:
    """One event back or on; before the first there is none."""
    to = by - 1 if leaf is None else leaf + by
    if head is None or not 0 <= to < head.head.size:
        return None
    return address({"as_of": f"leaf:{to}", "user": user_id})


async def _a_day_back(services: Services, now: datetime) -> datetime:
    """A day before, or as far back as the log goes."""
    return max(now - timedelta(days=1), await services.past.begins_at() or now)


async def _slider(services: Services, at: datetime, now: datetime) -> dict[str, int]:
    """From the earliest moment that there is until now, in whole seconds."""
    begins = ceil((await services.past.begins_at() or now).timestamp())
    return {"min": begins, "max": ceil(now.timestamp()), "value": int(at.timestamp())}


def _shown(field: FieldChange) -> tuple[str, str, str]:
    """A field's name and both values, short enough for a table; both empty where personal."""
    return field.name.replace("_", " "), _text(field.before), _text(field.after)


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
