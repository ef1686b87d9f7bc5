"""``sessiontrail users``."""

import sys
from getpass import getpass
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import select

from domain.events.users import Role, UserOrigin
from domain.ids import UserId
from domain.refusals import Refusal
from domain.texts import (
    InvalidTextError,
    accept_new_password,
    normalise_username,
)
from domain.user import ChangeRoles, EnableUser, RegisterUser, User, UserCommand
from infra.ids import new_uuid
from infra.password_hashing import PasswordHashing, load_blocklist
from infra.postgres import queries
from infra.schema import users
from infra.user_rows import USER_COLUMNS, user_of
from sessiontrail.commands import erasure
from sessiontrail.commands.context import CommandError, operator_cause, print_table, run, say, store
from sessiontrail.commands.user_lookup import find_user

app = typer.Typer(help="Add, disable and list users.", no_args_is_help=True)


@app.command()
def add(
    username: str,
    role: Annotated[
        list[Role] | None, typer.Option(help="A staff role; repeat for several")
    ] = None,
) -> None:
    """Add a local user. The password is asked for, or read from standard input."""
    try:
        name = normalise_username(username)
        password = accept_new_password(_read_password(), load_blocklist())
    except InvalidTextError as error:
        raise CommandError(str(error)) from error

    async def work() -> None:
        hashing = PasswordHashing()
        try:
            password_hash = await hashing.hash(password)
        finally:
            hashing.close()
        async with store() as opened:
            added = await opened.users.register(
                UserId(new_uuid()),
                RegisterUser(origin=UserOrigin.LOCAL, username=name, roles=tuple(role or ())),
                password_hash,
                operator_cause(),
            )
        if isinstance(added, Refusal):
            msg = f"there is a user {name} already"
            raise CommandError(msg)
        say(added.user_id)

    run(work)


def _read_password() -> str:
    if sys.stdin.isatty():
        password = getpass("Password: ")
        if getpass("Once more: ") != password:
            msg = "the two passwords differ"
            raise CommandError(msg)
        return password
    return sys.stdin.readline().rstrip("\n")


@app.command()
def disable(user: Annotated[str, typer.Argument(help="User name or id")]) -> None:
    """Forbid a user to sign in; every session of theirs ends."""

    async def work() -> None:
        async with store() as opened:
            found = await find_user(opened, user)
            ended = await opened.users.disable(found.user_id, operator_cause())
        if isinstance(ended, Refusal):
            raise CommandError(_refused(user, ended, f"{user} is disabled already"))
        say(f"Disabled {user}; {ended} session families ended.")

    run(work)


@app.command()
def enable(user: Annotated[str, typer.Argument(help="User name or id")]) -> None:
    """Allow a disabled user to sign in again."""
    run(lambda: _command(user, EnableUser(), f"{user} is not disabled"))
    say(f"Enabled {user}.")


@app.command()
def roles(
    user: Annotated[str, typer.Argument(help="User name or id")],
    role: Annotated[
        list[Role] | None, typer.Option(help="A staff role; repeat for several, leave out for none")
    ] = None,
) -> None:
    """Set a user's staff roles; those not named are taken away."""
    wanted = tuple(role or ())
    run(lambda: _command(user, ChangeRoles(wanted), f"{user} has these roles already"))
    say(f"{user}: {', '.join(wanted) or 'no roles'}.")


async def _command(user: str, command: UserCommand, if_refused: str) -> None:
    async with store() as opened:
        found = await find_user(opened, user)
        changed = await opened.users.command(found.user_id, command, operator_cause())
    if isinstance(changed, Refusal):
        raise CommandError(_refused(user, changed, if_refused))


def _refused(user: str, refusal: Refusal, otherwise: str) -> str:
    return f"{user} was erased" if refusal is Refusal.SUBJECT_ERASED else otherwise


@app.command("list")
def list_users(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many")] = 100,
) -> None:
    """List users, newest first."""

    async def work() -> list[User]:
        columns = [users.c[name] for name in USER_COLUMNS]
        statement = select(*columns).order_by(users.c.user_id.desc()).limit(limit)
        async with store() as opened, queries(opened.engine) as connection:
            rows = (await connection.execute(statement)).all()
        return [user_of(tuple(row)) for row in rows]

    table = Table("id", "name", "origin", "roles", "registered", "disabled", "erased")
    for each in run(work):
        table.add_row(
            each.user_id,
            str(each.username or each.external_subject or ""),
            each.origin.value,
            ", ".join(each.roles),
            each.registered_at.isoformat(timespec="seconds"),
            each.disabled_at.isoformat(timespec="seconds") if each.disabled_at else "",
            each.erased_at.isoformat(timespec="seconds") if each.erased_at else "",
        )
    print_table(table)


app.command("erase")(erasure.erase)
app.command("scrub")(erasure.scrub)
