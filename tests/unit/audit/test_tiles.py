"""Tiles as C2SP tlog-tiles defines them: paths, widths, contents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import Node, leaf_hash, nodes_between, root_of
from audit.tiles import (
    GrowingTiles,
    MalformedBundleError,
    TilePath,
    decode_bundle,
    edge_tiles,
    encode_bundle,
    hash_from_tile,
    parse_tile_path,
    tile_of,
    tile_path,
    width_at,
)
from domain.transparency import TileId

HASHES = [leaf_hash(b"%d" % number) for number in range(70_000)]


def defined_tile(level: int, number: int, width: int) -> bytes:
    """MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l]) for each i."""
    span = 256**level
    starts = [(number * 256 + place) * span for place in range(width)]
    return b"".join(root_of(HASHES[start : start + span]) for start in starts)


@pytest.mark.parametrize(
    ("path", "level", "number", "width"),
    [
        ("0/x001/x234/067", 0, 1_234_067, 256),
        ("0/000", 0, 0, 256),
        ("1/999.p/1", 1, 999, 1),
        ("63/x001/000.p/255", 63, 1000, 255),
        ("entries/x123/456", None, 123_456, 256),
        ("entries/007.p/17", None, 7, 17),
    ],
)
def test_a_path_names_a_tile(path: str, level: int | None, number: int, width: int) -> None:
    assert tile_path(level, number, width) == "tile/" + path
    assert parse_tile_path(path) == TilePath(level, number, width)


@pytest.mark.parametrize(
    "path",
    [
        "", "0", "0/", "0/0", "0/00", "0/0000", "0/x000/000", "0/x000/001", "0/001/002", "0/x001",
        "0/x01/002", "00/001", "01/001", "64/001", "99/001", "-1/001", "0/-01", "0/001.p/0",
        "0/001.p/01", "0/001.p/256", "0/001.p/", "0/001.p/x", "0/001/", "/0/001", "0/001?x",
        "0/001\n", "entries/1", "Entries/001", "0/../001", "0/\u0660\u0660\u0661",
        "0/" + "x999/" * 6 + "999",
    ],
)  # fmt: skip
def test_whatever_else_names_no_tile(path: str) -> None:
    assert parse_tile_path(path) is None


@given(number=st.integers(0, 10**18 - 1), level=st.none() | st.integers(0, 63))
def test_a_path_reads_back(number: int, level: int | None) -> None:
    path = tile_path(level, number).removeprefix("tile/")

    assert parse_tile_path(path) == TilePath(level, number, 256)


def test_widths_are_those_of_the_specifications_example() -> None:
    """A tree of 70,000 leaves."""
    assert [width_at(0, number, 70_000) for number in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert [width_at(1, number, 70_000) for number in (0, 1, 2)] == [256, 17, 0]
    assert [width_at(2, number, 70_000) for number in (0, 1)] == [1, 0]
    assert width_at(3, 0, 70_000) == 0
    assert width_at(None, 273, 70_000) == 112
    assert edge_tiles(70_000) == [TileId(0, 273), TileId(1, 1), TileId(2, 0)]


def test_tiles_hold_what_they_are_defined_to_hold() -> None:
    size = 66_000
    growing = GrowingTiles()

    growing.extend(HASHES[:size])

    tiles = growing.take_changed()
    assert tiles.keys() == {
        *(TileId(0, number) for number in range(258)),
        *(TileId(1, number) for number in range(2)),
        TileId(2, 0),
    }
    for tile in (TileId(0, 0), TileId(0, 257), TileId(1, 0), TileId(1, 1), TileId(2, 0)):
        assert tiles[tile] == defined_tile(*tile, width_at(*tile, size))
    assert growing.root() == root_of(HASHES[:size])


@given(steps=st.lists(st.integers(0, 700), max_size=6))
def test_a_tree_that_is_put_down_and_taken_up_grows_as_one_that_is_not(steps: list[int]) -> None:
    stored: dict[TileId, bytes] = {}
    size = 0
    for step in steps:
        edge = {tile: stored[tile] for tile in edge_tiles(size) if tile in stored}
        growing = GrowingTiles(size, edge)
        growing.extend(HASHES[size : size + step])
        size += step
        stored |= growing.take_changed()

        assert (growing.size, growing.root()) == (size, root_of(HASHES[:size]))

    at_once = GrowingTiles()
    at_once.extend(HASHES[:size])
    assert at_once.take_changed() == stored


def test_only_changed_tiles_are_handed_out() -> None:
    growing = GrowingTiles()
    growing.extend(HASHES[:300])
    growing.take_changed()

    assert growing.take_changed() == {}
    growing.extend(HASHES[300:301])
    assert growing.take_changed().keys() == {TileId(0, 1)}


def test_an_edge_that_is_too_narrow_is_refused() -> None:
    with pytest.raises(LookupError, match=r"^tile 1 of level 0 is not wide enough$"):
        GrowingTiles(300, {TileId(0, 1): bytes(32 * 43)})


@given(size=st.integers(1, 2000))
def test_every_subtree_is_found_in_a_tile(size: int) -> None:
    growing = GrowingTiles()
    growing.extend(HASHES[:size])
    tiles = growing.take_changed()

    for node in nodes_between(0, size):
        covered = HASHES[node.number << node.level : (node.number + 1) << node.level]

        assert hash_from_tile(node, tiles[tile_of(node)]) == root_of(covered)


def test_a_tile_that_does_not_reach_a_subtree_says_so() -> None:
    with pytest.raises(LookupError, match=r"^the tile does not reach node 3 of level 1$"):
        hash_from_tile(Node(1, 3), bytes(32 * 7))


@given(entries=st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_reads_back(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


def test_a_bundle_is_length_prefixed_entries() -> None:
    assert encode_bundle([b"ab", b"", b"c" * 258]) == b"\0\2ab\0\0\1\2" + b"c" * 258


@pytest.mark.parametrize("bundle", [b"\0", b"\0\1", b"\0\1a\0", b"\0\1a\0\2b"])
def test_a_bundle_that_was_cut_is_refused(bundle: bytes) -> None:
    with pytest.raises(MalformedBundleError):
        decode_bundle(bundle)


def test_an_entry_that_its_length_cannot_say_is_refused() -> None:
    encode_bundle([bytes(65_535)])
    with pytest.raises(OverflowError):
        encode_bundle([bytes(65_536)])
