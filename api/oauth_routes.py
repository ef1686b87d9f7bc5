"""RFC 7009 revocation, RFC 7662 introspection, RFC 8414 metadata, RFC 7517 keys."""

from base64 import b64decode
from binascii import Error as Base64Error
from datetime import datetime
from urllib.parse import unquote_plus

import msgspec
from fastapi import APIRouter, Request, Response

from api.answers import Answer
from api.fast import PROBLEMS, answered_with, refusal_of
from api.oauth import OAuthErrorCode, oauth_error, read_form
from api.ports import Services
from api.requests import Headers
from api.schemas import Introspection, OAuthErrorModel
from api.security import CorrelationIn, HeadersIn, ServicesIn, bearer
from domain.access_tokens import AccessClaims, InvalidAccessTokenError
from domain.events.canonical import microseconds
from domain.events.envelope import USER, Cause
from domain.events.families import EndReason
from domain.family import Family, Session
from domain.family_decisions import EndSession, is_usable
from domain.ids import FamilyId, SessionId
from domain.refresh_token import RefreshToken, hash_secret, parse
from domain.service_keys import ServiceScope
from domain.user import User

router = APIRouter(tags=["oauth"])

_JWKS = {
    "type": "object",
    "required": ["keys"],
    "properties": {
        "keys": {
            "type": "array",
            "items": {"type": "object", "required": ["kty", "use", "alg", "kid"]},
        }
    },
}

_FORM = "application/x-www-form-urlencoded"
_OAUTH_PROBLEMS = {
    **PROBLEMS(),
    400: {"description": "RFC 6749 §5.2", "model": OAuthErrorModel},
    401: {"description": "The client is not authenticated", "model": OAuthErrorModel},
}


def _form_schema(*required: str, **optional: str) -> dict[str, object]:
    properties = {name: {"type": "string"} for name in (*required, *optional)}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}}


@router.post(
    "/oauth/revoke",
    response_class=Response,
    responses=_OAUTH_PROBLEMS,
    openapi_extra=_form_schema("token", token_type_hint="", client_id=""),
)
async def revoke(
    request: Request, services: ServicesIn, headers: HeadersIn, correlation_id: CorrelationIn
) -> Response:
    """Revoke a refresh or access token: its session ends (RFC 7009).

    Answers 200 for tokens that are unknown or over as well.
    """
    form = read_form(headers, await request.body())
    if isinstance(form, Answer):
        return answered_with(form)
    if not form.get("token"):
        return answered_with(oauth_error(OAuthErrorCode.INVALID_REQUEST, "token is missing"))
    named = _session_of_token(form["token"], services)
    if named is None:
        return _empty_ok()
    family_id, session_id = named
    found = await services.sessions.family(family_id)
    client_id = form.get("client_id")
    if found is None:
        return _empty_ok()
    if client_id is not None and client_id != found[0].client_id:
        description = "the token belongs to another client"
        return answered_with(oauth_error(OAuthErrorCode.INVALID_GRANT, description))
    await services.families.execute(
        family_id,
        EndSession(session_id, EndReason.TOKEN_REVOKED),
        Cause(USER, correlation_id),
        refusal_of,
    )
    return _empty_ok()


def _session_of_token(text: str, services: Services) -> tuple[FamilyId, SessionId] | None:
    refresh = parse(text, services.token_keys())
    if refresh is not None:
        return refresh.family_id, refresh.session_id
    try:
        claims = services.access_tokens.verify(text, services.now())
    except InvalidAccessTokenError:
        return None
    return FamilyId(claims.fid), SessionId(claims.sid)


def _empty_ok() -> Response:
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


@router.post(
    "/oauth/introspect",
    response_model=Introspection,
    response_model_exclude_none=True,
    responses=_OAUTH_PROBLEMS,
    openapi_extra={
        **_form_schema("token", token_type_hint="", client_id="", client_secret=""),
        "security": [{"serviceKeyBasic": []}, {"serviceKey": []}, {}],  # or in the form
    },
)
async def introspect(request: Request, services: ServicesIn, headers: HeadersIn) -> Response:
    """Whether a token is live right now (RFC 7662).

    The caller authenticates with a service key of scope `tokens:introspect`: as a bearer token,
    by Basic (key id and whole key), or as `client_id` and `client_secret` in the form.
    """
    form = read_form(headers, await request.body())
    if isinstance(form, Answer):
        return answered_with(form)
    credentials = _client_credentials(headers, form)
    key = None
    if isinstance(credentials, str):
        key = await services.service_keys.authenticate(credentials)
    if key is None or not key.allows(ServiceScope.INTROSPECT_TOKENS):
        return answered_with(oauth_error(OAuthErrorCode.INVALID_CLIENT))
    if not form.get("token"):
        return answered_with(oauth_error(OAuthErrorCode.INVALID_REQUEST, "token is missing"))
    facts = await _introspected(form["token"], services)
    body = msgspec.json.encode({"active": False} if facts is None else {"active": True, **facts})
    return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")


def _client_credentials(headers: Headers, form: dict[str, str]) -> str | None:
    """The service key that the caller sent, by one way only."""
    ways: list[str | None] = []
    in_bearer = bearer(headers)
    if in_bearer is not None:
        ways.append(in_bearer)
    elif b"authorization" in headers:
        ways.append(_basic_password(headers[b"authorization"]))
    if "client_secret" in form:
        ways.append(form["client_secret"])
    return ways[0] if len(ways) == 1 else None


def _basic_password(raw: bytes) -> str | None:
    scheme, _, encoded = raw.decode("latin-1").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = b64decode(encoded, validate=True).decode("utf-8")
    except (Base64Error, ValueError):
        return None
    return unquote_plus(decoded.partition(":")[2])


async def _introspected(text: str, services: Services) -> dict[str, object] | None:
    refresh = parse(text, services.token_keys())
    if refresh is not None:
        found = await _live(services, refresh.session_id)
        if found is None or not _is_current(refresh, found[1]):
            return None
        return _facts_of_refresh(*found, services)
    try:
        claims = services.access_tokens.verify(text, services.now())
    except InvalidAccessTokenError:
        return None
    live = await _live(services, SessionId(claims.sid))
    return None if live is None else _facts_of_access(claims, services)


async def _live(
    services: Services, session_id: SessionId
) -> tuple[Family, Session, User, datetime] | None:
    found = await services.sessions.family_of_session(session_id)
    if found is None:
        return None
    family, user, at = found
    session = family.session(session_id)
    if session is None or user.disabled_at is not None or not is_usable(family, session, at):
        return None
    if family.step_up_required_at is not None:
        return None  # whoever holds it now may not be the user
    return family, session, user, at


def _is_current(token: RefreshToken, session: Session) -> bool:
    return (
        token.generation == session.generation and hash_secret(token.secret) == session.secret_hash
    )


def _seconds(instant: datetime) -> int:
    return microseconds(instant) // 1_000_000


def _facts_of_refresh(
    family: Family, session: Session, user: User, _at: datetime, services: Services
) -> dict[str, object]:
    return {
        "token_type": "refresh_token",
        "sub": user.subject,
        "sid": session.session_id,
        "client_id": family.client_id,
        "iss": services.issuer,
        "exp": _seconds(min(family.expires_at, session.idle_expires_at)),
        "iat": _seconds(session.rotated_at),
        "auth_time": _seconds(family.signed_in_at),
        "amr": list(family.auth_methods),
    }


def _facts_of_access(claims: AccessClaims, services: Services) -> dict[str, object]:
    return {
        "token_type": "Bearer",
        "sub": claims.sub,
        "sid": claims.sid,
        "client_id": claims.client_id,
        "iss": claims.iss,
        "aud": claims.aud,
        "exp": claims.exp,
        "iat": claims.iat,
        "auth_time": claims.auth_time,
        "amr": list(claims.amr),
        "roles": list(claims.roles),
    }


@router.get("/.well-known/oauth-authorization-server")
async def metadata(services: ServicesIn) -> dict[str, object]:
    """What this authorization server offers (RFC 8414)."""
    issuer = services.issuer
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        # There is no authorization endpoint, but RFC 8414 requires the member (§2), forbids it to
        # be empty (§3.2), and Authlib checks that.
        "response_types_supported": ["none"],
        "grant_types_supported": ["refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
        ],
        "service_documentation": f"{issuer}/openapi.json",
    }


@router.get(
    "/.well-known/jwks.json",
    response_class=Response,
    responses={
        200: {"content": {"application/jwk-set+json": {"schema": _JWKS}}},
        304: {"description": "Not modified"},
    },
)
async def jwks(services: ServicesIn, headers: HeadersIn) -> Response:
    """The keys that access tokens are signed with, published before they sign (RFC 7517)."""
    published = services.keys.jwks(services.now())
    caching = {"ETag": published.etag, "Cache-Control": "public, max-age=60"}
    if _names(headers.get(b"if-none-match", b"").decode("latin-1"), published.etag):
        return Response(status_code=304, headers=caching)
    return Response(published.body, 200, caching, "application/jwk-set+json")


def _names(if_none_match: str, etag: str) -> bool:
    """Whether the condition names the tag; weak tags compare as strong ones (RFC 9110 §13.1.2)."""
    named = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in named or named == {"*"}
