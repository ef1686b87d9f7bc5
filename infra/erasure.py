"""Erasing a person: one transaction that leaves of them an id and sealed boxes without a key.

Everybody who writes personal data in clear holds, until they commit, something that this
transaction takes for itself: a sign-in the user's row; a refresh the session's row, guarded by
what is in it; whoever raises or comments an alert the data key's row; a rebuild a lock of its own.
So each comes wholly before this, and is cleared, or wholly after, and finds nothing to write with.
The detector is not waited for: it drops what it knows of somebody when it reads ``UserErased``,
after all that it read of them before (docs/decisions/021).
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.erasure import Erasure
from domain.events.envelope import Cause
from domain.ids import UserId
from domain.refusals import Refusal
from domain.user import EraseUser
from infra.detection_policy_store import DetectionPolicyStore
from infra.postgres import Connection, transaction
from infra.projection_leftovers import keep_rebuilds_out
from infra.user_commands import PostgresUserCommands

# In the order that everybody locks in. What is about to be rewritten by the detector is passed over
# (SKIP LOCKED): it will come to the event behind it.
_CLEAR: Final = {
    "users": """
        UPDATE users SET username = NULL, external_subject = NULL
         WHERE user_id = %(user)s AND num_nonnulls(username, external_subject) > 0""",
    "sessions": """
        UPDATE sessions SET client = NULL, device_name = NULL
         WHERE user_id = %(user)s AND num_nonnulls(client, device_name) > 0""",
    "data_keys": "DELETE FROM data_keys WHERE subject_id = %(user)s",
    "credentials": "DELETE FROM credentials WHERE user_id = %(user)s",
    "alerts": """
        UPDATE alerts SET client = NULL, fact_texts = NULL
         WHERE subject_id = %(user)s AND num_nonnulls(client, fact_texts) > 0""",
    "rebuilt_users": """
        UPDATE rebuilt_users SET username = NULL, external_subject = NULL
         WHERE user_id = %(user)s""",
    "rebuilt_sessions": """
        UPDATE rebuilt_sessions SET client = NULL, device_name = NULL
         WHERE user_id = %(user)s""",
    "rebuilt_alerts": """
        UPDATE rebuilt_alerts SET client = NULL, fact_texts = NULL
         WHERE subject_id = %(user)s""",
    "replaced_rows": "DELETE FROM replaced_rows WHERE subject_id = %(user)s",
    "detector_states": """
        WITH theirs AS MATERIALIZED (
          SELECT scope, key FROM detector_states
           WHERE subject_id = %(user)s FOR UPDATE SKIP LOCKED
        )
        DELETE FROM detector_states s USING theirs t WHERE s.scope = t.scope AND s.key = t.key""",
    "detector_set_aside": """
        DELETE FROM detector_set_aside a USING events e
         WHERE e.subject_id = %(user)s AND e.event_id = a.event_id""",
}
_ERASED_AT = "SELECT erased_at FROM users WHERE user_id = %s FOR NO KEY UPDATE"


class PostgresErasure:
    """``api.ports.Erasures`` over PostgreSQL."""

    def __init__(
        self, engine: AsyncEngine, users: PostgresUserCommands, policies: DetectionPolicyStore
    ) -> None:
        """Work through these.

        Args:
            engine: The pool.
            users: Ends the families.
            policies: The allow-list, which may have entries about the person.
        """
        self._engine = engine
        self._users = users
        self._policies = policies

    async def erase(self, user_id: UserId, command: EraseUser, cause: Cause) -> Erasure | Refusal:
        """Erase a person, or what an earlier erasure left of them: doing it twice is no error.

        Args:
            user_id: Who.
            command: Why.
            cause: By whom and in which request.

        Returns:
            What was done, or why it was refused: there is no such user, or the reason names them.

        Raises:
            StoreUnavailableError: The database cannot serve.
            ConcurrencyError: The detection policy kept moving: once more removes what the
                allow-list says of them.
        """
        async with transaction(self._engine) as connection:
            ended = await self._users.erase_within(connection, user_id, command, cause)
            if isinstance(ended, Refusal) and ended is not Refusal.NOTHING_TO_DO:
                return ended
            await keep_rebuilds_out(connection)
            # The event's fold has cleared the user's own row; counted all the same.
            rows = {table: await _run(connection, _CLEAR[table], user_id) for table in _CLEAR}
            cursor = await connection.execute(_ERASED_AT, (user_id,), binary=True)
            record = await cursor.fetchone()
        if record is None:
            msg = f"user {user_id} is gone although their row was held"
            raise RuntimeError(msg)
        # Behind the rest, since whoever changes the policy may hold what this has to wait for.
        rows["allow_list"] = await self._policies.forget(user_id, cause)
        is_repeat = isinstance(ended, Refusal)
        if not is_repeat:
            rows["users"] = 1
        return Erasure(
            user_id=user_id,
            erased_at=record[0],
            is_repeat=is_repeat,
            families=0 if isinstance(ended, Refusal) else ended,
            rows=rows,
        )


async def _run(connection: Connection, statement: str, user_id: UserId) -> int:
    cursor = await connection.execute(statement.encode(), {"user": user_id})
    return cursor.rowcount
