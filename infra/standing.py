"""How far behind the log's readers are, asked of the database: it knows of every machine's."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.activity import Counted, Standing
from domain.detection_work import Stage
from infra.activity import READER, read_activity
from infra.detector_lag import lag_s
from infra.kafka_access import reader_of
from infra.postgres import Connection, transaction
from infra.tail import Place, tail_lag

_CHECKPOINT = "SELECT transaction_id, position, updated_at FROM checkpoints WHERE reader = %s"
_HEAD = "SELECT size, signed_at FROM tree_heads ORDER BY size DESC LIMIT 1"


class PostgresActivity:
    """``api.console.ports.Activity`` over PostgreSQL."""

    def __init__(
        self, engine: AsyncEngine, types: Mapping[Stage, Sequence[str]], topic: str
    ) -> None:
        """Read through this pool.

        Args:
            engine: The pool.
            types: The event types that each stage of the detector reads from the log.
            topic: That the relay publishes to.
        """
        self._engine = engine
        self._types = types
        self._topic = topic

    async def counted(
        self, since: datetime, until: datetime, stretch: timedelta
    ) -> Sequence[Counted]:
        """See ``Activity.counted``."""
        return await read_activity(self._engine, since, until, stretch)

    async def standing(self) -> Standing:
        """See ``Activity.standing``."""
        async with transaction(self._engine) as connection:
            detector = {}
            for stage, types in self._types.items():
                lag = await lag_s(connection, stage, types)
                if lag is not None:
                    detector[stage.name.lower()] = lag
            relay = await _checkpoint(connection, reader_of(self._topic))
            counted = await _checkpoint(connection, READER)
            cursor = await connection.execute(_HEAD, binary=True)
            head = await cursor.fetchone()
            return Standing(
                detector=detector,
                relay=None
                if relay is None
                else (await tail_lag(connection, relay[0])).behind.total_seconds(),
                counted_to=None if counted is None else counted[1],
                tree_size=None if head is None else head[0],
                tree_signed_at=None if head is None else head[1],
            )


async def _checkpoint(connection: Connection, reader: str) -> tuple[Place, datetime] | None:
    cursor = await connection.execute(_CHECKPOINT, (reader,), binary=True)
    record = await cursor.fetchone()
    return None if record is None else (Place(record[0], record[1]), record[2])
