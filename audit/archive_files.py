"""The file of an archive: leaves of the tree, with the proof that they are.

Lines of text, compressed with gzip. The first is a header (JSON): which leaves these are, the
hashes of the subtrees left of them, the signed head and the proof that the head's tree begins with
the one that ends with them. Each further line is a leaf: the row's transaction id, a blank, and the
canonical bytes that the leaf's hash is over, which hold everything else of the row.
"""

import gzip
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from audit.checkpoints import open_checkpoint
from audit.merkle import Frontier, ProofError, leaf_hash, verify_consistency
from audit.signed_notes import NoteError, Verifier
from domain.json_reading import UNREADABLE

FORMAT = "sessiontrail-archive 1"
_COMPRESSION = 6


class ArchiveFileError(Exception):
    """A file that is no archive of that log, or was altered; the message says how."""


class ArchiveHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the file; hashes are in base64.

    Attributes:
        format: What it is.
        first_leaf: The first leaf in it.
        end_leaf: The first one that is not.
        snapshot_id: The snapshot that folds go on from without it.
        edge: Hashes of the complete subtrees left of the first leaf.
        root: The root of the tree that ends with the last leaf.
        consistency: The proof that the head's tree begins with that one.
        checkpoint: The signed head.
    """

    format: str = FORMAT
    first_leaf: int
    end_leaf: int
    snapshot_id: str
    edge: Sequence[str]
    root: str
    consistency: Sequence[str]
    checkpoint: str


class ArchivedLeaf(msgspec.Struct, frozen=True, gc=False):
    """A leaf of an archive.

    Attributes:
        transaction_id: Of its row.
        leaf: Its canonical bytes.
    """

    transaction_id: int
    leaf: bytes


def hash_texts(hashes: Iterable[bytes]) -> list[str]:
    """Hashes as the header has them."""
    return [b64encode(each).decode("ascii") for each in hashes]


class ArchiveWriter:
    """Writes an archive's file; a context manager that closes it."""

    def __init__(self, path: Path, header: ArchiveHeader) -> None:
        """Begin a file, which must not be there."""
        self._raw = path.open("xb")
        self._file = gzip.GzipFile(
            filename="", mode="wb", fileobj=self._raw, compresslevel=_COMPRESSION, mtime=0
        )
        self._file.write(msgspec.json.encode(header) + b"\n")

    def add(self, transaction_id: int, leaf: bytes) -> None:
        """Add the next leaf."""
        self._file.write(b"%d %s\n" % (transaction_id, leaf))

    def __enter__(self) -> "ArchiveWriter":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()


def read_header(path: Path) -> ArchiveHeader:
    """What a file says that it holds; nothing is checked but its form.

    Raises:
        ArchiveFileError: It is no archive.
    """
    try:
        with gzip.open(path, "rb") as file:
            return _header(path, file.readline())
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path}: {error}"
        raise ArchiveFileError(msg) from error


def verified_leaves(path: Path, verifier: Verifier) -> Iterator[ArchivedLeaf]:
    """The leaves of a file; once they have all come without an error, they are the tree's.

    Args:
        path: The file.
        verifier: The log's key.

    Raises:
        ArchiveFileError: It is no archive of that log, or was altered.
    """
    try:
        with gzip.open(path, "rb") as file:
            header = _header(path, file.readline())
            tree = Frontier(header.first_leaf, map(b64decode, header.edge))
            for line in file:
                leaf = _leaf(path, line)
                tree.append(leaf_hash(leaf.leaf))
                yield leaf
        _check(path, header, tree, verifier)
    except (OSError, EOFError, zlib.error, ValueError, ProofError, NoteError) as error:
        msg = f"{path}: {error}"
        raise ArchiveFileError(msg) from error


def _check(path: Path, header: ArchiveHeader, tree: Frontier, verifier: Verifier) -> None:
    head = open_checkpoint(header.checkpoint, verifier)
    if tree.size != header.end_leaf:
        msg = f"{path} holds the leaves up to {tree.size}, not up to {header.end_leaf}"
        raise ArchiveFileError(msg)
    proof = [b64decode(each) for each in header.consistency]
    verify_consistency(tree.size, tree.root(), head.size, head.root, proof)


def _header(path: Path, line: bytes) -> ArchiveHeader:
    try:
        header = msgspec.json.decode(line, type=ArchiveHeader)
    except UNREADABLE as error:
        msg = f"{path} is no archive"
        raise ArchiveFileError(msg) from error
    if header.format != FORMAT or not 0 <= header.first_leaf < header.end_leaf:
        msg = f"{path} is no archive that this version reads"
        raise ArchiveFileError(msg)
    return header


def _leaf(path: Path, line: bytes) -> ArchivedLeaf:
    number, _, leaf = line.rstrip(b"\n").partition(b" ")
    if not number.isdigit() or not leaf:
        msg = f"{path} has a line that is no leaf"
        raise ArchiveFileError(msg)
    return ArchivedLeaf(int(number), leaf)
