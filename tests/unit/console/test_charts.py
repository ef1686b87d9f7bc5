"""Columns over time."""

import doctest
from datetime import UTC, datetime, timedelta

import pytest

from api.console import charts, facts, sign_in, times, words
from api.console.charts import chart_of

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "module", [charts, facts, sign_in, times, words], ids=lambda module: module.__name__
)
def test_the_examples_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]  # it is a module


def test_columns_stand_where_and_as_high_as_they_should() -> None:
    chart = chart_of({SINCE: 10, SINCE + 12 * HOUR: 5}, SINCE, SINCE + 24 * HOUR, HOUR)

    first, second = chart.columns
    assert first.height == 2 * second.height
    assert first.x < second.x < chart.width
    assert first.y + first.height == second.y + second.height
    assert chart.total == 15
    assert chart.peak == (SINCE, 10)


def test_a_chart_of_nothing_has_an_axis_all_the_same() -> None:
    chart = chart_of({}, SINCE, SINCE + 24 * HOUR, HOUR)

    assert chart.columns == []
    assert chart.peak is None
    assert [level.text for level in chart.levels] == ["0", "1"]
    assert [time.text for time in chart.times] == ["00:00", "06:00", "12:00", "18:00"]
