"""``sessiontrail projections``: proving that the tables are the fold of the log, and rebuilding."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncEngine

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
from sessiontrail.commands.context import CommandError, run, say
from sessiontrail.databases import bring_up_to_date, database
from sessiontrail.keys import key_ring

app = typer.Typer(help="Prove and rebuild the tables that are read from.", no_args_is_help=True)

_SHOWN = 20


@app.command()
def verify() -> None:
    """Prove that the tables are the fold of the log; exits with 1 where they are not."""

    async def work() -> int:
        found = 0
        async with _owned_database() as (engine, data_keys):
            with _progress("verifying") as progress:
                async for difference in verify_projections(engine, data_keys, progress):
                    found += 1
                    if found <= _SHOWN:
                        say(str(difference))
        return found

    found = run(work)
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
            with _progress("rebuilding") as progress:
                return await rebuild_projections(engine, data_keys, progress)

    try:
        rebuilt = run(work)
    except (DamagedLogError, NotTheOwnerError) as error:
        raise CommandError(str(error)) from error
    for each in rebuilt:
        say(f"{each.table}: {each.rows} rows, {each.removed} removed, {each.written} written.")


@asynccontextmanager
async def _owned_database() -> AsyncIterator[tuple[AsyncEngine, DataKeys]]:
    """The database as its owner where that role is known, and the keys to personal data."""
    settings = load_settings()
    keys = key_ring(settings)
    with database(settings) as access:
        if settings.is_embedded:
            await bring_up_to_date(access)
        engine = create_engine(access.owner or access.service, max_connections=4, wait_s=5)
        try:
            yield engine, DataKeys(keys.masters)
        finally:
            await engine.dispose()


@contextmanager
def _progress(verb: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, where that is a terminal."""
    bar = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
