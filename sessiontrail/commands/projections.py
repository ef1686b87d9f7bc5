"""``sessiontrail projections``."""

import typer

app = typer.Typer(help="Prove and rebuild the projections.", no_args_is_help=True)


@app.command()
def verify() -> None:
    """X"""


@app.command()
def rebuild() -> None:
    """X"""
