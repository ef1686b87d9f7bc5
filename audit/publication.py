"""Publishing the tree as static files: tiles first, then the checkpoint that needs them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.merkle import HASH_BYTES
from audit.signed_notes import NoteError, Verifier
from audit.tiles import TILE_WIDTH, edge_tiles, tile_path, width_at
from audit.tree_ports import Folder, TileReader
from audit.tree_reading import stored_root
from domain.transparency import TileId, TreeDamagedError, TreeHead

CHECKPOINT = "checkpoint"
_AT_ONCE = 256
_REWRITTEN = 256


class Publication:
    """Keeps a folder of files that anybody may be given. They hold hashes, and no events."""

    def __init__(self, folder: Folder, verifier: Verifier) -> None:
        """Writes nothing yet.

        Args:
            folder: Where.
            verifier: Of the log's key.
        """
        self._folder = folder
        self._verifier = verifier

    async def check(
        self, published: Checkpoint | None, head: TreeHead | None, tiles: TileReader
    ) -> None:
        """Make sure that the stored tree still begins with what was published.

        A database that was set back to a backup would otherwise get heads signed that contradict
        those that others already hold.

        Args:
            published: What was published before ``head`` was read: not after, for another
                sequencer may be at work.
            head: The stored tree.
            tiles: Its tiles.

        Raises:
            TreeDamagedError: It does not.
        """
        if published is None:
            return
        size = 0 if head is None else head.size
        if published.size > size:
            msg = (
                f"a tree of {published.size} events was published, and the database knows of"
                f" {size}: it was set back"
            )
            raise TreeDamagedError(msg)
        if await stored_root(tiles, published.size) != published.root:
            msg = f"the stored tree does not begin with the published one of {published.size}"
            raise TreeDamagedError(msg)

    async def published(self) -> Checkpoint | None:
        """The checkpoint in the folder; None where there is none.

        Raises:
            TreeDamagedError: It is not signed by the log's key.
        """
        note = await self._folder.read(CHECKPOINT)
        if note is None:
            return None
        try:
            return open_checkpoint(note, self._verifier)
        except NoteError as error:
            msg = f"the published checkpoint is not ours: {error}"
            raise TreeDamagedError(msg) from error

    async def catch_up(self, head: TreeHead, tiles: TileReader) -> None:
        """Write whatever the folder lacks of a tree.

        What a power cut may have left half written is written again: the newest tiles, and
        whatever does not have its length.

        Raises:
            TreeDamagedError: The stored tree lacks a tile.
        """
        published = await self.published()
        full = _full_tiles(head.size)
        while wanted := list(islice(full, _AT_ONCE)):
            paths = {tile_path(*tile): tile for tile in wanted}
            lacking = set(await self._folder.missing(dict.fromkeys(paths, TILE_WIDTH * HASH_BYTES)))
            newest = (0 if published is None else published.size // TILE_WIDTH) - _REWRITTEN
            write = [
                tile
                for path, tile in paths.items()
                if path in lacking or (tile.level == 0 and tile.number >= newest)
            ]
            held = await _held(tiles, write, head.size)
            await self._folder.write({tile_path(*tile): held[tile] for tile in write})
        edge = [tile for tile in edge_tiles(head.size) if width_at(*tile, head.size)]
        await self.publish(head, await _held(tiles, edge, head.size))

    async def publish(self, head: TreeHead, changed: Mapping[TileId, bytes]) -> None:
        """Publish a tree.

        Args:
            head: The tree.
            changed: Tiles that may not be in the folder as that tree has them.
        """
        files = {}
        filled = []
        for tile, hashes in changed.items():
            width = width_at(*tile, head.size)
            if width:
                files[tile_path(*tile, width)] = hashes[: width * HASH_BYTES]
            if width == TILE_WIDTH:
                filled.append(tile_path(*tile) + ".p")
        await self._folder.write(files)
        await self._folder.write_durably(CHECKPOINT, head.note.encode())
        # Only now: who read the checkpoint before may have come for them.
        await self._folder.remove(filled)


async def _held(tiles: TileReader, wanted: Sequence[TileId], size: int) -> Mapping[TileId, bytes]:
    held = await tiles.tiles(wanted) if wanted else {}
    for tile in wanted:
        if len(held.get(tile, b"")) < width_at(*tile, size) * HASH_BYTES:
            msg = f"tile {tile.number} of level {tile.level} is missing or cut short"
            raise TreeDamagedError(msg)
    return held


def _full_tiles(size: int) -> Iterator[TileId]:
    for edge in edge_tiles(size):
        for number in range(edge.number):
            yield TileId(edge.level, number)
