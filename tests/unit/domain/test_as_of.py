"""Moments as people write them."""

import pytest

from domain.as_of import AsOf, AtLeaf, AtPosition, InvalidAsOfError, parse_as_of


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-25T10:00:00Z", "2026-11-25T10:00:00+00:00"),
        ("2026-11-25T10:00:00.123456+02:00", "2026-11-25T08:00:00.123456+00:00"),
        ("  2026-11-25 10:00:00-05:30 ", "2026-11-25T15:30:00+00:00"),
    ],
)
def test_an_instant_with_an_offset_is_that_instant(text: str, instant: str) -> None:
    assert str(parse_as_of(text)) == instant


@pytest.mark.parametrize(
    ("text", "place"),
    [("position:1", AtPosition(1)), ("leaf:0", AtLeaf(0)), ("position:007", AtPosition(7))],
)
def test_a_place_is_a_position_or_a_leaf(text: str, place: AsOf) -> None:
    assert parse_as_of(text) == place


@pytest.mark.parametrize("text", ["2026-11-25T10:00:00Z", "position:41", "leaf:40"])
def test_a_moment_reads_back_as_it_is_shown(text: str) -> None:
    assert parse_as_of(str(parse_as_of(text))) == parse_as_of(text)


@pytest.mark.parametrize("text", ["2026-11-25T10:00:00", "2026-11-25", "20261125T100000"])
def test_an_instant_without_an_offset_is_refused(text: str) -> None:
    with pytest.raises(InvalidAsOfError, match="offset or Z"):
        parse_as_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "41", "position:", "position:-1", "position:1.5", "position:x",
        "position:٣", "position:99999999999999999999999", "leaf: 1", "Leaf:1",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_names_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidAsOfError):
        parse_as_of(text)
