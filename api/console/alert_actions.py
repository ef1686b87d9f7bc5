"""What analysts do about an alert with one press: each can be taken back, or takes nothing away."""

from fastapi import APIRouter, Request, Response

from api.alerts import cleaned, commanded, member_of_staff
from api.console.alert_detail import Undone, shown
from api.console.alert_filters import QUEUE
from api.console.forms import Form, form_of
from api.console.pages import see_other
from api.console.visits import ActorVisit, Visit
from api.console.words import sentence
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import HeadersIn, ServicesIn
from domain.alert_decisions import Acknowledge, AlertCommand, Assign, Comment, Reopen, Resolve
from domain.detection import Verdict

router = APIRouter(prefix=QUEUE, include_in_schema=False)

_CORRECTABLE = {ProblemKind.INVALID_INPUT, ProblemKind.CONFLICT}
"""Somebody was faster, or something is missing: what was typed is still good."""


@router.post("/{alert_id}/{deed}")
async def act(
    alert_id: str,
    deed: str,
    request: Request,
    visit: ActorVisit,
    services: ServicesIn,
    headers: HeadersIn,
) -> Response:
    """Carries out one of these, and shows the alert again; also where it cannot be done."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    try:
        command, did = await _command(deed, form, visit, services)
        await commanded(alert_id, command, visit.caller, services)
    except ProblemError as error:
        if error.kind not in _CORRECTABLE:
            raise
        said = error.detail or "that cannot be done any more: things have changed meanwhile"
        undone = Undone(sentence(said), error.kind.status, deed, form.text("comment"))
        return await shown(alert_id, request, visit, services, undone)
    return see_other(request, f"{QUEUE}/{alert_id}?did={did}")


async def _command(
    deed: str, form: Form, visit: Visit, services: Services
) -> tuple[AlertCommand, str]:
    """The command, and what the page says after it.

    Raises:
        ProblemError: There is no such deed, or the form is not filled in as it should be.
    """
    match deed:
        case "acknowledge":
            return Acknowledge(), "acknowledged"
        case "take":
            return Assign(visit.caller.user.user_id), "assigned"
        case "assign":
            text = form.text("assignee")
            if not text:
                return Assign(None), "unassigned"
            return Assign(await member_of_staff("assignee", text, services)), "assigned"
        case "comment":
            return Comment(cleaned(form.text("comment"))), "commented"
        case "resolve":
            comment = form.text("comment")
            return Resolve(_verdict(form), cleaned(comment) if comment else None), "resolved"
        case "reopen":
            return Reopen(), "reopened"
        case _:
            raise ProblemError(ProblemKind.NOT_FOUND)


def _verdict(form: Form) -> Verdict:
    text = form.text("verdict")
    if text not in set(Verdict):
        raise ProblemError(ProblemKind.INVALID_INPUT, "choose what it was")
    return Verdict(text)
