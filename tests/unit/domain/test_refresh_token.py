"""The refresh token: one text for one token, and nothing else is read as one."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.ids import FamilyId, SessionId
from domain.refresh_token import (
    MAX_GENERATION,
    PREFIX,
    SALT_BYTES,
    SECRET_BYTES,
    RefreshToken,
    TokenKeys,
    encode_bytes,
    hash_secret,
    mint,
    parse,
    successor_of,
)
from tests.unit.domain.builders import (
    FAMILY_ID,
    KEY_1,
    KEY_2,
    KEYS,
    OTHER_FAMILY_ID,
    OTHER_SALT,
    OTHER_SESSION_ID,
    ROTATED_KEYS,
    SALT,
    SECRET,
    SESSION_ID,
    first_token,
)

TOKEN = first_token()
TEXT = mint(TOKEN, KEYS)
RAW_BYTES = 1 + 2 + 16 + 16 + 4 + 32 + 32

UUIDS = st.uuids().map(str)
TOKENS = st.builds(
    RefreshToken,
    key_id=st.sampled_from(sorted(ROTATED_KEYS.keys)),
    family_id=UUIDS.map(FamilyId),
    session_id=UUIDS.map(SessionId),
    generation=st.integers(0, MAX_GENERATION),
    secret=st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
)


def raw_of(text: str) -> bytes:
    return urlsafe_b64decode(text.removeprefix(PREFIX) + "==")


def text_of(raw: bytes) -> str:
    return PREFIX + urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(body: bytes, key: bytes = KEY_1) -> str:
    """The text of a body under a MAC that holds."""
    return text_of(body + hmac.new(key, body, sha256).digest())


def body_of(*, version: int = 1, key_id: int = 1) -> bytes:
    """The layout of the module's docstring, put together by hand."""
    return (
        version.to_bytes(1, "big")
        + key_id.to_bytes(2, "big")
        + UUID(FAMILY_ID).bytes
        + UUID(SESSION_ID).bytes
        + (1).to_bytes(4, "big")
        + SECRET
    )


@given(token=TOKENS)
def test_a_minted_token_reads_back_as_itself(token: RefreshToken) -> None:
    text = mint(token, ROTATED_KEYS)

    assert parse(text, ROTATED_KEYS) == token


@given(token=TOKENS)
def test_every_token_has_the_prefix_and_the_same_length(token: RefreshToken) -> None:
    text = mint(token, ROTATED_KEYS)

    assert text.startswith("str_")
    assert len(text) == 142
    assert "=" not in text
    assert len(raw_of(text)) == RAW_BYTES


def test_the_layout_is_the_documented_one() -> None:
    text = mint(TOKEN, KEYS)

    assert text == signed(body_of())


def test_the_same_token_is_minted_the_same_way_every_time() -> None:
    assert mint(TOKEN, KEYS) == mint(TOKEN, ROTATED_KEYS) == TEXT


def test_forged_token() -> None:
    """No bit of a token may be flipped: version, key, family, session, generation, secret, MAC."""
    raw = raw_of(TEXT)

    accepted = [
        bit
        for bit in range(len(raw) * 8)
        if parse(text_of(_with_bit_flipped(raw, bit)), KEYS) is not None
    ]

    assert accepted == []


def _with_bit_flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def test_no_character_of_a_token_can_be_another() -> None:
    """Not the spare bits of the last one either, nor ``+`` for ``-``, padding or white space."""
    accepted = [
        (place, character)
        for place in range(len(TEXT))
        for character in map(chr, range(128))
        if character != TEXT[place]
        and parse(TEXT[:place] + character + TEXT[place + 1 :], KEYS) is not None
    ]

    assert accepted == []


def test_a_token_has_one_spelling() -> None:
    """103 bytes leave four spare bits in the last character; only zeros are ours."""
    spellings = [
        TEXT[:-1] + character
        for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        if raw_of(TEXT[:-1] + character) == raw_of(TEXT)
    ]

    read = [spelling for spelling in spellings if parse(spelling, KEYS) is not None]

    assert len(spellings) == 16
    assert read == [TEXT]


def test_the_other_base64_alphabet_is_refused() -> None:
    token = _first_token_whose_text_has("-", "_")

    text = mint(token, KEYS)
    other_alphabet = PREFIX + text.removeprefix(PREFIX).replace("-", "+").replace("_", "/")

    assert parse(text, KEYS) == token
    assert parse(other_alphabet, KEYS) is None


def _first_token_whose_text_has(*characters: str) -> RefreshToken:
    for number in range(10_000):
        token = first_token(secret=number.to_bytes(SECRET_BYTES, "big"))
        text = mint(token, KEYS).removeprefix(PREFIX)
        if all(character in text for character in characters):
            return token
    msg = "no such token among ten thousand"
    raise AssertionError(msg)


def test_characters_that_base64_decoding_skips_are_refused() -> None:
    """A decoder that skips what is not base64 would find a whole token in the longer text."""
    for stray in ("\n", " ", "!", "=", "\x00"):
        assert parse(TEXT + stray, KEYS) is None
        assert parse(TEXT[:50] + stray + TEXT[50:], KEYS) is None
        assert parse(TEXT[:50] + stray * 4 + TEXT[54:], KEYS) is None
        assert parse(stray + TEXT, KEYS) is None


def test_a_truncated_token_is_refused() -> None:
    accepted = [length for length in range(len(TEXT)) if parse(TEXT[:length], KEYS) is not None]

    assert accepted == []


def test_a_token_with_something_after_it_is_refused() -> None:
    assert parse(TEXT + "A", KEYS) is None
    assert parse(TEXT + "==", KEYS) is None
    assert parse(TEXT + TEXT, KEYS) is None


def test_a_token_without_its_prefix_is_refused() -> None:
    assert parse(TEXT.removeprefix(PREFIX), KEYS) is None
    assert parse("STR_" + TEXT.removeprefix(PREFIX), KEYS) is None
    assert parse("AAAA" + TEXT.removeprefix(PREFIX), KEYS) is None


@pytest.mark.parametrize("character", ["é", "\u0660", "\uff21", "\U0001f511", "\ud800"])
def test_a_token_with_a_character_outside_ascii_is_refused(character: str) -> None:
    for place in (0, 3, 4, 70, len(TEXT) - 1):
        assert parse(TEXT[:place] + character + TEXT[place + 1 :], KEYS) is None


def test_a_huge_text_is_refused() -> None:
    assert parse(PREFIX + "A" * 10_000_000, KEYS) is None
    assert parse(TEXT * 100_000, KEYS) is None


@given(text=st.text(max_size=200) | st.text("str_AZaz09-=\n", min_size=142, max_size=142))
@example("")
@example(PREFIX)
@example(PREFIX + "A" * 138)
@example(PREFIX + "=" * 138)
def test_no_other_text_is_a_token(text: str) -> None:
    assert parse(text, KEYS) is None


def test_a_token_of_another_service_is_refused() -> None:
    theirs = TokenKeys(1, {1: KEY_2})

    assert parse(mint(TOKEN, theirs), KEYS) is None


def test_a_token_under_an_unknown_key_id_is_refused() -> None:
    token = first_token(key_id=2)

    text = mint(token, ROTATED_KEYS)

    assert parse(text, ROTATED_KEYS) == token
    assert parse(text, KEYS) is None


def test_a_token_that_names_another_key_of_the_ring_is_refused() -> None:
    assert parse(signed(body_of(key_id=2), KEY_1), ROTATED_KEYS) is None
    assert parse(signed(body_of(key_id=2), KEY_2), ROTATED_KEYS) == first_token(key_id=2)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_format_version_is_refused_although_its_mac_holds(version: int) -> None:
    assert parse(signed(body_of(version=version)), KEYS) is None


@pytest.mark.parametrize("stray", [b"", b"\x00"], ids=["a byte short", "a byte long"])
def test_a_body_of_another_size_is_refused_although_its_mac_holds(stray: bytes) -> None:
    body = body_of() + stray if stray else body_of()[:-1]

    assert parse(signed(body), KEYS) is None


def test_tokens_minted_before_a_key_rotation_still_read() -> None:
    assert parse(TEXT, ROTATED_KEYS) == TOKEN


def test_minting_under_a_key_that_was_removed_fails() -> None:
    with pytest.raises(KeyError):
        mint(first_token(key_id=2), KEYS)


def test_a_ring_has_its_current_key() -> None:
    with pytest.raises(
        ValueError, match=r"^token key 2 is named as current but is not in the ring$"
    ):
        TokenKeys(2, {1: KEY_1})


def test_a_ring_has_no_short_key() -> None:
    TokenKeys(1, {1: bytes(32), 2: bytes(33)})

    with pytest.raises(ValueError, match=r"^a token key must have at least 32 bytes$"):
        TokenKeys(1, {1: KEY_1, 2: bytes(31)})


def test_a_printed_token_leaks_nothing() -> None:
    printed = [repr(TOKEN), str(TOKEN), f"{TOKEN}", repr([TOKEN])]

    for text in printed:
        assert f"RefreshToken(session_id={SESSION_ID}, generation=1)" in text
        assert repr(SECRET) not in text
        assert SECRET.hex() not in text
        assert TEXT not in text


def test_a_printed_ring_of_keys_leaks_nothing() -> None:
    printed = repr(ROTATED_KEYS)

    assert printed == "TokenKeys(current_id=2, ids=[1, 2])"


def test_the_hash_of_a_secret_is_its_sha256() -> None:
    assert hash_secret(b"") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    assert len(hash_secret(SECRET)) == 43


def test_bytes_are_spelled_in_base64url_without_padding() -> None:
    assert encode_bytes(b"\xfb\xff\xfe\x00") == "-__-AA"
    assert encode_bytes(b"\x00\x00\x17") == "AAAX"
    assert len(encode_bytes(bytes(SALT_BYTES))) == 22


def test_a_successor_is_derived_as_documented() -> None:
    """Pinned: an instance of the next release must give a retry the same successor."""
    message = b"sessiontrail refresh successor v1" + SECRET + SALT.encode() + SESSION_ID.encode()
    secret = hmac.new(KEY_1, message + b"\x00\x00\x00\x01", sha256).digest()

    successor = successor_of(TOKEN, salt=SALT, key_id=1, keys=KEYS)

    assert successor == RefreshToken(
        key_id=1, family_id=FAMILY_ID, session_id=SESSION_ID, generation=2, secret=secret
    )


@given(token=TOKENS)
def test_a_successor_is_the_same_however_often_it_is_derived(token: RefreshToken) -> None:
    key_id = token.key_id

    first = successor_of(token, salt=SALT, key_id=key_id, keys=ROTATED_KEYS)
    again = successor_of(token, salt=SALT, key_id=key_id, keys=TokenKeys(1, ROTATED_KEYS.keys))

    assert first == again
    assert first.generation == token.generation + 1
    assert first.secret != token.secret


@pytest.mark.parametrize(
    "other",
    [
        successor_of(TOKEN, salt=OTHER_SALT, key_id=1, keys=KEYS),
        successor_of(first_token(secret=bytes(32)), salt=SALT, key_id=1, keys=KEYS),
        successor_of(TOKEN, salt=SALT, key_id=2, keys=ROTATED_KEYS),
        successor_of(TOKEN, salt=SALT, key_id=1, keys=TokenKeys(1, {1: KEY_2})),
        successor_of(first_token(session_id=OTHER_SESSION_ID), salt=SALT, key_id=1, keys=KEYS),
        successor_of(
            RefreshToken(1, FAMILY_ID, SESSION_ID, generation=2, secret=SECRET),
            salt=SALT,
            key_id=1,
            keys=KEYS,
        ),
    ],
    ids=["salt", "secret", "key id", "key", "session", "generation"],
)
def test_a_successor_depends_on(other: RefreshToken) -> None:
    successor = successor_of(TOKEN, salt=SALT, key_id=1, keys=KEYS)

    assert successor.secret != other.secret


def test_a_successor_stays_in_its_family_and_session_and_names_its_key() -> None:
    token = first_token(family_id=OTHER_FAMILY_ID, session_id=OTHER_SESSION_ID)

    successor = successor_of(token, salt=SALT, key_id=2, keys=ROTATED_KEYS)

    assert (successor.family_id, successor.session_id) == (OTHER_FAMILY_ID, OTHER_SESSION_ID)
    assert successor.key_id == 2


def test_a_successor_under_a_key_that_was_removed_cannot_be_derived() -> None:
    with pytest.raises(KeyError):
        successor_of(TOKEN, salt=SALT, key_id=2, keys=KEYS)
