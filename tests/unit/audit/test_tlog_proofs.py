"""Inclusion proofs as C2SP tlog-proof writes them."""

import pytest

from audit.checkpoints import signed_checkpoint
from audit.merkle import ProofError, leaf_hash, node_hash
from audit.signed_notes import NoteError, Signer
from audit.tlog_proofs import InclusionProof, parse_proof, verify_proof

SIGNER = Signer("example.com/log", bytes(range(32)))
LEFT, RIGHT = leaf_hash(b"left"), leaf_hash(b"right")
NOTE = signed_checkpoint(SIGNER, 2, node_hash(LEFT, RIGHT))
PROOF = InclusionProof(1, [LEFT], NOTE)


def test_a_proof_is_lines_and_the_checkpoint() -> None:
    lines = str(PROOF).split("\n")

    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 1"]
    assert len(lines[2]) == 44
    assert lines[3] == ""
    assert str(PROOF).endswith("\n\n" + NOTE)


@pytest.mark.parametrize("extra", [None, b"", b"the leaf"])
def test_a_proof_reads_back(extra: bytes | None) -> None:
    proof = InclusionProof(1, [LEFT], NOTE, extra)

    assert parse_proof(str(proof)) == proof


def test_a_leaf_is_proved_by_the_logs_key_alone() -> None:
    verify_proof(PROOF, b"right", SIGNER.verifier)

    with pytest.raises(ProofError):
        verify_proof(PROOF, b"left", SIGNER.verifier)
    with pytest.raises(NoteError):
        verify_proof(PROOF, b"right", Signer("example.com/log", bytes(32)).verifier)


def test_a_tree_of_one_has_an_empty_path() -> None:
    proof = InclusionProof(0, [], signed_checkpoint(SIGNER, 1, LEFT))

    verify_proof(parse_proof(str(proof)), b"left", SIGNER.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        str(PROOF).replace("@v1", "@v2"),
        str(PROOF).replace("index 1\n", ""),
        str(PROOF).replace("index 1\n", "index 01\n"),
        str(PROOF).replace("index 1\n", "index -1\n"),
        str(PROOF).replace("index 1\n", "index 1\nAAAA\n"),
        str(PROOF).replace("index 1\n", "index 1\n!\n"),
        str(PROOF).replace("index 1\n", "extra !\nindex 1\n"),
        "c2sp.org/tlog-proof@v1\nindex 1\n",
    ],
    ids=range(9),
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        parse_proof(text)
