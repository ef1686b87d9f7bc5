"""What a user does with their own sessions: sign out, list, name, change password."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answers import cleared_refresh_cookie
from api.fast import PROBLEMS, body_of, refusal_of
from api.ports import Services
from api.problems import ProblemError, ProblemKind, problem_of, rate_limited
from api.refresh import PresentedTokens
from api.requests import Headers
from api.schemas import Ended, PasswordBody, RenameBody, SessionList
from api.security import CallerIn, CorrelationIn, HeadersIn, ServicesIn, bearer, claims_of
from api.session_lists import listed
from api.tries import LimitReachedError
from domain.events.envelope import USER, Cause
from domain.events.families import EndReason
from domain.family_decisions import EndSession, RenameSession
from domain.ids import FamilyId, SessionId, parse_uuid
from domain.rate_limiting import LimitName
from domain.refresh_token import parse
from domain.refusals import Refusal
from domain.texts import (
    InvalidTextError,
    accept_new_password,
    clean_device_name,
    normalise_password,
)

router = APIRouter(prefix="/v1", tags=["sessions"])

_ALREADY_OVER = {Refusal.UNKNOWN_SESSION, Refusal.SESSION_ENDED, Refusal.SESSION_EXPIRED}


@router.post(
    "/logout",
    status_code=204,
    responses=PROBLEMS(401, 403, 415),
    openapi_extra={
        "requestBody": body_of("application/json", "RefreshBody", required=False),
        "security": [{"refreshCookie": []}, {"accessToken": []}, {}],  # or in the body
    },
)
async def logout(
    request: Request, services: ServicesIn, headers: HeadersIn, correlation_id: CorrelationIn
) -> Response:
    """Sign out of this device.

    By refresh token (cookie, or `{"refresh_token"}`) or by access token. Doing it twice is no
    error.
    """
    family_id, session_id = await _session_to_end(request, services, headers)
    await services.families.execute(
        family_id,
        EndSession(session_id, EndReason.LOGOUT),
        Cause(USER, correlation_id),
        refusal_of,
    )
    response = Response(status_code=204)
    response.raw_headers.append(cleared_refresh_cookie())
    return response


async def _session_to_end(
    request: Request, services: Services, headers: Headers
) -> tuple[FamilyId, SessionId]:
    found = PresentedTokens(services).find(headers, await request.body())
    if found is not None:
        token = parse(found[0], services.token_keys())
        if token is not None:
            return token.family_id, token.session_id
        if bearer(headers) is None:
            raise ProblemError(ProblemKind.INVALID_GRANT)
    claims = claims_of(services, headers)
    return FamilyId(claims.fid), SessionId(claims.sid)


@router.post("/logout-others", responses=PROBLEMS(401))
async def logout_others(caller: CallerIn, services: ServicesIn) -> Ended:
    """Sign out of every other device."""
    ended = await services.users.end_families(
        caller.user.user_id, EndReason.LOGOUT_OTHERS, caller.family.family_id, caller.cause()
    )
    if isinstance(ended, Refusal):
        raise problem_of(ended)
    return Ended(ended=ended)


@router.post("/logout-all", responses=PROBLEMS(401))
async def logout_all(caller: CallerIn, services: ServicesIn, response: Response) -> Ended:
    """Sign out of every device, this one too."""
    ended = await services.users.end_families(
        caller.user.user_id, EndReason.LOGOUT_ALL, None, caller.cause()
    )
    if isinstance(ended, Refusal):
        raise problem_of(ended)
    response.raw_headers.append(cleared_refresh_cookie())
    return Ended(ended=ended)


@router.get("/sessions", responses=PROBLEMS(401, 422))
async def list_sessions(
    caller: CallerIn,
    services: ServicesIn,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    before: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> SessionList:
    """This user's devices, newest first."""
    return await listed(
        services, caller.user.user_id, limit, before, current=caller.session.session_id
    )


@router.patch(
    "/sessions/{session_id}", status_code=204, responses=PROBLEMS(401, 404, 409, 422, 429)
)
async def rename_session(
    session_id: str, body: RenameBody, caller: CallerIn, services: ServicesIn
) -> None:
    """Name a device. Counts like a refresh of the session that asks: each is an event."""
    wait = await services.limits.hit(LimitName.REFRESH_PER_SESSION, caller.session.session_id)
    if wait is not None:
        services.telemetry.rate_limited("rename")
        raise rate_limited(wait)
    family_id, own = await _own_session(session_id, caller, services)
    try:
        name = clean_device_name(body.device_name)
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    refusal = await services.families.execute(
        family_id, RenameSession(own, name), caller.cause(), refusal_of
    )
    if refusal is not None:
        raise problem_of(refusal)


@router.delete("/sessions/{session_id}", status_code=204, responses=PROBLEMS(401, 404))
async def end_session(session_id: str, caller: CallerIn, services: ServicesIn) -> None:
    """Sign out of one device. Doing it twice is no error."""
    family_id, own = await _own_session(session_id, caller, services)
    refusal = await services.families.execute(
        family_id, EndSession(own, EndReason.LOGOUT), caller.cause(), refusal_of
    )
    if refusal is not None and refusal not in _ALREADY_OVER:
        raise problem_of(refusal)


async def _own_session(
    text: str, caller: CallerIn, services: Services
) -> tuple[FamilyId, SessionId]:
    """A session of the caller's; another user's is as unknown as none."""
    parsed = parse_uuid(text)
    found = await services.sessions.family_of_session(SessionId(parsed)) if parsed else None
    if found is None or found[0].user_id != caller.user.user_id or parsed is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such session")
    return found[0].family_id, SessionId(parsed)


@router.post("/password", status_code=204, responses=PROBLEMS(401, 403, 409, 422, 429))
async def change_password(body: PasswordBody, caller: CallerIn, services: ServicesIn) -> None:
    """Change the password: this session stays, every other one ends."""
    user_id = caller.user.user_id
    try:
        current = normalise_password(body.current_password)
        new = accept_new_password(body.new_password, services.common_passwords())
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    found = await services.users.find(user_id)
    if found is None or found.password_hash is None:
        raise ProblemError(ProblemKind.CONFLICT, "this user's password is not kept here")
    limit = LimitName.PASSWORD_CHANGE_PER_USER
    try:
        async with services.tries.let_in(services.limits, [(limit, (user_id,))]):
            if not await services.passwords.verify(found.password_hash, current):
                await services.limits.hit(limit, user_id)
                raise ProblemError(ProblemKind.FORBIDDEN, "the current password is wrong")
    except LimitReachedError as error:
        raise rate_limited(error.wait) from error
    changed = await services.users.change_password(
        user_id,
        found.user.credential_epoch,
        await services.passwords.hash(new),
        caller.family.family_id,
        caller.cause(),
    )
    if isinstance(changed, Refusal):
        raise ProblemError(ProblemKind.CONFLICT, "the password was changed meanwhile")
