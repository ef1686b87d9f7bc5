"""``sessiontrail audit``: replay, proofs, verification and exports."""

import typer

from sessiontrail.commands import audit_replay

app = typer.Typer(help="Replay the history, and prove that it is whole.", no_args_is_help=True)

app.command("sessions")(audit_replay.sessions)
