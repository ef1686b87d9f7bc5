"""Audit: one event as the log holds it, and the proof that it is in the signed tree."""

import logging

import msgspec
from fastapi import APIRouter, Request, Response

from api.console.audit_addresses import EVENTS
from api.console.audit_places import instant
from api.console.pages import page
from api.console.visits import AuditVisit
from api.problems import ProblemKind
from api.proofs import checked_proof
from api.security import ServicesIn
from audit.merkle import leaf_hash

router = APIRouter(prefix=EVENTS, include_in_schema=False)

_log = logging.getLogger(__name__)


@router.get("/{reference}")
async def event(
    reference: str, request: Request, visit: AuditVisit, services: ServicesIn
) -> Response:
    """An event, by its position in the log, its id, or ``leaf:N``.

    One that does not fit its proof is shown all the same, as evidence, with the status that the
    API's problem has.
    """
    checked = await checked_proof(services, reference)
    index, head = checked.proof.index, checked.head
    content = msgspec.json.decode(checked.leaf)
    if checked.flaw is not None:
        _log.error("the past is not as it was written: %s", checked.flaw)
    return await page(
        request,
        "audit_event.html",
        visit,
        {
            "index": index,
            "at": instant(content["occurred_at"]),
            "event": content,
            "raw": msgspec.json.format(checked.leaf, indent=2).decode(),
            "hashed": leaf_hash(checked.leaf).hex(),
            "checked": checked,
            "back": _address(index - 1) if index else None,
            "on": _address(index + 1) if head is not None and index + 1 < head.size else None,
        },
        status=200 if checked.flaw is None else ProblemKind.ALTERED_HISTORY.status,
    )


def _address(leaf: int) -> str:
    return f"{EVENTS}/leaf:{leaf}"
