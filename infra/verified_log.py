"""The log and its tree in one snapshot, for whoever verifies them (``audit.log_verification``)."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.archives import KEPT_WHOLE
from domain.events.archives import LogRestored
from domain.ids import ARCHIVES_STREAM, SYSTEM_SUBJECT
from domain.transparency import BundleSpan, LogEntry, LogPlace, TileId, TreeHead
from infra.log_archives import archives, newest_archive
from infra.postgres import Connection
from infra.projection_folds import snapshot
from infra.tree_rows import entries_between, entry_cursor, next_entries
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
# Those that are always read whole have it still.
_BROKEN_STREAMS = """
SELECT stream, min(version), max(version), count(*)
  FROM events
 WHERE NOT (starts_with(stream, 'family-') OR starts_with(stream, 'user-')
            OR starts_with(stream, 'alert-'))
 GROUP BY stream
HAVING max(version) - min(version) + 1 <> count(*)
    OR (min(version) <> 1 AND NOT (%s AND split_part(stream, '-', 1) <> ALL(%s)))
 ORDER BY min(position) LIMIT 100
"""


_FROM_THE_FUTURE = """
SELECT position, stream, version FROM events
 WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot()) ORDER BY position LIMIT 100
"""
# The log begins behind transaction 0, position 0: whoever reads it in its order begins there.
_FROM_BEFORE = """
SELECT position, stream, version FROM events
 WHERE transaction_id = '0' AND position <= 0 ORDER BY position LIMIT 100
"""
_KEYS_BACK = """
SELECT u.user_id FROM users u JOIN data_keys k ON k.subject_id = u.user_id
 WHERE u.erased_at IS NOT NULL ORDER BY u.user_id LIMIT 100
"""
_OWN_KEY_GONE = """
SELECT NOT EXISTS (SELECT FROM data_keys WHERE subject_id = %(own)s)
   AND EXISTS (SELECT FROM events WHERE personal IS NOT NULL
                                    AND (subject_id IS NULL OR subject_id = %(own)s))
"""
_UNTRUE_ARCHIVES = """
SELECT a.file_name, a.restored_at IS NULL FROM log_archives a
 WHERE (a.restored_at IS NULL) = EXISTS (
   SELECT FROM events e
    WHERE hashtextextended(e.stream, 0) = hashtextextended(%(stream)s, 0) AND e.stream = %(stream)s
      AND e.type = %(restored)s AND e.data ->> 'archive_id' = a.archive_id::text)
 ORDER BY a.first_leaf LIMIT 100
"""
_TILES_OUTSIDE = """
SELECT t.tile, t.level FROM tree_tiles t
  LEFT JOIN unnest(%s::smallint[], %s::bigint[]) AS e(level, tile) ON e.level = t.level
 WHERE t.tile < 0 OR t.tile >= coalesce(e.tile, 0) ORDER BY t.level, t.tile LIMIT 100
"""
_BUNDLES_OUTSIDE = """
SELECT bundle FROM entry_bundles WHERE bundle < 0 OR bundle >= %s ORDER BY bundle LIMIT 100
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
    """``audit.stored_log.StoredLog`` within one transaction."""

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

    async def kept(self) -> int:
        """See ``StoredLog.kept``."""
        return sum(archive.kept for archive in await archives(self.connection))

    async def entries_between(
        self, after: LogPlace, last: LogPlace, limit: int
    ) -> Sequence[LogEntry]:
        """See ``audit.archived_rows.ArchivedPart.entries_between``."""
        return await entries_between(self.connection, (after[0], after[1] + 1), last, limit)

    async def outside(self, ends: Collection[TileId], bundles: int) -> Sequence[str]:
        """See ``StoredLog.outside``."""
        levels, numbers = [end.level for end in ends], [end.number for end in ends]
        cursor = await self.connection.execute(_TILES_OUTSIDE, (levels, numbers), binary=True)
        tiles = [f"tile {tile} of level {level}" for tile, level in await cursor.fetchall()]
        cursor = await self.connection.execute(_BUNDLES_OUTSIDE, (bundles,), binary=True)
        return tiles + [f"entry bundle {bundle}" for (bundle,) in await cursor.fetchall()]

    async def beyond(self, place: LogPlace) -> tuple[int, datetime | None]:
        """See ``StoredLog.beyond``."""
        xid = str(place[0])
        cursor = await self.connection.execute(_BEYOND, (xid, xid, place[1]), binary=True)
        count, oldest = await cursor.fetchone() or (0, None)
        return count, oldest

    async def impossible(self) -> list[str]:
        """What no service of ours leaves, and no leaf tells of."""
        found: list[str] = []
        for query, why in (
            (_FROM_THE_FUTURE, "names a transaction that was not yet"),
            (_FROM_BEFORE, "lies where the log begins"),
        ):
            cursor = await self.connection.execute(query, binary=True)
            found += [
                f"event {position} ({stream} version {version}) {why}: whoever reads the log in"
                " order never comes to it"
                for position, stream, version in await cursor.fetchall()
            ]
        for query, fault in (
            (_KEYS_GONE, "gone, and the log has no erasure of them"),
            (_KEYS_BACK, "there, and the log says that they were erased"),
        ):
            cursor = await self.connection.execute(query, binary=True)
            found += [
                f"the data key of user {user_id} is {fault}"
                for (user_id,) in await cursor.fetchall()
            ]
        cursor = await self.connection.execute(_OWN_KEY_GONE, {"own": SYSTEM_SUBJECT}, binary=True)
        if await cursor.fetchone() == (True,):
            found.append("the service's own data key is gone, and the log has what it sealed")
        names = {"stream": ARCHIVES_STREAM, "restored": LogRestored.TYPE}
        cursor = await self.connection.execute(_UNTRUE_ARCHIVES, names, binary=True)
        return found + [
            f"archive {file_name} is marked as {'not ' if away else ''}restored, and the log says"
            f" {'that it was' if away else 'nothing of it'}"
            for file_name, away in await cursor.fetchall()
        ]

    async def broken_streams(self) -> list[str]:
        """What is wrong with the versions of streams that no projection is made of."""
        archived, _ = await self.archived()
        cursor = await self.connection.execute(
            _BROKEN_STREAMS, (archived > 0, list(KEPT_WHOLE)), binary=True
        )
        return [
            f"stream {stream} has {count} events with versions from {low} to {high}"
            for stream, low, high, count in await cursor.fetchall()
        ]


@asynccontextmanager
async def verified_log(engine: AsyncEngine) -> AsyncIterator[VerifiedLog]:
    """The log as it is at one instant; nobody waits for it."""
    async with snapshot(engine) as connection:
        yield VerifiedLog(connection)
