"""Ending sessions because of an alert."""

from fastapi import APIRouter

from api.alert_schemas import RevokeBody, Revoked
from api.alert_views import alert_model
from api.alerts import known_alert
from api.fast import PROBLEMS, refusal_of
from api.ports import Services
from api.problems import ProblemError, ProblemKind, problem_of
from api.security import Caller, ServicesIn, StaffActor
from domain.alert import Alert
from domain.alert_decisions import NoteAnswer
from domain.detection import Outcome, Response
from domain.events.families import EndReason
from domain.family_decisions import EndSession, FamilyCommand, RevokeFamily
from domain.ids import FamilyId, SessionId, parse_uuid
from domain.refusals import Refusal

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

_RESPONSES = {
    "session": Response.REVOKE_SESSION,
    "family": Response.REVOKE_FAMILY,
    "all": Response.REVOKE_ALL,
}


@router.post("/{alert_id}/revoke", responses=PROBLEMS(401, 403, 404, 409, 422))
async def revoke(
    alert_id: str, body: RevokeBody, actor: StaffActor, services: ServicesIn
) -> Revoked:
    """End what the alert is about: a session, its family, or every session of the user.

    Doing it twice is no error. The alert's history says who did. Roles: analyst, admin.
    """
    alert = await known_alert(alert_id, services)
    if body.what == "all":
        ended = await _revoke_all(alert, actor, services)
    else:
        ended = await _revoke_in_family(alert, body, actor, services)
    outcome = Outcome.DONE if ended else Outcome.NOTHING_LEFT
    noted = await services.alerts.command(
        alert.alert_id,
        NoteAnswer(_RESPONSES[body.what], outcome, ended),
        actor.cause_as_staff(),
    )
    if isinstance(noted, Refusal):
        raise problem_of(noted)
    return Revoked(ended=ended, alert=alert_model(noted, services.devices))


async def _revoke_all(alert: Alert, actor: Caller, services: Services) -> int:
    if alert.user_id is None:
        raise ProblemError(ProblemKind.CONFLICT, "the alert is about no user")
    ended = await services.users.end_families(
        alert.user_id, EndReason.STAFF, None, actor.cause_as_staff()
    )
    if isinstance(ended, Refusal):
        raise problem_of(ended)
    return ended


async def _revoke_in_family(
    alert: Alert, body: RevokeBody, actor: Caller, services: Services
) -> int:
    if alert.family_id is None:
        raise ProblemError(ProblemKind.CONFLICT, "the alert is about no session family")
    command: FamilyCommand = RevokeFamily(EndReason.STAFF)
    if body.what == "session":
        session_id = await _session_of(alert.family_id, body.session_id, services)
        command = EndSession(session_id, EndReason.STAFF)
    refusal = await services.families.execute(
        alert.family_id, command, actor.cause_as_staff(), refusal_of
    )
    if refusal is Refusal.UNKNOWN_SESSION:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such session family")
    return 0 if refusal else 1


async def _session_of(family_id: FamilyId, text: str | None, services: Services) -> SessionId:
    found = await services.sessions.family(family_id)
    sessions = [] if found is None else [each.session_id for each in found[0].sessions]
    if text is not None:
        sessions = [each for each in sessions if each == parse_uuid(text)]
    if not sessions:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such session")
    if len(sessions) > 1:
        raise ProblemError(
            ProblemKind.INVALID_INPUT, "the family has several sessions: name one as session_id"
        )
    return sessions[0]
