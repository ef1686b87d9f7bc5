"""Checking exports: what was dropped from one of everything shows, and lines have one meaning."""

from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest

from domain.exports import LeafSpan, Selection
from domain.ids import UserId
from tests.unit.audit.written_exports import ADA, BEGAN, TYPES, export, findings


def test_an_export_of_everything_is_well() -> None:
    assert findings(export()) == []


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ([1, 2], "leaves 0 to 255 are missing from an export of everything"),
        ([0, 2], "leaves 256 to 511 are missing from an export of everything"),
        ([0, 1], "leaves 512 to 699 are missing from an export of everything"),
        ([], "leaves 0 to 699 are missing from an export of everything"),
    ],
    ids=["first", "middle", "last", "all"],
)
def test_bundles_dropped_from_an_export_of_everything_are_named(kept: list[int], told: str) -> None:
    assert findings(export(kept)) == [told]


def test_what_was_archived_is_not_missing() -> None:
    assert findings(export([1, 2], first_leaf=256)) == []


def test_a_leaf_that_is_said_to_be_archived_is_named() -> None:
    assert findings(export(first_leaf=256)) == ["line 3 has a leaf that the file says was archived"]


def test_more_than_the_tree_has_cannot_be_archived() -> None:
    assert findings(export([], first_leaf=10**30)) == [
        f"the export says that {10**30} leaves of 700 were archived"
    ]


def test_another_format_is_refused() -> None:
    lines = export()
    lines[0] = lines[0].replace(b"sessiontrail-export 1", b"sessiontrail-export 9")

    assert findings(lines) == ["the file is not of the format sessiontrail-export 1"]


def test_of_a_choice_bundles_may_be_absent() -> None:
    assert findings(export([1], Selection(types=TYPES))) == []


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(types=TYPES[1:]), lambda leaf: leaf % 2 == 1),
        (Selection(user_id=UserId(ADA)), lambda leaf: leaf % 3 == 0),
        (Selection(since=BEGAN + timedelta(seconds=300)), lambda leaf: leaf >= 300),
        (Selection(until=BEGAN + timedelta(seconds=300)), lambda leaf: leaf < 300),
    ],
    ids=["type", "user", "since", "until"],
)
def test_an_event_that_the_selection_excludes_is_named(
    selection: Selection, chosen: Callable[[int], bool]
) -> None:
    stranger = next(leaf for leaf in range(256, 512) if not chosen(leaf))

    well = export(range(3), selection, chosen=chosen)
    more = export(range(3), selection, chosen=lambda leaf: chosen(leaf) or leaf == stranger)

    assert findings(well) == []
    (found,) = findings(more)
    assert f"has event {stranger + 1} ({TYPES[stranger % 2]}), which the" in found
    assert "selection excludes" in found


SPAN = Selection(leaves=LeafSpan(100, 600))


def within(leaf: int) -> bool:
    return 100 <= leaf < 600


def test_an_export_of_a_span_of_leaves_is_well() -> None:
    assert findings(export(range(3), SPAN, chosen=within)) == []
    rest = Selection(leaves=LeafSpan(600))
    assert findings(export([2], rest, chosen=lambda leaf: leaf >= 600)) == []


@pytest.mark.parametrize(
    ("bundles", "chosen", "told"),
    [
        ([1, 2], within, "leaves 100 to 255 are missing from an export of all of a span"),
        ([0, 2], within, "leaves 256 to 511 are missing from an export of all of a span"),
        ([0, 1], within, "leaves 512 to 599 are missing from an export of all of a span"),
        ([], within, "leaves 100 to 599 are missing from an export of all of a span"),
        (
            range(3),
            lambda leaf: within(leaf) and leaf != 599,
            "leaves 599 to 599 are missing from an export of all of a span",
        ),
        (
            range(3),
            lambda leaf: within(leaf) or leaf == 600,
            "has event 601 (SessionStarted), which the export's selection excludes",
        ),
    ],
    ids=["first", "middle", "last", "all", "one leaf", "one too many"],
)
def test_what_is_not_all_of_a_span_is_named(
    bundles: Iterable[int], chosen: Callable[[int], bool], told: str
) -> None:
    (found,) = findings(export(bundles, SPAN, chosen=chosen))

    assert told in found


def test_of_a_span_what_was_archived_is_not_missing() -> None:
    assert findings(export([1, 2], SPAN, first_leaf=256, chosen=within)) == []


def test_of_a_choice_within_a_span_leaves_may_be_absent() -> None:
    hers = Selection(leaves=LeafSpan(100, 600), user_id=UserId(ADA))

    assert findings(export([1], hers, chosen=lambda leaf: leaf % 3 == 0)) == []


def test_a_selection_between_instants_of_no_zone_is_refused() -> None:
    lines = export([0], Selection(since=BEGAN))
    lines[0] = lines[0].replace(b"00:00Z", b"00:00", 1)

    assert findings(lines) == ["the export says between which instants, and not in which zone"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"event":', b'"event":{"n":99},"event":'),
        (b'{"leaf":', b'{"note":"forged","leaf":'),
        (b"}\n", b',"end":{"events":1,"bundles":1}}\n'),
        (b'"leaf":7', b'"leaf": 7'),
    ],
    ids=["a name twice", "a further name", "two in one", "a blank"],
)
def test_a_line_that_two_readers_could_take_differently_is_refused(old: bytes, new: bytes) -> None:
    lines = export()
    assert old in lines[9]
    lines[9] = lines[9].replace(old, new, 1)

    assert "line 10 is no line of an export" in findings(lines)


def test_a_line_that_is_nested_without_end_is_no_line() -> None:
    lines = export()
    lines[9] = b'{"proof":' * 5_000 + b"\n"

    assert "line 10 is no line of an export" in findings(lines)
