"""The answers that carry tokens, and the cookies that carry them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from api.ports import Services
from api.requests import DEVICE_COOKIE, REFRESH_COOKIE
from domain.access_tokens import IssuedToken
from domain.events.families import TokenDelivery
from domain.family import Family, Session
from domain.ports import Executed, Subject

RawHeaders = list[tuple[bytes, bytes]]

_DEVICE_COOKIE_SECONDS = 365 * 24 * 3600
_NO_STORE: RawHeaders = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"pragma", b"no-cache"),
]
_encoder = msgspec.json.Encoder()


class SessionInAnswer(msgspec.Struct, frozen=True):
    """The session that a token answer is about."""

    session_id: str
    family_id: str
    user_id: str
    subject: str
    client_id: str
    device_name: str | None
    generation: int
    created_at: datetime
    expires_at: datetime
    idle_expires_at: datetime


class TokenAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a login's or refresh's answer."""

    access_token: str
    token_type: str
    expires_in: int
    session: SessionInAnswer
    refresh_token: str | None = None
    device_token: str | None = None


class OAuthTokenAnswer(msgspec.Struct, frozen=True):
    """The body of a token endpoint's answer (RFC 6749 §5.1)."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


class Answer(msgspec.Struct, frozen=True):
    """A finished answer, ready to be sent."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def issue_access_token(
    services: Services, family: Family, session: Session, subject: Subject, at: datetime
) -> IssuedToken:
    """An access token for a session that is live at ``at``."""
    return services.access_tokens.issue(
        sub=subject.subject,
        sid=session.session_id,
        family_id=family.family_id,
        client_id=family.client_id,
        auth_time=family.signed_in_at,
        auth_methods=family.auth_methods,
        roles=subject.roles,
        now=at,
        expires_at=family.expires_at,
    )


def token_answer(
    services: Services,
    executed: Executed,
    session: Session,
    refresh_token: str,
    delivery: TokenDelivery,
    *,
    status: int = 200,
    device_token: str | None = None,
) -> Answer:
    """The answer that hands out a session's tokens in the way its client asked for."""
    family, subject = executed.family, executed.subject
    if family is None or subject is None:
        msg = "a session that was just used has a family and a user"
        raise RuntimeError(msg)
    issued = issue_access_token(services, family, session, subject, executed.at)
    in_body = delivery is TokenDelivery.BODY
    answer = TokenAnswer(
        issued.token,
        "Bearer",
        issued.expires_in,
        SessionInAnswer(
            session.session_id,
            family.family_id,
            family.user_id,
            subject.subject,
            family.client_id,
            session.device_name if isinstance(session.device_name, str) else None,
            session.generation,
            session.started_at,
            family.expires_at,
            min(session.idle_expires_at, family.expires_at),
        ),
        refresh_token if in_body else None,
        device_token if in_body else None,
    )
    headers = _NO_STORE
    if not in_body:
        headers = [*headers, _refresh_cookie(family, session, refresh_token, executed.at)]
        if device_token is not None:
            headers.append(_device_cookie(device_token))
    return Answer(status, headers, _encoder.encode(answer))


def oauth_token_answer(
    services: Services, executed: Executed, session: Session, token: str
) -> Answer:
    """The token endpoint's answer."""
    family, subject = executed.family, executed.subject
    if family is None or subject is None:
        msg = "a session that was just refreshed has a family and a user"
        raise RuntimeError(msg)
    issued = issue_access_token(services, family, session, subject, executed.at)
    body = OAuthTokenAnswer(issued.token, "Bearer", issued.expires_in, token)
    return Answer(200, _NO_STORE, _encoder.encode(body))


def cleared_refresh_cookie() -> tuple[bytes, bytes]:
    """Takes the refresh cookie away: the same attributes, no lifetime (RFC 6265bis)."""
    return b"set-cookie", _cookie(REFRESH_COOKIE, "", "; Max-Age=0")


def _refresh_cookie(
    family: Family, session: Session, token: str, at: datetime
) -> tuple[bytes, bytes]:
    """Without ``Max-Age`` unless the user asked to be remembered: it goes with the browser."""
    if not session.persistent:
        return b"set-cookie", _cookie(REFRESH_COOKIE, token, "")
    left = min(session.idle_expires_at, family.expires_at) - at
    return b"set-cookie", _cookie(
        REFRESH_COOKIE, token, f"; Max-Age={max(left, timedelta(0)) // timedelta(seconds=1)}"
    )


def _device_cookie(token: str) -> tuple[bytes, bytes]:
    return b"set-cookie", _cookie(DEVICE_COOKIE, token, f"; Max-Age={_DEVICE_COOKIE_SECONDS}")


def _cookie(name: str, value: str, lifetime: str) -> bytes:
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{lifetime}".encode("ascii")
