"""What a page says where there is none: not signed in, not allowed, not found, not now."""

from fastapi import FastAPI, Request, Response

from api.answers import cleared_refresh_cookie
from api.asgi import problem_of_fault
from api.console.pages import page
from api.console.sign_in import asked_of, came_from, sign_in_address
from api.console.visits import CameFromElsewhereError, HeldError, NotSignedInError, visit_on
from api.problems import ProblemKind
from api.requests import REFRESH_COOKIE

_EVENTS = "text/event-stream"
_WAS_ALTERED = (
    "Something that is stored of the past was altered. Change nothing before you know what "
    "happened: have “sessiontrail audit verify” run on the server, which names the first event "
    "that is not as it was."
)
_WORDS = {
    ProblemKind.FORBIDDEN: (
        "This is not yours to do",
        "Your account has another role than this page needs. Who runs the service gives roles.",
    ),
    ProblemKind.CROSS_SITE: (
        "This form did not come from here",
        "It was made for another sign-in, or by another site. Load the page again, and send it.",
    ),
    ProblemKind.NOT_FOUND: ("There is no such page", "The link may be old, or cut off."),
    ProblemKind.CONFLICT: ("That cannot be done now", "Things have changed meanwhile."),
    ProblemKind.INVALID_INPUT: ("Something in it is not acceptable", "Go back and correct it."),
    ProblemKind.RATE_LIMITED: ("Too many at once", "Wait a little, and try again."),
    ProblemKind.ALTERED_HISTORY: (
        "The log does not match what was signed",
        _WAS_ALTERED,
    ),
    ProblemKind.UNAVAILABLE: (
        "The service cannot answer just now",
        "It usually can in a moment. Nothing was changed.",
    ),
}


def is_page(request: Request) -> bool:
    """Whether a browser asks for a page, and not a program for an answer."""
    path = request.url.path
    return path in {"/console", "/account"} or path.startswith(("/console/", "/account/"))


def install(app: FastAPI) -> None:
    """Lead those who are not signed in to where they can."""
    app.add_exception_handler(NotSignedInError, _not_signed_in)
    app.add_exception_handler(HeldError, _held)
    app.add_exception_handler(CameFromElsewhereError, _came_from_elsewhere)


async def fault_page(request: Request, error: Exception) -> Response:
    """The page for what went wrong."""
    problem = problem_of_fault(error)
    title, advice = _WORDS.get(problem.kind, (problem.kind.title, ""))
    back = came_from(request)
    content = {
        "title": title,
        "advice": advice,
        "detail": problem.detail,
        "back": None if back == request.url.path else back,
    }
    visit = visit_on(request)
    response = await page(request, "fault.html", visit, content, status=problem.kind.status)
    response.headers.update(problem.headers)
    return response


async def _not_signed_in(request: Request, error: Exception) -> Response:
    """To the sign-in, and back, without the cookie that is good for nothing."""
    response = await _held(request, error)
    if REFRESH_COOKIE in request.cookies:
        response.raw_headers.append(cleared_refresh_cookie())
    return response


async def _held(request: Request, _error: Exception) -> Response:
    """The same with the cookie: it is good again once the visitor has proved who they are."""
    if _EVENTS in request.headers.get("accept", ""):
        return Response(status_code=401)
    return Response(
        status_code=303,
        headers={"Location": sign_in_address(request), "Cache-Control": "no-store"},
    )


async def _came_from_elsewhere(request: Request, _error: Exception) -> Response:
    """A page of ours that asks again: this time the browser sends the cookie along."""
    return await page(request, "elsewhere.html", None, {"again": asked_of(request.url)})
