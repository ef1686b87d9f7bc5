"""Reading what is to be exported, and putting the export on record."""

import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import microseconds
from domain.events.envelope import Cause, NewEvent
from domain.events.exports import LogExported
from domain.events.personal import Personal, Sealed
from domain.exports import ExportedAs, ExportRequest, NotExportedError, Selection
from domain.ids import EXPORTS_STREAM, SYSTEM_SUBJECT, UserId
from domain.transparency import LogEntry, LogPlace
from infra.event_history import without_secrets
from infra.event_store import append_in_turn
from infra.postgres import Connection, transaction
from infra.sealing import DataKey, DataKeys, UnsealError
from infra.subject_keys import hold_subject_keys, subject_keys, system_key
from infra.tree_rows import entries_between
from infra.tree_store import read_place

_BUNDLES_AT_ONCE = 20_000

_BUNDLES_OF_TIME = """
SELECT bundle FROM entry_bundles
 WHERE bundle > %(after)s AND bundle >= %(archived)s
   AND (%(until)s::timestamptz IS NULL OR earliest_at < %(until)s)
   AND (%(since)s::timestamptz IS NULL OR latest_at >= %(since)s)
 ORDER BY bundle LIMIT %(limit)s
"""
_BUNDLES_OF_EVENTS = """
SELECT DISTINCT b.bundle
  FROM events e CROSS JOIN LATERAL (
         SELECT bundle FROM entry_bundles
          WHERE (transaction_id, position) <= (e.transaction_id, e.position)
          ORDER BY transaction_id DESC, position DESC LIMIT 1) b
 WHERE (%(user_id)s::uuid IS NULL OR e.subject_id = %(user_id)s)
   AND (%(types)s::text[] IS NULL OR e.type = ANY(%(types)s))
   AND b.bundle > %(after)s AND b.bundle >= %(archived)s
 ORDER BY 1 LIMIT %(limit)s
"""
_COUNT = """
SELECT count(*) FROM events
 WHERE transaction_id >= %(after_xid)s::text::xid8
   AND (transaction_id, position) > (%(after_xid)s::text::xid8, %(after_position)s)
   AND (transaction_id, position) <= (%(last_xid)s::text::xid8, %(last_position)s)
   AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s)
   AND (%(user_id)s::uuid IS NULL OR subject_id = %(user_id)s)
   AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s))
"""
_FIRST_OF = "SELECT transaction_id, position FROM entry_bundles WHERE bundle = %s"
_ERASED_SINCE = """
SELECT 1 FROM events WHERE transaction_id >= %s::text::xid8 AND type = 'UserErased' LIMIT 1
"""
_RAISED = """
SELECT alert_id::text, rule, severity FROM alerts WHERE alert_id = ANY(%s::uuid[])
"""
_log = logging.getLogger(__name__)


async def bundles_with(
    connection: Connection, selection: Selection, archived_bundles: int
) -> AsyncIterator[int]:
    """Bundles that may hold some of a selection, in order.

    Args:
        connection: It sees one instant.
        selection: Which events.
        archived_bundles: How many of the first are not in the database.
    """
    by_event = selection.user_id is not None or selection.types
    query = _BUNDLES_OF_EVENTS if by_event else _BUNDLES_OF_TIME
    after = -1
    while True:
        cursor = await connection.execute(
            query.encode(),
            {
                "after": after,
                "archived": archived_bundles,
                **_chosen(selection),
                "limit": _BUNDLES_AT_ONCE,
            },
            binary=True,
        )
        found = [bundle for (bundle,) in await cursor.fetchall()]
        for bundle in found:
            yield bundle
        if len(found) < _BUNDLES_AT_ONCE:
            return
        after = found[-1]


async def count_chosen(
    connection: Connection, selection: Selection, after: LogPlace, last: LogPlace
) -> int:
    """How many events of a selection there are between two places, whatever leaves they are.

    Args:
        connection: It sees one instant.
        selection: Which events.
        after: Behind that one.
        last: Up to that one.
    """
    cursor = await connection.execute(
        _COUNT.encode(),
        {
            **_chosen(selection),
            "after_xid": str(after[0]),
            "after_position": after[1],
            "last_xid": str(last[0]),
            "last_position": last[1],
        },
        binary=True,
    )
    record = await cursor.fetchone()
    return int(record[0]) if record else 0


def _chosen(selection: Selection) -> dict[str, object]:
    return {
        "since": selection.since,
        "until": selection.until,
        "user_id": selection.user_id,
        "types": list(selection.types) or None,
    }


async def entries_of_bundle(connection: Connection, bundle: int, count: int) -> Sequence[LogEntry]:
    """The events of a bundle, as the log has them now."""
    cursor = await connection.execute(_FIRST_OF, (bundle,), binary=True)
    first = await cursor.fetchone()
    if first is None:
        return []
    last: LogPlace = await read_place(connection)
    return await entries_between(connection, (first[0], first[1]), last, count)


async def opened(
    connection: Connection,
    data_keys: DataKeys,
    sealed: Collection[tuple[UserId, Sealed]],
) -> Mapping[str, Personal]:
    """Personal parts by event id, as far as keys exist; without secrets."""
    keys = await subject_keys(connection, {user for user, _ in sealed}, data_keys)
    found = {}
    for user, part in sealed:
        key = keys.get(user)
        if key is not None:
            try:
                found[part.event_id] = without_secrets(key.open(part))
            except UnsealError as error:
                _log.error("event %s stays sealed: %s", part.event_id, error)
    return found


async def raised_alerts(
    connection: Connection, alert_ids: Collection[str]
) -> Mapping[str, tuple[str, str]]:
    """Rule and severity of alerts by id, as the table has them: also of archived ones."""
    cursor = await connection.execute(_RAISED, (list(alert_ids),))
    return {alert_id: (rule, severity) for alert_id, rule, severity in await cursor.fetchall()}


async def reading_since(connection: Connection) -> int:
    """A transaction before which everything is in the transaction's snapshot, and is over."""
    cursor = await connection.execute(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint", binary=True
    )
    record = await cursor.fetchone()
    return 0 if record is None else int(record[0])


async def record_export(
    engine: AsyncEngine, data_keys: DataKeys, request: ExportRequest, made: ExportedAs, cause: Cause
) -> None:
    """Put an export on record: before its file is handed over.

    Raises:
        NotExportedError: It was opened, and whoever it is about was erased, or somebody was while
            it was made.
    """
    chosen, reason = request.selection, request.reason
    event = LogExported(
        export_format=request.format,
        events=made.events,
        sha256=made.sha256,
        head_size=made.head_size,
        revealed=reason is not None,
        since_us=None if chosen.since is None else microseconds(chosen.since),
        until_us=None if chosen.until is None else microseconds(chosen.until),
        types=list(chosen.types),
        first_leaf=None if chosen.leaves is None else chosen.leaves.first,
        end_leaf=None if chosen.leaves is None else chosen.leaves.end,
    )
    async with transaction(engine) as connection:
        subject: UserId | None = chosen.user_id
        key: DataKey | None = None
        if reason is not None and subject is None:
            subject, key = SYSTEM_SUBJECT, await system_key(connection, data_keys)
        elif reason is not None and subject is not None:
            held = await hold_subject_keys(connection, [subject])
            if subject not in held:
                msg = "whoever it is about was erased: there is nothing left to open"
                raise NotExportedError(msg)
            key = data_keys.unwrap(held[subject], subject)
        if reason is not None:
            # Keys were read in a snapshot: who was erased since is still open in the file.
            erased = await connection.execute(_ERASED_SINCE, (str(made.read_since),), binary=True)
            if await erased.fetchone() is not None:
                msg = "somebody was erased while the export was made: make it again"
                raise NotExportedError(msg)
        await append_in_turn(
            connection,
            EXPORTS_STREAM,
            NewEvent(event, None if reason is None else Personal(comment=reason)),
            cause,
            subject_id=subject,
            data_key=key,
        )
