"""Signing in and out by page: the same sign-in as ``POST /v1/login``, with the cookie."""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api import login
from api.answers import cleared_refresh_cookie
from api.console.forms import form_of, form_of_nobody
from api.console.pages import page, see_other
from api.console.visits import NotSignedInError, token_in, visit_in
from api.fast import refusal_of
from api.problems import ProblemError, ProblemKind
from api.schemas import LoginBody
from api.security import CorrelationIn, HeadersIn, ServicesIn
from domain.events.envelope import USER, Cause
from domain.events.families import EndReason
from domain.family_decisions import EndSession

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


def sign_in_address(request: Request) -> str:
    """The sign-in page that leads back to this one."""
    if request.method != "GET":
        return SIGN_IN
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"{SIGN_IN}?next={quote(asked, safe='/')}"


@router.get(SIGN_IN)
async def sign_in_page(request: Request) -> Response:
    """Asks who it is."""
    return await _asking(request, own_path(request.query_params.get("next", "")), "", None, 200)


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
        signed_in = await login.login(body, request, services, headers, correlation_id)
    except ValidationError:
        return await _asking(request, following, "", _PROBLEMS[ProblemKind.INVALID_INPUT], 422)
    except ProblemError as error:
        if error.kind not in _PROBLEMS:
            raise
        said = _PROBLEMS[error.kind]
        return await _asking(request, following, username, said, error.kind.status)
    before = token_in(services, headers)
    if before is not None:  # its cookie is overwritten: nobody could end that session any more
        await services.families.execute(
            before.family_id,
            EndSession(before.session_id, EndReason.LOGOUT),
            Cause(USER, correlation_id),
            refusal_of,
        )
    response = see_other(request, following)
    response.raw_headers.extend(
        header for header in signed_in.raw_headers if header[0] in {b"set-cookie", b"accept-ch"}
    )
    return response


@router.post("/console/sign-out")
async def sign_out(
    request: Request, services: ServicesIn, headers: HeadersIn, correlation_id: CorrelationIn
) -> Response:
    """Ends this session."""
    try:
        visit = await visit_in(request, services, headers, correlation_id)
    except NotSignedInError:
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
    request: Request, following: str, username: str, problem: str | None, status: int
) -> Response:
    content = {"next": following, "username": username, "problem": problem}
    return await page(request, "sign_in.html", None, content, status=status)
