"""Audit: the sessions as they stood at a moment; from there on, event by event."""

from datetime import datetime
from math import ceil

from fastapi import APIRouter, Request, Response

from api.console.audit_addresses import (
    AUDIT,
    DIFFERENCES,
    After,
    Asked,
    address,
    correctable,
    first_and_next,
    moment_asked,
    written,
)
from api.console.audit_places import NewestHead, leaf_of, newest_head
from api.console.pages import page
from api.console.visits import AuditVisit, Visit
from api.ports import Services
from api.problems import ProblemError
from api.replay import told, user_in
from api.security import ServicesIn
from domain.ids import UserId

router = APIRouter(prefix=AUDIT, include_in_schema=False)

_PAGE_SIZE = 50


@router.get("")
async def sessions(
    request: Request,
    visit: AuditVisit,
    services: ServicesIn,
    as_of: Asked = "",
    user: Asked = "",
    after: After = "",
) -> Response:
    """The sessions as they stood at a moment; now, unless the address says another."""
    typed = {"as_of": as_of, "user": user}
    try:
        content = await _content(visit, services, as_of, user, after)
    except ProblemError as error:
        problem = correctable(error)
        content = await _content(visit, services, "", "", "")
        content |= {"problem": problem, "typed": typed}
        return await page(request, "audit.html", visit, content, status=error.kind.status)
    return await page(request, "audit.html", visit, {**content, "problem": None, "typed": typed})


async def _content(
    visit: Visit, services: Services, as_of: str, user: str, after: str
) -> dict[str, object]:
    moment = moment_asked("moment", as_of, visit.caller.at)
    user_id = user_in(user.strip() or None)
    with told():
        found = await services.past.sessions(
            moment, user_id=user_id, statuses=(), limit=_PAGE_SIZE, after=after or None
        )
    head = await newest_head(services)
    leaf = None if head is None else await leaf_of(services.tree, moment, head.head.size)
    said = {"as_of": written(moment), "user": user_id}
    return {
        **said,
        **first_and_next(AUDIT, said, after, found.next_after),
        "at": found.at,
        "sessions": found.sessions,
        "names": await services.console.names({each.user_id for each in found.sessions}),
        "damaged": found.damaged,
        "head": head,
        "leaf": leaf,
        "back": _leaf_address(leaf, -1, head, user_id),
        "on": _leaf_address(leaf, 1, head, user_id),
        "slider": await _slider(services, found.at, visit.caller.at),
        "diff": address(DIFFERENCES, {"since": written(moment), "user": user_id}),
    }


def _leaf_address(
    leaf: int | None, by: int, head: NewestHead | None, user_id: UserId | None
) -> str | None:
    """One event back or on; before the first there is none."""
    to = by - 1 if leaf is None else leaf + by
    if head is None or not 0 <= to < head.head.size:
        return None
    return address(AUDIT, {"as_of": f"leaf:{to}", "user": user_id})


async def _slider(services: Services, at: datetime, now: datetime) -> dict[str, int]:
    """From the earliest moment that there is until now, in whole seconds."""
    begins = ceil((await services.past.begins_at() or now).timestamp())
    return {"min": begins, "max": ceil(now.timestamp()), "value": int(at.timestamp())}
