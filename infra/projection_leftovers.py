"""What a rebuild leaves beside the tables that are read from, and how an erasure reaches it.

A build stands in ``rebuilt_users``, ``rebuilt_sessions`` and ``rebuilt_alerts`` until it is swapped
in; what that replaced stands in ``replaced_rows`` until the next. All four hold personal data, of
which an erasure clears those it erases. A rebuild puts rows while people are erased: the two take
turns, so that what was read before an erasure is not put after it.
"""

from typing import Final

from infra.postgres import Connection

PERSONAL_LEFTOVERS: Final = ("rebuilt_users", "rebuilt_sessions", "rebuilt_alerts", "replaced_rows")
"""Tables that hold personal data for as long as a rebuild needs it; empty at other times."""

_PUTTING = 7_305_802_116_530_213
"""Advisory lock: shared by erasures, and taken alone by a rebuild each time that it puts rows."""


async def keep_rebuilds_out(connection: Connection) -> None:
    """Let no rebuild put rows from now until this transaction, which erases somebody, ends.

    Call it once the transaction has locked the user's row, for a swap locks the tables first and
    this afterwards; and before it clears ``PERSONAL_LEFTOVERS``. Whoever is put later has no data
    key, and nothing personal is put.

    Args:
        connection: In the transaction.
    """
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_PUTTING,))


async def keep_erasures_out(connection: Connection) -> None:
    """Let no erasure come between what a rebuild reads of data keys and the rows that it puts.

    Args:
        connection: In a short transaction.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PUTTING,))
