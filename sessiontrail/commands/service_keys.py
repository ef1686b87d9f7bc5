"""``sessiontrail service-keys``: keys of trusted backends."""

from typing import Annotated

import typer
from rich.table import Table

from domain.service_keys import ServiceKey, ServiceScope
from sessiontrail.commands.context import CommandError, operator_cause, print_table, run, say, store

app = typer.Typer(help="Add, revoke and list the keys of trusted backends.", no_args_is_help=True)


@app.command()
def add(
    name: str,
    scope: Annotated[list[ServiceScope], typer.Option(help="What it may do; repeat for several")],
) -> None:
    """Add a key. It is shown once."""

    async def work() -> str:
        async with store() as opened:
            try:
                added = await opened.service_keys.add(name, scope, operator_cause())
            except ValueError as error:
                raise CommandError(str(error)) from error
        return added.text

    say(run(work))


@app.command()
def revoke(key_id: str) -> None:
    """Take a key away."""

    async def work() -> bool:
        async with store() as opened:
            return await opened.service_keys.revoke(key_id, operator_cause())

    if not run(work):
        msg = f"there is no live service key {key_id}"
        raise CommandError(msg)
    say(f"Revoked {key_id}.")


@app.command("list")
def list_keys() -> None:
    """List the keys; their secrets are not stored."""

    async def work() -> tuple[ServiceKey, ...]:
        async with store() as opened:
            return await opened.service_keys.list()

    table = Table("id", "name", "scopes", "created", "revoked")
    for key in run(work):
        table.add_row(
            key.key_id,
            key.name,
            ", ".join(sorted(key.scopes)),
            key.created_at.isoformat(timespec="seconds"),
            key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else "",
        )
    print_table(table)
