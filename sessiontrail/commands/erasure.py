"""``sessiontrail users erase`` and ``scrub``."""

import sys
from typing import Annotated

import typer

from domain.erasure import Erasure, clean_reason
from domain.refusals import Refusal
from domain.texts import InvalidTextError
from domain.user import EraseUser, User
from infra.detection_policy_store import DetectionPolicyStore
from infra.erasure import PostgresErasure
from infra.scrub import Scrubbed, ScrubError
from infra.scrub import scrub as scrub_files
from infra.settings import load_settings
from sessiontrail.commands.context import (
    CommandError,
    ensure_current,
    operator_cause,
    run,
    say,
    store,
)
from sessiontrail.commands.progress import progress_bar
from sessiontrail.commands.user_lookup import find_user
from sessiontrail.databases import database


def erase(
    user: Annotated[str, typer.Argument(help="User name or id")],
    reason: Annotated[
        str | None, typer.Option(help="Such as a ticket's number; it stays in the log, in clear")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Erase a person: all sessions end, nothing personal is left. There is no way back."""
    try:
        command = EraseUser(None if reason is None else clean_reason(reason))
    except InvalidTextError as error:
        raise CommandError(str(error)) from error

    async def work() -> Erasure | Refusal:
        async with store() as opened:
            found = await find_user(opened, user)
            if not yes and found.erased_at is None:
                _confirm(found)
            policies = DetectionPolicyStore(opened.engine, opened.data_keys)
            erasure = PostgresErasure(opened.engine, opened.users, policies)
            return await erasure.erase(found.user_id, command, operator_cause())

    erased = run(work)
    if erased is Refusal.REASON_NAMES_USER:
        msg = "the reason names the user, and would outlive them in the log"
        raise CommandError(msg)
    if isinstance(erased, Refusal):
        msg = f"there is no user {user}"
        raise CommandError(msg)
    _report(erased)


def _confirm(user: User) -> None:
    if not sys.stdin.isatty():
        msg = "erasing has no way back: say --yes"
        raise CommandError(msg)
    name = user.username or user.external_subject or user.user_id
    typer.confirm(f"Erase {name} ({user.user_id}) for ever?", abort=True)


def _report(erased: Erasure) -> None:
    when = erased.erased_at.isoformat(timespec="seconds")
    if erased.is_repeat:
        say(f"User {erased.user_id} was erased before, at {when}.")
    else:
        say(f"Erased user {erased.user_id} at {when}; {erased.families} session families ended.")
    for table, rows in erased.rows.items():
        if rows:
            say(f"{table}: {rows} rows cleared.")
    say("To take the bytes out of the database's files too: sessiontrail users scrub.")


def scrub() -> None:
    """Take what was erased out of the database's files; requests wait while tables are written."""

    async def work() -> Scrubbed:
        settings = load_settings()
        with database(settings) as access:
            await ensure_current(settings, access)
            with progress_bar("scrubbing") as progress:
                return await scrub_files(access.owner or access.service, progress)

    try:
        done = run(work)
    except ScrubError as error:
        raise CommandError(str(error)) from error
    say(f"{len(done.tables)} tables are written anew: {', '.join(done.tables)}.")
    say(f"{done.wal_files} files of the write-ahead log are written over.")
    if done.left:
        msg = f"left to do: {'; '.join(done.left)}"
        raise CommandError(msg)
