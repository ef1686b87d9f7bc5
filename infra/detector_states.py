"""What the detector keeps between events, in PostgreSQL."""

from collections.abc import Collection, Mapping, Sequence

from domain.detection_work import StateKey, StoredState
from domain.ids import UserId
from infra.postgres import Connection

_LOAD = """
SELECT s.scope, s.key, s.state
  FROM detector_states s
  JOIN unnest(%s::smallint[], %s::text[]) AS k(scope, key) USING (scope, key)
"""
# Nothing is kept of a user who was erased meanwhile.
_PUT = """
INSERT INTO detector_states (scope, key, subject_id, state, updated_at)
SELECT s.*, clock_timestamp() FROM unnest(%s::smallint[], %s::text[], %s::uuid[], %s::bytea[])
                AS s(scope, key, subject_id, state)
 WHERE s.subject_id IS NULL
    OR EXISTS (SELECT 1 FROM data_keys k WHERE k.subject_id = s.subject_id OFFSET 0)
ON CONFLICT (scope, key) DO UPDATE
   SET state = excluded.state, subject_id = excluded.subject_id, updated_at = excluded.updated_at
"""
_DROP = """
DELETE FROM detector_states s
 USING unnest(%s::smallint[], %s::text[]) AS k(scope, key)
 WHERE s.scope = k.scope AND s.key = k.key
"""

_FORGET = "DELETE FROM detector_states WHERE subject_id = %s AND scope = ANY(%s::smallint[])"
# The id as text within the encoded state: looked through once an erasure, not kept in an index.
_NAMING = """
SELECT key FROM detector_states
 WHERE scope = %s AND position(convert_to(%s, 'UTF8') IN state) > 0
"""


class DetectorStates:
    """``detector.ports.States`` within a transaction."""

    def __init__(self, connection: Connection) -> None:
        """Read and write through this connection."""
        self._connection = connection

    async def load(self, keys: Collection[StateKey]) -> Mapping[StateKey, bytes]:
        """See ``detector.ports.States.load``."""
        if not keys:
            return {}
        cursor = await self._connection.execute(
            _LOAD, ([scope for scope, _ in keys], [key for _, key in keys]), binary=True
        )
        return {(scope, key): state for scope, key, state in await cursor.fetchall()}

    async def save(self, states: Sequence[StoredState]) -> None:
        """See ``detector.ports.States.save``."""
        # In the order of keys, so that two workers never wait for each other in a circle.
        latest = sorted({each.key: each for each in states}.values(), key=lambda each: each.key)
        kept = [each for each in latest if each.state is not None]
        dropped = [each.key for each in latest if each.state is None]
        if kept:
            await self._connection.execute(
                _PUT,
                (
                    [each.key[0] for each in kept],
                    [each.key[1] for each in kept],
                    [each.subject_id for each in kept],
                    [each.state for each in kept],
                ),
            )
        if dropped:
            await self._connection.execute(
                _DROP, ([scope for scope, _ in dropped], [key for _, key in dropped])
            )

    async def forget(self, user_id: UserId, scopes: Collection[int]) -> None:
        """See ``detector.ports.Work.forget``."""
        await self._connection.execute(_FORGET, (user_id, list(scopes)))

    async def naming(self, user_id: UserId, scope: int) -> Sequence[str]:
        """See ``detector.ports.Work.naming``."""
        cursor = await self._connection.execute(_NAMING, (scope, user_id))
        return [record[0] for record in await cursor.fetchall()]
