"""The tree of RFC 6962 §2.1, against its definition and against vectors that others published."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    ProofError,
    consistency_nodes,
    consistency_proof,
    inclusion_nodes,
    inclusion_proof,
    leaf_hash,
    node_hash,
    nodes_between,
    root_at,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The leaves, roots and proofs that Certificate Transparency's implementations test themselves with.
CT_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): CT_INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
SIZES = st.integers(0, 70)


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH as the RFC writes it down."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\x01" + defined_root(leaves[:half]) + defined_root(leaves[half:])).digest()


def leaves_of(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


def reader(leaves: list[bytes]) -> Callable[[Node], bytes]:
    """Complete subtrees by their definition."""

    def read(node: Node) -> bytes:
        covered = leaves[node.number << node.level : (node.number + 1) << node.level]
        assert len(covered) == 1 << node.level
        return defined_root(covered)

    return read


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_that_certificate_transparency_publishes(size: int) -> None:
    root = root_of(map(leaf_hash, CT_LEAVES[:size]))

    assert root.hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("index", "size"), CT_INCLUSION)
def test_inclusion_proofs_are_those_that_certificate_transparency_publishes(
    index: int, size: int
) -> None:
    proof = inclusion_proof(index, size, reader(CT_LEAVES))

    assert [each.hex() for each in proof] == CT_INCLUSION[index, size]
    verify_inclusion(leaf_hash(CT_LEAVES[index]), index, size, proof, bytes.fromhex(CT_ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CT_CONSISTENCY)
def test_consistency_proofs_are_those_that_certificate_transparency_publishes(
    old: int, new: int
) -> None:
    proof = consistency_proof(old, new, reader(CT_LEAVES))

    assert [each.hex() for each in proof] == CT_CONSISTENCY[old, new]
    verify_consistency(old, bytes.fromhex(CT_ROOTS[old]), new, bytes.fromhex(CT_ROOTS[new]), proof)


@given(size=SIZES)
def test_a_tree_grown_leaf_by_leaf_has_the_defined_root(size: int) -> None:
    leaves = leaves_of(size)

    assert root_of(map(leaf_hash, leaves)) == defined_root(leaves)
    assert root_at(size, reader(leaves)) == defined_root(leaves)


@given(before=SIZES, more=SIZES)
def test_a_tree_goes_on_from_its_right_edge(before: int, more: int) -> None:
    leaves = leaves_of(before + more)
    tree = Frontier(before, map(reader(leaves), nodes_between(0, before)))

    for leaf in leaves[before:]:
        tree.append(leaf_hash(leaf))

    assert (tree.size, tree.root()) == (before + more, defined_root(leaves))


def test_a_right_edge_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a tree of 6 leaves has 2 subtrees, not 1$"):
        Frontier(6, [bytes(32)])


def test_every_leaf_of_every_small_tree_is_proved() -> None:
    for size in range(1, 35):
        leaves = leaves_of(size)
        root = defined_root(leaves)
        for index in range(size):
            proof = inclusion_proof(index, size, reader(leaves))

            verify_inclusion(leaf_hash(leaves[index]), index, size, proof, root)


def test_every_small_tree_is_proved_to_begin_with_every_smaller_one() -> None:
    for new in range(35):
        leaves = leaves_of(new)
        root = defined_root(leaves)
        for old in range(new + 1):
            proof = consistency_proof(old, new, reader(leaves))

            verify_consistency(old, defined_root(leaves[:old]), new, root, proof)


@given(data=st.data(), size=st.integers(1, 70))
def test_nothing_else_is_proved_to_be_in_a_tree(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    root = defined_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, reader(leaves))
    hashed = leaf_hash(leaves[index])
    elsewhere = data.draw(st.integers(-1, size + 1).filter(lambda place: place != index))
    false = [
        (leaf_hash(b"another"), index, size, proof, root),
        (hashed, elsewhere, size, proof, root),
        (hashed, index, size, [*proof, bytes(32)], root),
        (hashed, index, size, proof, bytes(32)),
    ]
    if proof:
        broken = data.draw(st.integers(0, len(proof) - 1))
        false += [
            (hashed, index, size, proof[:-1], root),
            (hashed, index, size, [*proof[:broken], bytes(32), *proof[broken + 1 :]], root),
        ]

    for claim in false:
        with pytest.raises(ProofError):
            verify_inclusion(*claim)


@given(data=st.data(), new=st.integers(2, 70))
def test_no_other_tree_is_proved_to_be_the_beginning(data: st.DataObject, new: int) -> None:
    leaves = leaves_of(new)
    old = data.draw(st.integers(1, new - 1))
    roots = defined_root(leaves[:old]), defined_root(leaves)
    proof = consistency_proof(old, new, reader(leaves))
    broken = data.draw(st.integers(0, len(proof) - 1))
    false = [
        (old, bytes(32), new, roots[1], proof),
        (old, roots[0], new, bytes(32), proof),
        (old, roots[0], new, roots[1], proof[:-1]),
        (old, roots[0], new, roots[1], [*proof, bytes(32)]),
        (old, roots[0], new, roots[1], [*proof[:broken], bytes(32), *proof[broken + 1 :]]),
        (new, roots[1], old, roots[0], proof),
        (new, roots[0], new, roots[1], []),
    ]

    for claim in false:
        with pytest.raises(ProofError):
            verify_consistency(*claim)


def test_an_empty_tree_is_the_beginning_of_all() -> None:
    verify_consistency(0, EMPTY_ROOT, 3, bytes.fromhex(CT_ROOTS[3]), [])
    with pytest.raises(ProofError, match=r"^an empty tree has another root$"):
        verify_consistency(0, bytes(32), 3, bytes.fromhex(CT_ROOTS[3]), [])
    with pytest.raises(ProofError, match=r"too long$"):
        verify_consistency(0, EMPTY_ROOT, 3, bytes.fromhex(CT_ROOTS[3]), [bytes(32)])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ProofError, match=rf"^a tree of {size} leaves has no leaf {index}$"):
        inclusion_proof(index, size, reader([]))


def test_proofs_read_what_they_say_they_will_and_little_of_it() -> None:
    read: list[Node] = []

    def note(node: Node) -> bytes:
        read.append(node)
        return bytes(32)

    size = 1_000_003
    inclusion_proof(777_777, size, note)
    assert read == list(inclusion_nodes(777_777, size))
    assert len(read) <= 2 * 20
    read.clear()
    consistency_proof(777_777, size, note)
    assert read == list(consistency_nodes(777_777, size))
    assert len(read) <= 3 * 20


def test_a_leaf_is_never_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")

    assert leaf_hash(left + right) != node_hash(left, right)
