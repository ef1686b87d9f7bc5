"""Exports of the log over HTTP: made whole, then handed over in pieces."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.audit_ports import MadeExport
from api.fast import PROBLEMS
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import Auditor, ServicesIn
from domain.events.envelope import Cause
from domain.events.registry import registered_types
from domain.exports import (
    ExportFormat,
    ExportRequest,
    ExportTooLargeError,
    LeafSpan,
    NotExportedError,
    OlderTree,
    Selection,
)
from domain.ids import UserId, parse_uuid
from domain.texts import InvalidTextError, clean_comment

router = APIRouter(prefix="/v1/audit", tags=["audit"])

MOST_EVENTS = 500_000
"""Half a minute's work, and some 500 MB on the disk; larger ones are for the command line."""
LINES = "application/x-ndjson"
# Any: FastAPI's own type for it.
_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {LINES: {}}, "description": "The export"}
}


class ExportBody(BaseModel):
    """What to export, and as what."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["jsonl", "ocsf"] = "jsonl"
    since: Annotated[AwareDatetime | None, Field(description="Events from then on")] = None
    until: Annotated[AwareDatetime | None, Field(description="Events before then")] = None
    user: Annotated[str | None, Field(description="Events about this user, by id")] = None
    types: Annotated[list[str], Field(max_length=100, description="Of these; empty for all")] = []
    first_leaf: Annotated[
        int | None, Field(ge=0, lt=2**53, description="Leaves of the tree from that one on")
    ] = None
    end_leaf: Annotated[int | None, Field(ge=0, lt=2**53, description="Leaves before that one")] = (
        None
    )
    reason: Annotated[
        str | None,
        Field(max_length=2000, description="Opens what is personal, and says why; on record"),
    ] = None
    extends: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**53)]],
        Field(max_length=10, description="Sizes of older heads, for proofs that it extends them"),
    ] = Field(default_factory=list)


@router.post(
    "/exports",
    response_class=Response,
    responses=_EXPORT | PROBLEMS(401, 403, 409, 413, 422, 503),
)
async def export_events(body: ExportBody, auditor: Auditor, services: ServicesIn) -> Response:
    """Events as JSON Lines with their proofs, or as OCSF for a SIEM. It goes on record first.

    At most 500,000 events; `sessiontrail audit export` has no such bound. Role: auditor.
    """
    return streamed(await exported(services, body, auditor.cause_as_staff()))


def streamed(made: MadeExport) -> Response:
    """The answer that an export is, however large."""
    length = {"Content-Length": str(made.size)}  # so that one that is cut off shows
    return StreamingResponse(made.chunks(), headers=length, media_type=LINES)


async def exported(services: Services, body: ExportBody, cause: Cause) -> MadeExport:
    """An export, once it is on record.

    Raises:
        ProblemError: What is asked for is not right, too much, or not to be had.
    """
    try:
        return await services.exports.export(_request(body), cause, MOST_EVENTS)
    except ExportTooLargeError as error:
        detail = f"{error}: narrow it, or use sessiontrail audit export"
        raise ProblemError(ProblemKind.TOO_LARGE, detail) from error
    except NotExportedError as error:
        raise ProblemError(ProblemKind.CONFLICT, str(error)) from error


def _request(body: ExportBody) -> ExportRequest:
    user_id = None if body.user is None else parse_uuid(body.user)
    if body.user is not None and user_id is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, "user is no user's id")
    for each in body.types:
        if each not in registered_types():
            raise ProblemError(ProblemKind.INVALID_INPUT, f"there is no event type {each[:64]}")
    if body.extends and body.format == "ocsf":
        raise ProblemError(ProblemKind.INVALID_INPUT, "ocsf holds no proofs: extends is for jsonl")
    try:
        reason = None if body.reason is None else clean_comment(body.reason, "reason")
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    return ExportRequest(
        format=ExportFormat(body.format),
        selection=Selection(
            leaves=_leaves(body),
            since=_instant(body.since),
            until=_instant(body.until),
            user_id=None if user_id is None else UserId(user_id),
            types=tuple(body.types),
        ),
        reason=reason,
        extends=tuple(map(OlderTree, body.extends)),
    )


def _leaves(body: ExportBody) -> LeafSpan | None:
    if body.first_leaf is None and body.end_leaf is None:
        return None
    return LeafSpan(body.first_leaf or 0, body.end_leaf)


def _instant(at: datetime | None) -> datetime | None:
    try:
        return None if at is None else at.astimezone(UTC)
    except OverflowError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, "there is no such instant") from error
