"""A head that somebody kept beside an export: proved, disproved, or neither, which is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from audit.exports import Extension
from audit.merkle import EMPTY_ROOT
from domain.exports import Selection
from domain.ids import UserId
from tests.unit.audit.written_exports import (
    ADA,
    FORGED,
    NEWER,
    SIZE,
    TYPES,
    checked,
    consistency,
    export,
    head_of,
)

EVERYTHING = export()
HERS = Selection(user_id=UserId(ADA))


def of_ada(leaf: int) -> bool:
    return leaf % 3 == 0


@given(st.integers(0, SIZE))
def test_an_export_of_everything_extends_every_older_head(size: int) -> None:
    done = checked(EVERYTHING, head_of(size))

    assert done.findings == []
    assert done.unproved is None


@given(st.integers(1, SIZE))
def test_and_none_of_another_log(size: int) -> None:
    done = checked(EVERYTHING, head_of(size, FORGED))

    assert len(done.findings) == 1
    assert "another tree" in done.findings[0]


@pytest.mark.parametrize("size", [256, 300, 512, 600, SIZE])
def test_what_was_archived_hides_no_head_behind_it(size: int) -> None:
    archived = export([1, 2], first_leaf=256)

    assert checked(archived, head_of(size)).unproved is None
    assert checked(archived, head_of(size)).findings == []
    assert checked(archived, head_of(size, FORGED)).findings != []
    assert "nothing in the export proves" in str(checked(archived, head_of(100)).unproved)


def test_of_a_choice_an_older_head_is_neither_proved_nor_disproved() -> None:
    lines = export([2], HERS, chosen=of_ada)

    for head in (head_of(302), head_of(302, FORGED)):
        done = checked(lines, head)
        assert done.findings == []
        assert "nothing in the export proves" in str(done.unproved)
        assert "--extends" in str(done.unproved)


def test_a_choice_carries_the_proof_that_was_asked_for() -> None:
    extends = [Extension(302, consistency(302, SIZE)), Extension(9, consistency(9, SIZE))]
    lines = export([2], HERS, chosen=of_ada, extends=extends)

    for size in (302, 9):
        assert checked(lines, head_of(size)) == replace(checked(lines), unproved=None)
        (found,) = checked(lines, head_of(size, FORGED)).findings
        assert "are not of one log" in found


def test_a_proof_that_was_altered_is_found() -> None:
    altered = [b"x" * 32, *consistency(302, SIZE)[1:]]
    lines = export(range(3), extends=[Extension(302, altered)])

    assert len(checked(lines, head_of(302)).findings) == 1


def test_a_newer_head_takes_a_proof_from_elsewhere() -> None:
    proof = consistency(SIZE, NEWER)

    alone = checked(EVERYTHING, head_of(NEWER))
    joined = checked(EVERYTHING, head_of(NEWER), proof)
    forged = checked(EVERYTHING, head_of(NEWER, FORGED), proof)
    other = checked(EVERYTHING, head_of(NEWER), consistency(SIZE, NEWER - 1))

    assert "newer than the export's" in str(alone.unproved)
    assert alone.findings == []
    assert (joined.findings, joined.unproved) == ([], None)
    for done in (forged, other):  # a proof that joins nothing tells nothing
        assert done.findings == []
        assert "the proof that was given does not join" in str(done.unproved)


def test_an_older_head_takes_a_proof_from_elsewhere() -> None:
    lines = export(range(3), Selection(types=TYPES[:1]), chosen=lambda leaf: leaf % 2 == 0)

    joined = checked(lines, head_of(301), consistency(301, SIZE))
    forged = checked(lines, head_of(301, FORGED), consistency(301, SIZE))

    assert (joined.findings, joined.unproved) == ([], None)
    assert len(forged.findings) == 1


def test_an_empty_tree_is_the_beginning_of_any() -> None:
    empty = head_of(0)

    assert empty.root == EMPTY_ROOT
    assert checked(export([], HERS), empty).findings == []
    assert len(checked(export([], HERS), replace(empty, root=b"x" * 32)).findings) == 1


def test_nothing_is_told_of_a_head_by_a_bundle_that_is_not_what_was_signed() -> None:
    lines = list(EVERYTHING)
    lines[300] = lines[300].replace(b'"actor":"user"', b'"actor":"ruse"', 1)

    done = checked(lines, head_of(300))

    assert len(done.findings) == 1
    assert "is not the event that was signed" in done.findings[0]
