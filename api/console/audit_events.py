"""Audit: one event as the log holds it, and the proof that it is in the signed tree."""

from dataclasses import dataclass

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec.structs import replace

from api.console.audit import AUDIT
from api.console.audit_places import happened_at
from api.console.pages import page
from api.console.visits import AuditVisit
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import ServicesIn
from audit.checkpoints import parse_checkpoint
from audit.merkle import ProofError, leaf_hash, verify_inclusion
from audit.proving import InvalidReferenceError, NotInTreeError, prove_inclusion
from audit.signed_notes import NoteError
from audit.tlog_proofs import InclusionProof

router = APIRouter(prefix=f"{AUDIT}/events", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of a proof came to.

    Attributes:
        proved: Whether the proof leads to the head.
        size: Of the head's tree.
        root: Its root, in hexadecimal.
        flaw: What is wrong, where it does not.
    """

    proved: bool
    size: int
    root: str
    flaw: str


@router.get("/{reference}")
async def event(
    reference: str, request: Request, visit: AuditVisit, services: ServicesIn
) -> Response:
    """An event, by its position in the log, its id, or ``leaf:N``."""
    try:
        proof = await prove_inclusion(services.tree, reference)
    except InvalidReferenceError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    except NotInTreeError as error:
        raise ProblemError(ProblemKind.NOT_FOUND, str(error)) from error
    leaf = await _leaf(services, proof)
    verdict = verdict_on(proof, leaf)
    at = await happened_at(services.tree, proof.index)
    return await page(
        request,
        "audit_event.html",
        visit,
        {
            "index": proof.index,
            "at": at,
            "event": msgspec.json.decode(leaf),
            "raw": msgspec.json.format(leaf, indent=2).decode(),
            "hashed": leaf_hash(leaf).hex(),
            "verdict": verdict,
            "path_length": len(proof.hashes),
            "proof": str(replace(proof, extra=None)),
            "back": f"{AUDIT}/events/leaf:{proof.index - 1}" if proof.index else None,
            "on": (
                f"{AUDIT}/events/leaf:{proof.index + 1}" if proof.index + 1 < verdict.size else None
            ),
        },
    )


def verdict_on(proof: InclusionProof, leaf: bytes) -> Verdict:
    """Check that an event's bytes lead to the root that the head names.

    Args:
        proof: The proof, with its head.
        leaf: The event's canonical bytes.
    """
    try:
        signed = proof.note.partition("\n\n")[0] + "\n"
        head = parse_checkpoint(signed)
    except NoteError as error:
        return Verdict(proved=False, size=0, root="", flaw=str(error))
    flaw = ""
    try:
        verify_inclusion(leaf_hash(leaf), proof.index, head.size, proof.hashes, head.root)
    except ProofError as error:
        flaw = str(error) or "the hashes do not lead to the root"
    return Verdict(proved=not flaw, size=head.size, root=head.root.hex(), flaw=flaw)


async def _leaf(services: Services, proof: InclusionProof) -> bytes:
    if proof.extra is not None:
        return proof.extra
    name = await services.tree.archive_of(proof.index)
    where = f"it is archived in {name}" if name else "it is no longer in the database"
    raise ProblemError(ProblemKind.NOT_FOUND, f"the event is in the tree, but {where}")
