"""``sessiontrail audit``: replay, proofs, verification and exports."""

import typer

app = typer.Typer(help="Replay the history, and prove that it is whole.", no_args_is_help=True)
