"""Your devices: where you are signed in, and how to end that."""

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response

from api import sessions
from api.answers import cleared_refresh_cookie
from api.console.forms import Form, form_of
from api.console.pages import page, see_other
from api.console.places import Whereabouts, whereabouts
from api.console.sign_in import SIGN_IN
from api.console.visits import Visit, VisitIn
from api.console.words import sentence
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.schemas import PasswordBody, RenameBody
from api.security import HeadersIn, ServicesIn
from domain.family import Family, Session
from domain.lifetimes import is_usable

router = APIRouter(prefix="/account", include_in_schema=False)

_DEVICES = 100
_LATELY = 15


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """A session as its user sees it."""

    session: Session
    seen: Whereabouts | None
    name: str | None

    @property
    def what(self) -> str:
        """What to call the device."""
        return self.name or (self.seen.what if self.seen else "a device")


@router.get("")
async def account(request: Request, visit: VisitIn, services: ServicesIn) -> Response:
    """The page."""
    return await _shown(request, visit, services, None, 200)


@router.post("/{deed}")
async def act(
    deed: str, request: Request, visit: VisitIn, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Carries out one of the deeds of the page."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    match deed:
        case "end":
            return await _end(request, visit, services, form)
        case "rename":
            body = RenameBody.model_construct(device_name=form.text("device_name"))
            await sessions.rename_session(form.text("session"), body, visit.caller, services)
            return see_other(request, "/account?did=named")
        case "end-others":
            await sessions.logout_others(visit.caller, services)
            return see_other(request, "/account?did=ended-others")
        case "end-all":
            response = see_other(request, f"{SIGN_IN}?did=signed-out")
            await sessions.logout_all(visit.caller, services, response)
            return response
        case "password":
            return await _change_password(request, visit, services, form)
        case _:
            raise ProblemError(ProblemKind.NOT_FOUND)


async def _end(request: Request, visit: Visit, services: Services, form: Form) -> Response:
    session_id = form.text("session")
    await sessions.end_session(session_id, visit.caller, services)
    if session_id == visit.caller.session.session_id:
        response = see_other(request, f"{SIGN_IN}?did=signed-out")
        response.raw_headers.append(cleared_refresh_cookie())
        return response
    return see_other(request, "/account?did=ended")


async def _change_password(
    request: Request, visit: Visit, services: Services, form: Form
) -> Response:
    current, new = form.raw("current_password"), form.raw("new_password")
    if not current or not new:
        return await _shown(request, visit, services, "Fill in both passwords.", 422)
    body = PasswordBody.model_construct(current_password=current, new_password=new)
    try:
        await sessions.change_password(body, visit.caller, services)
    except ProblemError as error:
        if error.kind is ProblemKind.NOT_FOUND:
            raise
        said = error.detail or error.kind.title
        return await _shown(request, visit, services, sentence(said), error.kind.status)
    return see_other(request, "/account?did=password")


async def _shown(
    request: Request, visit: Visit, services: Services, problem: str | None, status: int
) -> Response:
    caller = visit.caller
    live = await services.sessions.live_families(caller.user.user_id, limit=_DEVICES, before=None)
    lately = await services.console.families(caller.user.user_id, limit=_LATELY, before=None)
    devices = [
        line_of(services, session)
        for family in live.families
        for session in family.sessions
        if is_usable(family, session, live.at)
    ]
    current = caller.session.session_id
    return await page(
        request,
        "account.html",
        visit,
        {
            "here": line_of(services, caller.session),
            "others": [each for each in devices if each.session.session_id != current],
            "more": live.next_before is not None,
            "past": [
                line_of(services, session)
                for family in lately.families
                for session in family.sessions
                if not is_usable(family, session, lately.at)
            ],
            "ends": _ends(caller.family, caller.session),
            "has_password": caller.user.origin == "local",
            "problem": problem,
        },
        status=status,
    )


def line_of(services: Services, session: Session) -> DeviceLine:
    """A session, by the name that its user gave it where they did."""
    name = session.device_name if isinstance(session.device_name, str) else None
    return DeviceLine(session, whereabouts(services, session.client), name)


def _ends(family: Family, session: Session) -> datetime:
    return min(session.idle_expires_at, family.expires_at)
