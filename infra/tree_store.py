"""The tree in the database: reading its heads, tiles and entries.

The sequencer's place is the row ``sequencer`` of ``checkpoints``. Heads, tiles, bundles and that
place move in one transaction (``tree_growth``), so any one snapshot sees them agree.
"""

from collections.abc import Collection, Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ids import EventId
from domain.transparency import (
    BUNDLE_WIDTH,
    LogEntry,
    LogPlace,
    Standing,
    TileId,
    TreeHead,
)
from infra.log_archives import archive_of_leaf, newest_archive
from infra.postgres import Connection, transaction
from infra.tree_lookup import find_event
from infra.tree_rows import StoredInstant, entries_between, entry_cursor

SEQUENCER = "sequencer"
"""The name of the sequencer's checkpoint."""

_NEWEST = "SELECT size, root, note FROM tree_heads ORDER BY size DESC LIMIT 1"
_HEAD_OF = "SELECT size, root, note FROM tree_heads WHERE size = %s"
_TILES = """
SELECT t.level, t.tile, t.hashes
  FROM unnest(%s::smallint[], %s::bigint[]) AS w(level, tile)
  JOIN tree_tiles t ON t.level = w.level AND t.tile = w.tile
"""
_BUNDLE = "SELECT transaction_id, position FROM entry_bundles WHERE bundle = %s"
_LEAF_OF = """
WITH event AS (
  SELECT e.transaction_id, e.position
    FROM events e JOIN checkpoints c ON c.reader = %s
   WHERE e.position = %s
     AND (e.transaction_id, e.position) <= (c.transaction_id, c.position)
)
SELECT b.bundle,
       (SELECT count(*) FROM events e
         WHERE e.transaction_id >= b.transaction_id
           AND (e.transaction_id, e.position) >= (b.transaction_id, b.position)
           AND (e.transaction_id, e.position) < (event.transaction_id, event.position))
  FROM event CROSS JOIN LATERAL (
    SELECT bundle, transaction_id, position FROM entry_bundles
     WHERE (transaction_id, position) <= (event.transaction_id, event.position)
     ORDER BY transaction_id DESC, position DESC LIMIT 1
  ) b
"""
_LAST_BEGUN = """
SELECT bundle FROM entry_bundles WHERE earliest_at <= %b ORDER BY bundle DESC LIMIT 1
"""
_PLACE = "SELECT transaction_id, position FROM checkpoints WHERE reader = %s"
_START = (0, 0)


async def read_standing(connection: Connection) -> Standing:
    """Where sequencing stands, in the transaction's or the statement's snapshot each."""
    place = await read_place(connection)
    return Standing(place, await read_newest_head(connection))


async def read_place(connection: Connection) -> LogPlace:
    """The place of the last event that is in the tree."""
    cursor = await connection.execute(_PLACE, (SEQUENCER,), binary=True)
    record = await cursor.fetchone()
    return _START if record is None else (record[0], record[1])


async def read_newest_head(connection: Connection) -> TreeHead | None:
    """The newest signed tree; None where nothing was ever signed."""
    cursor = await connection.execute(_NEWEST, binary=True)
    record = await cursor.fetchone()
    return None if record is None else TreeHead(*record)


async def read_head_of(connection: Connection, size: int) -> TreeHead | None:
    """The signed tree of that size, if there is one."""
    cursor = await connection.execute(_HEAD_OF, (size,), binary=True)
    record = await cursor.fetchone()
    return None if record is None else TreeHead(*record)


async def read_tiles(connection: Connection, wanted: Collection[TileId]) -> Mapping[TileId, bytes]:
    """Those tiles that there are, as wide as they are now."""
    if not wanted:
        return {}
    levels = [tile.level for tile in wanted]
    numbers = [tile.number for tile in wanted]
    cursor = await connection.execute(_TILES, (levels, numbers), binary=True)
    return {TileId(level, number): hashes async for level, number, hashes in cursor}


async def read_entries(connection: Connection, first: int, count: int) -> list[LogEntry]:
    """So many leaves from one on; fewer where the log or the tree ends, none of an archive."""
    archive = await newest_archive(connection)
    if archive is not None and first < archive.end_leaf:
        return []
    bundle, within = divmod(first, BUNDLE_WIDTH)
    cursor = await connection.execute(_BUNDLE, (bundle,), binary=True)
    start = await cursor.fetchone()
    if start is None:
        return []
    last = await read_place(connection)
    entries = await entries_between(connection, (start[0], start[1]), last, within + count)
    return entries[within:]


async def read_leaf_at(connection: Connection, position: int) -> int | None:
    """Which leaf the event at a position is; None where there is none in the tree."""
    cursor = await connection.execute(_LEAF_OF, (SEQUENCER, position), binary=True)
    record = await cursor.fetchone()
    if record is None:
        return None
    leaf: int = record[0] * BUNDLE_WIDTH + record[1]
    archive = await newest_archive(connection)
    # Of an archived bundle a few rows may be left: they cannot be counted.
    return None if archive is not None and leaf < archive.end_leaf else leaf


async def read_last_by(connection: Connection, instant: int) -> int | None:
    """The last leaf whose event had happened by an instant; None where there is none."""
    cursor = entry_cursor(connection)
    await cursor.execute(_LAST_BEGUN, (StoredInstant(instant),))
    record = await cursor.fetchone()
    if record is None:
        return None
    first: int = record[0] * BUNDLE_WIDTH
    entries = await read_entries(connection, first, BUNDLE_WIDTH)
    if not entries:  # in an archive, which holds whole bundles
        return first + BUNDLE_WIDTH - 1
    by_then = (leaf for leaf, each in enumerate(entries, first) if each.occurred_at <= instant)
    return max(by_then, default=None)


class StoredTree:
    """``audit.tree_ports.TreeReader`` over a pool: each question in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Read through ``engine``."""
        self._engine = engine

    async def newest_head(self) -> TreeHead | None:
        """See ``TreeReader.newest_head``."""
        async with transaction(self._engine) as connection:
            return await read_newest_head(connection)

    async def head_of(self, size: int) -> TreeHead | None:
        """See ``TreeReader.head_of``."""
        async with transaction(self._engine) as connection:
            return await read_head_of(connection, size)

    async def tiles(self, wanted: Collection[TileId]) -> Mapping[TileId, bytes]:
        """See ``TileReader.tiles``."""
        async with transaction(self._engine) as connection:
            return await read_tiles(connection, wanted)

    async def entries(self, first: int, count: int) -> list[LogEntry]:
        """See ``TreeReader.entries``."""
        async with transaction(self._engine) as connection:
            return await read_entries(connection, first, count)

    async def archive_of(self, leaf: int) -> str | None:
        """See ``TreeReader.archive_of``."""
        async with transaction(self._engine) as connection:
            archive = await archive_of_leaf(connection, leaf)
        return None if archive is None else archive.file_name

    async def leaf_at(self, position: int) -> int | None:
        """See ``TreeReader.leaf_at``."""
        async with transaction(self._engine) as connection:
            return await read_leaf_at(connection, position)

    async def last_by(self, instant: int) -> int | None:
        """See ``TreeReader.last_by``."""
        async with transaction(self._engine) as connection:
            return await read_last_by(connection, instant)

    async def position_of(self, event_id: EventId) -> int | None:
        """See ``TreeReader.position_of``."""
        async with transaction(self._engine) as connection:
            return await find_event(connection, event_id)
