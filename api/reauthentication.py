"""Proving again that the user is there: for a step-up (RFC 9470), or before a sensitive change."""

from fastapi import APIRouter, Request, Response

from api.answers import Answer, token_answer
from api.attempts import PasswordAttempt
from api.backend_clients import client_told_by
from api.fast import PROBLEMS, answered_with, client_reader, refusal_of
from api.problems import ProblemError, ProblemKind, problem_of
from api.refresh import (
    PresentedTokens,
    answering,
    refresh_command,
    refuse_if_too_often,
    tokens_or_problem,
)
from api.requests import device_token
from api.schemas import ReauthenticateBody, ReauthenticatedBody, Tokens
from api.security import BackendIn, CorrelationIn, HeadersIn, ServicesIn
from domain.events.envelope import USER, Actor, ActorKind, Cause
from domain.events.users import UserOrigin
from domain.family import Session
from domain.family_decisions import CheckToken, CompleteStepUp, Reauthenticate
from domain.ids import SessionId, UserId, parse_uuid
from domain.ports import Executed
from domain.refresh_token import parse
from domain.refusals import Refusal
from domain.texts import InvalidTextError, normalise_password

router = APIRouter(prefix="/v1", tags=["sign-in"])


@router.post(
    "/reauthenticate",
    response_model=Tokens,
    responses=PROBLEMS(401, 403, 422, 429),
    openapi_extra={"security": [{"refreshCookie": []}, {}]},  # or in the body
)
async def reauthenticate(
    body: ReauthenticateBody,
    request: Request,
    services: ServicesIn,
    headers: HeadersIn,
    correlation_id: CorrelationIn,
) -> Response:
    """Prove with the password that the user is there, and refresh.

    Completes a step-up where one is required; without one it renews `auth_time`, for software that
    wants it recent. The refresh token, from the cookie or from the body, is judged before the
    password, as at any refresh. A wrong password counts as a failed sign-in and leaves it as it is.
    """
    found = PresentedTokens(services).choose(headers, body.refresh_token)
    if found is None:
        raise ProblemError(ProblemKind.INVALID_GRANT, "no refresh token was sent")
    text, delivery = found
    try:
        password = normalise_password(body.password)
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    keys = services.token_keys()
    presented = parse(text, keys)
    if presented is None:
        services.telemetry.refresh("forged")
        raise ProblemError(ProblemKind.INVALID_GRANT)

    client = client_reader(request).context(request.scope, headers)
    await refuse_if_too_often(services, presented, client.ip)
    refresh = refresh_command(services, presented, client, keys)
    cause = Cause(USER, correlation_id)
    checked = await services.families.execute(
        presented.family_id, CheckToken(refresh), cause, _owner_of
    )
    if isinstance(checked, Refusal):
        services.telemetry.refresh(checked.value)
        raise ProblemError(ProblemKind.INVALID_GRANT)
    owner = await services.users.find(checked)
    account = checked if owner is None else str(owner.user.username or checked)
    attempt = PasswordAttempt(services, account, owner, client, device_token(headers))
    await attempt.verify(password)

    def make_answer(executed: Executed, session: Session, token: str) -> Answer:
        return token_answer(services, executed, session, token, delivery)

    outcome, exchanged = await services.families.execute(
        presented.family_id,
        Reauthenticate(refresh, ["pwd"]),
        cause,
        answering(presented, keys, make_answer),
    )
    services.telemetry.refresh(outcome)
    answer = tokens_or_problem(exchanged)
    services.telemetry.login("reauthenticated")
    return answered_with(answer)


def _owner_of(checked: Executed) -> UserId | Refusal:
    """Whose token it is, if it would be exchanged."""
    if checked.decision.refusal is not None or checked.family is None:
        return checked.decision.refusal or Refusal.UNKNOWN_SESSION
    return checked.family.user_id


@router.post(
    "/sessions/{session_id}/reauthenticated",
    status_code=204,
    responses=PROBLEMS(401, 403, 404, 409, 422),
)
async def reauthenticated(
    session_id: str,
    body: ReauthenticatedBody,
    key: BackendIn,
    services: ServicesIn,
    correlation_id: CorrelationIn,
) -> None:
    """Tell that a trusted backend has authenticated the user of a session again.

    Needs a service key with the scope `sessions:create`. For users that a backend keeps: those of
    this service prove themselves to it. Completes a step-up where one is required.
    """
    client = client_told_by(body.client)
    parsed = parse_uuid(session_id)
    found = await services.sessions.family_of_session(SessionId(parsed)) if parsed else None
    if found is None or parsed is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such session")
    family, user, _ = found
    if user.origin is not UserOrigin.EXTERNAL:  # or a backend's word would pass for a password
        raise ProblemError(ProblemKind.CONFLICT, "this user's password is kept here")
    refusal = await services.families.execute(
        family.family_id,
        CompleteStepUp(SessionId(parsed), body.auth_methods, client),
        Cause(Actor(ActorKind.SERVICE, key.key_id), correlation_id),
        refusal_of,
    )
    if refusal is not None:
        raise problem_of(refusal)
    services.telemetry.login("reauthenticated_external")
