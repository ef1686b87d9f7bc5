"""``sessiontrail keys``: signing keys, token keys, master keys."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from infra.key_files import create_key_file, rotate_master_key, rotate_token_key
from infra.settings import load_settings
from infra.signing_key_set import SigningAlgorithm
from infra.signing_keys import SigningKeyRecord
from sessiontrail.commands.context import CommandError, operator_cause, print_table, run, say, store

app = typer.Typer(help="List, rotate and withdraw keys.", no_args_is_help=True)


class KeyKind(StrEnum):
    """Which ring a rotation concerns."""

    SIGNING = "signing"
    TOKEN = "token"
    MASTER = "master"


@app.command()
def init() -> None:
    """Make a key file with fresh master and token keys, for a service on your own PostgreSQL."""
    path = load_settings().keys_path
    if not create_key_file(path):
        msg = f"there is a key file already: {path}"
        raise CommandError(msg)
    say(f"Made {path}. Back it up, and give every process of the service this same file.")


@app.command()
def rotate(
    kind: Annotated[KeyKind, typer.Option(help="Which kind of key")] = KeyKind.SIGNING,
    algorithm: Annotated[
        SigningAlgorithm, typer.Option(help="What a new signing key signs with")
    ] = SigningAlgorithm.EDDSA,
    publish_ahead: Annotated[
        int, typer.Option(min=0, help="Seconds that a new signing key is published before it signs")
    ] = 120,
) -> None:
    """Make a new key; the ones before it go on verifying what they signed, until it expires."""
    settings = load_settings()
    if kind is not KeyKind.SIGNING:
        variable = settings.token_keys if kind is KeyKind.TOKEN else settings.master_keys
        if variable is not None:
            msg = f"the {kind.value} keys come from the environment: add the new one there"
            raise CommandError(msg)
        rotated = rotate_token_key if kind is KeyKind.TOKEN else rotate_master_key
        key_id = rotated(settings.keys_path)
        when = "in some seconds" if kind is KeyKind.TOKEN else "from the next start on"
        say(f"{kind.value} key {key_id} of {settings.keys_path} is used {when}.")
        return

    async def work() -> str:
        async with store() as opened:
            return await opened.signing_keys.rotate(
                algorithm,
                timedelta(seconds=publish_ahead),
                settings.session_policy().access_lifetime,
                operator_cause(),
            )

    say(f"{run(work)} signs in {publish_ahead} s.")


@app.command(context_settings={"ignore_unknown_options": True})  # a kid may begin with a dash
def compromised(kid: str) -> None:
    """Withdraw a signing key at once: tokens that it signed are refused from now on."""

    async def work() -> str | None:
        async with store() as opened:
            return await opened.signing_keys.mark_compromised(kid, operator_cause())

    successor = run(work)
    say(f"{kid} is withdrawn." + (f" {successor} signs in its place." if successor else ""))


@app.command("list")
def list_keys() -> None:
    """List the signing keys, oldest first."""

    async def work() -> tuple[SigningKeyRecord, ...]:
        async with store() as opened:
            return await opened.signing_keys.list()

    table = Table("kid", "algorithm", "created", "signs from", "verifies until", "compromised")
    for key in run(work):
        table.add_row(
            key.kid,
            str(key.algorithm),
            key.created_at.isoformat(timespec="seconds"),
            key.signs_from.isoformat(timespec="seconds"),
            key.verifies_until.isoformat(timespec="seconds") if key.verifies_until else "",
            "yes" if key.compromised else "",
        )
    print_table(table)
