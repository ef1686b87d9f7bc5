"""The log's Merkle tree as it is kept: heads, tiles, and which events its leaves are.

Leaf ``i`` is the ``i``-th event in the log's order (transaction, then position), counted from 0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

LogPlace = tuple[int, int]
"""A place in the log's order: an event's transaction id and position."""

BUNDLE_WIDTH = 256
"""So many entries a bundle holds."""


class TileId(NamedTuple):
    """A tile's place: its level, and its number there."""

    level: int
    number: int


class TreeHead(msgspec.Struct, frozen=True):
    """A tree that was signed.

    Attributes:
        size: How many leaves it has.
        root: Its root hash.
        note: The signed checkpoint.
    """

    size: int
    root: bytes
    note: str


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """An event as a leaf of the tree.

    Attributes:
        place: Its place in the log.
        occurred_at: Microseconds since 1970 UTC.
        leaf: Its canonical bytes: what the leaf's hash is over.
    """

    place: LogPlace
    occurred_at: int
    leaf: bytes


class BundleSpan(msgspec.Struct, frozen=True):
    """Events of one bundle.

    Attributes:
        bundle: Its number.
        first: Place of the first of them.
        earliest_at: The smallest ``occurred_at`` among them.
        latest_at: The largest.
    """

    bundle: int
    first: LogPlace
    earliest_at: int
    latest_at: int


class Standing(msgspec.Struct, frozen=True):
    """Where sequencing stands.

    Attributes:
        place: Of the last event that is in the tree.
        head: The tree; None where nothing was ever signed.
    """

    place: LogPlace
    head: TreeHead | None


class Growth(msgspec.Struct, frozen=True):
    """What one step of the sequencer adds, all of it or nothing.

    Attributes:
        before: The place that it goes on from.
        place: The place that it reaches.
        head: The tree then.
        tiles: Those that changed, as they are then.
        bundles: Those that the new events are in.
    """

    before: LogPlace
    place: LogPlace
    head: TreeHead
    tiles: Mapping[TileId, bytes]
    bundles: Sequence[BundleSpan]


class TreeDamagedError(Exception):
    """The stored tree is not the one that was signed: nothing may be signed on top of it."""
