"""Tiles (C2SP tlog-tiles): the tree's hashes and its entries, cut so that they can be cached.

A tile of level L holds up to 256 hashes, each over ``256**L`` leaves: the nodes of every eighth
level of the tree. What lies between is computed from them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from audit.merkle import HASH_BYTES, Frontier, Node, nodes_between, root_of
from domain.transparency import TileId

TILE_WIDTH = 256
MAX_ENTRY_BYTES = 0xFFFF
"""Entry bundles prefix each entry with its length in 16 bits."""

_HEIGHT = 8
_PATH = re.compile(
    r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)
_MAX_LEVEL = 63
_MAX_NUMBER_DIGITS = 18


class TilePath(NamedTuple):
    """What a path asks for.

    Attributes:
        level: Of the tile; None for a bundle of entries.
        number: Of the tile or bundle.
        width: How many hashes or entries.
    """

    level: int | None
    number: int
    width: int


class MalformedBundleError(Exception):
    """Bytes that are no bundle of entries."""


def tile_path(level: int | None, number: int, width: int = TILE_WIDTH) -> str:
    """Where a tile lies below the log's prefix.

    >>> tile_path(0, 1234067), tile_path(None, 5, 17)
    ('tile/0/x001/x234/067', 'tile/entries/005.p/17')

    Args:
        level: Of the tile; None for a bundle of entries.
        number: Of the tile or bundle.
        width: How many hashes or entries it holds.
    """
    digits = str(number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    name = "/".join([*("x" + part for part in parts[:-1]), parts[-1]])
    kind = "entries" if level is None else str(level)
    return f"tile/{kind}/{name}" + ("" if width == TILE_WIDTH else f".p/{width}")


def parse_tile_path(path: str) -> TilePath | None:
    """Read what follows ``tile/``; None where no tile can lie there."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    kind, name, width_text = match.groups()
    digits = name.replace("x", "").replace("/", "")
    if len(digits) > _MAX_NUMBER_DIGITS:
        return None
    asked = TilePath(
        None if kind == "entries" else int(kind),
        int(digits),
        TILE_WIDTH if width_text is None else int(width_text),
    )
    if asked.level is not None and asked.level > _MAX_LEVEL:
        return None
    # One tile has one path: no further zeroes, no width where it is whole.
    return asked if tile_path(*asked) == "tile/" + path else None


def width_at(level: int | None, number: int, size: int) -> int:
    """How wide a tile or bundle is in a tree of ``size`` leaves; 0 where it is not there yet."""
    hashes = size >> (_HEIGHT * (level or 0))
    return max(0, min(TILE_WIDTH, hashes - number * TILE_WIDTH))


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Entries as a bundle holds them: each after its length, 16 bits big-endian.

    Raises:
        OverflowError: One is longer than that can say.
    """
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        MalformedBundleError: It ends in the middle of one.
    """
    entries = []
    place = 0
    while place < len(bundle):
        start = place + 2
        place = start + int.from_bytes(bundle[place:start], "big")
        if start > len(bundle) or place > len(bundle):
            msg = "the bundle ends in the middle of an entry"
            raise MalformedBundleError(msg)
        entries.append(bundle[start:place])
    return entries


def tile_of(node: Node) -> TileId:
    """The tile that a node's hash is found in, or computed from."""
    level, above = divmod(node.level, _HEIGHT)
    return TileId(level, (node.number << above) // TILE_WIDTH)


def hash_from_tile(node: Node, hashes: bytes) -> bytes:
    """A node's hash from the content of its tile.

    Raises:
        LookupError: The tile is too narrow to hold it.
    """
    above = node.level % _HEIGHT
    first = (node.number << above) % TILE_WIDTH
    held = hashes[first * HASH_BYTES : (first + (1 << above)) * HASH_BYTES]
    if len(held) != HASH_BYTES << above:
        msg = f"the tile does not reach node {node.number} of level {node.level}"
        raise LookupError(msg)
    return root_of(split_hashes(held))


def split_hashes(hashes: bytes) -> list[bytes]:
    """The hashes that a tile holds one after the other."""
    return [hashes[place : place + HASH_BYTES] for place in range(0, len(hashes), HASH_BYTES)]


class GrowingTiles:
    """The tiles of a tree's right edge, as leaves are added.

    It has to be given only the tiles that are not full yet, at most one a level.
    """

    __slots__ = ("_filled", "_grown", "_rows", "_tree")

    def __init__(self, size: int = 0, edge: Mapping[TileId, bytes] | None = None) -> None:
        """Go on with a tree that is there.

        Args:
            size: How many leaves it has.
            edge: The tiles that ``edge_tiles(size)`` names.

        Raises:
            LookupError: A tile is missing or too narrow.
        """
        held = edge or {}
        self._rows: list[bytearray] = []
        for tile in edge_tiles(size):
            width = width_at(tile.level, tile.number, size) * HASH_BYTES
            row = bytearray(held.get(tile, b"")[:width])
            if len(row) != width:
                msg = f"tile {tile.number} of level {tile.level} is not wide enough"
                raise LookupError(msg)
            self._rows.append(row)
        self._tree = Frontier(
            size,
            [
                hash_from_tile(node, bytes(self._rows[tile_of(node).level]))
                for node in nodes_between(0, size)
            ],
        )
        self._filled: dict[TileId, bytes] = {}
        self._grown: set[int] = set()

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._tree.size

    def root(self) -> bytes:
        """The tree's root hash."""
        return self._tree.root()

    def extend(self, leaf_hashes: Sequence[bytes]) -> None:
        """Add leaves, given by their hashes."""
        place = 0
        while place < len(leaf_hashes):
            if self.size % TILE_WIDTH == 0 and len(leaf_hashes) - place >= TILE_WIDTH:
                self._append_tile(leaf_hashes[place : place + TILE_WIDTH])
                place += TILE_WIDTH
            else:
                self._tree.append(leaf_hashes[place])
                self._push(0, leaf_hashes[place])
                place += 1

    def take_changed(self) -> dict[TileId, bytes]:
        """The tiles that have changed since this was asked last, as they are now."""
        changed, self._filled = self._filled, {}
        for level in self._grown:
            if self._rows[level]:
                number = (self.size >> (_HEIGHT * level)) // TILE_WIDTH
                changed[TileId(level, number)] = bytes(self._rows[level])
        self._grown.clear()
        return changed

    def _append_tile(self, leaf_hashes: Sequence[bytes]) -> None:
        """Add as many leaves as fill a tile, which begins with them: each is hashed once."""
        root = root_of(leaf_hashes)
        self._filled[TileId(0, self.size // TILE_WIDTH)] = b"".join(leaf_hashes)
        self._tree.append_subtree(_HEIGHT, root)
        if not self._rows:
            self._rows.append(bytearray())
        self._push(1, root)

    def _push(self, level: int, hashed: bytes) -> None:
        if level == len(self._rows):
            self._rows.append(bytearray())
        row = self._rows[level]
        row += hashed
        self._grown.add(level)
        if len(row) < TILE_WIDTH * HASH_BYTES:
            return
        full = bytes(row)
        row.clear()
        above = _HEIGHT * (level + 1)
        self._filled[TileId(level, (self.size >> above) - 1)] = full
        self._push(level + 1, root_of(split_hashes(full)))


def edge_tiles(size: int) -> list[TileId]:
    """The tile at the end of each level of a tree, full or not: where it will grow."""
    tiles = []
    level = 0
    while size >> (_HEIGHT * level):
        tiles.append(TileId(level, (size >> (_HEIGHT * level)) // TILE_WIDTH))
        level += 1
    return tiles
