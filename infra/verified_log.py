"""The log and its tree in one snapshot, for whoever verifies them (``audit.log_verification``)."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.transparency import BundleSpan, LogEntry, LogPlace, TileId, TreeHead
from infra.log_archives import newest_archive
from infra.postgres import Connection
from infra.projection_folds import snapshot
from infra.tree_rows import entry_cursor, next_entries
from infra.tree_store import read_newest_head, read_place, read_tiles

_BUNDLES = """
SELECT bundle, transaction_id::text::bigint, position, earliest_at, latest_at
  FROM entry_bundles WHERE bundle >= %s ORDER BY bundle LIMIT %s
"""
_HEADS = """
SELECT size, root, note FROM tree_heads WHERE size > %s AND size <= %s ORDER BY size LIMIT %s
"""
_HEADS_BELOW = "SELECT size, root, note FROM tree_heads WHERE size < %s ORDER BY size DESC LIMIT %s"
# Streams that no projection folds: their versions are looked at here. Of archived ones a beginning
# may be gone.
_BROKEN_STREAMS = """
SELECT stream, min(version), max(version), count(*)
  FROM events
 WHERE NOT (starts_with(stream, 'family-') OR starts_with(stream, 'user-')
            OR starts_with(stream, 'alert-'))
 GROUP BY stream
HAVING max(version) - min(version) + 1 <> count(*) OR (min(version) <> 1 AND NOT %s)
 ORDER BY min(position) LIMIT 100
"""


_FROM_THE_FUTURE = """
SELECT position, stream, version FROM events
 WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot()) ORDER BY position LIMIT 100
"""
_KEYS_GONE = """
SELECT u.user_id FROM users u
 WHERE u.erased_at IS NULL
   AND NOT EXISTS (SELECT FROM data_keys k WHERE k.subject_id = u.user_id)
 ORDER BY u.user_id LIMIT 100
"""
_BEYOND = """
SELECT count(*), min(occurred_at) FILTER (WHERE isfinite(occurred_at)) FROM events
 WHERE transaction_id >= %s::text::xid8 AND (transaction_id, position) > (%s::text::xid8, %s)
"""


class VerifiedLog:
    """``audit.log_verification.StoredLog`` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Read through ``connection``, whose transaction sees one instant."""
        self.connection = connection

    async def entries_after(self, place: LogPlace, limit: int) -> Sequence[LogEntry]:
        """See ``StoredLog.entries_after``."""
        return await next_entries(self.connection, place, limit)

    async def tiles(self, wanted: Collection[TileId]) -> Mapping[TileId, bytes]:
        """See ``TileReader.tiles``."""
        return await read_tiles(self.connection, wanted)

    async def bundles(self, first: int, count: int) -> Mapping[int, BundleSpan]:
        """See ``StoredLog.bundles``."""
        cursor = entry_cursor(self.connection)
        await cursor.execute(_BUNDLES, (first, count))
        return {
            bundle: BundleSpan(bundle, (transaction_id, position), earliest, latest)
            for bundle, transaction_id, position, earliest, latest in await cursor.fetchall()
        }

    async def newest_head(self) -> TreeHead | None:
        """The newest signed tree; None where nothing was ever signed."""
        return await read_newest_head(self.connection)

    async def heads(self, above: int, up_to: int, limit: int) -> Sequence[TreeHead]:
        """See ``StoredHeads.heads``."""
        cursor = await self.connection.execute(_HEADS, (above, up_to, limit), binary=True)
        return [TreeHead(*record) for record in await cursor.fetchall()]

    async def heads_below(self, size: int, limit: int) -> Sequence[TreeHead]:
        """See ``StoredHeads.heads_below``."""
        cursor = await self.connection.execute(_HEADS_BELOW, (size, limit), binary=True)
        return [TreeHead(*record) for record in await cursor.fetchall()]

    async def sequenced(self) -> LogPlace:
        """See ``StoredLog.sequenced``."""
        return await read_place(self.connection)

    async def archived(self) -> tuple[int, LogPlace]:
        """See ``StoredLog.archived``."""
        archive = await newest_archive(self.connection)
        if archive is None:
            return 0, (0, 0)
        return archive.end_leaf, (archive.transaction_id, archive.position)

    async def beyond(self, place: LogPlace) -> tuple[int, datetime | None]:
        """See ``StoredLog.beyond``."""
        xid = str(place[0])
        cursor = await self.connection.execute(_BEYOND, (xid, xid, place[1]), binary=True)
        count, oldest = await cursor.fetchone() or (0, None)
        return count, oldest

    async def impossible(self) -> list[str]:
        """What no service of ours leaves, and no leaf tells of."""
        cursor = await self.connection.execute(_FROM_THE_FUTURE, binary=True)
        events = [
            f"event {position} ({stream} version {version}) names a transaction that was not yet:"
            " whoever reads the log in order never comes to it"
            for position, stream, version in await cursor.fetchall()
        ]
        cursor = await self.connection.execute(_KEYS_GONE, binary=True)
        keys = [
            f"the data key of user {user_id} is gone, and the log has no erasure of them"
            for (user_id,) in await cursor.fetchall()
        ]
        return events + keys

    async def broken_streams(self) -> list[str]:
        """What is wrong with the versions of streams that no projection is made of."""
        archived, _ = await self.archived()
        cursor = await self.connection.execute(_BROKEN_STREAMS, (archived > 0,), binary=True)
        return [
            f"stream {stream} has {count} events with versions from {low} to {high}"
            for stream, low, high, count in await cursor.fetchall()
        ]


@asynccontextmanager
async def verified_log(engine: AsyncEngine) -> AsyncIterator[VerifiedLog]:
    """The log as it is at one instant; nobody waits for it."""
    async with snapshot(engine) as connection:
        yield VerifiedLog(connection)
