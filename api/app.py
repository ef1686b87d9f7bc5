"""The application: routes, fault answers and the front around them."""

from collections.abc import Callable
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api import (
    alert_revocations,
    alert_stream,
    alerts,
    allow_list,
    erasure,
    exports,
    login,
    oauth_routes,
    operations,
    reauthentication,
    replay,
    rules,
    sessions,
    staff,
    transparency,
)
from api.asgi import App, Front, answer_to_fault, problem_answer
from api.console import routes as console
from api.cors import Cors
from api.fast import answered_with
from api.openapi import openapi_of
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.refresh import RefreshPath
from api.requests import ClientReader
from domain.as_of import AlteredHistoryError
from domain.ports import ConcurrencyError, StoreUnavailableError
from domain.transparency import TreeDamagedError

_HTTP_PROBLEMS = {
    404: ProblemKind.NOT_FOUND,
    405: ProblemKind.METHOD_NOT_ALLOWED,
}
_FAULTS = (
    ProblemError,
    StoreUnavailableError,
    ConcurrencyError,
    AlteredHistoryError,
    TreeDamagedError,
)
"""Whatever else is raised is a bug."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ROUTES = (
    login,
    reauthentication,
    sessions,
    staff,
    erasure,
    alert_stream,
    alerts,
    alert_revocations,
    rules,
    allow_list,
    exports,
    replay,
    oauth_routes,
    transparency,
    operations,
)
"""Whatever FastAPI serves, in the order in which addresses are matched."""
_DESCRIPTION = """\
Event-sourced sessions for multi-device JWT authentication: short access tokens, refresh tokens
that rotate at every use, sign-out of one device or all, and a history that nobody can rewrite.
"""


def create_app(services: Services, enter_correlation: Callable[[str], object]) -> App:
    """The ASGI application.

    Args:
        services: What it is wired to.
        enter_correlation: Told the correlation id of each request, for log lines.
    """
    app = FastAPI(
        title="Sessiontrail",
        version=version("sessiontrail"),
        description=_DESCRIPTION,
        docs_url=None,  # its pages load scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # the address in the redirect would be what Host says
    )
    clients = ClientReader(services.trusted_proxies)
    app.state.services = services
    app.state.client_reader = clients
    app.state.stream_places = alert_stream.StreamPlaces()
    for module in ROUTES:
        app.include_router(module.router)
    console.install(app)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    for fault in _FAULTS:
        app.add_exception_handler(fault, _fault)
    app.add_exception_handler(Exception, _internal_error)
    app.openapi = lambda: openapi_of(app)  # type: ignore[method-assign]  # FastAPI's documented way
    front = Front(services, RefreshPath(services, clients).endpoints(), app, enter_correlation)
    return Cors(front, services.allowed_origins) if services.allowed_origins else front


async def _fault(request: Request, error: Exception) -> Response:
    if console.is_page(request):
        return await console.fault_page(request, error)
    return answered_with(answer_to_fault(error))


async def _internal_error(request: Request, _error: Exception) -> Response:
    """The answer to a bug. Starlette raises it on, so that the front logs it."""
    return await _fault(request, ProblemError(ProblemKind.INTERNAL))


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    kind = _HTTP_PROBLEMS.get(error.status_code, ProblemKind.MALFORMED)
    headers = dict(error.headers or {})
    if kind is ProblemKind.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return await _fault(request, ProblemError(kind, headers=headers))


def _allowed_methods(request: Request) -> list[str]:
    """The methods that all routes of the address take together (RFC 9110 §10.2.1)."""
    taken = [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return ["HEAD", *taken] if "GET" in taken else taken


async def _invalid_request(_request: Request, error: Exception) -> Response:
    """FastAPI's validation errors, without echoing what was sent: it may be a password."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    if isinstance(error.body, bytes) and error.body:  # it was not read: not said to be JSON
        problem = ProblemError(ProblemKind.UNSUPPORTED_TYPE, "send application/json")
    elif any(each["type"] == "json_invalid" for each in found):
        problem = ProblemError(ProblemKind.MALFORMED, "the body is not JSON")
    else:
        problem = ProblemError(
            ProblemKind.INVALID_INPUT,
            errors=[
                {"where": ".".join(map(str, each["loc"])), "what": str(each["msg"])}
                for each in found[:20]
            ],
        )
    return answered_with(problem_answer(problem))
