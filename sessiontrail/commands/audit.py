"""``sessiontrail audit``: replay, proofs, verification and exports."""

import typer

from sessiontrail.commands.lazily import lazy_group

_COMMANDS = {
    "sessions": "audit_replay:sessions",
    "history": "audit_history:history",
    "diff": "audit_diff:diff",
    "snapshot": "audit_snapshot:snapshot",
    "verify": "audit_verify:verify",
    "checkpoint": "audit_tree:checkpoint",
    "key": "audit_tree:key",
    "prove-inclusion": "audit_tree:prove_inclusion",
    "prove-consistency": "audit_tree:prove_consistency_of",
    "archive": "audit_archive:archive",
    "restore": "audit_archive:restore",
    "export": "audit_export:export",
    "verify-export": "audit_export:verify_export",
}

app = typer.Typer(
    cls=lazy_group(_COMMANDS),
    help="Replay the history, and prove that it is whole.",
    no_args_is_help=True,
)


@app.callback()
def audit() -> None:
    """What it is about says the help above."""
