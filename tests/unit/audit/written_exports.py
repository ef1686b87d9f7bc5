"""Exports of a small log, as lines: a builder."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from audit.checkpoints import Checkpoint, signed_checkpoint
from audit.export_lines import ExportedEvent, bundle_lines, footer_line, header_line, read_lines
from audit.export_verification import CheckedExport, check_export
from audit.exports import ExportFooter, ExportHeader, Extension, bounds_of, prove_bundle
from audit.merkle import Node, consistency_proof, leaf_hash, root_of
from audit.signed_notes import Signer
from domain.events.canonical import canonical_event_bytes
from domain.exports import Selection

SIZE = 700
NEWER = 900
EVERYTHING = Selection()
SIGNER = Signer("exports.example/tlog", bytes(range(32)))
BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
TYPES = ("SessionStarted", "SessionEnded")
ADA = "0195513a-0000-7000-8000-00000000000a"
BOB = "0195513a-0000-7000-8000-00000000000b"


def leaf(index: int) -> bytes:
    """An event a second; every other one is of the second type, every third is Ada's."""
    return canonical_event_bytes(
        position=index + 1,
        stream=f"family-{index}",
        version=1,
        event_id=f"0195513a-0000-7000-8000-{index:012}",
        type_=TYPES[index % 2],
        schema_version=1,
        occurred_at=BEGAN + timedelta(seconds=index),
        subject_id=BOB if index % 3 else ADA,
        actor="user",
        correlation_id="0195513a-0000-7000-8000-000000000009",
        causation_id=None,
        data={},
        sealed_personal=None,
    )


LEAVES = [leaf(index) for index in range(NEWER)]
HASHES = [leaf_hash(each) for each in LEAVES]
FORGED = [leaf_hash(b"forged"), *HASHES[1:]]
"""Another log's leaves."""


def head_of(size: int, hashes: Sequence[bytes] = HASHES) -> Checkpoint:
    return Checkpoint(SIGNER.verifier.name, size, root_of(hashes[:size]))


def read(node: Node) -> bytes:
    start = node.number << node.level
    return root_of(HASHES[start : start + (1 << node.level)])


def consistency(old: int, new: int) -> list[bytes]:
    return consistency_proof(old, new, read)


def export(
    bundles: Iterable[int] = range(3),
    selection: Selection = EVERYTHING,
    first_leaf: int = 0,
    chosen: Callable[[int], bool] = lambda _leaf: True,
    extends: Sequence[Extension] | msgspec.UnsetType = msgspec.UNSET,
) -> list[bytes]:
    """The lines of an export of bundles, its end made to fit."""
    note = signed_checkpoint(SIGNER, SIZE, root_of(HASHES[:SIZE]))
    header = ExportHeader(
        checkpoint=note, selection=selection, first_leaf=first_leaf, extends=extends
    )
    lines = [header_line(header)]
    count = 0
    for bundle in (numbers := list(bundles)):
        first, end = bounds_of(bundle, SIZE)
        held = [each for each in range(first, end) if chosen(each)]
        proof = prove_bundle(bundle, SIZE, HASHES[first:end], held, read)
        events = [ExportedEvent(each, HASHES[each], msgspec.Raw(LEAVES[each])) for each in held]
        lines += bundle_lines(proof, events).splitlines(keepends=True)
        count += len(held)
    lines.append(footer_line(ExportFooter(events=count, bundles=len(numbers))))
    return lines


def checked(
    lines: Iterable[bytes],
    saved: Checkpoint | None = None,
    proof: Sequence[bytes] | None = None,
) -> CheckedExport:
    return check_export(read_lines(lines), SIGNER.verifier, saved, proof)


def findings(lines: Iterable[bytes]) -> Sequence[str]:
    return checked(lines).findings
