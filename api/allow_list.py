"""The allow-list: on whom no rule speaks, until when, and who answers for it.

An analyst may add an entry in their own name, for 30 days at most, and remove one of their own; an
admin may do all of it.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from api.alert_schemas import CommentText, Instant, StaffBody
from api.alerts import cleaned, member_of_staff
from api.fast import PROBLEMS
from api.ports import Services
from api.problems import ProblemError, ProblemKind, problem_of
from api.rules import known_parameters, policy_problem
from api.security import ServicesIn, StaffActor, StaffReader, insufficient_scope
from domain.detection_policy import AllowListEntry
from domain.detection_policy_decisions import (
    ANALYSTS_LONGEST_ALLOWANCE,
    LONGEST_ALLOWANCE,
    AllowList,
    RemoveEntry,
)
from domain.events.detection_policies import AllowedKind
from domain.events.users import Role
from domain.ids import UserId, parse_uuid
from domain.refusals import Refusal

router = APIRouter(prefix="/v1/allow-list", tags=["detection policy"])


class AllowListBody(StaffBody):
    """Something that is to raise no alert: exactly one of a network, an ASN and a user."""

    network: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="An address or CIDR: of IPv4 a /16 at most, of IPv6 a /32"
    )
    asn: int | None = Field(None, ge=1, le=2**32 - 1)
    user_id: str | None = None
    rule: str | None = Field(None, description="The one rule that it holds for; null is every one")
    owner: str | None = Field(
        None, description="User id of the analyst or admin who answers for it; you, if left out"
    )
    reason: CommentText
    until: Instant = Field(description="At most 30 days away for an analyst, 366 for an admin")


class AllowListEntryModel(BaseModel):
    """An entry of the allow-list."""

    id: str
    kind: AllowedKind
    network: str | None
    asn: int | None
    user_id: str | None
    rule: str | None
    owner: str
    reason: str | None
    added_at: datetime
    until: datetime


class AllowListModel(BaseModel):
    """The allow-list as it stands."""

    policy_version: int
    entries: list[AllowListEntryModel]


@router.get("", responses=PROBLEMS(401, 403))
async def show_allow_list(reader: StaffReader, services: ServicesIn) -> AllowListModel:
    """Every entry that has not ended. Roles: analyst, auditor, admin."""
    policy = await services.detection_policies.current()
    return AllowListModel(
        policy_version=policy.version,
        entries=[_model(entry) for entry in policy.entries_at(reader.at)],
    )


@router.post("", status_code=201, responses=PROBLEMS(401, 403, 404, 409, 422))
async def add_to_allow_list(
    body: AllowListBody, actor: StaffActor, services: ServicesIn
) -> AllowListEntryModel:
    """Let something raise no alert for a while. Roles: admin; analyst in their own name."""
    is_admin = Role.ADMIN in actor.user.roles
    owner = actor.user.user_id
    if body.owner is not None:
        owner = await member_of_staff("owner", body.owner, services)
    if owner != actor.user.user_id and not is_admin:
        raise insufficient_scope("an analyst answers for their own entries only")
    command = AllowList(
        entry_id=services.new_id(),
        kind=_kind_of(body),
        network=body.network,
        asn=body.asn,
        user_id=None if body.user_id is None else await _known_user(body.user_id, services),
        rule=body.rule,
        owner=owner,
        reason=cleaned(body.reason, "reason"),
        until=body.until,
        longest=LONGEST_ALLOWANCE if is_admin else ANALYSTS_LONGEST_ALLOWANCE,
    )
    decision = await services.detection_policies.command(
        command, known_parameters(services), actor.cause_as_staff()
    )
    if decision.refusal is not None:
        raise policy_problem(decision)
    policy = await services.detection_policies.current()
    return _model(policy.entries[command.entry_id])


@router.delete("/{entry_id}", status_code=204, responses=PROBLEMS(401, 403, 404))
async def remove_from_allow_list(entry_id: str, actor: StaffActor, services: ServicesIn) -> None:
    """End an entry before its time. Roles: admin; analyst for their own entries."""
    policy = await services.detection_policies.current()
    entry = policy.entries.get(parse_uuid(entry_id) or "")
    if entry is None:
        raise problem_of(Refusal.UNKNOWN_ENTRY)
    if entry.owner != actor.user.user_id and Role.ADMIN not in actor.user.roles:
        raise insufficient_scope("an analyst removes their own entries only")
    decision = await services.detection_policies.command(
        RemoveEntry(entry.entry_id), known_parameters(services), actor.cause_as_staff()
    )
    if decision.refusal is not None:
        raise policy_problem(decision)


def _kind_of(body: AllowListBody) -> AllowedKind:
    given = [
        kind
        for kind, value in (
            (AllowedKind.NETWORK, body.network),
            (AllowedKind.ASN, body.asn),
            (AllowedKind.USER, body.user_id),
        )
        if value is not None
    ]
    if len(given) != 1:
        raise ProblemError(
            ProblemKind.INVALID_INPUT, "give exactly one of network, asn and user_id"
        )
    return given[0]


async def _known_user(text: str, services: Services) -> UserId:
    parsed = parse_uuid(text)
    if parsed is None or await services.users.find(UserId(parsed)) is None:
        raise ProblemError(ProblemKind.INVALID_INPUT, "user_id is no user's")
    return UserId(parsed)


def _model(entry: AllowListEntry) -> AllowListEntryModel:
    return AllowListEntryModel(
        id=entry.entry_id,
        kind=entry.kind,
        network=entry.network if isinstance(entry.network, str) else None,
        asn=entry.asn,
        user_id=entry.user_id,
        rule=entry.rule,
        owner=entry.owner,
        reason=entry.reason if isinstance(entry.reason, str) else None,
        added_at=entry.added_at,
        until=entry.until,
    )
