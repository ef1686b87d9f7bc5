"""Who is calling: a user or member of staff by access token, a backend by service key."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from api.ports import Services
from api.problems import ProblemError, ProblemKind, step_up_required
from api.requests import Headers
from domain.access_tokens import AccessClaims, InvalidAccessTokenError
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.users import Role
from domain.family import Family, Session
from domain.family_decisions import is_usable
from domain.ids import CorrelationId, SessionId
from domain.service_keys import ServiceKey, ServiceScope
from domain.user import User

_BEARER = "bearer "

# For the OpenAPI document only: what is sent is read and judged below.
_ACCESS_TOKEN = HTTPBearer(scheme_name="accessToken", bearerFormat="JWT", auto_error=False)
_SERVICE_KEY = HTTPBearer(scheme_name="serviceKey", bearerFormat="stk_…", auto_error=False)


# FastAPI sends what is not async through a thread: three hand-overs a request, for a look-up each.


async def services_of(request: Request) -> Services:
    """The services that the application was made with."""
    return cast("Services", request.app.state.services)


async def headers_in(request: Request) -> Headers:
    """The request's headers, as the front read them."""
    return cast("Headers", request.scope["sessiontrail.headers"])


async def correlation_in(request: Request) -> CorrelationId:
    """The request's correlation id."""
    return CorrelationId(request.scope["sessiontrail.correlation_id"])


ServicesIn = Annotated[Services, Depends(services_of)]
HeadersIn = Annotated[Headers, Depends(headers_in)]
CorrelationIn = Annotated[CorrelationId, Depends(correlation_in)]


@dataclass(frozen=True, slots=True)
class Caller:
    """A user whose session was live when the request came in.

    Attributes:
        user: The user, with the roles they have now.
        family: The family of the session.
        session: The session that the access token was issued for.
        at: The database's clock at the look-up.
        correlation_id: The request's.
    """

    user: User
    family: Family
    session: Session
    at: datetime
    correlation_id: CorrelationId

    def cause(self) -> Cause:
        """What they do to themselves."""
        return Cause(Actor(ActorKind.USER), self.correlation_id)

    def cause_as_staff(self) -> Cause:
        """What they do to others."""
        return Cause(Actor(ActorKind.STAFF, self.user.user_id), self.correlation_id)


def bearer(headers: Headers) -> str | None:
    """The bearer token of the Authorization header, if there is one."""
    raw = headers.get(b"authorization")
    if raw is None:
        return None
    text = raw.decode("latin-1")
    return text[len(_BEARER) :].strip() if text[: len(_BEARER)].lower() == _BEARER else None


def claims_of(services: Services, headers: Headers) -> AccessClaims:
    """The claims of the access token in the Authorization header.

    Raises:
        ProblemError: There is none, or it is not valid (RFC 6750 §3.1).
    """
    token = bearer(headers)
    if token is None:
        raise ProblemError(
            ProblemKind.INVALID_TOKEN,
            "send Authorization: Bearer <access token>",
            headers={"WWW-Authenticate": 'Bearer realm="sessiontrail"'},
        )
    try:
        return services.access_tokens.verify(token, services.now())
    except InvalidAccessTokenError as error:
        raise invalid_token() from error


def invalid_token() -> ProblemError:
    """401 for an access token that is not, or no longer, good."""
    challenge = 'Bearer realm="sessiontrail", error="invalid_token"'
    return ProblemError(ProblemKind.INVALID_TOKEN, headers={"WWW-Authenticate": challenge})


def insufficient_scope(detail: str) -> ProblemError:
    """403 for a good token whose bearer may not do that (RFC 6750 §3.1)."""
    challenge = 'Bearer realm="sessiontrail", error="insufficient_scope"'
    return ProblemError(ProblemKind.FORBIDDEN, detail, headers={"WWW-Authenticate": challenge})


async def current_caller(
    services: ServicesIn,
    headers: HeadersIn,
    correlation_id: CorrelationIn,
    _documented: Annotated[object, Depends(_ACCESS_TOKEN)],
) -> Caller:
    """The user who calls, their session looked up: an ended one opens no door.

    Raises:
        ProblemError: No valid access token, its session has ended, or its user has to prove
            themself again first.
    """
    claims = claims_of(services, headers)
    return await live_caller(services, SessionId(claims.sid), correlation_id)


async def live_caller(
    services: Services, session_id: SessionId, correlation_id: CorrelationId
) -> Caller:
    """The user behind a session that is live now.

    Raises:
        ProblemError: It has ended, or its user has to prove themself again first.
    """
    found = await services.sessions.family_of_session(session_id)
    return caller_of(found, session_id, correlation_id)


def caller_of(
    found: tuple[Family, User, datetime] | None,
    session_id: SessionId,
    correlation_id: CorrelationId,
) -> Caller:
    """The user behind a session, from what a look-up of it found.

    Raises:
        ProblemError: It has ended, or its user has to prove themself again first.
    """
    if found is None:
        raise invalid_token()
    family, user, at = found
    session = family.session(session_id)
    if session is None or user.disabled_at is not None or not is_usable(family, session, at):
        raise invalid_token()
    if family.step_up_required_at is not None:
        raise step_up_required()
    return Caller(user, family, session, at, correlation_id)


CallerIn = Annotated[Caller, Depends(current_caller)]


def staff(*roles: Role) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller has one of these roles, now.

    Raises:
        ProblemError: They do not.
    """

    async def with_role(caller: CallerIn) -> Caller:
        if not set(roles) & set(caller.user.roles):
            raise insufficient_scope("this needs another role")
        return caller

    return with_role


async def is_still(services: Services, caller: Caller, *roles: Role) -> bool:
    """Whether a caller's session is live and they have one of these roles, by now."""
    try:
        now = await live_caller(services, caller.session.session_id, caller.correlation_id)
    except ProblemError:
        return False
    return bool(set(roles) & set(now.user.roles))


READERS = (Role.ANALYST, Role.AUDITOR, Role.ADMIN)
StaffReader = Annotated[Caller, Depends(staff(*READERS))]
Auditor = Annotated[Caller, Depends(staff(Role.AUDITOR))]
StaffActor = Annotated[Caller, Depends(staff(Role.ANALYST, Role.ADMIN))]


async def backend(
    services: ServicesIn,
    headers: HeadersIn,
    _documented: Annotated[object, Depends(_SERVICE_KEY)],
) -> ServiceKey:
    """The trusted backend that calls, by the service key in its Authorization header.

    Raises:
        ProblemError: There is no valid one, or it may not open sessions.
    """
    text = bearer(headers)
    key = await services.service_keys.authenticate(text) if text is not None else None
    if key is None:
        challenge = 'Bearer realm="sessiontrail"' + (', error="invalid_token"' if text else "")
        raise ProblemError(ProblemKind.INVALID_SERVICE_KEY, headers={"WWW-Authenticate": challenge})
    if not key.allows(ServiceScope.CREATE_SESSIONS):
        raise insufficient_scope("the service key lacks that scope")
    return key


BackendIn = Annotated[ServiceKey, Depends(backend)]
