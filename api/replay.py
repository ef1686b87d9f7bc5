"""What auditors see of the past: sessions as they stood, what changed, every event of one thing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from api.alerts import cleaned
from api.fast import PROBLEMS
from api.problems import ProblemError, ProblemKind, unavailable
from api.replay_schemas import (
    AuditEntryModel,
    AuditHistory,
    ChangeList,
    ChangeModel,
    FieldChangeModel,
    PastSession,
    PastSessionList,
    RevealBody,
)
from api.security import Auditor, ServicesIn
from domain.as_of import (
    AsOf,
    InvalidAsOfError,
    UnknownPlaceError,
    parse_as_of,
)
from domain.audit_history import (
    AuditEntry,
    HistoryOf,
    HistoryPage,
    HistoryScope,
    InvalidCursorError,
    NothingToRevealError,
    UnknownHistoryError,
)
from domain.events.registry import UnknownEventError
from domain.ids import UserId, parse_uuid
from projections.session_views import SessionStatus
from projections.state_diffs import Change

router = APIRouter(prefix="/v1/audit", tags=["audit"])

Moment = Annotated[
    str,
    Query(
        max_length=64,
        description="An instant (RFC 3339, with its offset), `position:N` or `leaf:N`",
    ),
]
UserQuery = Annotated[str | None, Query(description="User id")]
Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]


@router.get("/sessions", responses=PROBLEMS(401, 403, 404, 422, 500))
async def past_sessions(
    _auditor: Auditor,
    services: ServicesIn,
    as_of: Moment,
    *,
    user: UserQuery = None,
    status: Annotated[list[SessionStatus], Query(description="Any of these")] = [],  # noqa: B006 (FastAPI copies it)
    limit: Limit = 100,
    after: After = None,
) -> PastSessionList:
    """The sessions as they stood at a moment. Role: auditor."""
    moment, user_id = moment_in("as_of", as_of), user_in(user)
    with told():
        page = await services.past.sessions(
            moment, user_id=user_id, statuses=status, limit=limit, after=after
        )
    return PastSessionList(
        at=page.at,
        sessions=[PastSession(**msgspec.structs.asdict(each)) for each in page.sessions],
        next=page.next_after,
        damaged=list(page.damaged),
    )


@router.get("/diff", responses=PROBLEMS(401, 403, 404, 422, 500))
async def past_changes(
    _auditor: Auditor,
    services: ServicesIn,
    since: Moment,
    until: Moment,
    *,
    user: UserQuery = None,
    limit: Limit = 100,
    after: After = None,
) -> ChangeList:
    """What became different of sessions, users and alerts between two moments. Role: auditor."""
    first, second = moment_in("since", since), moment_in("until", until)
    user_id = user_in(user)
    with told():
        page = await services.past.changes(first, second, user_id=user_id, limit=limit, after=after)
    return ChangeList(
        changes=[_change(each) for each in page.changes],
        next=page.next_after,
        damaged=list(page.damaged),
    )


@router.get("/history", responses=PROBLEMS(401, 403, 404, 422))
async def show_history(
    _auditor: Auditor,
    services: ServicesIn,
    *,
    user: UserQuery = None,
    session: Annotated[str | None, Query(description="Session id")] = None,
    family: Annotated[str | None, Query(description="Session family id")] = None,
    alert: Annotated[str | None, Query(description="Alert id")] = None,
    limit: Limit = 100,
    after: After = None,
) -> AuditHistory:
    """Every event of a user, session, family or alert, personal parts sealed. Role: auditor."""
    of = _history_of(user, session, family, alert)
    with told():
        return _history(await services.audit_histories.page(of, after=after, limit=limit))


@router.post("/reveals", responses=PROBLEMS(401, 403, 404, 409, 422))
async def reveal_history(body: RevealBody, auditor: Auditor, services: ServicesIn) -> AuditHistory:
    """A page of a history with its personal parts open. It goes on record. Role: auditor."""
    of = _history_of(body.user, body.session, body.family, body.alert)
    reason = cleaned(body.reason, "reason")
    with told():
        page = await services.audit_histories.revealed(
            of,
            reason=reason,
            cause=auditor.cause_as_staff(),
            after=body.after,
            limit=body.limit,
        )
    return _history(page)


@contextmanager
def told() -> Iterator[None]:
    """Turn what keeps the past from being read into problems."""
    try:
        yield
    except (UnknownPlaceError, UnknownHistoryError) as error:
        raise ProblemError(ProblemKind.NOT_FOUND, str(error)) from error
    except InvalidCursorError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    except NothingToRevealError as error:
        raise ProblemError(ProblemKind.CONFLICT, str(error)) from error
    except UnknownEventError as error:
        raise unavailable(str(error)) from error


def moment_in(where: str, text: str) -> AsOf:
    """A moment as it was asked for.

    Raises:
        ProblemError: It is none; it names the parameter ``where``.
    """
    try:
        return parse_as_of(text)
    except InvalidAsOfError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, f"{where}: {error}") from error


def user_in(text: str | None) -> UserId | None:
    """A user's id as it was asked for.

    Raises:
        ProblemError: It is none.
    """
    if text is None:
        return None
    parsed = parse_uuid(text)
    if parsed is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, "user is not an id")
    return UserId(parsed)


def _history_of(
    user: str | None, session: str | None, family: str | None, alert: str | None
) -> HistoryOf:
    given = {
        scope: text
        for scope, text in zip(HistoryScope, (user, session, family, alert), strict=True)
        if text is not None
    }
    if len(given) != 1:
        raise ProblemError(
            ProblemKind.INVALID_INPUT, "give exactly one of user, session, family and alert"
        )
    ((scope, text),) = given.items()
    parsed = parse_uuid(text)
    if parsed is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, f"{scope} is not an id")
    return HistoryOf(scope, parsed)


def _change(change: Change) -> ChangeModel:
    return ChangeModel(
        kind=change.kind,
        what=change.what,
        id=change.id,
        user_id=change.user_id,
        fields=[
            FieldChangeModel(name=each.name, before=each.before, after=each.after)
            for each in change.fields
        ],
    )


def _history(page: HistoryPage) -> AuditHistory:
    return AuditHistory(
        events=[_entry(each) for each in page.entries],
        next=page.next_after,
        archived=list(page.archived),
    )


def _entry(entry: AuditEntry) -> AuditEntryModel:
    personal = None if entry.personal is None else msgspec.to_builtins(entry.personal)
    return AuditEntryModel(**{**msgspec.structs.asdict(entry), "personal": personal})
