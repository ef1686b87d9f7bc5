"""Signed notes (C2SP signed-note): a text and Ed25519 signatures over it.

Keys are written as Go's ``golang.org/x/mod/sumdb/note`` writes them, for the tools that read those:
a signer as ``PRIVATE+KEY+<name>+<key id>+<base64>``, a verifier as ``<name>+<key id>+<base64>``.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_MAX_SIGNATURES = 100
_MAX_NOTE_BYTES = 1_000_000
_SIGNATURE_MARK = "\u2014 "


class NoteError(Exception):
    """A note that is malformed or not signed by the key that it should be."""


class NoteKeyError(Exception):
    """A signer's or verifier's text that is not one. The message never holds a private key."""


class Verifier(msgspec.Struct, frozen=True):
    """Checks one key's signatures.

    Attributes:
        name: The key's name.
        public_key: 32 bytes.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """What a signature line names the key by, besides its name: 4 bytes."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[
            :_KEY_ID_BYTES
        ]

    def __str__(self) -> str:
        """The form that ``parse_verifier`` reads."""
        key = b64encode(_ED25519 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    def has_signed(self, text: str, signature: bytes) -> bool:
        """Whether a signature is the key's over a text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """Signs notes. Shows no key when printed."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Make a signer.

        Args:
            name: The key's name.
            seed: Its private key, 32 bytes (RFC 8032 §5.1.5).

        Raises:
            NoteKeyError: The name or the key cannot be one.
        """
        _check_name(name)
        if len(seed) != _KEY_BYTES:
            msg = f"a note signer's key has {_KEY_BYTES} bytes"
            raise NoteKeyError(msg)
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())

    def exported(self) -> str:
        """The private key, in the form that ``parse_signer`` reads."""
        key = b64encode(_ED25519 + self._seed).decode()
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{key}"

    def sign(self, text: str) -> str:
        """The note over a text.

        Args:
            text: One or more lines, the last of them ended too.

        Raises:
            NoteError: A note cannot have such a text.
        """
        _check_text(text)
        signature = b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n{_SIGNATURE_MARK}{self.verifier.name} {signature}\n"


def parse_signer(text: str) -> Signer:
    """Read a private key.

    Raises:
        NoteKeyError: It is none.
    """
    if not text.startswith(_PRIVATE):
        msg = "a note signer's key begins with PRIVATE+KEY+"
        raise NoteKeyError(msg)
    name, key_id, seed = _parse_key(text.removeprefix(_PRIVATE))
    signer = Signer(name, seed)
    if signer.verifier.key_id != key_id:
        msg = f"the signer's key of {name!r} does not have the id that it names"
        raise NoteKeyError(msg)
    return signer


def parse_verifier(text: str) -> Verifier:
    """Read a public key.

    Raises:
        NoteKeyError: It is none.
    """
    if text.startswith(_PRIVATE):
        msg = "that is a private key: give the public one, which begins with the log's name"
        raise NoteKeyError(msg)
    name, key_id, public_key = _parse_key(text)
    _check_name(name)
    verifier = Verifier(name, public_key)
    if verifier.key_id != key_id:
        msg = f"the verifier's key of {name!r} does not have the id that it names"
        raise NoteKeyError(msg)
    return verifier


def open_note(note: str | bytes, verifiers: Sequence[Verifier]) -> str:
    """The text of a note that somebody known has signed.

    Signatures of unknown keys are passed over: witnesses add theirs.

    Args:
        note: The whole note.
        verifiers: Whose signatures count.

    Raises:
        NoteError: It is malformed, a known key's signature is wrong, or none is there.
    """
    text, lines = _split(note)
    signed = False
    for line in lines:
        name, signature = _signature(line)
        for verifier in verifiers:
            if verifier.name != name or verifier.key_id != signature[:_KEY_ID_BYTES]:
                continue
            if not verifier.has_signed(text, signature[_KEY_ID_BYTES:]):
                msg = f"the signature of {name!r} does not fit the note"
                raise NoteError(msg)
            signed = True
    if not signed:
        known = ", ".join(f"{each.name}+{each.key_id.hex()}" for each in verifiers)
        msg = f"the note is not signed by {known or 'a known key'}"
        raise NoteError(msg)
    return text


def _split(note: str | bytes) -> tuple[str, list[str]]:
    if len(note) > _MAX_NOTE_BYTES:
        msg = "the note is too long"
        raise NoteError(msg)
    try:
        whole = note if isinstance(note, str) else note.decode()
    except UnicodeDecodeError:
        msg = "the note is not UTF-8"
        raise NoteError(msg) from None
    text, blank, signatures = whole.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        msg = "the note has no signature lines"
        raise NoteError(msg)
    _check_text(whole)
    lines = signatures.removesuffix("\n").split("\n")
    if len(lines) > _MAX_SIGNATURES:
        msg = "the note has too many signatures"
        raise NoteError(msg)
    return text + "\n", lines


def _signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
    signature = _decoded(encoded)
    if (
        not line.startswith(_SIGNATURE_MARK)
        or not space
        or not _is_name(name)
        or signature is None
        or len(signature) <= _KEY_ID_BYTES
    ):
        msg = "the note has a malformed signature line"
        raise NoteError(msg)
    return name, signature


def _parse_key(text: str) -> tuple[str, bytes, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _decoded(encoded)
    if (
        key is None
        or len(key) != len(_ED25519) + _KEY_BYTES
        or not key.startswith(_ED25519)
        or len(key_id) != 2 * _KEY_ID_BYTES
        or any(character not in "0123456789abcdef" for character in key_id)
    ):
        msg = "a note key is NAME+ID+BASE64, of an Ed25519 key"
        raise NoteKeyError(msg)
    return name, bytes.fromhex(key_id), key[len(_ED25519) :]


def _decoded(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return None


def _check_name(name: str) -> None:
    if not _is_name(name):
        msg = f"{name!r} is no key name: it may have no spaces and no plus"
        raise NoteKeyError(msg)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(each.isspace() for each in name)


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        msg = "a note's text ends with a newline"
        raise NoteError(msg)
    if any(each < " " and each != "\n" for each in text):
        msg = "a note's text has no control characters"
        raise NoteError(msg)
