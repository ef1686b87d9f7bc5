"""``sessiontrail projections``: proving that the tables are the fold of the log, and rebuilding."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.registry import MalformedEventError, UnknownEventError
from infra.postgres import create_engine
from infra.projection_build import build_projections
from infra.projection_compare import Comparison, compare_projections
from infra.projection_folds import Progress
from infra.projection_rollback import rollback_projections
from infra.projection_store import verify_projections
from infra.projection_swap import (
    Rebuilt,
    discard_rebuild,
    rebuild_projections,
    swap_projections,
)
from infra.rebuild_session import RebuildError
from infra.sealing import DataKeys
from infra.settings import load_settings
from sessiontrail.commands.context import CommandError, ensure_current, run, say
from sessiontrail.commands.progress import progress_bar
from sessiontrail.databases import database
from sessiontrail.keys import key_ring

app = typer.Typer(help="Prove and rebuild the tables that are read from.", no_args_is_help=True)

_SHOWN = 20
_ResultT = TypeVar("_ResultT")


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
    except (UnknownEventError, MalformedEventError) as error:
        raise CommandError(str(error)) from error
    if found:
        msg = f"{found} differences between the log and the tables"
        raise CommandError(msg)
    say("The users, sessions and alerts tables are the fold of the log.")


@app.command()
def build() -> None:
    """Fold the log beside the tables, or go on where that was left; touches none of them."""
    rows = _with_progress("building", build_projections)
    say(f"{rows} rows stand beside the tables. Next: compare, swap or discard.")


@app.command()
def compare() -> None:
    """Compare what was built with the tables, byte for byte; exits with 1 where they differ."""

    def work(engine: AsyncEngine, keys: DataKeys, progress: Progress) -> Awaitable[Comparison]:
        return compare_projections(engine, keys, progress, _SHOWN)

    compared = _with_progress("catching up", work)
    for difference in compared.first:
        say(str(difference))
    for each in compared.tables:
        say(
            f"{each.table}: {each.rows} rows, {each.differing} differ,"
            f" {each.missing} missing, {each.extra} extra."
        )
    if not compared.is_same:
        msg = "the tables are not what was built"
        raise CommandError(msg)


@app.command()
def swap() -> None:
    """Put what was built in the place of what the tables have otherwise, and keep that."""
    _say_rebuilt(_with_progress("catching up", swap_projections))


@app.command()
def rollback() -> None:
    """Bring back what the last swap replaced, with what has happened since."""
    for each in _with_progress("catching up", rollback_projections):
        say(f"{each.table}: {each.removed} removed, {each.written} written.")


@app.command()
def discard() -> None:
    """Do away with what was built, and with what the last swap replaced."""

    async def work(engine: AsyncEngine, keys: DataKeys, _: Progress) -> None:
        await discard_rebuild(engine, keys)

    _with_progress("discarding", work)
    say("Nothing is left beside the tables.")


@app.command()
def rebuild() -> None:
    """Build from the beginning and swap: put right whatever the tables have otherwise.

    Sign-ins and refreshes go on meanwhile and wait only for the last moment of it.
    """
    _say_rebuilt(_with_progress("rebuilding", rebuild_projections))


def _with_progress(
    verb: str, step: Callable[[AsyncEngine, DataKeys, Progress], Awaitable[_ResultT]]
) -> _ResultT:
    """One step of a rebuild, as the owner of the tables, with a progress bar."""

    async def work() -> _ResultT:
        async with _owned_database() as (engine, data_keys):
            with progress_bar(verb) as progress:
                return await step(engine, data_keys, progress)

    try:
        return run(work)
    except (RebuildError, UnknownEventError, MalformedEventError) as error:
        raise CommandError(str(error)) from error


def _say_rebuilt(rebuilt: list[Rebuilt]) -> None:
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
