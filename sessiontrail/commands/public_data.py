"""``sessiontrail detect --backtest --rba``: the public RBA data set, judged sign-in by sign-in."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.table import Table

from detector.public_sign_ins import ColumnsError, PublicReport, PublicSignIns, read_rows
from detector.ranking import Ranking, Recall
from sessiontrail.commands.context import CommandError, print_table, say
from sessiontrail.commands.progress import progress_bar
from sessiontrail.evidence import classified

_BUDGETS = (0.001, 0.005, 0.01, 0.02)
_PROGRESS_EVERY = 10_000
_LONGEST_FIELD = 1 << 20
_PUBLISHED = (
    # Wiefling et al. 2022, median re-authentication rate by history size.
    ("targeted, 99.5 % blocked", ".50", ".42", ".25", ".11"),
    ("naive, 99.5 % blocked", ".49", ".25", ".15", ".05"),
    ("very targeted, 82.8 % blocked", ".79", ".59", ".45", ".19"),
)
_BLOCKED = (0.995, 0.8276)


def play_public_data(file: Path) -> None:
    """Play the data set and print how takeovers rank among its sign-ins.

    Args:
        file: The CSV, with the columns that it was published with.

    Raises:
        CommandError: It cannot be read.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    played = PublicSignIns(classified)
    try:
        with (
            file.open(encoding="utf-8", errors="replace", newline="") as opened,
            progress_bar("judging") as progress,
        ):
            total = file.stat().st_size
            lines = _Lines(opened)
            for number, row in enumerate(read_rows(csv.reader(lines)), 1):
                played.take(row)
                if number % _PROGRESS_EVERY == 0:
                    progress(lines.characters, total)
    except OSError as error:
        msg = f"cannot read {file}: {error.strerror}"
        raise CommandError(msg) from error
    except (ColumnsError, csv.Error) as error:
        msg = f"{file}: {error}"
        raise CommandError(msg) from error
    _print(played.report())


class _Lines:
    """A file's lines, and how far it was read."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.characters += len(line)
            yield line.replace("\0", "")


def _print(report: PublicReport) -> None:
    ranking = report.points
    say(
        f"{report.rows:,} rows; {ranking.sign_ins:,} successful sign-ins of {report.users:,} users,"
        f" {report.first_sign_ins:,} of them the first; {ranking.takeovers:,} takeovers"
    )
    table = Table(
        "score", *(f"recall at {budget:.1%} challenged" for budget in _BUDGETS), "ROC-AUC"
    )
    rankings = {
        "points, as in alerts": report.points,
        "published score (Freeman et al.)": report.published,
        "new country or new ASN": report.novelty,
    }
    for name, each in rankings.items():
        cells = (_interval(each.recall(budget)) for budget in _BUDGETS)
        table.add_row(name, *cells, _figure(each.auc(), 3))
    print_table(table)
    print_table(_by_history(report))
    say("In brackets: 95 % intervals. A first sign-in has no score and is challenged last.")
    say("The paper's attackers were simulated, those of the file are real: compare with care.")


def _by_history(report: PublicReport) -> Table:
    sizes = sorted(report.by_history)
    table = Table("honest sign-ins challenged", *(f"after {size}" for size in sizes))
    for blocked in _BLOCKED:
        threshold = report.points.threshold(blocked)
        table.add_row(
            f"here, {blocked:.1%} of takeovers challenged",
            *(_challenged(report.by_history[size], threshold) for size in sizes),
        )
    for name, *figures in _PUBLISHED:
        table.add_row(f"published: {name}", *figures)
    return table


def _challenged(ranking: Ranking, threshold: float | None) -> str:
    return _figure(None if threshold is None else ranking.challenged(threshold), 2)


def _interval(recall: Recall | None) -> str:
    if recall is None:
        return "-"
    return f"{recall.value:.3f} [{recall.low:.3f}, {recall.high:.3f}]"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
