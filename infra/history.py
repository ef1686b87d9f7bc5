"""The log from an instant on, in order, opened as far as keys exist: for back-tests."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import RecordedEvent
from infra.detector_work import opened
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.tail import COLUMNS, START, Place, recorded

_PAGE_SIZE = 2_000
_PAGE = f"""
SELECT {COLUMNS}
  FROM events
 WHERE transaction_id >= %(xid)s::text::xid8
   AND (transaction_id, position) > (%(xid)s::text::xid8, %(position)s)
   AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
   AND type = ANY(%(types)s)
   AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
 ORDER BY transaction_id, position
 LIMIT %(limit)s
"""  # noqa: S608 (column names are ours)
_COUNT = """
SELECT count(*) FROM events
 WHERE type = ANY(%(types)s) AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
"""


async def count_history(engine: AsyncEngine, types: Collection[str], since: datetime | None) -> int:
    """How many events ``read_history`` will give, unless more are appended meanwhile."""
    async with transaction(engine) as connection:
        cursor = await connection.execute(_COUNT, {"types": list(types), "since": since})
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def read_history(
    engine: AsyncEngine,
    data_keys: DataKeys,
    types: Collection[str],
    since: datetime | None,
    page_size: int = _PAGE_SIZE,
) -> AsyncIterator[list[RecordedEvent]]:
    """The log's events of some types, some thousands at a time; memory stays flat.

    Args:
        engine: The pool.
        data_keys: Opens personal parts.
        types: Event types.
        since: From when on; None is the beginning.
        page_size: Events at a time.

    Raises:
        UnknownEventError: A newer build wrote one of them.
    """
    place = START
    while True:
        async with transaction(engine) as connection:
            cursor = await connection.execute(
                _PAGE,
                {
                    "xid": str(place.transaction_id),
                    "position": place.position,
                    "types": list(types),
                    "since": since,
                    "limit": page_size,
                },
                binary=True,
            )
            events = [recorded(record) for record in await cursor.fetchall()]
            page = await opened(connection, events, data_keys)
        if not page:
            return
        yield page
        place = Place(page[-1].transaction_id, page[-1].position)
