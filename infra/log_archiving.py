"""Taking the oldest part of the log out of the database, and putting it back.

As the owner of the tables. The rows go in one transaction with the event that says so, and only
rows whose canonical bytes the caller has read back from the file and checked.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.archives import KEPT_WHOLE, LEAVES_A_BUNDLE, Archive, NotArchivedError
from domain.events.archives import ArchiveEvent, LogArchived, LogRestored
from domain.events.envelope import Cause, NewEvent
from domain.ids import ARCHIVES_STREAM
from domain.transparency import LogEntry, LogPlace
from infra.event_store import append_stream, database_clock, stream_version
from infra.log_archives import newest_archive
from infra.postgres import Connection, JsonDocument, transaction
from infra.snapshot_store import Snapshot, newest_snapshot
from infra.tree_rows import entries_between

_LOCK = 7_305_802_116_530_215
"""Advisory lock of whoever archives or restores: one at a time."""
_LEAVES_AT_ONCE = 4_096
_ROWS_AT_ONCE = 2_000

_BUNDLES_WITHIN = """
SELECT count(*) - 1 FROM entry_bundles
 WHERE (transaction_id, position) <= (%s::text::xid8, %s)
"""
_LAST_OF_BUNDLE = """
SELECT e.transaction_id, e.position FROM events e, entry_bundles b
 WHERE b.bundle = %s
   AND e.transaction_id <= b.transaction_id
   AND (e.transaction_id, e.position) < (b.transaction_id, b.position)
 ORDER BY e.transaction_id DESC, e.position DESC LIMIT 1
"""
_FIRST_OF_BUNDLE = "SELECT transaction_id, position FROM entry_bundles WHERE bundle = %s"

# Who has not read it yet would never see it.
_READERS_BEFORE = """
SELECT reader FROM checkpoints
 WHERE (transaction_id, position) < (%(xid)s::text::xid8, %(position)s)
 UNION ALL
SELECT format('detector, partition %%s of stage %%s', partition, stage) FROM detector_partitions
 WHERE transport = 'log' AND (transaction_id, position) < (%(xid)s::text::xid8, %(position)s)
"""

# Streams that the service reads from their beginning stay, and of every other stream that has no
# row of its own the last event, which says the version that the next one follows.
_WHOLE = "split_part(e.stream, '-', 1) = ANY(%(whole)s)"
_KEPT = f"""
      {_WHOLE}
   OR (split_part(e.stream, '-', 1) NOT IN ('family', 'user', 'alert')
       AND NOT EXISTS (SELECT FROM events n
            WHERE hashtextextended(n.stream, 0) = hashtextextended(e.stream, 0)
              AND n.stream = e.stream AND n.version > e.version))
"""
_WITHIN = """
      e.transaction_id BETWEEN %(from_xid)s::text::xid8 AND %(to_xid)s::text::xid8
  AND (e.transaction_id, e.position) >= (%(from_xid)s::text::xid8, %(from_position)s)
  AND (e.transaction_id, e.position) <= (%(to_xid)s::text::xid8, %(to_position)s)
"""
_COUNT_WHOLE = f"SELECT count(*) FROM events e WHERE {_WITHIN} AND {_WHOLE}"  # noqa: S608 (ours)
_COUNT = f"SELECT count(*) FROM events e WHERE {_WITHIN}"  # noqa: S608 (ours)
_REMOVE = f"DELETE FROM events e WHERE {_WITHIN} AND NOT ({_KEPT})"  # noqa: S608 (ours)

_PUT = """
INSERT INTO log_archives (archive_id, first_leaf, end_leaf, transaction_id, position, snapshot_id,
                          file_name, sha256, archived_at)
VALUES (%s, %s, %s, %s::text::xid8, %s, %s, %s, %s, %s)
"""
_PUT_BACK = """
INSERT INTO events (position, transaction_id, occurred_at, version, schema_version, event_id,
                    subject_id, correlation_id, causation_id, stream, type, actor, data, personal)
OVERRIDING SYSTEM VALUE
SELECT e.position, r.transaction_id::xid8,
       '1970-01-01T00:00:00Z'::timestamptz + e.occurred_at * interval '1 microsecond',
       e.version, e.schema_version, e.event_id, e.subject_id, e.correlation_id, e.causation_id,
       e.stream, e.type, e.actor, e.data, decode(e.personal, 'base64')
  FROM jsonb_to_recordset(%b) AS r(transaction_id text, leaf jsonb),
       jsonb_to_record(r.leaf) AS e(position bigint, occurred_at bigint, version int,
         schema_version smallint, event_id uuid, subject_id uuid, correlation_id uuid,
         causation_id uuid, stream text, type text, actor text, data jsonb, personal text)
ON CONFLICT (position) DO NOTHING
"""
_RESTORED = "UPDATE log_archives SET restored_at = clock_timestamp() WHERE archive_id = %s"


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """What is to be archived.

    Attributes:
        first_leaf: The first leaf of it.
        end_leaf: The first one that stays.
        first: Place of the first event.
        last: Place of the last event.
        snapshot: What folds go on from then.
        kept: How many of its rows stay, since their streams are always read whole.
    """

    first_leaf: int
    end_leaf: int
    first: LogPlace
    last: LogPlace
    snapshot: Snapshot
    kept: int

    @property
    def within(self) -> dict[str, object]:
        """What the statements about its rows are told."""
        return within(self.first, self.last)


def within(first: LogPlace, last: LogPlace) -> dict[str, object]:
    """What statements about the rows from one place to another are told."""
    return {
        "from_xid": str(first[0]),
        "from_position": first[1],
        "to_xid": str(last[0]),
        "to_position": last[1],
        "whole": list(KEPT_WHOLE),
    }


@asynccontextmanager
async def one_at_a_time(connection: Connection) -> AsyncIterator[None]:
    """Keep others from archiving and restoring, for as long as the block lasts.

    Args:
        connection: In autocommit mode; to be closed afterwards.

    Raises:
        NotArchivedError: Somebody else is at it.
    """
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        msg = "somebody else archives or restores just now"
        raise NotArchivedError(msg)
    try:
        yield
    finally:
        # The end of the connection does the same, a moment later.
        with contextlib.suppress(psycopg.Error):
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


async def plan_archive(engine: AsyncEngine, before: datetime) -> ArchivePlan:
    """Find what can be archived: whole bundles, up to the newest snapshot of before an instant.

    Raises:
        NotArchivedError: There is nothing, or somebody still has to read it.
        TamperedSnapshotError: The snapshot was altered.
    """
    async with transaction(engine) as connection:
        snapshot = await newest_snapshot(connection, until=before)
        if snapshot is None:
            msg = f"there is no snapshot of before {before.isoformat()}: take one, or go later"
            raise NotArchivedError(msg)
        archive = await newest_archive(connection)
        first_leaf = 0 if archive is None else archive.end_leaf
        # The bundle that the snapshot's last event is in, or one that is not whole, stays.
        at = snapshot.place
        end_bundle = await _number(connection, _BUNDLES_WITHIN, str(at.transaction_id), at.position)
        end_leaf = end_bundle * LEAVES_A_BUNDLE
        if end_leaf <= first_leaf:
            msg = "all of it up to there is archived, or too little to be worth it"
            raise NotArchivedError(msg)
        first = await _place(connection, _FIRST_OF_BUNDLE, first_leaf // LEAVES_A_BUNDLE)
        last = await _place(connection, _LAST_OF_BUNDLE, end_bundle)
        await _check_readers(connection, last)
        kept = await _number(connection, _COUNT_WHOLE, within(first, last))
    return ArchivePlan(first_leaf, end_leaf, first, last, snapshot, kept)


async def entries_of(engine: AsyncEngine, plan: ArchivePlan) -> AsyncIterator[Sequence[LogEntry]]:
    """What is to be archived, some entries at a time.

    Raises:
        NotArchivedError: It is not as many as the tree has leaves there.
    """
    begin, left = plan.first, plan.end_leaf - plan.first_leaf
    while left > 0:
        async with transaction(engine) as connection:
            limit = min(left, _LEAVES_AT_ONCE)
            entries = await entries_between(connection, begin, plan.last, limit)
        if not entries:
            break
        yield entries
        left -= len(entries)
        transaction_id, position = entries[-1].place
        begin = (transaction_id, position + 1)
    if left:
        msg = f"{left} events of the tree are missing: run `sessiontrail audit verify`"
        raise NotArchivedError(msg)


async def remove_archived(
    engine: AsyncEngine, archive: Archive, plan: ArchivePlan, cause: Cause
) -> int:
    """Take the rows of a written and checked archive away, and say so in the log, all at once.

    Args:
        engine: As the owner of the tables.
        archive: What was written.
        plan: What it was made from.
        cause: By whom.

    Returns:
        How many rows were removed; some streams' stay.

    Raises:
        NotArchivedError: Nothing was removed: the log there is not as it was read.
    """
    async with transaction(engine) as connection:
        await _check_readers(connection, plan.last)
        if await _number(connection, _COUNT, plan.within) != archive.leaves:
            msg = "the log changed while it was read: run `sessiontrail audit verify`"
            raise NotArchivedError(msg)
        at = await database_clock(connection)
        await connection.execute(
            _PUT,
            (
                archive.archive_id,
                archive.first_leaf,
                archive.end_leaf,
                str(archive.transaction_id),
                archive.position,
                archive.snapshot_id,
                archive.file_name,
                archive.sha256,
                at,
            ),
            binary=True,
        )
        event = LogArchived(
            archive_id=archive.archive_id,
            first_leaf=archive.first_leaf,
            end_leaf=archive.end_leaf,
            snapshot_id=archive.snapshot_id,
            file_name=archive.file_name,
            sha256=archive.sha256.hex(),
            kept=archive.kept,
        )
        await _announce(connection, event, cause, at)
        await connection.execute("SET LOCAL sessiontrail.archiving = 'on'")
        removed = await connection.execute(_REMOVE.encode(), plan.within)
        return removed.rowcount


async def put_back(engine: AsyncEngine, leaves: Sequence[tuple[int, bytes]]) -> None:
    """Put rows of an archive back, each as it was; those that are there stay as they are.

    Args:
        engine: As the owner of the tables.
        leaves: Transaction ids, and canonical bytes that were checked.
    """
    for start in range(0, len(leaves), _ROWS_AT_ONCE):
        rows = [
            {"transaction_id": str(transaction_id), "leaf": msgspec.Raw(leaf)}
            for transaction_id, leaf in leaves[start : start + _ROWS_AT_ONCE]
        ]
        async with transaction(engine) as connection:
            document = JsonDocument(msgspec.json.encode(rows))
            await connection.execute(_PUT_BACK, (document,), binary=True)


async def note_restored(
    engine: AsyncEngine, archive: Archive, first: LogPlace, cause: Cause
) -> None:
    """Say that all rows of an archive are back.

    Raises:
        NotArchivedError: They are not.
    """
    all_of_it = within(first, (archive.transaction_id, archive.position))
    async with transaction(engine) as connection:
        if await _number(connection, _COUNT, all_of_it) != archive.leaves:
            msg = f"{archive.file_name} was put back, and yet rows differ in number"
            raise NotArchivedError(msg)
        at = await database_clock(connection)
        await connection.execute(_RESTORED, (archive.archive_id,))
        await _announce(connection, LogRestored(archive_id=archive.archive_id), cause, at)


async def _announce(
    connection: Connection, event: ArchiveEvent, cause: Cause, at: datetime
) -> None:
    version = await stream_version(connection, ARCHIVES_STREAM)
    await append_stream(connection, ARCHIVES_STREAM, version, [NewEvent(event)], cause, at)


async def _check_readers(connection: Connection, last: LogPlace) -> None:
    parameters = {"xid": str(last[0]), "position": last[1]}
    cursor = await connection.execute(_READERS_BEFORE, parameters)
    behind = await cursor.fetchone()
    if behind is not None:
        msg = f"{behind[0]} has not read all of it yet"
        raise NotArchivedError(msg)


async def _number(connection: Connection, query: str, *values: object) -> int:
    parameters = values[0] if values and isinstance(values[0], dict) else values
    cursor = await connection.execute(query.encode(), parameters)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _place(connection: Connection, query: str, bundle: int) -> LogPlace:
    cursor = await connection.execute(query.encode(), (bundle,), binary=True)
    row = await cursor.fetchone()
    if row is None:
        msg = f"bundle {bundle} of the tree's index is missing: run `sessiontrail audit verify`"
        raise NotArchivedError(msg)
    return row[0], row[1]
