"""Finding an event by its id, without an index of ids.

An id begins with the time at which it was made (UUIDv7), shortly before the event was appended, so
ids grow with the log's order but for seconds. The bundles' first events are a sorted sample of it.
"""

from uuid import UUID

from domain.ids import EventId
from infra.postgres import Connection

_LAST_BUNDLE = "SELECT coalesce(max(bundle), -1) FROM entry_bundles"
_FIRST_OF = """
SELECT e.event_id, e.position
  FROM entry_bundles b JOIN events e ON e.position = b.position
 WHERE b.bundle = %s
"""
_SEARCH = """
SELECT position FROM events
 WHERE position >= %s AND (%s::bigint IS NULL OR position <= %s) AND event_id = %s
 LIMIT 1
"""
_SLACKS_MS = (2_000, 60_000, 3_600_000)
_MARGIN = 10_000
"""Positions that running transactions may have mixed up."""


async def find_event(connection: Connection, event_id: EventId) -> int | None:
    """The position of an event; None where none near its time has that id.

    Args:
        connection: Any connection.
        event_id: Its id.
    """
    made_at = _milliseconds(event_id)
    bundles = _Bundles(connection, await _last_bundle(connection))
    for slack in _SLACKS_MS:
        low = await bundles.position_before(made_at - slack)
        high = await bundles.position_after(made_at + slack)
        ceiling = None if high is None else high + _MARGIN
        cursor = await connection.execute(
            _SEARCH, (max(0, low - _MARGIN), ceiling, ceiling, event_id), binary=True
        )
        found = await cursor.fetchone()
        if found is not None:
            position: int = found[0]
            return position
    return None


class _Bundles:
    """The bundles' first events, looked into by halving."""

    def __init__(self, connection: Connection, last: int) -> None:
        self._connection = connection
        self._last = last

    async def position_before(self, made_at: int) -> int:
        """Where the last bundle begins whose first id was made before; 0 where none was."""
        low, high, position = 0, self._last, 0
        while low <= high:
            middle = (low + high) // 2
            first_made, first_position = await self._first_of(middle)
            if first_made < made_at:
                position = first_position
                low = middle + 1
            else:
                high = middle - 1
        return position

    async def position_after(self, made_at: int) -> int | None:
        """Where the first bundle begins whose first id was made after; None where none was."""
        low, high = 0, self._last
        position: int | None = None
        while low <= high:
            middle = (low + high) // 2
            first_made, first_position = await self._first_of(middle)
            if first_made > made_at:
                position = first_position
                high = middle - 1
            else:
                low = middle + 1
        return position

    async def _first_of(self, bundle: int) -> tuple[int, int]:
        cursor = await self._connection.execute(_FIRST_OF, (bundle,), binary=True)
        record = await cursor.fetchone()
        # One whose event is gone (archived, or tampered with) counts as old: the search goes on.
        return (-1, 0) if record is None else (_milliseconds(record[0]), record[1])


async def _last_bundle(connection: Connection) -> int:
    cursor = await connection.execute(_LAST_BUNDLE, binary=True)
    record = await cursor.fetchone()
    return -1 if record is None else int(record[0])


def _milliseconds(event_id: str) -> int:
    return UUID(event_id).int >> 80
