"""What analysts see of alerts and do about them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from api.alert_cursors import cursor_of, place_of
from api.alert_schemas import (
    AlertDetail,
    AlertList,
    AlertModel,
    AlertUser,
    AssignBody,
    CommentBody,
    Instant,
    ResolveBody,
)
from api.alert_views import alert_fields, alert_model, timeline
from api.fast import PROBLEMS
from api.ports import Services
from api.problems import ProblemError, ProblemKind, problem_of
from api.security import Caller, ServicesIn, StaffActor, StaffReader
from domain.alert import Alert, AlertStatus
from domain.alert_decisions import (
    Acknowledge,
    AlertCommand,
    Assign,
    Comment,
    Reopen,
    Resolve,
)
from domain.alert_lists import AlertFilter
from domain.detection import Severity
from domain.events.users import Role
from domain.ids import AlertId, FamilyId, UserId, alert_stream, family_stream, parse_uuid
from domain.refusals import Refusal
from domain.texts import InvalidTextError, clean_comment

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]

_HISTORY_EVENTS = 200
"""The most that a detail shows of a history: a family may have 50,000 refreshes."""
_ANALYSTS = {Role.ANALYST, Role.ADMIN}


@router.get("", responses=PROBLEMS(401, 403, 422))
async def list_alerts(  # noqa: PLR0913 (a filter each)
    _reader: StaffReader,
    services: ServicesIn,
    *,
    status: Annotated[list[AlertStatus], Query(description="Any of these")] = [],  # noqa: B006 (FastAPI copies it)
    severity: Annotated[Severity | None, Query(description="This or worse")] = None,
    rule: RuleName | None = None,
    user: Annotated[str | None, Query(description="User id")] = None,
    family: Annotated[str | None, Query(description="Session family id")] = None,
    assignee: Annotated[str | None, Query(description="User id")] = None,
    since: Annotated[Instant | None, Query(description="Last seen then or later")] = None,
    until: Annotated[Instant | None, Query(description="Last seen before then")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> AlertList:
    """Alerts: the worst first, and of those that are equally bad, the latest.

    Without `status`, whatever their status. Roles: analyst, auditor, admin.
    """
    user_id, family_id, assignee_id = (
        _id_in(name, text)
        for name, text in (("user", user), ("family", family), ("assignee", assignee))
    )
    wanted = AlertFilter(
        statuses=status,
        at_least=severity,
        rule=rule,
        user_id=None if user_id is None else UserId(user_id),
        family_id=None if family_id is None else FamilyId(family_id),
        assignee=None if assignee_id is None else UserId(assignee_id),
        since=since,
        until=until,
    )
    place = None if after is None else place_of(after)
    page = await services.alert_queries.page(wanted, limit=limit, after=place)
    return AlertList(
        alerts=[alert_model(alert, services.devices) for alert in page.alerts],
        next=None if page.next_after is None else cursor_of(page.next_after),
    )


@router.get("/{alert_id}", responses=PROBLEMS(401, 403, 404))
async def show_alert(alert_id: str, _reader: StaffReader, services: ServicesIn) -> AlertDetail:
    """One alert: its evidence, what became of it, and what its session family went through.

    Roles: analyst, auditor, admin.
    """
    alert = await known_alert(alert_id, services)
    rule = services.rulebook.described().get(alert.rule)
    history = await services.histories.last(alert_stream(alert.alert_id), _HISTORY_EVENTS)
    family_history = None
    if alert.family_id is not None:
        stream = family_stream(alert.family_id)
        family_history = await services.histories.last(stream, _HISTORY_EVENTS)
    return AlertDetail(
        **alert_fields(alert, services.devices),
        title=None if rule is None else rule.title,
        looks_for=None if rule is None else rule.looks_for,
        user=await _user_of(alert, services),
        history=timeline(history, services.devices),
        family_history=(
            None if family_history is None else timeline(family_history, services.devices)
        ),
    )


@router.post("/{alert_id}/acknowledge", responses=PROBLEMS(401, 403, 404, 409))
async def acknowledge(alert_id: str, actor: StaffActor, services: ServicesIn) -> AlertModel:
    """Say that somebody looks into it. Doing it twice is no error. Roles: analyst, admin."""
    return await commanded(alert_id, Acknowledge(), actor, services)


@router.post("/{alert_id}/assign", responses=PROBLEMS(401, 403, 404, 409, 422))
async def assign(
    alert_id: str, body: AssignBody, actor: StaffActor, services: ServicesIn
) -> AlertModel:
    """Make it an analyst's, or nobody's. Doing it twice is no error. Roles: analyst, admin."""
    assignee = None
    if body.assignee is not None:
        assignee = await member_of_staff("assignee", body.assignee, services)
    return await commanded(alert_id, Assign(assignee), actor, services)


@router.post("/{alert_id}/comment", responses=PROBLEMS(401, 403, 404, 409, 422))
async def comment(
    alert_id: str, body: CommentBody, actor: StaffActor, services: ServicesIn
) -> AlertModel:
    """Note something about it. Roles: analyst, admin."""
    return await commanded(alert_id, Comment(cleaned(body.comment)), actor, services)


@router.post("/{alert_id}/resolve", responses=PROBLEMS(401, 403, 404, 409, 422))
async def resolve(
    alert_id: str, body: ResolveBody, actor: StaffActor, services: ServicesIn
) -> AlertModel:
    """Judge it; the detector learns from the verdict. Roles: analyst, admin."""
    text = None if body.comment is None else cleaned(body.comment)
    return await commanded(alert_id, Resolve(body.verdict, text), actor, services)


@router.post("/{alert_id}/reopen", responses=PROBLEMS(401, 403, 404, 409))
async def reopen(alert_id: str, actor: StaffActor, services: ServicesIn) -> AlertModel:
    """Take the verdict back. Doing it twice is no error. Roles: analyst, admin."""
    return await commanded(alert_id, Reopen(), actor, services)


async def commanded(
    alert_id: str, command: AlertCommand, actor: Caller, services: Services
) -> AlertModel:
    """Carry out a command of a member of staff; what there was nothing of to do is no error.

    Raises:
        ProblemError: There is no such alert, or it does not allow that.
    """
    parsed = parse_uuid(alert_id)
    if parsed is None:
        raise problem_of(Refusal.UNKNOWN_ALERT)
    after = await services.alerts.command(AlertId(parsed), command, actor.cause_as_staff())
    if after is Refusal.NOTHING_TO_DO:
        after = await known_alert(alert_id, services)
    if isinstance(after, Refusal):
        raise problem_of(after)
    return alert_model(after, services.devices)


async def known_alert(text: str, services: Services) -> Alert:
    """The alert of that id.

    Raises:
        ProblemError: There is none.
    """
    parsed = parse_uuid(text)
    alert = None if parsed is None else await services.alert_queries.alert(AlertId(parsed))
    if alert is None:
        raise problem_of(Refusal.UNKNOWN_ALERT)
    return alert


async def member_of_staff(where: str, text: str, services: Services) -> UserId:
    """The user id of somebody who may triage alerts.

    Raises:
        ProblemError: It is nobody's, or theirs who may not.
    """
    parsed = parse_uuid(text)
    found = None if parsed is None else await services.users.find(UserId(parsed))
    if found is None or found.user.disabled_at or not _ANALYSTS & set(found.user.roles):
        raise ProblemError(ProblemKind.INVALID_INPUT, f"{where} is no analyst or admin")
    return found.user.user_id


def cleaned(text: str, what: str = "comment") -> str:
    """A comment as it is stored, or what else it is called.

    Raises:
        ProblemError: It is not one.
    """
    try:
        return clean_comment(text, what)
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error


async def _user_of(alert: Alert, services: Services) -> AlertUser | None:
    found = None if alert.user_id is None else await services.users.find(alert.user_id)
    if found is None:
        return None
    user = found.user
    name = user.external_subject or user.username
    return AlertUser(
        id=user.user_id,
        name=name if isinstance(name, str) else None,
        disabled=user.disabled_at is not None,
    )


def _id_in(name: str, text: str | None) -> str | None:
    parsed = None if text is None else parse_uuid(text)
    if text is not None and parsed is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, f"{name} is not an id")
    return parsed
