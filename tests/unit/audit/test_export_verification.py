"""Checking exports: what was dropped from one of everything shows, and lines have one meaning."""

from collections.abc import Iterable, Sequence

import msgspec
import pytest

from audit.checkpoints import signed_checkpoint
from audit.export_lines import ExportedEvent, bundle_lines, footer_line, header_line, read_lines
from audit.export_verification import check_export
from audit.exports import ExportFooter, ExportHeader, bounds_of, prove_bundle
from audit.merkle import Node, leaf_hash, root_of
from audit.signed_notes import Signer
from domain.exports import Selection

SIZE = 700
EVERYTHING = Selection()
SIGNER = Signer("exports.example/tlog", bytes(range(32)))
LEAVES = [b'{"n":%d}' % index for index in range(SIZE)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def read(node: Node) -> bytes:
    start = node.number << node.level
    return root_of(HASHES[start : start + (1 << node.level)])


def export(
    bundles: Iterable[int] = range(3), selection: Selection = EVERYTHING, first_leaf: int = 0
) -> list[bytes]:
    """The lines of an export of bundles, its end made to fit."""
    note = signed_checkpoint(SIGNER, SIZE, root_of(HASHES))
    header = ExportHeader(checkpoint=note, selection=selection, first_leaf=first_leaf)
    lines = [header_line(header)]
    count = 0
    for bundle in (chosen := list(bundles)):
        first, end = bounds_of(bundle, SIZE)
        proof = prove_bundle(bundle, SIZE, HASHES[first:end], range(first, end), read)
        events = [
            ExportedEvent(leaf, HASHES[leaf], msgspec.Raw(LEAVES[leaf]))
            for leaf in range(first, end)
        ]
        lines += bundle_lines(proof, events).splitlines(keepends=True)
        count += end - first
    lines.append(footer_line(ExportFooter(events=count, bundles=len(chosen))))
    return lines


def findings(lines: Iterable[bytes]) -> Sequence[str]:
    return check_export(read_lines(lines), SIGNER.verifier, None).findings


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


def test_of_a_choice_bundles_may_be_absent() -> None:
    assert findings(export([1], Selection(types=("Any",)))) == []


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
