"""What every command needs: settings, the database, the keys, and who is at the keyboard."""

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from domain.events.envelope import Actor, ActorKind, Cause
from domain.ids import CorrelationId
from infra.ids import new_uuid
from infra.migrate import is_current
from infra.postgres import create_engine
from infra.settings import Settings, load_settings
from sessiontrail.databases import DatabaseAccess, bring_up_to_date, database
from sessiontrail.keys import key_ring
from sessiontrail.store import Store, open_store

ResultT = TypeVar("ResultT")
_WIDE = 240


class CommandError(Exception):
    """What the user asked for cannot be done; the message says why, in one line."""


def run(work: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Run a command's coroutine to its end."""

    async def main() -> ResultT:
        return await work()

    return asyncio.run(main())


async def ensure_current(settings: Settings, access: DatabaseAccess) -> None:
    """Migrate where that is ours to do: on the embedded PostgreSQL.

    Raises:
        CommandError: Migrations are missing, and not ours to apply.
        StoreUnavailableError: The database cannot be reached.
    """
    if settings.is_embedded:
        await bring_up_to_date(settings, access)
        return
    engine = create_engine(access.service, max_connections=1, wait_s=5)
    try:
        if not await is_current(engine):
            msg = "the database lacks migrations of this version: run `sessiontrail migrate`"
            raise CommandError(msg)
    finally:
        await engine.dispose()


@asynccontextmanager
async def store() -> AsyncIterator[Store]:
    """The store that the settings name, migrated where that is ours to do."""
    settings = load_settings()
    with database(settings) as access:
        keys = key_ring(settings)
        await ensure_current(settings, access)
        async with open_store(settings, access.service, keys) as opened:
            yield opened


def operator_cause() -> Cause:
    """The cause of what somebody does at the command line: their account on this machine."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = "unknown"
    return Cause(Actor(ActorKind.OPERATOR, account), CorrelationId(new_uuid()))


def print_table(table: Table) -> None:
    """Print a table whose ids can be copied: folded to the terminal, never cut."""
    for column in table.columns:
        column.overflow = "fold"
    width = None if sys.stdout.isatty() else _WIDE
    # Names come from people: what looks like markup is text.
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def say(line: str = "") -> None:
    """Print a line of result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
