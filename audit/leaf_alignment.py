"""Which events of a run of leaves were altered, removed, added or moved.

Hashes tell leaves apart, so those events that are what they should be, in the order that they
should have, anchor the rest: what lies between two anchors on both sides was altered, what is left
over on one side is missing or was added.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from domain.transparency import LogEntry


class Fault(StrEnum):
    """What was done to an event."""

    ALTERED = "altered"
    MISSING = "missing"
    INSERTED = "inserted"
    MOVED = "moved"


class LeafFault(NamedTuple):
    """One event that is not as it was signed.

    Attributes:
        fault: What was done to it.
        leaf: The leaf that it should be, or, inserted, the leaf that it stands before.
        entry: The event that is there; None where one is missing.
        hashed: Of the leaf where one is missing, else of the event.
    """

    fault: Fault
    leaf: int
    entry: LogEntry | None
    hashed: bytes


class Found(NamedTuple):
    """An event that is there, and the hash that it has as a leaf."""

    hashed: bytes
    entry: LogEntry


def align(first: int, expected: Sequence[bytes], found: Sequence[Found]) -> list[LeafFault]:
    """What differs between leaves as they were signed and events as they are.

    Args:
        first: Index of the first leaf.
        expected: The leaves' hashes.
        found: The events, in the log's order.

    Returns:
        By leaf.
    """
    at = {hashed: index for index, hashed in enumerate(expected)}
    places = [at.get(each.hashed) for each in found]
    anchors = _longest_increasing(places)
    faults: list[LeafFault] = []
    kept = {places[index] for index in anchors}
    moved = {place for place in places if place is not None and place not in kept}
    for (row_from, row_to), (leaf_from, leaf_to) in _gaps(anchors, places, len(expected)):
        strange = []
        for each, place in zip(found[row_from:row_to], places[row_from:row_to], strict=True):
            if place is None:
                strange.append(each)
            elif place in moved:
                faults.append(LeafFault(Fault.MOVED, first + place, each.entry, each.hashed))
            else:  # a second one with the hash of an anchor
                faults.append(LeafFault(Fault.INSERTED, first + leaf_from, each.entry, each.hashed))
        lost = [leaf for leaf in range(leaf_from, leaf_to) if leaf not in moved]
        faults.extend(_paired(first, lost, leaf_to, expected, strange))
    return sorted(faults, key=lambda each: each.leaf)


def _paired(
    first: int, lost: Sequence[int], end: int, expected: Sequence[bytes], strange: Sequence[Found]
) -> Iterator[LeafFault]:
    both = min(len(lost), len(strange))
    for leaf, each in zip(lost[:both], strange[:both], strict=True):
        yield LeafFault(Fault.ALTERED, first + leaf, each.entry, each.hashed)
    for leaf in lost[both:]:
        yield LeafFault(Fault.MISSING, first + leaf, None, expected[leaf])
    for each in strange[both:]:
        yield LeafFault(Fault.INSERTED, first + end, each.entry, each.hashed)


def _gaps(
    anchors: Sequence[int], places: Sequence[int | None], leaves: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rows and leaves between two anchors, before the first and after the last."""
    row = leaf = 0
    for anchor in anchors:
        place = places[anchor] or 0
        yield (row, anchor), (leaf, place)
        row, leaf = anchor + 1, place + 1
    yield (row, len(places)), (leaf, leaves)


def _longest_increasing(places: Sequence[int | None]) -> list[int]:
    """Indices of a longest increasing subsequence, None left out (patience sorting)."""
    tails: list[int] = []
    tail_at: list[int] = []
    before: dict[int, int | None] = {}
    for index, place in enumerate(places):
        if place is None:
            continue
        pile = bisect_left(tails, place)
        before[index] = tail_at[pile - 1] if pile else None
        if pile == len(tails):
            tails.append(place)
            tail_at.append(index)
        else:
            tails[pile], tail_at[pile] = place, index
    chain: list[int] = []
    index_or_none = tail_at[-1] if tail_at else None
    while index_or_none is not None:
        chain.append(index_or_none)
        index_or_none = before[index_or_none]
    return chain[::-1]
