"""The sweep: writes ``SessionExpired`` for sessions that ran out of time and were not used since.

Any number of replicas may sweep at once: each takes rows that no other has locked, a few hundred at
a time, so a refresh waits at most for one small transaction, and each expiry is written once.
"""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Actor, ActorKind, Cause
from domain.family_decisions import ExpireSessions
from domain.ids import CorrelationId, FamilyId
from domain.ports import StoreUnavailableError
from infra.family_execution import command_held_families
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys

_BATCH = 200
_log = logging.getLogger(__name__)

# The first comparison takes the clock as a value, so that it can use ``sessions_sweep_idx``.
_EXPIRED = """
SELECT family_id FROM sessions
 WHERE ended_at IS NULL AND sweep_after <= (SELECT clock_timestamp())
   AND (idle_expires_at <= clock_timestamp() OR expires_at <= clock_timestamp())
 ORDER BY sweep_after
 LIMIT %s
   FOR UPDATE SKIP LOCKED
"""


async def sweep_once(engine: AsyncEngine, data_keys: DataKeys) -> int:
    """Expire one batch, in one transaction.

    Returns:
        How many families it expired sessions of; 0 when nothing is left to do.

    Raises:
        StoreUnavailableError: The database cannot serve; nothing was written.
    """
    cause = Cause(Actor(ActorKind.SYSTEM, "sweep"), CorrelationId(new_uuid()))
    async with transaction(engine) as connection:
        cursor = await connection.execute(_EXPIRED, (_BATCH,), binary=True)
        found = sorted({FamilyId(record[0]) for record in await cursor.fetchall()})
        return await command_held_families(connection, found, ExpireSessions(), cause, data_keys)


async def run_sweep(
    engine: AsyncEngine,
    data_keys: DataKeys,
    interval_s: float,
    counted: Callable[[int], object],
) -> None:
    """Sweep at intervals until cancelled, each time until nothing is left.

    Args:
        engine: The pool.
        data_keys: Opens data keys.
        interval_s: Seconds from the end of one sweep to the next.
        counted: Told how many families each batch expired.
    """
    while True:
        await asyncio.sleep(interval_s)
        try:
            while expired := await sweep_once(engine, data_keys):
                counted(expired)
        except StoreUnavailableError as error:
            _log.warning("the sweep stopped early: %s", error)
