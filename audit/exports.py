"""What an export says besides its events, so that anybody can check it against a signed head.

Events come in bundles of 256 leaves. With each bundle that has any of the selection, its proof: the
hashes of the complete subtrees left and right of it, and within it, of those that cover the leaves
that were left out. Hash the events, put these between, and the tree's root has to come out.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    Frontier,
    Node,
    ReadNode,
    nodes_between,
    root_of,
)
from domain.exports import Selection
from domain.transparency import BUNDLE_WIDTH

FORMAT = "sessiontrail-export 1"


class Extension(msgspec.Struct, frozen=True):
    """That the tree of an export begins with an older one (RFC 6962 §2.1.2).

    Attributes:
        size: Of the older tree.
        hashes: The proof.
    """

    size: int
    hashes: Sequence[bytes]


class ExportHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing in an export.

    Attributes:
        format: What it is.
        checkpoint: The signed head that its proofs lead to.
        selection: Which events it was to hold.
        first_leaf: The leaves before that one were archived, so they could not be chosen.
        extends: Older trees that this one is proved to begin with, where that was asked for.
    """

    format: str = FORMAT
    checkpoint: str
    selection: Selection
    first_leaf: int = 0
    extends: Sequence[Extension] | msgspec.UnsetType = msgspec.UNSET


class Gap(msgspec.Struct, frozen=True):
    """Leaves that are not in the export.

    Attributes:
        first: The first of them.
        end: The first that is there again.
        nodes: Hashes of the complete subtrees that they are, from left to right.
    """

    first: int
    end: int
    nodes: Sequence[bytes]


class BundleProof(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed beside a bundle's events to come to the root. Hashes are in base64.

    Attributes:
        bundle: Its number: its leaves begin at 256 times that.
        left: Of the complete subtrees left of it, from left to right.
        right: Of those right of it.
        gaps: Leaves of it that are not in the export.
    """

    bundle: int
    left: Sequence[bytes]
    right: Sequence[bytes]
    gaps: Sequence[Gap] = ()


class ExportFooter(msgspec.Struct, frozen=True, kw_only=True):
    """The last thing in an export, so that one that was cut off shows.

    Attributes:
        events: How many events it holds.
        bundles: How many bundles they are in.
    """

    events: int
    bundles: int


class ExportedLeaf(msgspec.Struct, frozen=True, gc=False):
    """An event of an export.

    Attributes:
        leaf: Which leaf it is.
        hashed: The hash of its canonical bytes as a leaf.
        stated: What the file says that this hash is: it tells which of a bundle was altered.
        where: Where it is in the file, for people.
        event: The canonical bytes.
        is_opened: Whether what is personal stands beside them, which no proof covers.
    """

    leaf: int
    hashed: bytes
    stated: bytes
    where: str
    event: bytes = b""
    is_opened: bool = False


def bounds_of(bundle: int, size: int) -> tuple[int, int]:
    """The first leaf of a bundle in a tree of ``size`` leaves, and the first behind it."""
    first = bundle * BUNDLE_WIDTH
    return first, min(first + BUNDLE_WIDTH, size)


def outer_nodes(bundle: int, size: int) -> list[Node]:
    """The subtrees left and right of a bundle."""
    first, end = bounds_of(bundle, size)
    return [*nodes_between(0, first), *nodes_between(end, size)]


def prove_bundle(
    bundle: int, size: int, hashes: Sequence[bytes], chosen: Sequence[int], read: ReadNode
) -> BundleProof:
    """The proof for a bundle.

    Args:
        bundle: Its number.
        size: Of the tree.
        hashes: Of all its leaves.
        chosen: The leaves of it that are exported, in order.
        read: Says the hash of a node of ``outer_nodes``.
    """
    first, end = bounds_of(bundle, size)
    return BundleProof(
        bundle=bundle,
        left=[read(node) for node in nodes_between(0, first)],
        right=[read(node) for node in nodes_between(end, size)],
        gaps=[
            Gap(start, stop, [_within(node, first, hashes) for node in nodes_between(start, stop)])
            for start, stop in _gaps(first, end, chosen)
        ],
    )


def check_bundle(
    proof: BundleProof, size: int, root: bytes, leaves: Sequence[ExportedLeaf]
) -> str | None:
    """What is wrong with a bundle of an export, in one line; None if all is well.

    Args:
        proof: As in the file.
        size: Of the tree that was signed.
        root: Its root.
        leaves: The events that the file has for it.
    """
    first, end = bounds_of(proof.bundle, size)
    if not 0 <= first < end:
        return f"bundle {proof.bundle} is not in the signed tree of {size} events"
    try:
        fault = _misplaced(proof, first, end, leaves)
        if fault is not None:
            return fault
        if _root(proof, first, size, [each.stated for each in leaves]) == root:
            return _altered([each for each in leaves if each.hashed != each.stated])
        if _root(proof, first, size, [each.hashed for each in leaves]) == root:
            wrong = next(each for each in leaves if each.hashed != each.stated)
            return f"{wrong.where} has another hash than that of its event, which was signed"
    except ValueError as error:
        return f"the proof of bundle {proof.bundle} is malformed: {error}"
    if len(leaves) == 1:
        return _altered(leaves)
    span = f" ({leaves[0].where} to {leaves[-1].where})" if leaves else ""
    return f"an event, or the proof, of bundle {proof.bundle}{span} is not what was signed"


def older_root(
    proof: BundleProof, size: int, leaves: Sequence[ExportedLeaf], older: int
) -> bytes | None:
    """The root that the tree had when it was smaller, as far as a bundle tells.

    It does wherever one of the subtrees that it names begins or ends there: always within a
    bundle whose events are all exported.

    Args:
        proof: Of a bundle in which nothing is wrong (``check_bundle``).
        size: Of the tree that was signed.
        leaves: The bundle's events.
        older: The smaller size.
    """
    first, end = bounds_of(proof.bundle, size)
    closed = [(0, first), *((gap.first, gap.end) for gap in proof.gaps), (end, size)]
    if any(start < older < stop and not _ends_at(older, start, stop) for start, stop in closed):
        return None
    if older == 0:
        return EMPTY_ROOT
    tree = Frontier()
    for level, hashed in _subtrees(proof, first, size, [each.hashed for each in leaves]):
        tree.append_subtree(level, hashed)
        if tree.size == older:
            return tree.root()
    return None


def _ends_at(place: int, start: int, end: int) -> bool:
    """Whether one of the subtrees that are a range of leaves ends at a place within it."""
    return any((node.number + 1) << node.level == place for node in nodes_between(start, end))


def _altered(leaves: Sequence[ExportedLeaf]) -> str | None:
    """What is told of leaves of a bundle that are not those that were signed."""
    if not leaves:
        return None
    more = f" ({len(leaves) - 1} more in its bundle)" if len(leaves) > 1 else ""
    return f"{leaves[0].where} is not the event that was signed as leaf {leaves[0].leaf}{more}"


def _misplaced(
    proof: BundleProof, first: int, end: int, leaves: Sequence[ExportedLeaf]
) -> str | None:
    """What is wrong with a bundle's leaves by their numbers alone."""
    coming = iter(leaves)
    for start, stop in _between_gaps(proof, first, end):
        for due in range(start, stop):
            each = next(coming, None)
            if each is None:
                return f"leaf {due} is missing"
            if each.leaf != due:
                return f"{each.where} has leaf {each.leaf} where leaf {due} is due"
    extra = next(coming, None)
    if extra is not None:
        return f"{extra.where} has leaf {extra.leaf}, which bundle {proof.bundle} has no place for"
    return None


def _root(proof: BundleProof, first: int, size: int, hashes: Sequence[bytes]) -> bytes:
    """The root that a bundle leads to, its leaves in their places."""
    tree = Frontier()
    for level, hashed in _subtrees(proof, first, size, hashes):
        tree.append_subtree(level, hashed)
    return tree.root()


def _subtrees(
    proof: BundleProof, first: int, size: int, hashes: Sequence[bytes]
) -> Iterator[tuple[int, bytes]]:
    """The complete subtrees that a tree consists of: level and hash, from left to right."""
    yield from _levelled(0, first, proof.left)
    _, end = bounds_of(proof.bundle, size)
    gaps = iter(proof.gaps)
    coming = iter(hashes)
    for start, stop in _between_gaps(proof, first, end):
        for _ in range(start, stop):
            yield 0, _hash_of(next(coming))
        gap = next(gaps, None)
        if gap is not None:
            yield from _levelled(gap.first, gap.end, gap.nodes)
    yield from _levelled(end, size, proof.right)


def _between_gaps(proof: BundleProof, first: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges of leaves before, between and behind the gaps, each perhaps empty."""
    place = first
    for gap in proof.gaps:
        if not place <= gap.first < gap.end <= end:
            msg = f"a gap from {gap.first} to {gap.end}"
            raise ValueError(msg)
        yield place, gap.first
        place = gap.end
    yield place, end


def _levelled(first: int, end: int, hashes: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    nodes = list(nodes_between(first, end))
    if len(nodes) != len(hashes):
        msg = f"{len(hashes)} hashes where {len(nodes)} are due"
        raise ValueError(msg)
    for node, hashed in zip(nodes, hashes, strict=True):
        yield node.level, _hash_of(hashed)


def _hash_of(hashed: bytes) -> bytes:
    if len(hashed) != HASH_BYTES:
        msg = f"a hash of {len(hashed)} bytes"
        raise ValueError(msg)
    return hashed


def _gaps(first: int, end: int, chosen: Sequence[int]) -> Iterator[tuple[int, int]]:
    for before, after in pairwise([first - 1, *chosen, end]):
        if after - before > 1:
            yield before + 1, after


def _within(node: Node, first: int, hashes: Sequence[bytes]) -> bytes:
    start = (node.number << node.level) - first
    return root_of(hashes[start : start + (1 << node.level)])
