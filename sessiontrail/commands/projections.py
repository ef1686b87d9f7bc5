"""``sessiontrail projections``: proving that the tables are the fold of the log, and rebuilding."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.registry import UnknownEventError
from infra.postgres import create_engine
from infra.projection_store import (
    DamagedLogError,
    NotTheOwnerError,
    Rebuilt,
    rebuild_projections,
    verify_projections,
)
from infra.sealing import DataKeys
from infra.settings import load_settings
from sessiontrail.commands.context import CommandError, ensure_current, run, say
from sessiontrail.commands.progress import progress_bar
from sessiontrail.databases import database
from sessiontrail.keys import key_ring

app = typer.Typer(help="Prove and rebuild the tables that are read from.", no_args_is_help=True)

_SHOWN = 20


@app.command()
def verify() -> None:
    """Prove that the tables are the fold of the log; exits with 1 where they are not."""

    async def work() -> int:
        found = 0
        async with _owned_database() as (engine, data_keys):
            with progress_bar("verifying") as progress:
                async for difference in verify_projections(engine, data_keys, progress):
                    found += 1
                    if found <= _SHOWN:
                        say(str(difference))
        return found

    try:
        found = run(work)
    except UnknownEventError as error:
        raise CommandError(str(error)) from error
    if found:
        msg = f"{found} differences between the log and the tables"
        raise CommandError(msg)
    say("The users, sessions and alerts tables are the fold of the log.")


@app.command()
def rebuild() -> None:
    """Fold the log anew and put right whatever the tables have otherwise.

    Sign-ins and refreshes go on meanwhile and wait only for the last moment of it.
    """

    async def work() -> list[Rebuilt]:
        async with _owned_database() as (engine, data_keys):
            with progress_bar("rebuilding") as progress:
                return await rebuild_projections(engine, data_keys, progress)

    try:
        rebuilt = run(work)
    except (DamagedLogError, NotTheOwnerError, UnknownEventError) as error:
        raise CommandError(str(error)) from error
    for each in rebuilt:
        say(f"{each.table}: {each.rows} rows, {each.removed} removed, {each.written} written.")


@asynccontextmanager
async def _owned_database() -> AsyncIterator[tuple[AsyncEngine, DataKeys]]:
    """The database as its owner where that role is known, and the keys to personal data."""
    settings = load_settings()
    keys = key_ring(settings)
    with database(settings) as access:
        await ensure_current(settings, access)
        engine = create_engine(access.owner or access.service, max_connections=4, wait_s=5)
        try:
            yield engine, DataKeys(keys.masters)
        finally:
            await engine.dispose()
