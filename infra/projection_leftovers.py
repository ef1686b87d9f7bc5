"""What a rebuild leaves beside the tables that are read from, and how an erasure reaches it.

A build stands in ``rebuilt_users``, ``rebuilt_sessions`` and ``rebuilt_alerts`` until it is swapped
in; what that replaced stands in ``replaced_rows`` until the next. All four hold personal data.
"""

from domain.ids import UserId
from infra.postgres import Connection

PERSONAL_LEFTOVERS = ("rebuilt_users", "rebuilt_sessions", "rebuilt_alerts", "replaced_rows")
"""Tables that hold personal data for as long as a rebuild needs it; empty at other times."""

_PUTTING = 7_305_802_116_530_213
"""Advisory lock: shared by erasures, and taken alone by a rebuild each time that it puts rows."""

_FORGET = (
    "UPDATE rebuilt_users SET username = NULL, external_subject = NULL WHERE user_id = %s",
    "UPDATE rebuilt_sessions SET client = NULL, device_name = NULL WHERE user_id = %s",
    "UPDATE rebuilt_alerts SET client = NULL, fact_texts = NULL WHERE subject_id = %s",
    "DELETE FROM replaced_rows WHERE subject_id = %s",
)


async def forget_in_leftovers(connection: Connection, user_id: UserId) -> int:
    """Forget a user wherever a rebuild has them, within the transaction that erases them.

    Call it after that transaction has locked the user's row: a swap locks the tables first, then
    this. Whatever is put later finds no data key, and puts nothing personal.

    Args:
        connection: In the transaction, as the service's role or the owner of the tables.
        user_id: Who is erased.

    Returns:
        How many rows held them.
    """
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_PUTTING,))
    rows = 0
    for statement in _FORGET:
        cursor = await connection.execute(statement, (user_id,))
        rows += cursor.rowcount
    return rows


async def keep_erasures_out(connection: Connection) -> None:
    """Let no erasure come between what is known of data keys and the rows that are put.

    It lasts until the transaction ends.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PUTTING,))
