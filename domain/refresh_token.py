"""The refresh token: its layout, its MAC, and the successor derived from it.

Layout, before base64url: version (1 byte) · token key id (2) · family id (16) · session id (16) ·
generation (4) · secret (32) · HMAC-SHA-256 over all before it (32). The text form has the prefix
``str_`` so that secret scanners find leaks. Opaque to clients.

A forged or damaged token dies on the MAC, before any query. A genuine token of a past generation
proves reuse with nothing stored per token (design §5).
"""

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from domain.ids import FamilyId, SessionId, uuid_bytes, uuid_text

PREFIX = "str_"
SECRET_BYTES = 32
SALT_BYTES = 16
MAX_GENERATION = 2**32 - 1
MAX_KEY_ID = 2**16 - 1

_FORMAT_VERSION = 1
_BODY = struct.Struct(">BH16s16sI32s")
_MAC_BYTES = 32
_BASE64_CHARS = -(-(_BODY.size + _MAC_BYTES) * 4 // 3)
_PADDING = "=" * (-_BASE64_CHARS % 4)
_TEXT_CHARS = len(PREFIX) + _BASE64_CHARS
_SUCCESSOR_LABEL = b"sessiontrail refresh successor v1"


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The HMAC keys of refresh tokens, by id. ``current_id`` names the one that mints."""

    current_id: int
    keys: Mapping[int, bytes]

    def __post_init__(self) -> None:
        """Refuse a ring without its current key or with a weak one.

        Raises:
            ValueError: The current key is missing, or a key is shorter than 32 bytes.
        """
        if self.current_id not in self.keys:
            msg = f"token key {self.current_id} is named as current but is not in the ring"
            raise ValueError(msg)
        if not all(0 < key_id <= MAX_KEY_ID for key_id in self.keys):
            msg = f"a token key's id lies between 1 and {MAX_KEY_ID}"
            raise ValueError(msg)
        if any(len(key) < _MAC_BYTES for key in self.keys.values()):
            msg = "a token key must have at least 32 bytes"
            raise ValueError(msg)

    def __repr__(self) -> str:
        """Which keys there are, not the keys, so that no traceback or log line leaks one."""
        return f"TokenKeys(current_id={self.current_id}, ids={sorted(self.keys)})"


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token whose MAC held.

    Attributes:
        key_id: The token key its MAC was made with.
        family_id: The stream it belongs to.
        session_id: The session it refreshes.
        generation: 1 at sign-in, one more at each rotation.
        secret: 32 bytes; only their SHA-256 is ever stored.
    """

    key_id: int
    family_id: FamilyId
    session_id: SessionId
    generation: int
    secret: bytes

    def __repr__(self) -> str:
        """Without the secret, so that a traceback or a log line cannot leak it."""
        return f"RefreshToken(session_id={self.session_id}, generation={self.generation})"


def mint(token: RefreshToken, keys: TokenKeys) -> str:
    """The text form of a token, under the MAC of the key that it names.

    Raises:
        KeyError: The ring no longer has that key.
    """
    body = _BODY.pack(
        _FORMAT_VERSION,
        token.key_id,
        uuid_bytes(token.family_id),
        uuid_bytes(token.session_id),
        token.generation,
        token.secret,
    )
    mac = _mac(keys.keys[token.key_id], body)
    return PREFIX + urlsafe_b64encode(body + mac).rstrip(b"=").decode("ascii")


def parse(text: str, keys: TokenKeys) -> RefreshToken | None:
    """Read a presented token.

    Args:
        text: Whatever the client sent.
        keys: The ring of token keys.

    Returns:
        The token, or None where it is not one of ours: wrong shape, other version, unknown key,
        or a MAC that does not hold (compared in constant time).
    """
    if len(text) != _TEXT_CHARS or not text.startswith(PREFIX) or not text.isascii():
        return None
    try:
        raw = urlsafe_b64decode(text[len(PREFIX) :] + _PADDING)
    except (Base64Error, ValueError):
        return None
    if len(raw) != _BODY.size + _MAC_BYTES:
        return None
    body, mac = raw[: _BODY.size], raw[_BODY.size :]
    version, key_id, family, session, generation, secret = _BODY.unpack(body)
    key = keys.keys.get(key_id)
    if version != _FORMAT_VERSION or key is None:
        return None
    if not hmac.compare_digest(_mac(key, body), mac):
        return None
    # b64decode forgives stray characters and spare bits; one token has one spelling.
    if urlsafe_b64encode(raw).rstrip(b"=") != text[len(PREFIX) :].encode("ascii"):
        return None
    return RefreshToken(
        key_id=key_id,
        family_id=FamilyId(uuid_text(family)),
        session_id=SessionId(uuid_text(session)),
        generation=generation,
        secret=secret,
    )


def hash_secret(secret: bytes) -> str:
    """What is kept of a secret: base64url of its SHA-256, 43 characters without padding.

    A plain hash is enough: the secret has 256 random bits, there is nothing to guess.
    """
    return encode_bytes(sha256(secret).digest())


def successor_of(
    presented: RefreshToken, *, salt: str, key_id: int, keys: TokenKeys
) -> RefreshToken:
    """The token that replaces ``presented``: the same one however often it is derived.

    Args:
        presented: The token being rotated or retried.
        salt: base64url of 16 random bytes, drawn at the rotation and kept in the session.
        key_id: The token key that the rotation used.
        keys: The ring.

    Raises:
        KeyError: The ring no longer has that key.
    """
    secret = _mac(
        keys.keys[key_id],
        _SUCCESSOR_LABEL
        + presented.secret
        + salt.encode("ascii")
        + presented.session_id.encode("ascii")
        + presented.generation.to_bytes(4, "big"),
    )
    return RefreshToken(
        key_id=key_id,
        family_id=presented.family_id,
        session_id=presented.session_id,
        generation=presented.generation + 1,
        secret=secret,
    )


@lru_cache(maxsize=64)
def _keyed(key: bytes) -> hmac.HMAC:
    """An HMAC with the key taken in: copying it costs half of setting one up."""
    return hmac.new(key, digestmod="sha256")


def _mac(key: bytes, message: bytes) -> bytes:
    mac = _keyed(key).copy()
    mac.update(message)
    return mac.digest()


def encode_bytes(raw: bytes) -> str:
    """base64url without padding: how bytes are spelled in events."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
