"""Columns over time, as sizes to draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_WIDTH, _HEIGHT = 420, 140
_LEFT, _TOP, _BOTTOM = 38, 8, 20
_GAP = 0.2
_GRID = 2
_LABELS = 4
_ROUND = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Column:
    """A stretch of time."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A number or a time at an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What there is to draw.

    Attributes:
        width: In its own pixels.
        height: In its own pixels.
        columns: Those that are not empty.
        levels: Lines across, with their numbers.
        times: Along the bottom.
        total: Of all columns.
        peak: When there was most, and how much; None where nothing happened.
    """

    width: int
    height: int
    left: int
    columns: Sequence[Column]
    levels: Sequence[Mark]
    times: Sequence[Mark]
    total: int
    peak: tuple[datetime, int] | None


def chart_of(
    counts: Mapping[datetime, int], since: datetime, until: datetime, stretch: timedelta
) -> Chart:
    """The chart of counts by the beginning of each stretch."""
    slots = round((until - since) / stretch)
    most = max(counts.values(), default=0)
    ceiling = ceiling_of(most)
    slot_width = (_WIDTH - _LEFT) / slots
    plot_height = _HEIGHT - _TOP - _BOTTOM
    columns = []
    for began, count in counts.items():
        height = max(plot_height * count / ceiling, 1.5)
        columns.append(
            Column(
                x=round(_LEFT + (began - since) / stretch * slot_width + slot_width * _GAP / 2, 1),
                y=round(_TOP + plot_height - height, 1),
                width=round(slot_width * (1 - _GAP), 1),
                height=round(height, 1),
                title=f"{began:%d %b %H:%M}: {count:,}",
            )
        )
    return Chart(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        columns=columns,
        levels=[
            Mark(_TOP + plot_height * (1 - n / _GRID), _short(ceiling * n / _GRID))
            for n in range(_GRID + 1)
            if ceiling * n % _GRID == 0
        ],
        times=_times(since, until),
        total=sum(counts.values()),
        peak=max(((at, n) for at, n in counts.items()), key=lambda each: each[1], default=None),
    )


def ceiling_of(most: int) -> int:
    """The least round number that is not less.

    >>> ceiling_of(0), ceiling_of(7), ceiling_of(120)
    (1, 10, 200)
    """
    power = 1
    while True:
        for factor in _ROUND:
            if factor * power >= most:
                return factor * power
        power *= 10


def _times(since: datetime, until: datetime) -> list[Mark]:
    length = until - since
    pattern = "%H:%M" if length <= timedelta(days=1) else "%d %b"
    return [
        Mark(_LEFT + (_WIDTH - _LEFT) * n / _LABELS, f"{since + length * n / _LABELS:{pattern}}")
        for n in range(_LABELS)
    ]


def _short(number: float) -> str:
    """A number in little room.

    >>> _short(500), _short(20_000), _short(3_000_000)
    ('500', '20k', '3M')
    """
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"
