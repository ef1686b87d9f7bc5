"""Checkpoints (C2SP tlog-checkpoint): a tree's size and root, as the text of a signed note."""

from base64 import b64decode, b64encode

import msgspec

from audit.merkle import HASH_BYTES
from audit.signed_notes import NoteError, Signer, Verifier, open_note
from domain.transparency import TreeHead

_MAX_SIZE = 2**63 - 1


class Checkpoint(msgspec.Struct, frozen=True):
    """What a log says of itself.

    Attributes:
        origin: The log's name.
        size: How many leaves its tree has.
        root: The tree's root hash.
    """

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def signed_checkpoint(signer: Signer, size: int, root: bytes) -> str:
    """The note in which a log commits to a tree; the signer's name is the log's origin."""
    return signer.sign(str(Checkpoint(signer.verifier.name, size, root)))


def open_checkpoint(note: str | bytes, verifier: Verifier) -> Checkpoint:
    """What a log has signed.

    Lines that follow the three are signed too and mean nothing to us.

    Args:
        note: The whole note, with witnesses' signatures or without.
        verifier: The log's key.

    Raises:
        NoteError: It is not signed by that key, is no checkpoint, or is another log's.
    """
    checkpoint = parse_checkpoint(open_note(note, [verifier]))
    if checkpoint.origin != verifier.name:
        msg = f"the checkpoint is of {checkpoint.origin!r}, not of {verifier.name!r}"
        raise NoteError(msg)
    return checkpoint


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text, without looking at who signed it.

    Raises:
        NoteError: It is none.
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines):  # noqa: PLR2004 (origin, size, root)
        msg = "a checkpoint has an origin, a size and a root, and no empty line"
        raise NoteError(msg)
    origin, size, encoded = lines[:3]
    try:
        root = b64decode(encoded, validate=True)
    except ValueError:
        root = b""
    if len(root) != HASH_BYTES:
        msg = "the checkpoint's root is no SHA-256 hash in base64"
        raise NoteError(msg)
    canonical = size.isascii() and size.isdigit() and (size == "0" or size[0] != "0")
    if not canonical or len(size) > len(str(_MAX_SIZE)) or int(size) > _MAX_SIZE:
        msg = "the checkpoint's size is no number of leaves"
        raise NoteError(msg)
    return Checkpoint(origin, int(size), root)


def read_checkpoint(note: str, verifier: Verifier | None) -> Checkpoint:
    """What a note says: as ``open_checkpoint``, and where no key is known, whoever signed it.

    Raises:
        NoteError: As ``open_checkpoint``, or it is no checkpoint.
    """
    if verifier is not None:
        return open_checkpoint(note, verifier)
    return parse_checkpoint(note.partition("\n\n")[0] + "\n")


def flaw_of_head(head: TreeHead, key: Verifier | None) -> str | None:
    """What is wrong with a stored head; None where nothing is.

    Args:
        head: The head.
        key: The log's public key, where it is known; without it, anybody may have signed.
    """
    try:
        said = read_checkpoint(head.note, key)
    except NoteError as error:
        return str(error)
    if (said.size, said.root) != (head.size, head.root):
        return f"the stored head of {head.size} events is not what its note says"
    return None
