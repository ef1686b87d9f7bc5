"""The life of a session family as a picture: a lane for each network and device it was used from.

Events stand in order, evenly apart: a session that lived for a month is taken over in a second, and
on an axis of time that second would be one dot. Long pauses are marked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise

from api.console.places import Whereabouts
from api.console.times import exact, span
from api.console.words import in_words
from domain.client import ClientContext
from domain.histories import HistoryEntry
from domain.ids import EventId

_SHOWN = 40
_LANE_HEIGHT = 54
_FROM_TOP_OF_LANE = 34
_LEFT, _RIGHT, _STEP, _AXIS = 28, 40, 26, 34
_NARROWEST = 760
_PAUSE = timedelta(hours=1)
_LABEL_EVERY = 88
"""Pixels that a label at the axis needs."""

Describe = Callable[[ClientContext | None], Whereabouts | None]


class Mark(StrEnum):
    """How an event is drawn."""

    BEGIN = "begin"
    REFRESH = "refresh"
    RETRY = "retry"
    REUSE = "reuse"
    REFUSED = "refused"
    HOLD = "hold"
    OVER = "over"
    OTHER = "other"


_MARKS = {
    "SessionStarted": Mark.BEGIN,
    "RefreshTokenRotated": Mark.REFRESH,
    "RefreshRetried": Mark.RETRY,
    "RefreshTokenReused": Mark.REUSE,
    "RefreshTokenUnrecognised": Mark.REUSE,
    "EndedSessionRefreshRefused": Mark.REFUSED,
    "StepUpRequired": Mark.HOLD,
    "StepUpCompleted": Mark.OTHER,
    "SessionRenamed": Mark.OTHER,
    "SessionEnded": Mark.OVER,
    "SessionExpired": Mark.OVER,
    "FamilyRevoked": Mark.OVER,
}
_ON_PATH = {Mark.BEGIN, Mark.REFRESH, Mark.RETRY}


@dataclass(frozen=True, slots=True)
class Lane:
    """A network and device; or, where ``where`` is None, the service and its staff."""

    where: str | None
    what: str | None
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An event in the picture."""

    x: int
    y: int
    mark: Mark
    label: str
    at: str
    lane: int
    generation: int | None
    is_trigger: bool


@dataclass(frozen=True, slots=True)
class Line:
    """Between two events."""

    x1: int
    y1: int
    x2: int
    y2: int
    kind: str


@dataclass(frozen=True, slots=True)
class Label:
    """At the axis: a time, or how long a pause was."""

    x: int
    text: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What there is to draw, with sizes in its own pixels."""

    width: int
    height: int
    lane_height: int
    lanes: Sequence[Lane]
    points: Sequence[Point]
    lines: Sequence[Line]
    pauses: Sequence[Label]
    times: Sequence[Label]
    left_out: int


def picture_of(
    entries: Sequence[HistoryEntry], earlier: int, trigger: EventId | None, describe: Describe
) -> Picture:
    """The picture of a family's history.

    Args:
        entries: Its last events, in order.
        earlier: How many came before these.
        trigger: The event that an alert is about.
        describe: Says where a client is and what it is.
    """
    shown = [*entries[:1], *entries[1:][-(_SHOWN - 1) :]]
    lanes, lane_of = _lanes(shown, describe)
    step = max(_STEP, (_NARROWEST - _LEFT - _RIGHT) // max(len(shown) - 1, 1)) if shown else _STEP
    step = min(step, 3 * _STEP)
    points = [
        _point(entry, _LEFT + n * step, lane_of[n], entry.event_id == trigger)
        for n, entry in enumerate(shown)
    ]
    width = max(_NARROWEST, _LEFT + (len(points) - 1) * step + _RIGHT)
    return Picture(
        width=width,
        height=len(lanes) * _LANE_HEIGHT + _AXIS,
        lane_height=_LANE_HEIGHT,
        lanes=lanes,
        points=points,
        lines=[*_path(points), *_thefts(shown, points)],
        pauses=_pauses(shown, points),
        times=_times(shown, points),
        left_out=earlier + len(entries) - len(shown),
    )


def _lanes(shown: Sequence[HistoryEntry], describe: Describe) -> tuple[list[Lane], list[int]]:
    """The lanes in order of first use, the service's last; and the lane of each event."""
    names: list[tuple[str | None, str | None]] = []
    keys: list[tuple[str | None, str | None]] = []
    for entry in shown:
        seen = describe(entry.personal.client)
        key = (None, None) if seen is None else (_network_of(seen), seen.what)
        keys.append(key)
        if key not in names and key != (None, None):
            names.append(key)
    if (None, None) in keys:
        names.append((None, None))
    lanes = [Lane(where, what, n * _LANE_HEIGHT) for n, (where, what) in enumerate(names)]
    return lanes, [names.index(key) for key in keys]


def _network_of(seen: Whereabouts) -> str:
    return " · ".join(each for each in (seen.place, seen.network or seen.prefix) if each)


def _point(entry: HistoryEntry, x: int, lane: int, is_trigger: bool) -> Point:
    generation = entry.data.get("generation", 1 if entry.type == "SessionStarted" else None)
    return Point(
        x=x,
        y=lane * _LANE_HEIGHT + _FROM_TOP_OF_LANE,
        mark=_MARKS.get(entry.type, Mark.OTHER),
        label=in_words(entry.type, "event"),
        at=exact(entry.at),
        lane=lane,
        generation=generation if isinstance(generation, int) else None,
        is_trigger=is_trigger,
    )


def _path(points: Sequence[Point]) -> list[Line]:
    """The way of the token: from each refresh to the next."""
    on_path = [point for point in points if point.mark in _ON_PATH]
    return [
        Line(one.x, one.y, next_.x, next_.y, "path" if one.lane == next_.lane else "leap")
        for one, next_ in pairwise(on_path)
    ]


def _thefts(shown: Sequence[HistoryEntry], points: Sequence[Point]) -> list[Line]:
    """From where a token was given out to where it came back after it had been replaced."""
    given_out = {point.generation: point for point in points if point.mark in _ON_PATH}
    lines = []
    for entry, point in zip(shown, points, strict=True):
        presented = entry.data.get("presented_generation")
        source = given_out.get(presented) if isinstance(presented, int) else None
        if point.mark is Mark.REUSE and source is not None:
            lines.append(Line(source.x, source.y, point.x, point.y, "theft"))
    return lines


def _pauses(shown: Sequence[HistoryEntry], points: Sequence[Point]) -> list[Label]:
    return [
        Label((one.x + next_.x) // 2, span(later.at - earlier.at))
        for one, next_, earlier, later in zip(points, points[1:], shown, shown[1:], strict=False)
        if later.at - earlier.at >= _PAUSE
    ]


def _times(shown: Sequence[HistoryEntry], points: Sequence[Point]) -> list[Label]:
    """When the first and the last event were, and the one that the alert is about."""
    labels: list[Label] = []
    last = len(points) - 1
    for n, (entry, point) in enumerate(zip(shown, points, strict=True)):
        if n not in {0, last} and not point.is_trigger:
            continue
        if labels and point.x - labels[-1].x < _LABEL_EVERY:
            continue
        anchor = "start" if n == 0 else "end" if n == last and last > 0 else "middle"
        labels.append(Label(point.x, f"{entry.at:%d %b %H:%M:%S}", anchor))
    return labels
