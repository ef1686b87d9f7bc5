"""Erasures in a database, stopped half-way where a test wants to look at what happens then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import psycopg

from domain.erasure import Erasure
from domain.user import User
from tests.integration.accounts import Accounts

DEADLINE_S = 20.0
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


async def someone_waits(owner_conninfo: str, how_many: int = 1) -> None:
    """Wait until that many of the database's connections wait for a lock."""
    query = _WAITING + " AND datname = current_database()"
    async with await psycopg.AsyncConnection.connect(owner_conninfo, autocommit=True) as watcher:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                cursor = await watcher.execute(query)
                row = await cursor.fetchone()
                if row is not None and row[0] >= how_many:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def half_erased(
    accounts: Accounts, user: User, owner_conninfo: str
) -> AsyncIterator[Awaitable[Erasure]]:
    """An erasure that has deleted the key and cannot commit before the block's end.

    It stops at one of the user's alerts, which somebody outside the service holds.
    """
    async with await psycopg.AsyncConnection.connect(owner_conninfo) as outsider:
        cursor = await outsider.execute(
            "SELECT 1 FROM alerts WHERE subject_id = %s FOR UPDATE", (user.user_id,)
        )
        assert await cursor.fetchone() is not None, "it needs an alert to stop at"
        erasing = asyncio.ensure_future(accounts.erase(user))
        await someone_waits(owner_conninfo)
        yield erasing
        await outsider.rollback()
    await erasing
