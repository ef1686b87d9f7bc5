"""Pages: templates rendered, and the headers that fence them in."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import RedirectResponse

from api.console.assets import assets
from api.console.forms import TOKEN_FIELD, form_token
from api.console.times import age, ago, exact, span
from api.console.visits import Visit, cookies_for
from api.console.words import NOTICES, in_words, strange
from api.security import services_of
from domain.ids import SYSTEM_SUBJECT

_TEMPLATES = Path(__file__).parent / "templates"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types console",
    )
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Without it, browsers of today name no origin in what a form of ours sends.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        autoescape=True,
        auto_reload=False,  # pages belong to the code that was loaded with them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        age=age, ago=ago, exact=exact, span=span, strange=strange, words=in_words
    )
    environment.globals["token_field"] = TOKEN_FIELD
    environment.globals["nobody"] = SYSTEM_SUBJECT
    environment.globals["asset"] = {name: each.path for name, each in assets().items()}
    return environment


async def page(
    request: Request,
    template: str,
    visit: Visit | None,
    content: Mapping[str, object],
    *,
    status: int = 200,
) -> Response:
    """A page.

    Args:
        request: What it answers.
        template: Its name.
        visit: Who looks at it; None where nobody is signed in.
        content: What the template shows, by name.
        status: The answer's.
    """
    services = await services_of(request)
    token = None if visit is None else form_token(services, visit.caller.session.session_id)
    did = _did(request)
    html = (
        _environment()
        .get_template(template)
        .render(
            content,
            visit=visit,
            now=services.now() if visit is None else visit.caller.at,
            path=request.url.path,
            form_token=token,
            did=did,
            notice=NOTICES.get(did),
        )
    )
    response = Response(html, status, HEADERS, "text/html; charset=utf-8")
    return with_cookies(request, response)


def see_other(request: Request, path: str) -> Response:
    """After a form: the page to look at next, so that loading it again sends nothing again."""
    response = RedirectResponse(path, 303, HEADERS)
    return with_cookies(request, response)


def with_cookies(request: Request, response: Response) -> Response:
    """The answer, with the cookies that it must carry."""
    response.raw_headers.extend(cookies_for(request))
    return response


def _did(request: Request) -> str:
    """What the page before has done, if it was a page of ours: a link may claim anything."""
    ours = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    return request.query_params.get("did", "") if ours else ""
