"""``sessiontrail audit archive`` and ``restore``: the oldest part of the log, in files."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.archive_files import ArchiveFileError, read_header
from domain.archives import Archive, NotArchivedError
from domain.as_of import AtInstant
from infra.postgres import create_engine
from infra.settings import load_settings
from sessiontrail.archiving import archive_log, restore_log
from sessiontrail.commands.audit_replay import as_of_in, told_in_a_line
from sessiontrail.commands.context import (
    CommandError,
    ensure_current,
    operator_cause,
    run,
    say,
)
from sessiontrail.commands.progress import progress_bar
from sessiontrail.databases import database
from sessiontrail.tree_keys import tree_verifier

KeyOption = Annotated[
    str | None, typer.Option(help="The log's public key; else it is derived from tree.key")
]


def archive(
    before: Annotated[str, typer.Option(help="An instant: what happened later stays")],
    to: Annotated[
        Path | None, typer.Option(help="Folder for the file; else DATA_DIR/archive")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Take the oldest part of the log out of the database into a file, with its proof.

    It ends at a snapshot, which everything goes on from then. The file is read back and proved to
    be the tree's before a row is removed.
    """
    settings = load_settings()
    until = as_of_in(before)
    if not isinstance(until, AtInstant):
        msg = "--before takes an instant"
        raise CommandError(msg)
    verifier = tree_verifier(settings, key)
    folder = to or settings.data_dir / "archive"

    async def work() -> tuple[Path, Archive, int]:
        async with _owned_database() as engine:
            with progress_bar("archiving") as progress:
                return await archive_log(
                    engine, verifier, until, folder, operator_cause(), progress
                )

    with told_in_a_line(), _refused_in_a_line():
        path, archived, removed = run(work)
    say(
        f"{path}: leaves {archived.first_leaf} to {archived.end_leaf - 1}, sha256"
        f" {archived.sha256.hex()}; {removed} rows were removed."
    )


def restore(
    files: Annotated[list[Path], typer.Argument(help="Archives, in any order")],
    key: KeyOption = None,
) -> None:
    """Put the rows of archives back; each file is proved to be the tree's first.

    The newest archive comes back first, so that what is missing is always the oldest part.
    """
    verifier = tree_verifier(load_settings(), key)

    async def work() -> list[Archive]:
        restored = []
        ordered = sorted(files, key=lambda file: read_header(file).end_leaf, reverse=True)
        async with _owned_database() as engine:
            for file in ordered:
                with progress_bar(file.name) as progress:
                    restored.append(
                        await restore_log(engine, verifier, file, operator_cause(), progress)
                    )
        return restored

    with told_in_a_line(), _refused_in_a_line():
        restored = run(work)
    for each in restored:
        say(f"{each.file_name}: leaves {each.first_leaf} to {each.end_leaf - 1} are back.")


@contextmanager
def _refused_in_a_line() -> Iterator[None]:
    """Turn what keeps the log from being archived or restored into one line."""
    try:
        yield
    except (NotArchivedError, ArchiveFileError) as error:
        raise CommandError(str(error)) from error
    except psycopg.errors.InsufficientPrivilege as error:
        msg = "archiving and restoring need the owner of the tables"
        raise CommandError(msg) from error
    except OSError as error:
        msg = f"{error.filename or 'the archive'}: {error.strerror}; no row was touched"
        raise CommandError(msg) from error


@asynccontextmanager
async def _owned_database() -> AsyncIterator[AsyncEngine]:
    """The database as its owner where that role is known."""
    settings = load_settings()
    with database(settings) as access:
        await ensure_current(settings, access)
        engine = create_engine(access.owner or access.service, max_connections=3, wait_s=5)
        try:
            yield engine
        finally:
            await engine.dispose()
