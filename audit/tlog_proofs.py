"""Inclusion proofs as text (C2SP tlog-proof): the proof and the checkpoint that it leads to."""

from base64 import b64decode, b64encode
from collections.abc import Sequence

import msgspec

from audit.checkpoints import open_checkpoint
from audit.merkle import HASH_BYTES, ProofError, leaf_hash, verify_inclusion
from audit.signed_notes import Verifier

_HEADER = "c2sp.org/tlog-proof@v1"
_EXTRA = "extra "
_INDEX = "index "
_MAX_DIGITS = 19
_MAX_HASHES = 63


class InclusionProof(msgspec.Struct, frozen=True):
    """That an event is in a signed tree.

    Attributes:
        index: Which leaf it is.
        hashes: Its audit path.
        note: The signed checkpoint of the tree.
        extra: The leaf's bytes, where the proof carries them; nothing vouches for them but the
            proof itself.
    """

    index: int
    hashes: Sequence[bytes]
    note: str
    extra: bytes | None = None

    def __str__(self) -> str:
        """The form that ``parse_proof`` reads."""
        extra = [] if self.extra is None else [_EXTRA + _encoded(self.extra)]
        lines = [_HEADER, *extra, f"{_INDEX}{self.index}", *map(_encoded, self.hashes)]
        return "\n".join(lines) + "\n\n" + self.note


def parse_proof(text: str) -> InclusionProof:
    """Read a proof, without checking it.

    Raises:
        ProofError: It is none.
    """
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != _HEADER:
        msg = f"a proof begins with {_HEADER}, and has a checkpoint behind an empty line"
        raise ProofError(msg)
    extra = None
    if lines and lines[0].startswith(_EXTRA):
        extra = _decoded(lines.pop(0).removeprefix(_EXTRA))
    index = lines.pop(0).removeprefix(_INDEX) if lines and lines[0].startswith(_INDEX) else ""
    if not _is_number(index) or len(lines) > _MAX_HASHES:
        msg = "the proof does not say which leaf it is about"
        raise ProofError(msg)
    hashes = [_decoded(line) for line in lines]
    if any(len(each) != HASH_BYTES for each in hashes):
        msg = "the proof holds what is no SHA-256 hash"
        raise ProofError(msg)
    return InclusionProof(int(index), hashes, note, extra)


def verify_proof(proof: InclusionProof, leaf: bytes, verifier: Verifier) -> None:
    """Check that a log's key has signed a tree with that leaf in it.

    Args:
        proof: The proof.
        leaf: The leaf's bytes.
        verifier: The log's key.

    Raises:
        ProofError: The leaf is not proved.
        NoteError: The checkpoint is not signed by that key.
    """
    checkpoint = open_checkpoint(proof.note, verifier)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)


def _is_number(text: str) -> bool:
    digits = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return digits and (text == "0" or text[0] != "0")


def _encoded(content: bytes) -> str:
    return b64encode(content).decode()


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        msg = "the proof holds what is no base64"
        raise ProofError(msg) from None
