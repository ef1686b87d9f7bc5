"""Proofs of exports: any selection leads to the head, and nothing else does."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from audit.exports import (
    BundleProof,
    ExportedLeaf,
    bounds_of,
    check_bundle,
    outer_nodes,
    prove_bundle,
)
from audit.merkle import Node, leaf_hash, root_of

SIZE = 700


def hashes(size: int = SIZE) -> list[bytes]:
    return [leaf_hash(b"event %d" % index) for index in range(size)]


def prove(leaves: Sequence[bytes], bundle: int, chosen: Sequence[int]) -> BundleProof:
    def read(node: Node) -> bytes:
        start = node.number << node.level
        assert node in outer_nodes(bundle, len(leaves))
        return root_of(leaves[start : start + (1 << node.level)])

    first, end = bounds_of(bundle, len(leaves))
    return prove_bundle(bundle, len(leaves), leaves[first:end], chosen, read)


def exported(leaves: Sequence[bytes], chosen: Sequence[int]) -> list[ExportedLeaf]:
    return [ExportedLeaf(index, leaves[index], leaves[index], f"line {index}") for index in chosen]


@given(st.integers(1, SIZE), st.data())
def test_any_selection_of_any_tree_leads_to_its_root(size: int, data: st.DataObject) -> None:
    leaves = hashes(size)
    bundle = data.draw(st.integers(0, (size - 1) // 256))
    first, end = bounds_of(bundle, size)
    chosen = sorted(data.draw(st.sets(st.integers(first, end - 1))))

    proof = prove(leaves, bundle, chosen)

    assert check_bundle(proof, size, root_of(leaves), exported(leaves, chosen)) is None


def test_a_whole_bundle_needs_no_more_than_the_path_to_the_root() -> None:
    proof = prove(hashes(), 1, range(256, 512))

    assert proof.gaps == []
    assert len(proof.left) + len(proof.right) < 12


CHOSEN = (300, 301, 305, 400)


@pytest.mark.parametrize("place", range(len(CHOSEN)))
def test_an_altered_event_is_named(place: int) -> None:
    leaves = hashes()
    events = exported(leaves, CHOSEN)
    events[place] = replace(events[place], hashed=leaf_hash(b"another"))

    fault = check_bundle(prove(leaves, 1, CHOSEN), SIZE, root_of(leaves), events)

    leaf = CHOSEN[place]
    assert fault == f"line {leaf} is not the event that was signed as leaf {leaf}"


@pytest.mark.parametrize("place", range(len(CHOSEN)))
def test_of_an_event_altered_with_its_hash_the_bundle_is_named(place: int) -> None:
    leaves = hashes()
    events = exported(leaves, CHOSEN)
    another = leaf_hash(b"another")
    events[place] = replace(events[place], hashed=another, stated=another)

    fault = check_bundle(prove(leaves, 1, CHOSEN), SIZE, root_of(leaves), events)

    assert fault is not None
    assert "line 300 to line 400" in fault


def test_a_hash_that_alone_was_altered_is_named() -> None:
    leaves = hashes()
    events = exported(leaves, CHOSEN)
    events[2] = replace(events[2], stated=leaf_hash(b"another"))

    fault = check_bundle(prove(leaves, 1, CHOSEN), SIZE, root_of(leaves), events)

    assert fault == "line 305 has another hash than that of its event, which was signed"


def test_a_hash_of_another_length_is_malformed() -> None:
    leaves = hashes()
    proof = prove(leaves, 1, CHOSEN)

    fault = check_bundle(
        replace(proof, left=[proof.left[0] + b"x"]), SIZE, root_of(leaves), exported(leaves, CHOSEN)
    )

    assert fault == "the proof of bundle 1 is malformed: a hash of 33 bytes"


def test_a_single_altered_event_is_named() -> None:
    leaves = hashes()
    another = leaf_hash(b"another")
    events = [ExportedLeaf(300, another, another, "line 7")]

    fault = check_bundle(prove(leaves, 1, [300]), SIZE, root_of(leaves), events)

    assert fault == "line 7 is not the event that was signed as leaf 300"


def test_a_missing_event_an_extra_one_and_two_swapped_are_named() -> None:
    leaves = hashes()
    events = exported(leaves, CHOSEN)
    proof, root = prove(leaves, 1, CHOSEN), root_of(leaves)
    beyond = ExportedLeaf(401, leaves[401], leaves[401], "line 401")

    missing = check_bundle(proof, SIZE, root, [events[0], *events[2:]])
    extra = check_bundle(proof, SIZE, root, [*events, beyond])
    swapped = check_bundle(proof, SIZE, root, [events[1], events[0], *events[2:]])
    cut = check_bundle(proof, SIZE, root, events[:-1])

    assert missing == "line 305 has leaf 305 where leaf 301 is due"
    assert extra == "line 401 has leaf 401, which bundle 1 has no place for"
    assert swapped == "line 301 has leaf 301 where leaf 300 is due"
    assert cut == "leaf 400 is missing"


def test_a_gap_does_not_hide_an_event_of_another_place() -> None:
    leaves = hashes()
    proof = prove(leaves, 1, CHOSEN)

    for gap in proof.gaps:
        moved = replace(gap, end=gap.end + 1)
        gaps = [moved if each is gap else each for each in proof.gaps]
        fault = check_bundle(
            replace(proof, gaps=gaps), SIZE, root_of(leaves), exported(leaves, CHOSEN)
        )
        assert fault is not None


@pytest.mark.parametrize("bundle", [9, -1])
def test_a_bundle_outside_the_tree_is_refused(bundle: int) -> None:
    proof = prove(hashes(), 2, [600])

    fault = check_bundle(replace(proof, bundle=bundle), SIZE, root_of(hashes()), [])

    assert fault == f"bundle {bundle} is not in the signed tree of 700 events"
