"""``sessiontrail world``: make a labelled world, and score a playback of one."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer

from detector.world.generator import generate
from detector.world.plan import World
from detector.world.playback import MismatchError
from detector.world.scoring import score
from detector.world.tables import attack_table, recall_table, summary, trap_table
from sessiontrail.commands.context import CommandError, print_table, say

app = typer.Typer(help="Make labelled worlds and score the detector on them.", no_args_is_help=True)

_LINES_A_WRITE = 1_000


@app.command(name="generate")
def make(
    seed: Annotated[int, typer.Option(help="The same seed makes the same file")] = 7,
    users: Annotated[int, typer.Option(min=1, help="How many honest users")] = 2_000,
    days: Annotated[int, typer.Option(help="How long it lasts")] = 14,
    attacks: Annotated[
        int | None, typer.Option(min=0, help="Of each kind; by default one to a hundred users")
    ] = None,
    geo: Annotated[bool, typer.Option(help="Say where addresses are")] = True,
    out: Annotated[Path | None, typer.Option(help="Write here, not to standard output")] = None,
) -> None:
    """Write a file of requests for ``sessiontrail simulate``, with the truth in each label."""
    try:
        lines = generate(World(seed=seed, users=users, days=days, attacks=attacks, geo=geo))
        if out is None:
            with contextlib.suppress(BrokenPipeError):
                _write(lines, sys.stdout.buffer)
            return
        with out.open("wb") as file:
            _write(lines, file)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error


@app.command(name="score")
def print_scores(
    world: Annotated[Path, typer.Argument(help="The file that was played")],
    answers: Annotated[Path, typer.Argument(help="What simulate --json said of it")],
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON")] = False,
) -> None:
    """Print attacks caught, false alarms by trap, and recall at a budget of challenges."""
    try:
        with answers.open("rb") as said:
            scores = score(lambda: _lines_of(world), said)
    except (MismatchError, OSError) as error:
        raise CommandError(str(error)) from error
    if json:
        say(msgspec.json.encode(scores).decode())
        return
    print_table(attack_table(scores))
    print_table(trap_table(scores))
    print_table(recall_table(scores))
    say(summary(scores))


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _write(lines: Iterator[bytes], file: BinaryIO) -> None:
    pending: list[bytes] = []
    for line in lines:
        pending.append(line)
        if len(pending) == _LINES_A_WRITE:
            file.write(b"\n".join(pending) + b"\n")
            pending.clear()
    if pending:
        file.write(b"\n".join(pending) + b"\n")
    file.flush()
