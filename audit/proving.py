"""Proofs from the stored tree."""

from collections.abc import Sequence

import msgspec

from audit.merkle import (
    consistency_nodes,
    consistency_proof,
    inclusion_nodes,
    inclusion_proof,
)
from audit.tlog_proofs import InclusionProof
from audit.tree_ports import TreeReader
from audit.tree_reading import node_reader, stored_root
from domain.ids import EventId, parse_uuid
from domain.transparency import TreeHead

_LEAF = "leaf:"
_MAX_DIGITS = 18


class InvalidReferenceError(ValueError):
    """A text that names no event."""


class NotInTreeError(Exception):
    """What is to be proved is not in the tree, or not yet; the message says which."""


class ConsistencyProof(msgspec.Struct, frozen=True):
    """That the tree of one size begins with that of another.

    Attributes:
        old: Size of the older tree.
        old_root: Its root, by the stored tiles.
        new: The newer tree.
        hashes: The proof.
    """

    old: int
    old_root: bytes
    new: TreeHead
    hashes: Sequence[bytes]


async def prove_inclusion(tree: TreeReader, reference: str) -> InclusionProof:
    """Prove that an event is in the newest signed tree.

    Args:
        tree: The stored tree.
        reference: The event's id, its position in the log, or ``leaf:N``.

    Raises:
        InvalidReferenceError: It is none of these.
        NotInTreeError: There is no such event, or it is not in the tree yet.
        TreeDamagedError: The stored tree lacks what the proof needs.
    """
    event_id = parse_uuid(reference)
    if event_id is not None:
        return await prove_event(tree, EventId(event_id))
    number = reference.removeprefix(_LEAF)
    if not (number.isascii() and number.isdigit()) or len(number) > _MAX_DIGITS:
        msg = "give an event's id, its position in the log, or leaf:N"
        raise InvalidReferenceError(msg)
    if reference.startswith(_LEAF):
        return await prove_leaf(tree, int(number))
    return await prove_position(tree, int(number))


async def prove_event(tree: TreeReader, event_id: EventId) -> InclusionProof:
    """Prove that an event is in the newest signed tree.

    Raises:
        NotInTreeError: There is no such event, or it is not in the tree yet.
        TreeDamagedError: The stored tree lacks what the proof needs.
    """
    position = await tree.position_of(event_id)
    if position is None:
        msg = f"no event {event_id} was found"
        raise NotInTreeError(msg)
    return await prove_position(tree, position)


async def prove_position(tree: TreeReader, position: int) -> InclusionProof:
    """Prove that the event at a position of the log is in the newest signed tree.

    Raises:
        NotInTreeError: There is none, or it is not in the tree yet.
        TreeDamagedError: The stored tree lacks what the proof needs.
    """
    index = await tree.leaf_at(position)
    if index is None:
        msg = f"no event at position {position} is in the tree; a new one is there within seconds"
        raise NotInTreeError(msg)
    return await prove_leaf(tree, index)


async def prove_leaf(tree: TreeReader, index: int) -> InclusionProof:
    """Prove that a leaf is in the newest signed tree, its bytes beside the proof.

    Raises:
        NotInTreeError: The tree has no such leaf.
        TreeDamagedError: The stored tree lacks what the proof needs.
    """
    head = await tree.newest_head()
    if head is None or not 0 <= index < head.size:
        msg = f"the tree has no leaf {index}"
        raise NotInTreeError(msg)
    read = await node_reader(tree, inclusion_nodes(index, head.size))
    entries = await tree.entries(index, 1)
    return InclusionProof(
        index,
        inclusion_proof(index, head.size, read),
        head.note,
        entries[0].leaf if entries else None,
    )


async def prove_consistency(tree: TreeReader, old: int, new: int | None = None) -> ConsistencyProof:
    """Prove that a signed tree begins with the tree of an older size.

    Args:
        tree: The stored tree.
        old: The older size; signed or not.
        new: Size of the newer, signed tree; None for the newest.

    Raises:
        NotInTreeError: No tree of the newer size was signed, or the older one is larger.
        TreeDamagedError: The stored tree lacks what the proof needs.
    """
    head = await (tree.newest_head() if new is None else tree.head_of(new))
    if head is None:
        msg = "nothing was signed yet" if new is None else f"no head of {new} events was signed"
        raise NotInTreeError(msg)
    if not 0 <= old <= head.size:
        msg = f"a tree of {head.size} events cannot begin with one of {old}"
        raise NotInTreeError(msg)
    read = await node_reader(tree, consistency_nodes(old, head.size))
    return ConsistencyProof(
        old,
        await stored_root(tree, old),
        head,
        consistency_proof(old, head.size, read),
    )
