"""People: find somebody by their exact name or id, and see their sessions, now and before."""

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from api.console.alert_filters import QueueFilter
from api.console.forms import form_of
from api.console.pages import page, see_other
from api.console.places import Whereabouts, whereabouts
from api.console.titles import title_of
from api.console.visits import ActorVisit, ReaderVisit
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import HeadersIn, ServicesIn
from api.staff import revoke_user_session, revoke_user_sessions
from domain.alert_lists import AlertFilter
from domain.family import Family, Session
from domain.ids import FamilyId, UserId, parse_uuid
from domain.lifetimes import is_usable
from domain.texts import InvalidTextError, normalise_subject, normalise_username
from domain.user import User

PEOPLE = "/console/people"
router = APIRouter(prefix=PEOPLE, include_in_schema=False)

_PAGE_SIZE = 50
_LATEST_ALERTS = 10


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session of somebody's."""

    family: Family
    session: Session
    seen: Whereabouts | None
    live: bool


@router.get("")
async def people(request: Request, visit: ReaderVisit) -> Response:
    """Asks whom to find."""
    return await page(request, "people.html", visit, {"asked": ""})


@router.post("")
async def search(
    request: Request, visit: ReaderVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Finds somebody: one name or id leads to one person. By a form: addresses are logged."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    asked = form.text("name")
    found = await _find(services, asked) if asked else None
    if found is not None:
        return see_other(request, f"{PEOPLE}/{found}")
    return await page(request, "people.html", visit, {"asked": asked}, status=404)


@router.get("/{user_id}")
async def person(
    user_id: str, request: Request, visit: ReaderVisit, services: ServicesIn
) -> Response:
    """Somebody's sessions."""
    user = await _known(services, user_id)
    before = parse_uuid(request.query_params.get("before", ""))
    found = await services.console.families(
        user.user_id, limit=_PAGE_SIZE, before=None if before is None else FamilyId(before)
    )
    lines = [
        SessionLine(
            family,
            session,
            whereabouts(services, session.client),
            is_usable(family, session, found.at),
        )
        for family in found.families
        for session in family.sessions
    ]
    alerts = await services.alert_queries.page(
        AlertFilter(user_id=user.user_id), limit=_LATEST_ALERTS, after=None
    )
    return await page(
        request,
        "person.html",
        visit,
        {
            "user": user,
            "name": name_of(user),
            "live": [line for line in lines if line.live],
            "past": [line for line in lines if not line.live],
            "first_page": before is None,
            "next": found.next_before,
            "alerts": [(alert, title_of(services, alert.rule)) for alert in alerts.alerts],
            "all_alerts": QueueFilter(view="all", user=user.user_id).address(),
        },
    )


@router.get("/{user_id}/revoke")
async def ask(user_id: str, request: Request, visit: ActorVisit, services: ServicesIn) -> Response:
    """Says what revoking would end, and asks."""
    user = await _known(services, user_id)
    live = await services.sessions.live_families(user.user_id, limit=_PAGE_SIZE, before=None)
    only = parse_uuid(request.query_params.get("session", ""))
    lines = [
        SessionLine(family, session, whereabouts(services, session.client), live=True)
        for family in live.families
        for session in family.sessions
        if is_usable(family, session, live.at) and only in {None, session.session_id}
    ]
    return await page(
        request,
        "person_revoke.html",
        visit,
        {
            "user": user,
            "name": name_of(user),
            "only": only,
            "doomed": lines,
            "more": only is None and live.next_before is not None,
        },
    )


@router.post("/{user_id}/revoke")
async def revoke(
    user_id: str, request: Request, visit: ActorVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Revokes one session, or all of them."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    session_id = form.text("session")
    if session_id:
        await revoke_user_session(user_id, session_id, visit.caller, services)
        return see_other(request, f"{PEOPLE}/{user_id}?did=revoked")
    ended = await revoke_user_sessions(user_id, visit.caller, services)
    did = "revoked" if ended.ended else "nothing-left"
    return see_other(request, f"{PEOPLE}/{user_id}?did={did}")


def name_of(user: User) -> str | None:
    """What somebody is called; None once they are erased."""
    name = user.external_subject or user.username
    return name if isinstance(name, str) else None


async def _find(services: Services, asked: str) -> UserId | None:
    """By id, by user name, by a backend's subject: each through a unique index."""
    parsed = parse_uuid(asked.lower())
    if parsed is not None and await services.users.find(UserId(parsed)) is not None:
        return UserId(parsed)
    try:
        found = await services.users.find_for_sign_in(normalise_username(asked))
        if found is not None:
            return found.user.user_id
        return await services.console.user_of_subject(normalise_subject(asked))
    except InvalidTextError:
        return None


async def _known(services: Services, text: str) -> User:
    parsed = parse_uuid(text)
    found = None if parsed is None else await services.users.find(UserId(parsed))
    if found is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such user")
    return found.user
