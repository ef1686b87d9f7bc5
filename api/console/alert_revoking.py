"""Revoking because of an alert: first what exactly will happen, then the deed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Request, Response

from api.alert_revocations import revoke
from api.alert_schemas import RevokeBody
from api.alerts import known_alert
from api.console.alert_filters import QUEUE
from api.console.forms import form_of
from api.console.pages import page, see_other
from api.console.places import Whereabouts, whereabouts
from api.console.visits import ActorVisit
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import HeadersIn, ServicesIn
from domain.alert import Alert
from domain.family import Family, Session
from domain.lifetimes import is_usable

router = APIRouter(prefix=QUEUE, include_in_schema=False)

WHATS = ("session", "family", "all")
_LISTED = 100


@dataclass(frozen=True, slots=True)
class Doomed:
    """A live session that is about to be ended."""

    session: Session
    seen: Whereabouts | None


@router.get("/{alert_id}/revoke")
async def ask(alert_id: str, request: Request, visit: ActorVisit, services: ServicesIn) -> Response:
    """Says what revoking would do, and asks."""
    alert = await known_alert(alert_id, services)
    what = request.query_params.get("what", "family" if alert.family_id else "all")
    if what not in WHATS or (what != "all" and alert.family_id is None) or not alert.user_id:
        raise ProblemError(ProblemKind.NOT_FOUND, "the alert is about no such thing")
    families = await _families(services, alert, what)
    doomed = [
        Doomed(session, whereabouts(services, session.client))
        for family in families
        for session in family.sessions
        if is_usable(family, session, visit.caller.at)
    ]
    names = await services.console.names([alert.user_id])
    return await page(
        request,
        "revoke.html",
        visit,
        {
            "alert": alert,
            "who": names.get(alert.user_id),
            "what": what,
            "doomed": doomed,
            "more": len(families) >= _LISTED,
            "access_minutes": services.policy.access_lifetime // timedelta(minutes=1),
        },
    )


@router.post("/{alert_id}/revoke")
async def do(
    alert_id: str, request: Request, visit: ActorVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Revokes."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    what = form.text("what")
    if what not in WHATS:
        raise ProblemError(ProblemKind.INVALID_INPUT, "choose what to revoke")
    body = RevokeBody.model_validate({"what": what, "session_id": form.text("session_id") or None})
    revoked = await revoke(alert_id, body, visit.caller, services)
    return see_other(
        request, f"{QUEUE}/{alert_id}?did={'revoked' if revoked.ended else 'nothing-left'}"
    )


async def _families(services: Services, alert: Alert, what: str) -> Sequence[Family]:
    if what == "all" and alert.user_id is not None:
        found = await services.sessions.live_families(alert.user_id, limit=_LISTED, before=None)
        return found.families
    one = None if alert.family_id is None else await services.sessions.family(alert.family_id)
    return [] if one is None else [one[0]]
