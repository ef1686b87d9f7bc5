"""Hashes of a stored tree's nodes, whatever tiles they lie in."""

from collections.abc import Iterable

from audit.merkle import Node, ReadNode, nodes_between, root_at
from audit.tiles import hash_from_tile, tile_of
from audit.tree_ports import TileReader
from domain.transparency import TreeDamagedError


async def node_reader(tiles: TileReader, nodes: Iterable[Node]) -> ReadNode:
    """Read what nodes need, in one go.

    Args:
        tiles: Where from.
        nodes: All that will be asked for.

    Returns:
        Says their hashes; raises ``TreeDamagedError`` where a tile lacks one.
    """
    held = await tiles.tiles({tile_of(node) for node in nodes})

    def read(node: Node) -> bytes:
        tile = tile_of(node)
        try:
            return hash_from_tile(node, held.get(tile, b""))
        except LookupError as error:
            msg = f"tile {tile.number} of level {tile.level} is missing or cut short"
            raise TreeDamagedError(msg) from error

    return read


async def stored_root(tiles: TileReader, size: int) -> bytes:
    """The root that the stored tiles give for the first ``size`` leaves.

    Raises:
        TreeDamagedError: A tile that it needs is missing or cut short.
    """
    return root_at(size, await node_reader(tiles, nodes_between(0, size)))
