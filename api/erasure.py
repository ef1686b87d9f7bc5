"""Erasing a person."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from api.fast import PROBLEMS
from api.problems import ProblemError, ProblemKind, problem_of
from api.security import Caller, ServicesIn, staff
from domain.erasure import clean_reason
from domain.events.users import Role
from domain.ids import UserId, parse_uuid
from domain.refusals import Refusal
from domain.texts import InvalidTextError
from domain.user import EraseUser

router = APIRouter(prefix="/v1", tags=["staff"])

Admin = Annotated[Caller, Depends(staff(Role.ADMIN))]


class ErasureModel(BaseModel):
    """What an erasure did."""

    user_id: str
    erased_at: datetime
    repeated: bool = Field(description="Whether they had been erased before")
    families: int = Field(description="How many session families ended with it")
    rows: dict[str, int] = Field(
        description="By table, rows that were removed or lost what was personal in them"
    )


@router.delete("/users/{user_id}", responses=PROBLEMS(401, 403, 404, 422))
async def erase_user(
    user_id: str,
    actor: Admin,
    services: ServicesIn,
    reason: Annotated[
        str | None, Query(description="Such as a ticket's number; it stays in the log, in clear")
    ] = None,
) -> ErasureModel:
    """Erase a person: their sessions end, and nothing personal of them is left. No way back.

    Doing it twice is no error: the answer says `repeated`. Role: admin.
    """
    parsed = parse_uuid(user_id)
    if parsed is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such user")
    try:
        command = EraseUser(None if reason is None else clean_reason(reason))
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    erased = await services.erasures.erase(UserId(parsed), command, actor.cause_as_staff())
    if erased is Refusal.REASON_NAMES_USER:
        raise ProblemError(ProblemKind.INVALID_INPUT, "the reason names the user, and would stay")
    if isinstance(erased, Refusal):
        raise problem_of(erased)
    return ErasureModel(
        user_id=erased.user_id,
        erased_at=erased.erased_at,
        repeated=erased.is_repeat,
        families=erased.families,
        rows=dict(erased.rows),
    )
