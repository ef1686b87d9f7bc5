"""Detection rules: what they look for, and their settings."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from api.alert_schemas import StaffBody
from api.fast import PROBLEMS
from api.ports import DescribedRule, Services
from api.problems import ProblemError, problem_of
from api.security import Caller, ServicesIn, StaffReader, staff
from domain.detection import Response, Severity
from domain.detection_policy import DetectionPolicy, RuleSettings
from domain.detection_policy_decisions import (
    MAX_PARAMETER,
    ConfigureRule,
    DetectionPolicyDecision,
    RuleParameters,
)
from domain.events.users import Role
from domain.refusals import Refusal

router = APIRouter(prefix="/v1/rules", tags=["detection policy"])

AdminActor = Annotated[Caller, Depends(staff(Role.ADMIN))]
Threshold = Annotated[int, Field(ge=0, le=MAX_PARAMETER)]


class RuleBody(StaffBody):
    """All settings of a rule: what is null or left out is the rule's own default."""

    enabled: bool = True
    severity: Annotated[Severity | None, Field(strict=False)] = None
    response: Annotated[Response | None, Field(strict=False)] = None
    parameters: dict[str, Threshold] = Field(default_factory=dict)


class RuleSettingsModel(BaseModel):
    """What was set for a rule; null is the rule's own default."""

    enabled: bool
    severity: Severity | None
    response: Response | None
    parameters: dict[str, int]


class RuleInForceModel(BaseModel):
    """How a rule stands now."""

    enabled: bool
    severity: Severity
    response: Response = Field(description="No more than `alert` while the rule is held back")
    parameters: dict[str, int]
    held_back_until: datetime | None = Field(
        description="Until when it may not act: it would have ended too many families"
    )


class RuleModel(BaseModel):
    """A detection rule."""

    name: str
    version: int
    title: str
    looks_for: str
    why: str
    techniques: list[str] = Field(description="MITRE ATT&CK technique ids")
    false_positives: list[str] = Field(description="Who else looks like that")
    severity: Severity = Field(description="Its own default")
    response: Response = Field(description="Its own default")
    parameters: dict[str, int] = Field(description="Its own defaults")
    settings: RuleSettingsModel
    in_force: RuleInForceModel


class RuleList(BaseModel):
    """Every rule."""

    policy_version: int = Field(description="Number of changes to the detection policy so far")
    rules: list[RuleModel]


@router.get("", responses=PROBLEMS(401, 403))
async def list_rules(reader: StaffReader, services: ServicesIn) -> RuleList:
    """Every detection rule, with its settings. Roles: analyst, auditor, admin."""
    policy = await services.detection_policies.current()
    return RuleList(
        policy_version=policy.version,
        rules=[_model(rule, policy, reader.at) for rule in services.rulebook.described().values()],
    )


@router.get("/{name}", responses=PROBLEMS(401, 403, 404))
async def show_rule(name: str, reader: StaffReader, services: ServicesIn) -> RuleModel:
    """One detection rule. Roles: analyst, auditor, admin."""
    return await _current(name, reader, services)


@router.put("/{name}", responses=PROBLEMS(401, 403, 404, 422))
async def configure_rule(
    name: str, body: RuleBody, actor: AdminActor, services: ServicesIn
) -> RuleModel:
    """Set everything about a rule. Role: admin."""
    settings = RuleSettings(
        enabled=body.enabled,
        severity=body.severity,
        response=body.response,
        parameters=body.parameters,
    )
    decision = await services.detection_policies.command(
        ConfigureRule(name, settings), known_parameters(services), actor.cause_as_staff()
    )
    if decision.refusal not in {None, Refusal.NOTHING_TO_DO}:
        raise policy_problem(decision)
    return await _current(name, actor, services)


def known_parameters(services: Services) -> RuleParameters:
    """The rules that there are, each with its parameters and their defaults."""
    return {name: rule.parameters for name, rule in services.rulebook.described().items()}


def policy_problem(decision: DetectionPolicyDecision) -> ProblemError:
    """The answer to a refused change of the policy."""
    problem = problem_of(decision.refusal or Refusal.NOTHING_TO_DO)
    problem.detail = decision.detail
    return problem


async def _current(name: str, caller: Caller, services: Services) -> RuleModel:
    rule = services.rulebook.described().get(name)
    if rule is None:
        raise problem_of(Refusal.UNKNOWN_RULE)
    return _model(rule, await services.detection_policies.current(), caller.at)


def _model(rule: DescribedRule, policy: DetectionPolicy, at: datetime) -> RuleModel:
    settings = policy.settings_of(rule.name)
    in_force = policy.in_force(
        rule.name,
        severity=rule.severity,
        response=rule.response,
        parameters=rule.parameters,
        at=at,
    )
    return RuleModel(
        name=rule.name,
        version=rule.version,
        title=rule.title,
        looks_for=rule.looks_for,
        why=rule.why,
        techniques=list(rule.techniques),
        false_positives=list(rule.false_positives),
        severity=rule.severity,
        response=rule.response,
        parameters=dict(rule.parameters),
        settings=RuleSettingsModel(
            enabled=settings.enabled,
            severity=settings.severity,
            response=settings.response,
            parameters=settings.parameters,
        ),
        in_force=RuleInForceModel(
            enabled=in_force.enabled,
            severity=in_force.severity,
            response=in_force.response,
            parameters=in_force.parameters,
            held_back_until=in_force.held_back_until,
        ),
    )
