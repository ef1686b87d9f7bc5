"""The Merkle tree of RFC 6962 §2.1: hashes, roots, and proofs with their verification.

A node is named by its level (0 are the leaves' hashes) and its number there; it stands for a
complete subtree of ``2**level`` leaves. Proofs are put together from complete subtrees only, which
never change once they are there, so whatever holds them (tiles, a list) can be asked for them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""

_LEAF = b"\x00"
_NODE = b"\x01"


class ProofError(Exception):
    """A proof that does not prove what it is said to; the message says in what way."""


class InconsistentTreesError(ProofError):
    """A proof that is of the newer tree, and by which that one begins with another older one."""


class Node(NamedTuple):
    """A complete subtree: of ``2**level`` leaves, the first of which is ``number * 2**level``."""

    level: int
    number: int


ReadNode = Callable[[Node], bytes]
"""Says the hash of a node."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf's bytes."""
    return sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(_NODE + left + right).digest()


class Frontier:
    """A tree as far as it has to be known to grow: the complete subtrees along its right edge.

    >>> tree = Frontier()
    >>> tree.append(leaf_hash(b""))
    >>> tree.size, tree.root().hex()[:8]
    (1, '6e340b9c')
    """

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Iterable[bytes] = ()) -> None:
        """Begin with a tree that is there.

        Args:
            size: How many leaves it has.
            edge: The hashes of ``nodes_between(0, size)``, in that order.

        Raises:
            ValueError: That many subtrees do not make a tree of that size.
        """
        self.size = size
        self._edge = list(edge)
        if len(self._edge) != size.bit_count():
            msg = f"a tree of {size} leaves has {size.bit_count()} subtrees, not {len(self._edge)}"
            raise ValueError(msg)

    def append(self, hashed: bytes) -> None:
        """Add a leaf, given by its hash."""
        full = self.size
        while full & 1:
            hashed = node_hash(self._edge.pop(), hashed)
            full >>= 1
        self._edge.append(hashed)
        self.size += 1

    def append_subtree(self, level: int, hashed: bytes) -> None:
        """Add a complete subtree of ``2**level`` leaves, given by its hash.

        Raises:
            ValueError: The tree's size is no multiple of that, so it does not fit there.
        """
        if self.size % (1 << level):
            msg = f"no subtree of 2^{level} leaves begins at leaf {self.size}"
            raise ValueError(msg)
        full = self.size >> level
        while full & 1:
            hashed = node_hash(self._edge.pop(), hashed)
            full >>= 1
        self._edge.append(hashed)
        self.size += 1 << level

    def root(self) -> bytes:
        """The tree's root hash."""
        return _folded(self._edge) if self._edge else EMPTY_ROOT


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root of the tree over leaves given by their hashes."""
    row = list(leaf_hashes)
    if not row:
        return EMPTY_ROOT
    while len(row) > 1:
        above = [node_hash(*pair) for pair in zip(row[::2], row[1::2], strict=False)]
        if len(row) & 1:
            above.append(row[-1])  # it has no sibling, so it is part of the subtree above
        row = above
    return row[0]


def nodes_between(start: int, end: int) -> Iterator[Node]:
    """The fewest complete subtrees that together are the leaves from ``start`` up to ``end``."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield Node(level, start >> level)
        start += 1 << level


def root_at(size: int, read: ReadNode) -> bytes:
    """The root that a tree had when it had ``size`` leaves."""
    return _hash_between(0, size, read) if size else EMPTY_ROOT


def inclusion_nodes(index: int, size: int) -> Iterator[Node]:
    """What ``inclusion_proof`` will read.

    Raises:
        ProofError: The tree has no such leaf.
    """
    for start, end in _inclusion_ranges(index, size):
        yield from nodes_between(start, end)


def inclusion_proof(index: int, size: int, read: ReadNode) -> list[bytes]:
    """The audit path of a leaf (RFC 6962 §2.1.1).

    Args:
        index: Of the leaf, from 0.
        size: Of the tree to prove it in.
        read: Says the hash of a node of that tree.

    Returns:
        From the leaf's sibling to the root's child.

    Raises:
        ProofError: The tree has no such leaf.
    """
    return [_hash_between(start, end, read) for start, end in _inclusion_ranges(index, size)]


def consistency_nodes(old: int, new: int) -> Iterator[Node]:
    """What ``consistency_proof`` will read.

    Raises:
        ProofError: The old tree is larger than the new one.
    """
    for start, end in _consistency_ranges(old, new):
        yield from nodes_between(start, end)


def consistency_proof(old: int, new: int, read: ReadNode) -> list[bytes]:
    """The proof that the tree of ``new`` leaves begins with that of ``old`` (RFC 6962 §2.1.2).

    Empty where the old tree is empty or both are of one size.

    Raises:
        ProofError: The old tree is larger than the new one.
    """
    return [_hash_between(start, end, read) for start, end in _consistency_ranges(old, new)]


def verify_inclusion(
    hashed: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a leaf is in a tree (RFC 9162 §2.1.3.2).

    Args:
        hashed: The leaf's hash.
        index: Its index.
        size: Of the tree.
        proof: Its audit path.
        root: Of the tree.

    Raises:
        ProofError: It is not proved.
    """
    if not 0 <= index < size:
        msg = f"a tree of {size} leaves has no leaf {index}"
        raise ProofError(msg)
    place, last = index, size - 1
    for sibling in proof:
        if last == 0:
            msg = "the inclusion proof is too long"
            raise ProofError(msg)
        if place & 1 or place == last:
            hashed = node_hash(sibling, hashed)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        place, last = place >> 1, last >> 1
    if last:
        msg = "the inclusion proof is too short"
        raise ProofError(msg)
    if hashed != root:
        msg = f"leaf {index} is not what the tree of {size} leaves was signed over"
        raise ProofError(msg)


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that a tree begins with an older one (RFC 9162 §2.1.4.2).

    Args:
        old: The older tree's size.
        old_root: Its root.
        new: The newer tree's size.
        new_root: Its root.
        proof: As ``consistency_proof`` makes it.

    Raises:
        InconsistentTreesError: It is disproved.
        ProofError: It is not proved.
    """
    if old > new:
        msg = f"a tree of {new} leaves cannot begin with one of {old}"
        raise ProofError(msg)
    if old in {0, new}:
        _check_trivial(old, old_root, new, new_root, proof)
        return
    # An old tree of a power of two is a subtree of the new one, and its root left out.
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not hashes:
        msg = "the consistency proof is too short"
        raise ProofError(msg)
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    in_old = in_new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            msg = "the consistency proof is too long"
            raise ProofError(msg)
        if place & 1 or place == last:
            in_old, in_new = node_hash(sibling, in_old), node_hash(sibling, in_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            in_new = node_hash(in_new, sibling)
        place, last = place >> 1, last >> 1
    if last:
        msg = "the consistency proof is too short"
        raise ProofError(msg)
    if in_old != old_root or in_new != new_root:
        msg = f"the tree of {new} leaves does not begin with that of {old}"
        # What leads to the newer root is of that tree, and so is the older root that it leads to.
        raise InconsistentTreesError(msg) if in_new == new_root else ProofError(msg)


def _check_trivial(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    if proof:
        msg = "the consistency proof is too long"
        raise ProofError(msg)
    if old == 0 and old_root != EMPTY_ROOT:
        msg = "an empty tree has another root"
        raise InconsistentTreesError(msg)
    if old == new and old_root != new_root:
        msg = f"there are two different trees of {old} leaves"
        raise InconsistentTreesError(msg)


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The siblings along a leaf's path, as ranges of leaves, from the leaf upwards."""
    if not 0 <= index < size:
        msg = f"a tree of {size} leaves has no leaf {index}"
        raise ProofError(msg)
    ranges = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _largest_power_below(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def _consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    if not 0 <= old <= new:
        msg = f"a tree of {new} leaves cannot begin with one of {old}"
        raise ProofError(msg)
    if old in {0, new}:
        return []
    ranges = []
    start, end = 0, new
    while end != old:
        middle = start + _largest_power_below(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:  # else it is the old root itself, which the verifier has
        ranges.append((start, old))
    return ranges[::-1]


def _largest_power_below(count: int) -> int:
    """RFC 6962's k: the largest power of two smaller than ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def _hash_between(start: int, end: int, read: ReadNode) -> bytes:
    return _folded([read(node) for node in nodes_between(start, end)])


def _folded(subtrees: Sequence[bytes]) -> bytes:
    """The hash over subtrees that follow one another, each smaller than the one before."""
    hashed = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        hashed = node_hash(left, hashed)
    return hashed
