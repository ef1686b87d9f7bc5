"""Letting something raise no alert for a while, beginning at an alert that it raised."""

from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api.alerts import known_alert
from api.allow_list import AllowListBody, add_to_allow_list
from api.console.alert_filters import QUEUE
from api.console.forms import Form, form_of
from api.console.pages import page, see_other
from api.console.places import provider_of
from api.console.titles import title_of
from api.console.visits import ActorVisit, Visit
from api.console.words import sentence
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import HeadersIn, ServicesIn
from domain.alert import Alert
from domain.client import ClientContext, network_of

router = APIRouter(prefix=QUEUE, include_in_schema=False)

DAYS = (1, 7, 30)


@dataclass(frozen=True, slots=True)
class Allowable:
    """Something that an alert is about."""

    kind: str
    value: str
    words: str


@router.get("/{alert_id}/allow")
async def ask(alert_id: str, request: Request, visit: ActorVisit, services: ServicesIn) -> Response:
    """Says what may be allowed, and asks for the reason."""
    alert = await known_alert(alert_id, services)
    return await _asking(request, visit, services, alert, None)


@router.post("/{alert_id}/allow")
async def do(
    alert_id: str, request: Request, visit: ActorVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """Adds the entry, in the name of who asks."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    alert = await known_alert(alert_id, services)
    try:
        body = _body(form, alert, visit, await _allowables(services, alert))
        await add_to_allow_list(body, visit.caller, services)
    except ValidationError:
        return await _asking(request, visit, services, alert, "Say why, in some words.")
    except ProblemError as error:
        if error.kind not in {ProblemKind.INVALID_INPUT, ProblemKind.CONFLICT}:
            raise
        said = error.detail or error.kind.title
        return await _asking(request, visit, services, alert, sentence(said))
    return see_other(request, f"{QUEUE}/{alert_id}?did=allowed")


def _body(form: Form, alert: Alert, visit: Visit, allowables: list[Allowable]) -> AllowListBody:
    chosen = next((each for each in allowables if each.kind == form.text("kind")), None)
    days = form.text("days")
    if chosen is None or days not in {str(each) for each in DAYS}:
        raise ProblemError(ProblemKind.INVALID_INPUT, "choose what to allow, and for how long")
    until = visit.caller.at + timedelta(days=int(days))
    return AllowListBody(
        network=chosen.value if chosen.kind == "network" else None,
        asn=int(chosen.value) if chosen.kind == "asn" else None,
        user_id=chosen.value if chosen.kind == "user" else None,
        rule=alert.rule if form.has("only_this_rule") else None,
        reason=form.text("reason"),
        until=until.isoformat(),  # type: ignore[arg-type]  # it takes a time as it is written
    )


async def _allowables(services: Services, alert: Alert) -> list[Allowable]:
    found = []
    client = alert.client
    if isinstance(client, ClientContext) and client.ip is not None:
        prefix = network_of(client.ip)
        found.append(Allowable("network", prefix, f"The network {prefix}"))
        network = services.networks.network(client.ip)
        if network.asn is not None:
            words = f"Everything that comes through {provider_of(network)}"
            found.append(Allowable("asn", str(network.asn), words))
    if alert.user_id is not None:
        names = await services.console.names([alert.user_id])
        who = names.get(alert.user_id)
        if who is not None:  # who was erased does nothing any more
            found.append(Allowable("user", alert.user_id, f"Whatever {who} does"))
    return found


async def _asking(
    request: Request, visit: Visit, services: Services, alert: Alert, problem: str | None
) -> Response:
    content = {
        "alert": alert,
        "allowables": await _allowables(services, alert),
        "days": DAYS,
        "rule_title": title_of(services, alert.rule),
        "problem": problem,
    }
    return await page(request, "allow.html", visit, content, status=200 if problem is None else 422)
