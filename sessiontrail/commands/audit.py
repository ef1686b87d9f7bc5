"""``sessiontrail audit``: replay, proofs, verification and exports."""

import typer

from sessiontrail.commands import (
    audit_archive,
    audit_diff,
    audit_export,
    audit_history,
    audit_replay,
    audit_snapshot,
    audit_tree,
    audit_verify,
)

app = typer.Typer(help="Replay the history, and prove that it is whole.", no_args_is_help=True)

app.command("sessions")(audit_replay.sessions)
app.command("history")(audit_history.history)
app.command("diff")(audit_diff.diff)
app.command("snapshot")(audit_snapshot.snapshot)
app.command("verify")(audit_verify.verify)
app.command("checkpoint")(audit_tree.checkpoint)
app.command("key")(audit_tree.key)
app.command("prove-inclusion")(audit_tree.prove_inclusion)
app.command("prove-consistency")(audit_tree.prove_consistency_of)
app.command("archive")(audit_archive.archive)
app.command("restore")(audit_archive.restore)
app.command("export")(audit_export.export)
app.command("verify-export")(audit_export.verify_export)
