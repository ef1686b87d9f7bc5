"""The report that a sign-in was somebody else's: it is ended, and the security team is told."""

from fastapi import APIRouter, Request, Response

from api.console.account import line_of
from api.console.forms import form_of
from api.console.pages import page, see_other
from api.console.visits import Visit, VisitIn
from api.fast import refusal_of
from api.ports import Services
from api.problems import ProblemError, ProblemKind, rate_limited
from api.security import HeadersIn, ServicesIn
from domain.alert_reports import report_id, report_of
from domain.detection import Outcome
from domain.events.families import EndReason
from domain.family import Family, Session
from domain.family_decisions import RevokeFamily
from domain.ids import SessionId, family_stream, parse_uuid
from domain.rate_limiting import LimitName

router = APIRouter(prefix="/account/report", include_in_schema=False)

_EVENTS = 200


@router.get("/{session_id}")
async def ask(session_id: str, request: Request, visit: VisitIn, services: ServicesIn) -> Response:
    """Says what the report does, and asks."""
    _, session = await _reported(session_id, visit, services)
    return await page(request, "report.html", visit, {"line": line_of(services, session)})


@router.post("/{session_id}")
async def report(
    session_id: str, request: Request, visit: VisitIn, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Revokes the family, and raises the alert. Doing it twice is no error."""
    caller = visit.caller
    await form_of(request, services, headers, caller.session.session_id)
    wait = await services.limits.hit(LimitName.REFRESH_PER_SESSION, caller.session.session_id)
    if wait is not None:
        raise rate_limited(wait)
    family, session = await _reported(session_id, visit, services)
    refusal = await services.families.execute(
        family.family_id, RevokeFamily(EndReason.REPORTED), caller.cause(), refusal_of
    )
    history = await services.histories.last(family_stream(family.family_id), _EVENTS)
    policy = await services.detection_policies.current()
    outcome = Outcome.NOTHING_LEFT if refusal else Outcome.DONE
    began = history.entries[0].event_id
    await services.alert_reports.raise_alert(
        report_id(family),
        report_of(family, session, began, policy.version, outcome),
        family.user_id,
        caller.cause(),
    )
    return see_other(request, "/account?did=reported")


async def _reported(text: str, visit: Visit, services: Services) -> tuple[Family, Session]:
    """A session of the visitor's own, but not the one that they look through.

    Raises:
        ProblemError: There is none; another user's is as unknown.
    """
    parsed = parse_uuid(text)
    found = await services.sessions.family_of_session(SessionId(parsed)) if parsed else None
    if found is None or parsed is None or found[0].user_id != visit.caller.user.user_id:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such session")
    family = found[0]
    session = family.session(SessionId(parsed))
    if session is None or family.family_id == visit.caller.family.family_id:
        raise ProblemError(ProblemKind.CONFLICT, "you look at this page through that session")
    return family, session
