"""Figures: what was measured, beside what, and the bar it has to meet."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out" / "latest.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: What it is.
        value: What was measured.
        unit: Of value and baseline.
        baseline: The raw ceiling, or what it is compared with; None for an absolute figure.
        bar: What the ratio (or the value, without a baseline) has to be.
        at_least: Whether the bar is a minimum; else a maximum.
    """

    name: str
    value: float
    unit: str
    baseline: float | None
    bar: float
    at_least: bool

    @property
    def ratio(self) -> float | None:
        """Value over baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def holds(self) -> bool:
        """Whether the bar is met."""
        judged = self.value if self.ratio is None else self.ratio
        return judged >= self.bar if self.at_least else judged <= self.bar


def report(figures: list[Figure], out: Path = OUT) -> None:
    """Print the table and write the file, one entry a figure."""
    table = Table("figure", "value", "baseline", "ratio", "bar", "holds")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        table.add_row(
            figure.name,
            f"{figure.value:,.2f} {figure.unit}",
            "" if figure.baseline is None else f"{figure.baseline:,.2f}",
            "" if figure.ratio is None else f"{figure.ratio:.3f}",
            f"{sign} {figure.bar:g}",
            "yes" if figure.holds else "NO",
        )
    Console(width=130).print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    entries = {
        figure.name: {
            "value": figure.value,
            "unit": figure.unit,
            "baseline": figure.baseline,
            "ratio": figure.ratio,
            "bar": figure.bar,
            "holds": figure.holds,
        }
        for figure in figures
    }
    out.write_text(json.dumps(entries, indent=2) + "\n")
