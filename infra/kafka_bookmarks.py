"""The detector's bookmarks on a topic's partitions, in the database; who moves them is checked."""

from collections.abc import Mapping, Sequence
from typing import Final

from domain.detection_work import Stage
from domain.events.envelope import RecordedEvent
from infra import detector_leases
from infra.detector_log import PartitionLostError
from infra.kafka_partition import Bookmark
from infra.postgres import Connection
from infra.tail import START, Place

_TRANSPORT: Final = "kafka"
_STAGE: Final = int(Stage.USERS)

# Waits for a batch of the former owner that is about to commit.
_TAKE = """
INSERT INTO detector_partitions AS p
       (transport, stage, partition, transaction_id, position, owner, updated_at)
SELECT %(transport)s, %(stage)s, number, '0', 0, %(worker)s, clock_timestamp()
  FROM unnest(%(partitions)s::smallint[]) AS number ORDER BY number
ON CONFLICT (transport, stage, partition) DO UPDATE SET owner = excluded.owner
RETURNING p.partition, p.transaction_id, p.position, p.kafka_offset
"""
_HOLD = f"""
SELECT partition, transaction_id, position, kafka_offset, {detector_leases.IDLE_LIMIT}
  FROM detector_partitions
 WHERE transport = %(transport)s AND stage = %(stage)s AND partition = ANY(%(partitions)s)
   AND owner = %(worker)s
 ORDER BY partition FOR UPDATE
"""  # noqa: S608 (a constant of ours)
_MOVE = """
UPDATE detector_partitions p
   SET transaction_id = m.xid::xid8, position = m.position, kafka_offset = m.kafka_offset,
       updated_at = clock_timestamp()
  FROM unnest(%(numbers)s::smallint[], %(xids)s::text[], %(positions)s::bigint[],
              %(offsets)s::bigint[]) AS m(partition, xid, position, kafka_offset)
 WHERE p.transport = %(transport)s AND p.stage = %(stage)s AND p.partition = m.partition
"""
_LAST_ON_THE_LOG = """
SELECT transaction_id, position FROM detector_partitions
 WHERE transport = %(log)s AND stage = %(stage)s
 ORDER BY transaction_id DESC, position DESC LIMIT 1
"""
_JUDGED_ON_THE_LOG = """
SELECT e.event_id
  FROM unnest(%(ids)s::uuid[], %(subjects)s::text[], %(xids)s::text[], %(positions)s::bigint[])
       AS e(event_id, subject, xid, position)
  JOIN detector_partitions p
    ON p.transport = %(log)s AND p.stage = %(stage)s
   AND p.partition
       = mod(hashtextextended(coalesce(e.subject, ''), 0) & 9223372036854775807, %(of)s)
 WHERE (e.xid::xid8, e.position) <= (p.transaction_id, p.position)
"""


class Bookmarks:
    """The bookmarks, as one worker sees and moves them; each call is within a transaction."""

    def __init__(self, worker_id: str) -> None:
        """Move them in this worker's name."""
        self._worker_id = worker_id
        self._last_on_the_log = START

    async def take(
        self, connection: Connection, partitions: Sequence[int]
    ) -> Mapping[int, Bookmark]:
        """Become the owner of partitions; whoever was before can move nothing there any more."""
        cursor = await connection.execute(_TAKE, self._values(partitions), binary=True)
        taken = {
            number: Bookmark(Place(transaction_id, position), offset)
            for number, transaction_id, position, offset in await cursor.fetchall()
        }
        cursor = await connection.execute(_LAST_ON_THE_LOG, self._values(), binary=True)
        record = await cursor.fetchone()
        self._last_on_the_log = START if record is None else Place(*record)
        return taken

    async def hold(self, connection: Connection, expected: Mapping[int, Bookmark]) -> None:
        """Lock bookmarks, if they are still this worker's and where it thinks.

        Raises:
            PartitionLostError: They are not.
        """
        cursor = await connection.execute(_HOLD, self._values(list(expected)), binary=True)
        held = {
            number: Bookmark(Place(transaction_id, position), offset)
            for number, transaction_id, position, offset, _ in await cursor.fetchall()
        }
        if held != expected:
            msg = "another worker has taken over"
            raise PartitionLostError(msg)

    async def move(self, connection: Connection, moved: Mapping[int, Bookmark]) -> None:
        """Move bookmarks that are held."""
        if not moved:
            return
        await connection.execute(
            _MOVE,
            self._values()
            | {
                "numbers": list(moved),
                "xids": [str(each.place.transaction_id) for each in moved.values()],
                "positions": [each.place.position for each in moved.values()],
                "offsets": [each.offset for each in moved.values()],
            },
        )

    async def judged_on_the_log(
        self, connection: Connection, events: Sequence[RecordedEvent]
    ) -> frozenset[str]:
        """Ids of events that were judged before the detector was set to read from Kafka."""
        old = [each for each in events if _place_of(each) <= self._last_on_the_log]
        if not old:
            return frozenset()
        cursor = await connection.execute(
            _JUDGED_ON_THE_LOG,
            self._values()
            | {
                "ids": [each.event_id for each in old],
                "subjects": [each.subject_id for each in old],
                "xids": [str(each.transaction_id) for each in old],
                "positions": [each.position for each in old],
            },
            binary=True,
        )
        return frozenset(record[0] for record in await cursor.fetchall())

    def _values(self, partitions: Sequence[int] = ()) -> dict[str, object]:
        return {
            "transport": _TRANSPORT,
            "log": detector_leases.TRANSPORT,
            "of": detector_leases.PARTITIONS,
            "stage": _STAGE,
            "worker": self._worker_id,
            "partitions": list(partitions),
        }


def _place_of(event: RecordedEvent) -> Place:
    return Place(event.transaction_id, event.position)
