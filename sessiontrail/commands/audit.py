"""``sessiontrail audit``: replay, proofs, verification and exports."""

import typer

from sessiontrail.commands import audit_diff, audit_history, audit_replay, audit_snapshot

app = typer.Typer(help="Replay the history, and prove that it is whole.", no_args_is_help=True)

app.command("sessions")(audit_replay.sessions)
app.command("history")(audit_history.history)
app.command("diff")(audit_diff.diff)
app.command("snapshot")(audit_snapshot.snapshot)
