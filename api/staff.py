"""What members of staff may see and do."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.fast import PROBLEMS, refusal_of
from api.ports import Services
from api.problems import ProblemError, ProblemKind, problem_of
from api.schemas import Ended, SessionList
from api.security import ServicesIn, StaffActor, StaffReader
from api.session_lists import listed
from domain.events.families import EndReason
from domain.family_decisions import EndSession, RequireStepUp, RevokeFamily
from domain.ids import FamilyId, SessionId, UserId, parse_uuid
from domain.refusals import Refusal

router = APIRouter(prefix="/v1", tags=["staff"])


@router.get("/users/{user_id}/sessions", responses=PROBLEMS(401, 403, 404, 422))
async def list_user_sessions(
    user_id: str,
    _reader: StaffReader,
    services: ServicesIn,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    before: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> SessionList:
    """A user's live sessions. Roles: analyst, auditor, admin."""
    known = await _known_user(user_id, services)
    return await listed(services, known, limit, before, current=None)


@router.delete("/users/{user_id}/sessions", responses=PROBLEMS(401, 403, 404))
async def revoke_user_sessions(user_id: str, actor: StaffActor, services: ServicesIn) -> Ended:
    """End every session of a user. Roles: analyst, admin."""
    known = await _known_user(user_id, services)
    ended = await services.users.end_families(known, EndReason.STAFF, None, actor.cause_as_staff())
    if isinstance(ended, Refusal):
        raise problem_of(ended)
    return Ended(ended=ended)


@router.delete(
    "/users/{user_id}/sessions/{session_id}",
    status_code=204,
    responses=PROBLEMS(401, 403, 404),
)
async def revoke_user_session(
    user_id: str, session_id: str, actor: StaffActor, services: ServicesIn
) -> None:
    """End one session of a user. Doing it twice is no error. Roles: analyst, admin."""
    known = await _known_user(user_id, services)
    parsed = parse_uuid(session_id)
    found = await services.sessions.family_of_session(SessionId(parsed)) if parsed else None
    if found is None or parsed is None or found[0].user_id != known:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such session")
    await services.families.execute(
        found[0].family_id,
        EndSession(SessionId(parsed), EndReason.STAFF),
        actor.cause_as_staff(),
        refusal_of,
    )


@router.delete("/families/{family_id}", responses=PROBLEMS(401, 403, 404))
async def revoke_family(family_id: str, actor: StaffActor, services: ServicesIn) -> Ended:
    """Revoke a session family. Doing it twice is no error. Roles: analyst, admin."""
    parsed = parse_uuid(family_id)
    if parsed is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such family")
    effect = await services.families.execute(
        FamilyId(parsed), RevokeFamily(EndReason.STAFF), actor.cause_as_staff(), refusal_of
    )
    if effect is Refusal.UNKNOWN_SESSION:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such family")
    return Ended(ended=0 if effect else 1)


@router.post(
    "/families/{family_id}/require-step-up",
    status_code=204,
    responses=PROBLEMS(401, 403, 404, 409),
)
async def require_step_up(family_id: str, actor: StaffActor, services: ServicesIn) -> None:
    """Let nothing be refreshed in a family until its user has proved themself again.

    Doing it twice is no error. Roles: analyst, admin.
    """
    parsed = parse_uuid(family_id)
    refusal: Refusal | None = Refusal.UNKNOWN_SESSION
    if parsed is not None:
        refusal = await services.families.execute(
            FamilyId(parsed), RequireStepUp(), actor.cause_as_staff(), refusal_of
        )
    if refusal is Refusal.UNKNOWN_SESSION:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such family")
    if refusal is not None and refusal is not Refusal.NOTHING_TO_DO:
        raise problem_of(refusal)


async def _known_user(text: str, services: Services) -> UserId:
    parsed = parse_uuid(text)
    if parsed is None or await services.users.find(UserId(parsed)) is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such user")
    return UserId(parsed)
