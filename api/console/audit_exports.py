"""Audit: an export as a file, as ``POST /v1/audit/exports`` makes it."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api.console.audit_addresses import EXPORTS, correctable
from api.console.forms import Form, form_of
from api.console.pages import HEADERS, page, with_cookies
from api.console.visits import AuditVisit, Visit
from api.exports import MOST_EVENTS, ExportBody, exported, streamed
from api.problems import ProblemError, ProblemKind
from api.replay import moment_in
from api.security import HeadersIn, ServicesIn
from domain.as_of import AtInstant

router = APIRouter(prefix=EXPORTS, include_in_schema=False)


@router.get("")
async def ask(request: Request, visit: AuditVisit) -> Response:
    """Asks what to export."""
    return await _asking(request, visit, Form({}), None, 200)


@router.post("")
async def export(
    request: Request, visit: AuditVisit, services: ServicesIn, headers: HeadersIn
) -> Response:
    """The export, as a file to keep. It goes on record first."""
    form = await form_of(request, services, headers, visit.caller.session.session_id)
    try:
        body = _body(form)
        made = await exported(services, body, visit.caller.cause_as_staff())
    except ProblemError as error:
        return await _asking(request, visit, form, correctable(error), error.kind.status)
    response = streamed(made)
    response.headers.update(HEADERS)
    name = f"sessiontrail-{visit.caller.at:%Y%m%d-%H%M%S}.{body.format}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return with_cookies(request, response)


async def _asking(
    request: Request, visit: Visit, form: Form, problem: str | None, status: int
) -> Response:
    content = {"most": MOST_EVENTS, "typed": form, "problem": problem}
    return await page(request, "audit_exports.html", visit, content, status=status)


def _body(form: Form) -> ExportBody:
    try:
        # Pydantic judges the format.
        return ExportBody.model_validate(
            {
                "format": form.text("format") or "jsonl",
                "since": _instant("since", form.text("since")),
                "until": _instant("until", form.text("until")),
                "user": form.text("user") or None,
                "reason": form.text("reason") or None,
            }
        )
    except ValidationError as error:
        flaw = error.errors()[0]
        detail = f"{'.'.join(map(str, flaw['loc']))}: {flaw['msg']}"
        raise ProblemError(ProblemKind.INVALID_INPUT, detail) from error


def _instant(where: str, text: str) -> datetime | None:
    if not text:
        return None
    moment = moment_in(where, text)
    if not isinstance(moment, AtInstant):
        raise ProblemError(ProblemKind.INVALID_INPUT, f"{where}: give an instant")
    return moment.at
