"""The end of a stream as people read it: who did what, personal parts opened."""

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.personal import Personal, Sealed
from domain.histories import History, HistoryEntry
from domain.ids import Stream
from infra.postgres import transaction
from infra.sealing import DataKeys

_LAST = """
SELECT e.version, e.event_id, e.type, e.occurred_at, e.actor, e.correlation_id, e.data, e.personal,
       e.subject_id, k.wrapped_key
  FROM events e LEFT JOIN data_keys k ON k.subject_id = e.subject_id
 WHERE hashtextextended(e.stream, 0) = hashtextextended(%(stream)s, 0) AND e.stream = %(stream)s
 ORDER BY e.version DESC
 LIMIT %(limit)s
"""


class StreamHistories:
    """``api.ports.Histories`` over PostgreSQL.

    Events are not decoded into their types: a reader must not fail at one that a newer build wrote.
    """

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        """Read through this pool, opening with these data keys."""
        self._engine = engine
        self._data_keys = data_keys

    async def last(self, stream: Stream, limit: int) -> History:
        """See ``api.ports.Histories.last``."""
        async with transaction(self._engine) as connection:
            cursor = await connection.execute(
                _LAST, {"stream": stream, "limit": limit}, binary=True
            )
            records = await cursor.fetchall()
        entries = []
        for version, event_id, type_, at, actor, correlation_id, data, box, *owner in records:
            subject_id, wrapped_key = owner
            personal = Personal()
            if box is not None and wrapped_key is not None:
                data_key = self._data_keys.unwrap(wrapped_key, subject_id)
                personal = data_key.open(Sealed(event_id, box))
            entries.append(
                HistoryEntry(
                    version=version,
                    event_id=event_id,
                    type=type_,
                    at=at,
                    actor=actor,
                    correlation_id=correlation_id,
                    data=msgspec.json.decode(data, type=dict[str, object]),
                    personal=personal,
                )
            )
        entries.reverse()
        return History(entries, earlier=entries[0].version - 1 if entries else 0)
