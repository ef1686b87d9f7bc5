"""Forms: their fields, and the token that says that a page of ours was filled in (CSRF).

Three walls, each enough by itself in a browser of today: the cookie is ``SameSite=Strict``, the
request says where it came from, and the form carries a MAC over the session that it was made for.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hmac import compare_digest, digest
from urllib.parse import parse_qsl

from fastapi import Request

from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.requests import Headers, refuse_cross_site
from domain.ids import SessionId

TOKEN_FIELD = "form_token"
_FORM = b"application/x-www-form-urlencoded"
_MAX_FIELDS = 300
"""A page of alerts, each with its box, and some more."""


class Form:
    """The fields of a form, as text."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        """Hold the values by name, in order."""
        self._fields = fields

    def text(self, name: str) -> str:
        """A field's value, without the blanks around it; empty where there is none."""
        values = self._fields.get(name, [])
        return values[0].strip() if values else ""

    def raw(self, name: str) -> str:
        """A field's value, as it was typed: for passwords."""
        values = self._fields.get(name, [])
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return list(self._fields.get(name, []))

    def has(self, name: str) -> bool:
        """Whether a box is ticked, or a button was pressed."""
        return name in self._fields


def form_token(services: Services, session_id: SessionId) -> str:
    """What the forms of a session carry."""
    mac = digest(services.form_key, b"form" + session_id.encode("ascii"), "sha256")
    return urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


async def form_of(
    request: Request, services: Services, headers: Headers, session_id: SessionId
) -> Form:
    """The form that somebody signed in has sent.

    Raises:
        ProblemError: It is none, it came from elsewhere, or it was made for another session.
    """
    form = await form_of_nobody(request, services, headers)
    expected = form_token(services, session_id)
    if not compare_digest(form.text(TOKEN_FIELD).encode("utf-8"), expected.encode("ascii")):
        raise ProblemError(
            ProblemKind.CROSS_SITE, "this form was made for another sign-in: load the page again"
        )
    return form


async def form_of_nobody(request: Request, services: Services, headers: Headers) -> Form:
    """The form of somebody who is not signed in: judged by where the request came from alone.

    Raises:
        ProblemError: It is no form, or does not say that it came from a page of ours.
    """
    if b"origin" not in headers and b"sec-fetch-site" not in headers:
        raise ProblemError(ProblemKind.CROSS_SITE, "the browser does not say whose page this was")
    refuse_cross_site(headers, {services.issuer})
    if headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
        raise ProblemError(ProblemKind.CROSS_SITE, "Sec-Fetch-Site is not same-origin")
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != _FORM:
        raise ProblemError(ProblemKind.UNSUPPORTED_TYPE, f"send {_FORM.decode()}")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as error:
        raise ProblemError(ProblemKind.MALFORMED, "the body is not a form") from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return Form(fields)
