"""``sessiontrail sessions``."""

from typing import Annotated

import typer
from rich.table import Table

from domain.client import ClientContext
from domain.events.families import EndReason
from domain.family_decisions import RevokeFamily
from domain.ids import FamilyId, SessionId, parse_uuid
from domain.ports import SessionPage
from domain.refusals import Refusal
from infra.device_names import DeviceNames
from infra.family_execution import command_held_families, hold_families
from infra.postgres import transaction
from infra.session_queries import PostgresSessionQueries
from sessiontrail.commands.context import CommandError, operator_cause, print_table, run, say, store
from sessiontrail.commands.user_lookup import find_user

app = typer.Typer(help="List and revoke sessions.", no_args_is_help=True)


@app.command("list")
def list_sessions(
    user: Annotated[str, typer.Argument(help="User name or id")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many")] = 100,
) -> None:
    """List a user's live sessions, newest first."""

    async def work() -> SessionPage:
        async with store() as opened:
            found = await find_user(opened, user)
            reads = PostgresSessionQueries(opened.engine)
            return await reads.live_families(found.user_id, limit=limit, before=None)

    names = DeviceNames()
    table = Table("session", "family", "device", "address", "started", "last seen")
    for family in run(work).families:
        for session in family.sessions:
            client = session.client if isinstance(session.client, ClientContext) else None
            described = names.describe(client.user_agent, client.hints) if client else None
            table.add_row(
                session.session_id,
                family.family_id,
                str(session.device_name or described or ""),
                (client.ip if client else None) or "",
                session.started_at.isoformat(timespec="seconds"),
                session.last_seen_at.isoformat(timespec="seconds"),
            )
    print_table(table)


@app.command()
def revoke(
    session: Annotated[str | None, typer.Option(help="Id of a session: revokes its family")] = None,
    family: Annotated[str | None, typer.Option(help="Id of a family")] = None,
    user: Annotated[str | None, typer.Option(help="User name or id: every session")] = None,
) -> None:
    """Revoke a session's family, a family, or everything of a user: exactly one of the three."""
    if sum(given is not None for given in (session, family, user)) != 1:
        msg = "give exactly one of --session, --family and --user"
        raise CommandError(msg)
    if user is not None:
        say(f"{run(lambda: _revoke_user(user))} session families ended.")
    else:
        say(f"{run(lambda: _revoke_family(session, family))} session family ended.")


async def _revoke_user(user: str) -> int:
    async with store() as opened:
        found = await find_user(opened, user)
        ended = await opened.users.end_families(
            found.user_id, EndReason.STAFF, None, operator_cause()
        )
    if isinstance(ended, Refusal):
        msg = f"there is no user {user}"
        raise CommandError(msg)
    return ended


async def _revoke_family(session: str | None, family: str | None) -> int:
    parsed = parse_uuid(session or family or "")
    if parsed is None:
        msg = f"{session or family} is not an id"
        raise CommandError(msg)
    async with store() as opened:
        reads = PostgresSessionQueries(opened.engine)
        if session is not None:
            found = await reads.family_of_session(SessionId(parsed))
        else:
            found = await reads.family(FamilyId(parsed))
        if found is None:
            msg = f"there is no {'session' if session else 'family'} {parsed}"
            raise CommandError(msg)
        async with transaction(opened.engine) as connection:
            await hold_families(connection, [found[0].family_id])
            return await command_held_families(
                connection,
                [found[0].family_id],
                RevokeFamily(EndReason.STAFF),
                operator_cause(),
                opened.data_keys,
            )
