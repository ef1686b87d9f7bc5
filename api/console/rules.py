"""Rules: what each looks for, how it does, and its thresholds, tried before they are saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Request, Response

from api.allow_list import remove_from_allow_list
from api.console.forms import Form, form_of
from api.console.pages import page, see_other
from api.console.visits import ActorVisit, AdminVisit, ReaderVisit, Visit
from api.ports import DescribedRule, Services
from api.problems import ProblemError, ProblemKind, problem_of
from api.rules import RuleBody, configure_rule
from api.security import HeadersIn, ServicesIn
from domain.detection import Response as RuleResponse
from domain.detection import Severity, Verdict
from domain.detection_policy import AllowListEntry, RuleInForce, RuleSettings
from domain.detection_policy_decisions import MAX_PARAMETER
from domain.ids import UserId
from domain.refusals import Refusal
from domain.rule_trials import RuleTrial, TrialAsked

RULES = "/console/rules"
router = APIRouter(prefix=RULES, include_in_schema=False)

_NUMBERS_OF = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule with its numbers.

    Attributes:
        rule: What it says of itself.
        in_force: How it stands.
        alerts: How many it raised in thirty days.
        attacks: Of these, how many were judged to be attacks.
        others: How many were judged to be none.
    """

    rule: DescribedRule
    in_force: RuleInForce
    alerts: int
    attacks: int
    others: int

    @property
    def precision(self) -> str:
        """Attacks among those that were judged."""
        judged = self.attacks + self.others
        return f"{self.attacks / judged:.0%}" if judged else "–"


@router.get("")
async def rules(request: Request, visit: ReaderVisit, services: ServicesIn) -> Response:
    """Every rule, and the allow-list."""
    policy = await services.detection_policies.current()
    lines = await _lines(services, visit)
    entries = sorted(policy.entries_at(visit.caller.at), key=lambda each: each.until)
    people = {each for entry in entries for each in (entry.owner, entry.user_id) if each}
    names = await services.console.names(people)
    content = {
        "lines": lines,
        "entries": [(entry, _about(entry, names), names.get(entry.owner)) for entry in entries],
    }
    return await page(request, "rules.html", visit, content)


@router.post("/allow-list/{entry_id}/remove")
async def remove(
    entry_id: str, request: Request, visit: ActorVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Takes an entry off the allow-list."""
    await form_of(request, services, headers, visit.caller.session.session_id)
    await remove_from_allow_list(entry_id, visit.caller, services)
    return see_other(request, f"{RULES}?did=removed")


@router.get("/{name}")
async def rule(name: str, request: Request, visit: ReaderVisit, services: ServicesIn) -> Response:
    """One rule."""
    policy = await services.detection_policies.current()
    return await _shown(request, visit, services, name, policy.settings_of(name), None)


@router.post("/{name}/try")
async def try_out(
    name: str, request: Request, visit: AdminVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Shows what other settings would have found, before they are saved."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    settings = _settings(form, _known(services, name))
    trial = await services.rule_trials.tried(TrialAsked(name, settings))
    return await _shown(request, visit, services, name, settings, trial or "busy")


@router.post("/{name}/save")
async def save(
    name: str, request: Request, visit: AdminVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Puts settings in force."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    settings = _settings(form, _known(services, name))
    body = RuleBody(
        enabled=settings.enabled,
        severity=settings.severity,
        response=settings.response,
        parameters=settings.parameters,
    )
    await configure_rule(name, body, visit.caller, services)
    return see_other(request, f"{RULES}/{name}?did=configured")


async def _shown(
    request: Request,
    visit: Visit,
    services: Services,
    name: str,
    settings: RuleSettings,
    trial: RuleTrial | str | None,
) -> Response:
    described = _known(services, name)
    line = next(each for each in await _lines(services, visit) if each.rule.name == name)
    content = {
        "line": line,
        "rule": described,
        "settings": settings,
        "parameters": {**described.parameters, **settings.parameters},
        "severities": list(reversed(Severity)),
        "responses": list(RuleResponse),
        "highest": MAX_PARAMETER,
        "trial": trial if isinstance(trial, RuleTrial) else None,
        "failed": trial == "busy",
    }
    return await page(request, "rule.html", visit, content)


async def _lines(services: Services, visit: Visit) -> list[RuleLine]:
    policy = await services.detection_policies.current()
    numbers = await services.console.alerts_by_rule(visit.caller.at - _NUMBERS_OF)
    lines = []
    for name, described in services.rulebook.described().items():
        of_rule = numbers.get(name, {})
        lines.append(
            RuleLine(
                described,
                policy.in_force(
                    name,
                    severity=described.severity,
                    response=described.response,
                    parameters=described.parameters,
                    at=visit.caller.at,
                ),
                sum(of_rule.values()),
                of_rule.get(Verdict.TRUE_POSITIVE, 0),
                of_rule.get(Verdict.FALSE_POSITIVE, 0) + of_rule.get(Verdict.BENIGN, 0),
            )
        )
    return sorted(lines, key=lambda line: (-line.in_force.severity.rank, line.rule.title))


def _settings(form: Form, described: DescribedRule) -> RuleSettings:
    """The settings that a form says; what is as the rule has it is left out.

    Raises:
        ProblemError: It does not say them as it should.
    """
    parameters = {}
    for name, default in described.parameters.items():
        text = form.text(f"parameter.{name}") or str(default)
        if not text.isascii() or not text.isdigit() or int(text) > MAX_PARAMETER:
            problem = f"{name} is a whole number from 0 to {MAX_PARAMETER}"
            raise ProblemError(ProblemKind.INVALID_INPUT, problem)
        if int(text) != default:
            parameters[name] = int(text)
    severity, response = form.text("severity"), form.text("response")
    try:
        return RuleSettings(
            enabled=form.has("enabled"),
            severity=Severity(severity) if severity else None,
            response=RuleResponse(response) if response else None,
            parameters=parameters,
        )
    except ValueError as error:
        raise ProblemError(
            ProblemKind.INVALID_INPUT, "choose one of those that there are"
        ) from error


def _known(services: Services, name: str) -> DescribedRule:
    described = services.rulebook.described().get(name)
    if described is None:
        raise problem_of(Refusal.UNKNOWN_RULE)
    return described


def _about(entry: AllowListEntry, names: Mapping[UserId, str]) -> str:
    if entry.user_id is not None:
        return names.get(entry.user_id, "an erased user")
    if entry.asn is not None:
        return f"AS{entry.asn}"
    return entry.network if isinstance(entry.network, str) else "a network"
