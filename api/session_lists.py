"""Lists of sessions, for their user and for staff."""

from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.schemas import Device, SessionList, SessionListed
from domain.client import ClientContext, network_of
from domain.family import Family, Session
from domain.family_decisions import is_usable
from domain.ids import FamilyId, SessionId, UserId, parse_uuid


async def listed(
    services: Services,
    user_id: UserId,
    limit: int,
    before: str | None,
    *,
    current: SessionId | None,
) -> SessionList:
    """A page of a user's live sessions, newest first.

    Raises:
        ProblemError: ``before`` is not a cursor that we gave out.
    """
    cursor = parse_uuid(before) if before is not None else None
    if before is not None and cursor is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, "before is not a cursor of this list")
    page = await services.sessions.live_families(
        user_id, limit=limit, before=None if cursor is None else FamilyId(cursor)
    )
    return SessionList(
        sessions=[
            _summary(services, family, session, current)
            for family in page.families
            for session in family.sessions
            if is_usable(family, session, page.at)
        ],
        next=page.next_before,
    )


def _summary(
    services: Services, family: Family, session: Session, current: SessionId | None
) -> SessionListed:
    client = session.client if isinstance(session.client, ClientContext) else ClientContext()
    return SessionListed(
        session_id=session.session_id,
        family_id=family.family_id,
        current=session.session_id == current,
        client_id=family.client_id,
        device=Device(
            name=session.device_name if isinstance(session.device_name, str) else None,
            description=services.devices.describe(client.user_agent, client.hints),
            user_agent=client.user_agent,
            ip=client.ip,
            network=None if client.ip is None else network_of(client.ip),
        ),
        created_at=session.started_at,
        last_seen_at=session.last_seen_at,
        expires_at=min(session.idle_expires_at, family.expires_at),
    )
