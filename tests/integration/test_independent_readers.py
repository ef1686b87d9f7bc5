"""The tree, read and checked by code that is not ours: tlog-scales, and C2SP's text itself."""

from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.ext.asyncio import AsyncEngine
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import (
    ConsistencyProof,
    ConsistencyProofInvalid,
    InclusionProof,
    InclusionProofInvalid,
)

from audit.proving import prove_consistency, prove_leaf
from infra.tree_store import StoredTree
from tests.integration.tree_world import (
    SIGNER,
    append,
    leaves_from_scratch,
    root_from_scratch,
    sequenced,
)

SIZES = (1, 2, 255, 256, 257, 700)


@pytest.mark.parametrize("size", SIZES)
async def test_every_proof_of_ours_is_one_to_them(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path, size: int
) -> None:
    append(owner_conninfo, size)
    await sequenced(conninfo, tmp_path / "tree")
    tree = StoredTree(engine)
    leaves = leaves_from_scratch(owner_conninfo)
    checkpoint = TilesReader(LocalBackend(tmp_path / "tree")).get_checkpoint()

    for index in {0, size - 1, *Random(size).sample(range(size), min(size, 12))}:
        ours = await prove_leaf(tree, index)
        theirs = InclusionProof(index, size, list(ours.hashes))

        theirs.check(sha256(b"\x00" + leaves[index]).digest(), checkpoint.root_hash)
        with pytest.raises(InclusionProofInvalid):
            theirs.check(sha256(b"\x00" + leaves[index] + b" ").digest(), checkpoint.root_hash)
    for old in {0, 1, size // 2, size - 1, size}:
        found = await prove_consistency(tree, old)
        proof = ConsistencyProof(old, size, list(found.hashes))

        proof.check(root_from_scratch(owner_conninfo, old), checkpoint.root_hash)
        if 0 < old < size:
            with pytest.raises(ConsistencyProofInvalid):
                proof.check(bytes(32), checkpoint.root_hash)


@pytest.mark.parametrize("size", SIZES)
async def test_they_make_the_same_proofs_and_roots_of_our_files(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path, size: int
) -> None:
    append(owner_conninfo, size)
    await sequenced(conninfo, tmp_path / "tree")
    tree = StoredTree(engine)
    reader = TilesReader(LocalBackend(tmp_path / "tree"))
    checkpoint = reader.get_checkpoint()

    checkpoint.verify(Vkey.from_string(str(SIGNER.verifier)))
    assert (checkpoint.origin, checkpoint.size) == ("tests.example/tlog", size)
    assert reader.calculate_root_hash() == checkpoint.root_hash
    for index in {0, size // 3, size - 1}:
        assert reader.get_inclusion_proof(index, size).node_hashes == list(
            (await prove_leaf(tree, index)).hashes
        )
    for old in {1, size // 3, size} - {0}:
        assert reader.get_consistency_proof(old, size).node_hashes == list(
            (await prove_consistency(tree, old)).hashes
        )


async def test_the_signature_is_what_the_specification_says(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    """By the text of C2SP signed-note and tlog-checkpoint alone, without any code of ours."""
    append(owner_conninfo, 300)
    await sequenced(conninfo, tmp_path / "tree")
    note = (tmp_path / "tree/checkpoint").read_bytes()
    name, key_id, encoded = str(SIGNER.verifier).split("+", 2)
    key = b64decode(encoded)

    text, signature_line = note.rsplit(b"\n\n", 1)
    text += b"\n"
    dash, signer, blob = signature_line.decode().removesuffix("\n").split(" ")
    signed = b64decode(blob)

    assert (dash, signer) == ("\u2014", name)
    assert key[0] == 0x01
    assert signed[:4] == sha256(name.encode() + b"\x0a\x01" + key[1:]).digest()[:4]
    assert signed[:4].hex() == key_id
    public_key = Ed25519PublicKey.from_public_bytes(key[1:])
    public_key.verify(signed[4:], text)
    with pytest.raises(InvalidSignature):
        public_key.verify(signed[4:], text.replace(b"300", b"301"))
    origin, size, root = text.decode().splitlines()
    assert (origin, size) == ("tests.example/tlog", "300")
    assert b64decode(root, validate=True) == root_from_scratch(owner_conninfo)
