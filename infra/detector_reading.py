"""Reading a stretch of the log for the detector: events opened, and what cannot be read apart."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from domain.events.envelope import RecordedEvent
from domain.events.registry import MalformedEventError, UnknownEventError
from infra.detector_leases import PARTITIONS
from infra.detector_set_aside import Unread, unreadable
from infra.detector_work import unsealed
from infra.postgres import Connection
from infra.sealing import DataKeys
from infra.tail import COLUMNS, Place, recorded

END: Final = Place(2**64 - 1, 2**63 - 1)
"""Behind every event."""

# Read together with the newest place of the same snapshot: where nothing is found, everything up to
# there was looked through. The users of a partition are told by their ids' hash, which is the same
# in every version and on every machine.
_READ = f"""
SELECT {", ".join("f." + column for column in COLUMNS.split(", "))}, k.wrapped_key,
       newest.transaction_id, newest.position
  FROM (
    SELECT transaction_id, position FROM events
     WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())
     ORDER BY transaction_id DESC, position DESC LIMIT 1
  ) newest
  LEFT JOIN LATERAL (
    SELECT {COLUMNS}
      FROM events
     WHERE transaction_id >= %(xid)s::text::xid8
       AND (transaction_id, position) > (%(xid)s::text::xid8, %(position)s)
       AND (transaction_id, position) <= (%(until_xid)s::text::xid8, %(until_position)s)
       AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
       AND type = ANY(%(types)s)
       AND (%(partitions)s::int[] IS NULL
            OR mod(hashtextextended(coalesce(subject_id::text, ''), 0) & 9223372036854775807,
                   {PARTITIONS}) = ANY(%(partitions)s))
     ORDER BY transaction_id, position
     LIMIT %(limit)s
  ) f ON true
  LEFT JOIN LATERAL (
    SELECT wrapped_key FROM data_keys WHERE subject_id = f.subject_id LIMIT 1
  ) k ON true
 ORDER BY f.transaction_id, f.position
"""  # noqa: S608 (names and numbers are ours)


class Passage(msgspec.Struct, frozen=True):
    """A stretch of the log.

    Attributes:
        events: Those that can be read, in order.
        unread: The one that cannot, if any.
        places: Of all of them, in order.
        end: Everything up to here was looked through.
    """

    events: Sequence[RecordedEvent]
    unread: Sequence[Unread]
    places: Sequence[Place]
    end: Place

    def before(self, taken: int) -> tuple[Place | None, Sequence[Unread]]:
        """What is dealt with once so many of the events are: the last place, and what is unread."""
        if taken >= len(self.events):
            return (self.places[-1] if self.places else None), self.unread
        stop = Place(self.events[taken].transaction_id, self.events[taken].position)
        last = max((place for place in self.places if place < stop), default=None)
        return last, [each for each in self.unread if each.place < stop]


async def read_passage(
    connection: Connection,
    after: Place,
    until: Place,
    types: Collection[str],
    partitions: Collection[int] | None,
    data_keys: DataKeys,
    limit: int,
) -> Passage:
    """The next events behind a place.

    Args:
        connection: Any connection.
        after: The place.
        until: The last place to look at.
        types: Which events.
        partitions: Of which users; None is everybody.
        data_keys: Opens personal parts.
        limit: At most this many.

    Raises:
        UnknownEventError: A newer build wrote the next one. Those before it were returned by the
            read before.
    """
    cursor = await connection.execute(
        _READ,
        {
            "xid": str(after.transaction_id),
            "position": after.position,
            "until_xid": str(until.transaction_id),
            "until_position": until.position,
            "types": list(types),
            "partitions": None if partitions is None else list(partitions),
            "limit": limit,
        },
        binary=True,
    )
    records = await cursor.fetchall()
    if not records:
        return Passage([], [], [], after)  # the log is empty
    end = min(until, Place(*records[0][-2:]))
    if records[0][0] is None:
        return Passage([], [], [], end)
    return _passage(records, data_keys, end)


def _passage(
    records: Sequence[tuple[Any, ...]],  # Any: rows as they came
    data_keys: DataKeys,
    end: Place,
) -> Passage:
    events: list[RecordedEvent] = []
    unread: list[Unread] = []
    places: list[Place] = []
    for record in records:
        place = Place(record[1], record[0])
        try:
            event = recorded(record[:-3])
        except MalformedEventError as error:
            if unread:
                break  # one at a time: if it is not them but us, let it not be all of them
            unread.append(unreadable(place, record[4], record[2], record[5], error))
        except UnknownEventError:
            if not places:
                raise
            break  # what comes before it is dealt with first; the next read stops at it
        else:
            events.append(unsealed(event, record[-3], data_keys))
        places.append(place)
    return Passage(events, unread, places, end)
