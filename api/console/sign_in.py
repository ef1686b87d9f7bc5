"""Signing in and out by page: the same sign-in as ``POST /v1/login``, with the cookie."""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.datastructures import URL

from api import login
from api.answers import cleared_refresh_cookie
from api.console.forms import form_of, form_of_nobody
from api.console.pages import page, see_other
from api.console.visits import HeldError, NotSignedInError, began_here, token_in, visit_in
from api.fast import refusal_of
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.reauthentication import reauthenticate
from api.requests import Headers
from api.schemas import LoginBody, ReauthenticateBody
from api.security import CorrelationIn, HeadersIn, ServicesIn
from domain.events.envelope import USER, Cause
from domain.events.families import EndReason
from domain.family_decisions import EndSession
from domain.lifetimes import is_usable
from domain.texts import InvalidTextError, normalise_username
from domain.user import User

router = APIRouter(include_in_schema=False)

SIGN_IN = "/console/sign-in"
_OURS = ("/console", "/account")
_PROBLEMS = {
    ProblemKind.INVALID_CREDENTIALS: "User name or password is wrong.",
    ProblemKind.INVALID_INPUT: "That is no user name and password.",
    ProblemKind.RATE_LIMITED: "Too many tries. Wait a little, and try again.",
}


def own_path(text: str) -> str:
    """Where to go after the sign-in: a page of ours, whatever the address asked for.

    >>> own_path("/console/alerts?status=open"), own_path("//evil.example/console")
    ('/console/alerts?status=open', '/account')
    """
    path = text.partition("?")[0]
    if any(path == each or path.startswith(each + "/") for each in _OURS) and text.isprintable():
        return text if text.isascii() and "\\" not in text and "//" not in text else "/account"
    return "/account"


def asked_of(url: URL) -> str:
    """What an address asks for, without what it says that was done: it was done once."""
    kept = [each for each in url.query.split("&") if each and not each.startswith("did=")]
    return url.path + (f"?{'&'.join(kept)}" if kept else "")


def came_from(request: Request) -> str | None:
    """The page of ours that led here; None where that was another page, or nobody says."""
    try:
        url = URL(request.headers.get("referer", ""))
        path, is_ours = asked_of(url), url.netloc == request.url.netloc
    except ValueError:  # it is no URL
        return None
    return path if is_ours and own_path(path) == path else None


def sign_in_address(request: Request) -> str:
    """The sign-in page that leads back to this one; a form's to the page that it was on."""
    if request.method == "GET":
        return f"{SIGN_IN}?next={quote(asked_of(request.url), safe='/')}"
    following = came_from(request) or ""
    return f"{SIGN_IN}?did=not-sent&next={quote(following, safe='/')}"


@router.get(SIGN_IN)
async def sign_in_page(request: Request, services: ServicesIn, headers: HeadersIn) -> Response:
    """Asks who it is."""
    following = own_path(request.query_params.get("next", ""))
    held = await _held_user(services, headers) if began_here(request, headers) else None
    username = held.username if held is not None and isinstance(held.username, str) else ""
    return await _asking(request, following, username, None, 200, held=held is not None)


@router.post(SIGN_IN)
async def sign_in(
    request: Request, services: ServicesIn, headers: HeadersIn, correlation_id: CorrelationIn
) -> Response:
    """Signs in, and leads to where the visitor wanted to go."""
    form = await form_of_nobody(request, services, headers)
    following, username = own_path(form.text("next")), form.text("username")
    try:
        body = LoginBody(
            username=username, password=form.raw("password"), remember_me=form.has("remember")
        )
        held = await _held_user(services, headers)
        if held is not None and held.username == normalise_username(username):
            again = ReauthenticateBody(password=body.password)
            proved = await reauthenticate(again, request, services, headers, correlation_id)
            return _signed_in(request, following, proved)
        signed_in = await login.login(body, request, services, headers, correlation_id)
    except (ValidationError, InvalidTextError):
        return await _asking(request, following, "", _PROBLEMS[ProblemKind.INVALID_INPUT], 422)
    except ProblemError as error:
        if error.kind not in _PROBLEMS:
            raise
        said, remember = _PROBLEMS[error.kind], form.has("remember")
        return await _asking(
            request, following, username, said, error.kind.status, remember=remember
        )
    before = token_in(services, headers)
    if before is not None:  # its cookie is overwritten: nobody could end that session any more
        await services.families.execute(
            before.family_id,
            EndSession(before.session_id, EndReason.LOGOUT),
            Cause(USER, correlation_id),
            refusal_of,
        )
    return _signed_in(request, following, signed_in)


def _signed_in(request: Request, following: str, answer: Response) -> Response:
    """On to where the visitor wanted to go, with the cookies of the API's answer."""
    response = see_other(request, following)
    response.raw_headers.extend(
        header for header in answer.raw_headers if header[0] in {b"set-cookie", b"accept-ch"}
    )
    return response


async def _held_user(services: Services, headers: Headers) -> User | None:
    """Whose session is in the browser's cookie, if it is held until they prove who they are."""
    presented = token_in(services, headers)
    if presented is None:
        return None
    found = await services.sessions.family_of_session(presented.session_id)
    if found is None or found[0].step_up_required_at is None:
        return None
    session = found[0].session(presented.session_id)
    return found[1] if session is not None and is_usable(found[0], session, found[2]) else None


@router.post("/console/sign-out")
async def sign_out(
    request: Request, services: ServicesIn, headers: HeadersIn, correlation_id: CorrelationIn
) -> Response:
    """Ends this session."""
    try:
        visit = await visit_in(request, services, headers, correlation_id)
    except (NotSignedInError, HeldError):
        return see_other(request, f"{SIGN_IN}?did=signed-out")
    caller = visit.caller
    await form_of(request, services, headers, caller.session.session_id)
    await services.families.execute(
        caller.family.family_id,
        EndSession(caller.session.session_id, EndReason.LOGOUT),
        caller.cause(),
        refusal_of,
    )
    response = see_other(request, f"{SIGN_IN}?did=signed-out")
    response.raw_headers.append(cleared_refresh_cookie())
    return response


async def _asking(
    request: Request,
    following: str,
    username: str,
    problem: str | None,
    status: int,
    *,
    held: bool = False,
    remember: bool = False,
) -> Response:
    content = {
        "next": following,
        "username": username,
        "problem": problem,
        "held": held,
        "remember": remember,
    }
    return await page(request, "sign_in.html", None, content, status=status)
