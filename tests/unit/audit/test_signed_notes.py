"""Notes and checkpoints as C2SP writes them, with the vectors that it publishes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoints import Checkpoint, open_checkpoint, parse_checkpoint, signed_checkpoint
from audit.signed_notes import (
    NoteError,
    NoteKeyError,
    Signer,
    Verifier,
    open_note,
    parse_signer,
    parse_verifier,
)

SIGNER = Signer("example.com/log", bytes(range(32)))
OTHER = Signer("example.com/log", bytes(range(1, 33)))
ROOT = bytes(range(32))
# The example pair of Go's golang.org/x/mod/sumdb/note.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvq"
    "fqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_keys_and_notes_are_those_of_go() -> None:
    signer = parse_signer(GO_SIGNER)
    text = open_note(GO_NOTE, [parse_verifier(GO_VERIFIER)])

    assert str(signer.verifier) == GO_VERIFIER
    assert signer.exported() == GO_SIGNER
    assert signer.sign(text) == GO_NOTE


def test_a_signed_note_opens_with_its_key() -> None:
    note = SIGNER.sign("one\n\nthree\n")

    assert open_note(note, [SIGNER.verifier]) == "one\n\nthree\n"
    assert open_note(note.encode(), [OTHER.verifier, SIGNER.verifier]) == "one\n\nthree\n"


def test_a_witness_may_add_its_signature() -> None:
    note = SIGNER.sign("text\n")
    witnessed = note + Signer("witness.example", bytes(32)).sign("text\n").split("\n\n")[1]

    assert open_note(witnessed, [SIGNER.verifier]) == "text\n"


def test_a_note_of_another_key_does_not_open() -> None:
    """Of the same name: the key's id tells them apart."""
    with pytest.raises(NoteError, match=r"^the note is not signed by example\.com/log\+"):
        open_note(OTHER.sign("text\n"), [SIGNER.verifier])
    with pytest.raises(NoteError, match=r"^the note is not signed by a known key$"):
        open_note(OTHER.sign("text\n"), [])


@given(place=st.integers(0, 4), character=st.sampled_from("abz \n"))
def test_a_changed_note_does_not_open(place: int, character: str) -> None:
    note = SIGNER.sign("texts\n")
    changed = note[:place] + character + note[place + 1 :]

    if changed != note:
        with pytest.raises(NoteError, match="does not fit the note"):
            open_note(changed, [SIGNER.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n\u2014 example.com/log AAAA",
        "text\n\n\u2014 example.com/log AAAA\n",
        "text\n\n\u2014 example.com/log A=\n",
        "text\n\n- example.com/log AAAAAAAA\n",
        "text\n\n\u2014 example.com/log\n",
        "text\n\n\u2014  AAAAAAAA\n",
        "text\n\n\u2014 a+b AAAAAAAA\n",
        "te\txt\n\n\u2014 example.com/log AAAAAAAA\n",
        "text\n\n\u2014 example.com\x01/log AAAAAAAA\n",
        b"\xff\n\n\xe2\x80\x94 example.com/log AAAAAAAA\n",
        "x" * 1_000_001,
        "text\n\n" + "\u2014 a AAAAAAAA\n" * 101,
    ],
    ids=range(15),
)
def test_a_malformed_note_does_not_open(note: str | bytes) -> None:
    with pytest.raises(NoteError):
        open_note(note, [SIGNER.verifier])


@pytest.mark.parametrize("text", ["", "no end", "a\tb\n", "a\r\n"], ids=range(4))
def test_what_a_note_cannot_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError):
        SIGNER.sign(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\n"], ids=range(5))
def test_a_name_without_a_note_is_refused(name: str) -> None:
    with pytest.raises(NoteKeyError):
        Signer(name, bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b+c",
        GO_VERIFIER.replace("c74f20a3", "c74f20a4"),
        GO_VERIFIER.replace("c74f20a3", "C74F20A3"),
        GO_VERIFIER[:-4],
        GO_VERIFIER.replace("+ARpc", "+BBpc"),
        GO_SIGNER,
    ],
    ids=range(8),
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(NoteKeyError):
        parse_verifier(text)


@pytest.mark.parametrize(
    "text",
    [GO_VERIFIER, GO_SIGNER.replace("c74f20a3", "c74f20a4"), GO_SIGNER[:-4]],
    ids=["public", "id", "cut"],
)
def test_what_is_no_private_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(NoteKeyError) as caught:
        parse_signer(text)

    assert "AYEKFALVFGyNhPJE" not in str(caught.value)


def test_a_signer_shows_no_key() -> None:
    assert SIGNER.exported().rpartition("+")[2] not in repr(SIGNER)


def test_a_checkpoint_is_origin_size_and_root() -> None:
    note = signed_checkpoint(SIGNER, 20852163, ROOT)

    assert note.startswith(
        "example.com/log\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        "\n\u2014 example.com/log "
    )
    assert open_checkpoint(note, SIGNER.verifier) == Checkpoint("example.com/log", 20852163, ROOT)


def test_further_lines_of_a_checkpoint_are_passed_over() -> None:
    text = str(Checkpoint("example.com/log", 5, ROOT)) + "more\n"

    assert open_checkpoint(SIGNER.sign(text), SIGNER.verifier).size == 5


def test_a_checkpoint_of_another_log_does_not_open() -> None:
    note = SIGNER.sign(str(Checkpoint("example.com/another", 5, ROOT)))

    with pytest.raises(NoteError, match=r"^the checkpoint is of 'example\.com/another'"):
        open_checkpoint(note, SIGNER.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n5\n",
        "origin\n05\n" + "A" * 43 + "=\n",
        "origin\n-5\n" + "A" * 43 + "=\n",
        "origin\n\u0665\n" + "A" * 43 + "=\n",
        "origin\n9223372036854775808\n" + "A" * 43 + "=\n",
        "origin\n" + "9" * 5000 + "\n" + "A" * 43 + "=\n",
        "origin\n5\nAAAA\n",
        "origin\n5\n" + "A" * 43 + "\n",
        "\n5\n" + "A" * 43 + "=\n",
        "origin\n5\n" + "A" * 43 + "=\n\nmore\n",
    ],
    ids=range(11),
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(text)


def test_a_verifier_reads_back() -> None:
    assert parse_verifier(str(SIGNER.verifier)) == SIGNER.verifier
    assert Verifier("a", bytes(32)) != SIGNER.verifier
