"""Dropping what the detector no longer needs: states that have not changed for long."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ports import StoreUnavailableError
from infra.postgres import transaction

_EVERY_S = 3600.0
_CHUNK = 5_000
_log = logging.getLogger(__name__)

# Locked rows are being used, so they are not old: whoever holds them will change them. It is
# materialised, or PostgreSQL may ask for old ones again for each row, and drop more than a chunk.
_DROP = """
WITH old AS MATERIALIZED (
  SELECT scope, key FROM detector_states
   WHERE scope = %s AND updated_at < clock_timestamp() - %s
   LIMIT %s FOR UPDATE SKIP LOCKED
)
DELETE FROM detector_states s USING old WHERE s.scope = old.scope AND s.key = old.key
"""


async def drop_old_states(engine: AsyncEngine, kept_for: Mapping[int, timedelta]) -> int:
    """Drop states that have not changed for longer than their scope is kept.

    In small transactions, so that nobody waits. A worker that has just loaded one writes it anew.

    Args:
        engine: The pool.
        kept_for: How long, by scope; a scope that is not named is kept for ever.

    Returns:
        How many were dropped.

    Raises:
        StoreUnavailableError: The database cannot serve.
    """
    dropped = 0
    for scope, age in kept_for.items():
        while True:
            async with transaction(engine) as connection:
                cursor = await connection.execute(_DROP, (scope, age, _CHUNK))
            dropped += cursor.rowcount
            if cursor.rowcount < _CHUNK:
                break
    return dropped


async def run_retention(engine: AsyncEngine, kept_for: Mapping[int, timedelta]) -> None:
    """Drop old states once an hour until cancelled."""
    while True:
        try:
            dropped = await drop_old_states(engine, kept_for)
        except StoreUnavailableError as error:
            _log.warning("old states of the detector are dropped later: %s", error)
        else:
            if dropped:
                _log.info("the detector dropped old states", extra={"states": dropped})
        await asyncio.sleep(_EVERY_S)
