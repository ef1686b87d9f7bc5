"""What an export says besides its events, so that anybody can check it against a signed head.

Events come in bundles of 256 leaves. With each bundle that has any of the selection, its proof: the
hashes of the complete subtrees left and right of it, and within it, of those that cover the leaves
that were left out. Hash the events, put these between, and the tree's root has to come out.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from audit.merkle import Frontier, Node, ReadNode, nodes_between, root_of
from domain.exports import Selection
from domain.transparency import BUNDLE_WIDTH

FORMAT = "sessiontrail-export 1"


class ExportHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing in an export.

    Attributes:
        format: What it is.
        checkpoint: The signed head that its proofs lead to.
        selection: Which events it was to hold.
    """

    format: str = FORMAT
    checkpoint: str
    selection: Selection


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
        where: Where it is in the file, for people.
    """

    leaf: int
    hashed: bytes
    where: str


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
    if first >= end:
        return f"bundle {proof.bundle} lies beyond the signed tree of {size} events"
    gaps = {gap.first: gap for gap in proof.gaps}
    coming = iter(leaves)
    try:
        tree = Frontier(first, proof.left)
        while tree.size < end:
            gap = gaps.pop(tree.size, None)
            if gap is not None:
                _skip(tree, gap, end)
                continue
            each = next(coming, None)
            if each is None:
                return f"leaf {tree.size} is missing"
            if each.leaf != tree.size:
                return f"{each.where} has leaf {each.leaf} where leaf {tree.size} is due"
            tree.append(each.hashed)
        _append(tree, end, size, proof.right)
    except ValueError as error:
        return f"the proof of bundle {proof.bundle} is malformed: {error}"
    extra = next(coming, None)
    if extra is not None:
        return f"{extra.where} has leaf {extra.leaf}, which bundle {proof.bundle} has no place for"
    if tree.root() != root:
        return _altered(leaves, proof.bundle)
    return None


def _altered(leaves: Sequence[ExportedLeaf], bundle: int) -> str:
    if len(leaves) == 1:
        return f"{leaves[0].where} is not the event that was signed as leaf {leaves[0].leaf}"
    span = f" ({leaves[0].where} to {leaves[-1].where})" if leaves else ""
    return f"an event, or the proof, of bundle {bundle}{span} is not what was signed"


def _skip(tree: Frontier, gap: Gap, end: int) -> None:
    if not gap.first < gap.end <= end:
        msg = f"a gap from {gap.first} to {gap.end}"
        raise ValueError(msg)
    _append(tree, gap.first, gap.end, gap.nodes)


def _append(tree: Frontier, first: int, end: int, hashes: Sequence[bytes]) -> None:
    nodes = list(nodes_between(first, end))
    if len(nodes) != len(hashes):
        msg = f"{len(hashes)} hashes where {len(nodes)} are due"
        raise ValueError(msg)
    for node, hashed in zip(nodes, hashes, strict=True):
        tree.append_subtree(node.level, hashed)


def _gaps(first: int, end: int, chosen: Sequence[int]) -> Iterator[tuple[int, int]]:
    for before, after in pairwise([first - 1, *chosen, end]):
        if after - before > 1:
            yield before + 1, after


def _within(node: Node, first: int, hashes: Sequence[bytes]) -> bytes:
    start = (node.number << node.level) - first
    return root_of(hashes[start : start + (1 << node.level)])
