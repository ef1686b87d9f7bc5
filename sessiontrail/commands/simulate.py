"""``sessiontrail simulate``: a file of requests through the rules, without a database."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.table import Table

from detector.rulebook import rulebook
from detector.simulation.answers import bad_line, played_line
from detector.simulation.player import Player
from detector.simulation.policy_file import PlayedPolicy, PolicyFileError, read_policy
from detector.simulation.requests import BadLineError
from detector.simulation.summary import Summary
from infra.settings import load_settings
from sessiontrail.commands.context import CommandError, print_table, say
from sessiontrail.evidence import evidence_of_files
from sessiontrail.request_files import numbered_requests, opened_requests


def simulate(
    file: Annotated[
        Path, typer.Argument(help="Requests as JSON Lines, in time order; - for stdin")
    ],
    policy: Annotated[Path | None, typer.Option(help="A policy file to play under")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON line for each line")] = False,
) -> None:
    """Play a file of requests through the rules, and say what would have happened."""
    player = Player(rulebook(), policy_from(policy), evidence_of_files(load_settings()))
    summary = Summary()
    with opened_requests(file) as lines:
        for answer in _played(player, lines, summary):
            if json:
                sys.stdout.buffer.write(answer + b"\n")
    if json:
        sys.stdout.flush()
    else:
        _print(summary)
    if summary.bad_lines:
        msg = f"{summary.bad_lines:,} lines could not be read; the rest was played"
        raise CommandError(msg)


def _played(player: Player, lines: BinaryIO, summary: Summary) -> Iterator[bytes]:
    """Play what can be played; the answer to each line."""
    for number, request in numbered_requests(lines):
        if isinstance(request, BadLineError):
            summary.bad_lines += 1
            sys.stderr.write(f"line {number}: {request}\n")
            yield bad_line(number, str(request))
        else:
            played = player.play(number, request)
            summary.note(request, played)
            yield played_line(number, played)


def policy_from(file: Path | None) -> PlayedPolicy:
    """The policy that a file says; without one, everything as it comes.

    Raises:
        CommandError: It cannot be read, or used.
    """
    if file is None:
        return PlayedPolicy()
    try:
        return read_policy(file.read_bytes(), rulebook())
    except OSError as error:
        msg = f"cannot read {file}: {error.strerror}"
        raise CommandError(msg) from error
    except PolicyFileError as error:
        msg = f"{file}: {error}"
        raise CommandError(msg) from error


def _print(summary: Summary) -> None:
    say(f"{summary.requests:,} requests of {summary.users:,} users over {summary.days:.1f} days")
    results = Table("result", "requests")
    for result, count in summary.results.most_common():
        results.add_row(result.value, f"{count:,}")
    print_table(results)
    findings = Table("rule", "response", "findings")
    for (rule, response), count in sorted(summary.findings.items()):
        findings.add_row(rule, response.value, f"{count:,}")
    print_table(findings)
    rate = summary.alerts_per_1000_users_a_day()
    if rate is not None:
        say(f"{rate:.2f} findings above record for 1,000 users a day")
