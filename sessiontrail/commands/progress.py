"""The progress bar of long commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress bars on standard error, where that is a terminal: one for each name it is given."""
    bars = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )

    def begin(verb: str) -> Callable[[int, int], None]:
        task = bars.add_task(verb, total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    with bars:
        yield begin


@contextmanager
def progress_bar(verb: str) -> Iterator[Callable[[int, int], None]]:
    """One of them; told how much of how much."""
    with progress_bars() as begin:
        yield begin(verb)
