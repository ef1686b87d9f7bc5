"""Proofs that events are in the signed tree, checked before anybody is shown them."""

from dataclasses import dataclass

from msgspec.structs import replace

from api.ports import Services
from api.problems import ProblemError, ProblemKind
from audit.checkpoints import Checkpoint, read_checkpoint
from audit.merkle import ProofError, leaf_hash, verify_inclusion
from audit.proving import InvalidReferenceError, NotInTreeError, prove_inclusion
from audit.signed_notes import NoteError, Verifier
from audit.tlog_proofs import InclusionProof
from domain.as_of import AlteredHistoryError


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """A proof, and what checking it came to.

    Attributes:
        proof: The proof, without the event's bytes.
        leaf: The event's canonical bytes.
        key: The public key that the head's signature was checked with; None where this service
            knows none, and did not check it.
        head: What the head says; None where it does not open.
        flaw: What does not fit; None where everything does.
    """

    proof: InclusionProof
    leaf: bytes
    key: Verifier | None
    head: Checkpoint | None
    flaw: str | None


async def checked_proof(services: Services, reference: str) -> CheckedProof:
    """The proof that an event is in the newest signed tree, checked, whatever that comes to.

    Args:
        services: The services.
        reference: The event's id, its position in the log, or ``leaf:N``.

    Raises:
        ProblemError: No event is called so, or it is archived or not in the tree yet.
        AlteredHistoryError: The event is gone.
        TreeDamagedError: The stored tree lacks what the proof needs.
    """
    try:
        proof = await prove_inclusion(services.tree, reference)
    except InvalidReferenceError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    except NotInTreeError as error:
        raise ProblemError(ProblemKind.NOT_FOUND, str(error)) from error
    if proof.extra is None:
        await refuse_archived(services, proof.index)
        msg = f"leaf {proof.index} is missing: its event was deleted"
        raise AlteredHistoryError(msg)
    return check(replace(proof, extra=None), proof.extra, services.log_key())


def check(proof: InclusionProof, leaf: bytes, key: Verifier | None) -> CheckedProof:
    """Check a proof, and who signed the head that it leads to.

    Args:
        proof: The proof.
        leaf: The event's canonical bytes.
        key: The log's public key, where it is known.
    """
    head = flaw = None
    try:
        head = read_checkpoint(proof.note, key)
        verify_inclusion(leaf_hash(leaf), proof.index, head.size, proof.hashes, head.root)
    except (NoteError, ProofError) as error:
        flaw = str(error)
    return CheckedProof(proof, leaf, key, head, flaw)


async def refuse_archived(services: Services, leaf: int) -> None:
    """Say where a leaf's event went, if it is in an archive.

    Raises:
        ProblemError: It is.
    """
    name = await services.tree.archive_of(leaf)
    if name is not None:
        detail = f"leaf {leaf} is archived in {name}; the tree's hash of it is still here"
        raise ProblemError(ProblemKind.NOT_FOUND, detail)
