"""The sequencer's side of the database: its turn, and the one short transaction of a step."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

import psycopg

from domain.transparency import Growth, LogEntry, LogPlace, Standing, TileId, TreeDamagedError
from infra.postgres import Connection, connect, translated_faults
from infra.tree_rows import StoredInstant, entry_cursor, next_entries
from infra.tree_store import SEQUENCER, read_standing, read_tiles

_TURN_S: Final = 0.5

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('sessiontrail sequencer', 0))"
_BEGIN_PLACE = """
INSERT INTO checkpoints (reader, transaction_id, position, updated_at)
VALUES (%s, '0', 0, clock_timestamp()) ON CONFLICT (reader) DO NOTHING
"""
# One statement, so one commit. Another sequencer's step waits at the first part for ours, and then
# finds the place moved and does nothing.
_GROW = """
WITH moved AS (
  UPDATE checkpoints
     SET transaction_id = %s::text::xid8, position = %s, updated_at = clock_timestamp()
   WHERE reader = %s AND (transaction_id, position) = (%s::text::xid8, %s)
  RETURNING reader
), tiles AS (
  INSERT INTO tree_tiles (level, tile, hashes)
  SELECT t.* FROM moved, unnest(%s::smallint[], %s::bigint[], %s::bytea[]) AS t
      ON CONFLICT (level, tile) DO UPDATE SET hashes = excluded.hashes
), bundles AS (
  INSERT INTO entry_bundles (bundle, transaction_id, position, earliest_at, latest_at)
  SELECT b.bundle, b.xid::text::xid8, b.position, b.earliest_at, b.latest_at
    FROM moved,
         unnest(%s::bigint[], %s::bigint[], %s::bigint[], %b::timestamptz[], %b::timestamptz[])
         AS b(bundle, xid, position, earliest_at, latest_at)
      ON CONFLICT (bundle) DO UPDATE
     SET earliest_at = least(entry_bundles.earliest_at, excluded.earliest_at),
         latest_at = greatest(entry_bundles.latest_at, excluded.latest_at)
), head AS (
  INSERT INTO tree_heads (size, root, signed_at, note)
  SELECT %s, %s, clock_timestamp(), %s FROM moved
)
SELECT count(*) FROM moved
"""


class SequencerTurns:
    """``audit.tree_ports.TurnTaking``: by a lock that a database session holds and ends with."""

    def __init__(self, conninfo: str) -> None:
        """Connects to nothing yet."""
        self._conninfo = conninfo

    @asynccontextmanager
    async def turn(self) -> AsyncIterator["SequencerTurn"]:
        """See ``TurnTaking.turn``."""
        with translated_faults():
            async with await connect(self._conninfo) as connection:
                await _wait_for_lock(connection)
                await begin_place(connection)
                # What was signed must never be lost again, whatever the server's default is.
                await connection.execute("SET synchronous_commit TO on")
                yield SequencerTurn(connection)


class SequencerTurn:
    """``audit.tree_ports.Turn`` on a connection of its own.

    Reads are in no transaction, so that they hold nobody back: a transaction that has written
    keeps the tail from all readers of the log until it ends.
    """

    def __init__(self, connection: Connection) -> None:
        """Work through ``connection``, which commits each statement."""
        self._connection = connection

    async def standing(self) -> Standing:
        """See ``Turn.standing``."""
        async with self._connection.transaction():
            await self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return await read_standing(self._connection)

    async def tiles(self, wanted: Collection[TileId]) -> Mapping[TileId, bytes]:
        """See ``TileReader.tiles``."""
        return await read_tiles(self._connection, wanted)

    async def next_entries(self, after: LogPlace, limit: int) -> list[LogEntry]:
        """See ``Turn.next_entries``."""
        return await next_entries(self._connection, after, limit)

    async def grow(self, growth: Growth) -> bool:
        """See ``Turn.grow``."""
        tiles = growth.tiles.items()
        bundles = growth.bundles
        cursor = entry_cursor(self._connection)
        try:
            await cursor.execute(
                _GROW,
                (
                    str(growth.place[0]),
                    growth.place[1],
                    SEQUENCER,
                    str(growth.before[0]),
                    growth.before[1],
                    [tile.level for tile, _ in tiles],
                    [tile.number for tile, _ in tiles],
                    [hashes for _, hashes in tiles],
                    [span.bundle for span in bundles],
                    [span.first[0] for span in bundles],
                    [span.first[1] for span in bundles],
                    [StoredInstant(span.earliest_at) for span in bundles],
                    [StoredInstant(span.latest_at) for span in bundles],
                    growth.head.size,
                    growth.head.root,
                    growth.head.note,
                ),
            )
        except psycopg.errors.UniqueViolation as error:
            msg = f"there is a head of {growth.head.size} events already"
            raise TreeDamagedError(msg) from error
        return await cursor.fetchone() == (1,)


async def begin_place(connection: Connection) -> None:
    """Make sure that there is a place to move: before the first event, in a new database."""
    await connection.execute(_BEGIN_PLACE, (SEQUENCER,))


async def _wait_for_lock(connection: Connection) -> None:
    """Ask again and again: who waited inside the database would hold a snapshot all the while."""
    while True:
        cursor = await connection.execute(_LOCK)
        if await cursor.fetchone() == (True,):
            return
        await asyncio.sleep(_TURN_S)
