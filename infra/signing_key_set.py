"""Signing keys as values: one key, a snapshot of all, and the JWKS that publishes them.

RFC 7517, 7518 and, for key ids, 7638. ``infra.signing_keys`` keeps them in the database.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from domain.events.canonical import canonical_json
from domain.refresh_token import encode_bytes

_RSA_BITS = 2048
_RSA_EXPONENT = 65537
_P256_BYTES = 32
_ETAG_CHARS = 22


class SigningAlgorithm(StrEnum):
    """JWS algorithms that we sign with (RFC 7518, RFC 8037)."""

    EDDSA = "EdDSA"
    """Ed25519."""
    ES256 = "ES256"
    RS256 = "RS256"


PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class NoSigningKeyError(Exception):
    """No key signs at this instant: none was loaded, or the snapshot is older than its last key."""


def new_private_key(algorithm: SigningAlgorithm) -> PrivateKey:
    """A fresh key. RS256 takes some 100 ms of CPU: not on the event loop."""
    match algorithm:
        case SigningAlgorithm.EDDSA:
            return ed25519.Ed25519PrivateKey.generate()
        case SigningAlgorithm.ES256:
            return ec.generate_private_key(ec.SECP256R1())
        case SigningAlgorithm.RS256:
            return rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A key and when it does what. Made by ``signing_key``.

    Attributes:
        kid: RFC 7638 thumbprint.
        algorithm: Follows from the kind of key; tokens have no say in it (RFC 8725 §3.1).
        public_key: Verifies.
        public_jwk: The public members with ``use``, ``alg`` and ``kid``.
        signs_from: Signs from here on; it is published before.
        retired_at: Signs until here, or None.
        verifies_until: Verifies until here, or None.
    """

    kid: str
    algorithm: SigningAlgorithm
    public_key: PublicKey
    public_jwk: Mapping[str, str]
    signs_from: datetime
    retired_at: datetime | None
    verifies_until: datetime | None
    _sign: Callable[[bytes], bytes] = field(repr=False)

    def signs_at(self, instant: datetime) -> bool:
        """Whether it may sign then."""
        return self.signs_from <= instant and (self.retired_at is None or instant < self.retired_at)

    def verifies_at(self, instant: datetime) -> bool:
        """Whether its signatures count then. A key that does not sign yet verifies already."""
        return self.verifies_until is None or instant < self.verifies_until

    def sign(self, message: bytes) -> bytes:
        """The JWS signature of a message."""
        return self._sign(message)


def signing_key(
    private_key: PrivateKey,
    signs_from: datetime,
    retired_at: datetime | None = None,
    verifies_until: datetime | None = None,
) -> SigningKey:
    """Everything that follows from a private key, with its schedule.

    Raises:
        ValueError: A kind, curve or size of key that we do not sign with.
    """
    public_key = private_key.public_key()
    algorithm, members = _public_members(public_key)
    kid = encode_bytes(sha256(canonical_json(dict(members))).digest())  # RFC 7638 §3
    return SigningKey(
        kid=kid,
        algorithm=algorithm,
        public_key=public_key,
        public_jwk=members | {"use": "sig", "alg": algorithm.value, "kid": kid},
        signs_from=signs_from,
        retired_at=retired_at,
        verifies_until=verifies_until,
        _sign=_signer(private_key),
    )


class Jwks(NamedTuple):
    """A JWK set as served: JSON bytes and their (strong, quoted) entity tag."""

    body: bytes
    etag: str


class SigningKeySet:
    """An immutable snapshot of the keys."""

    __slots__ = ("_by_kid", "_newest_first")

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        """Hold these keys."""
        self._newest_first = tuple(
            sorted(keys, key=lambda key: (key.signs_from, key.kid), reverse=True)
        )
        self._by_kid = {key.kid: key for key in self._newest_first}

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """All of them; the one that signs last comes first."""
        return self._newest_first

    def signing_at(self, instant: datetime) -> SigningKey:
        """The key that signs then: of those that may, the one that began last.

        Raises:
            NoSigningKeyError: None may.
        """
        for key in self._newest_first:
            if key.signs_at(instant):
                return key
        # The database's clock was set back to before the first key: that one signs all the same.
        for key in reversed(self._newest_first):
            if key.retired_at is None or instant < key.retired_at:
                return key
        msg = "no signing key is in force: reload the keys, or create one"
        raise NoSigningKeyError(msg)

    def verifying_at(self, kid: str, instant: datetime) -> SigningKey | None:
        """The key of that kid, if its signatures count then. The kid is looked up and no more."""
        key = self._by_kid.get(kid)
        return key if key is not None and key.verifies_at(instant) else None

    def jwks(self, instant: datetime) -> Jwks:
        """What is published then: keys that sign, will sign, or signed what is still valid."""
        published = [dict(key.public_jwk) for key in self._newest_first if key.verifies_at(instant)]
        body = msgspec.json.encode({"keys": published})
        return Jwks(body, f'"{encode_bytes(sha256(body).digest())[:_ETAG_CHARS]}"')


def _signer(key: PrivateKey) -> Callable[[bytes], bytes]:
    """Signs with a key; for ES256 r and s side by side (RFC 7518 §3.4)."""
    match key:
        case ed25519.Ed25519PrivateKey():
            # On the path of every refresh: libsodium takes two thirds of OpenSSL's time.
            _, secret_key = crypto_sign_seed_keypair(key.private_bytes_raw())
            return lambda message: crypto_sign(message, secret_key)[:crypto_sign_BYTES]
        case rsa.RSAPrivateKey():
            return lambda message: key.sign(message, padding.PKCS1v15(), SHA256())
        case ec.EllipticCurvePrivateKey():
            return lambda message: _side_by_side(key.sign(message, ec.ECDSA(SHA256())))


def _side_by_side(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")


def _public_members(key: PublicKey) -> tuple[SigningAlgorithm, dict[str, str]]:
    """The algorithm of a key and the members that its thumbprint is made of (RFC 7638 §3.2)."""
    match key:
        case ed25519.Ed25519PublicKey():
            raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            return SigningAlgorithm.EDDSA, {"crv": "Ed25519", "kty": "OKP", "x": encode_bytes(raw)}
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            point = key.public_numbers()
            x, y = (encode_bytes(n.to_bytes(_P256_BYTES, "big")) for n in (point.x, point.y))
            return SigningAlgorithm.ES256, {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        case rsa.RSAPublicKey() if key.key_size >= _RSA_BITS:
            numbers = key.public_numbers()
            e, n = (encode_bytes(_shortest(number)) for number in (numbers.e, numbers.n))
            return SigningAlgorithm.RS256, {"e": e, "kty": "RSA", "n": n}
    msg = "sign with Ed25519, P-256 or RSA of at least 2048 bits"
    raise ValueError(msg)


def _shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
