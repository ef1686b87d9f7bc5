"""The asymmetric keys that sign access tokens, and the JWKS that publishes them (RFC 7517, 7518).

Each row's private key is wrapped by a master key for its own kid, and everything else about a key
(algorithm, public half, kid) is derived from what was unwrapped: a row that somebody without the
master key writes into the table neither signs nor verifies anything.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import canonical_json, microseconds
from domain.events.envelope import Cause, NewEvent
from domain.events.keys import SigningKeyCreated, SigningKeyRetired
from domain.events.registry import Event
from domain.ids import key_stream
from domain.refresh_token import encode_bytes
from infra.event_store import append_stream, database_clock, stream_version
from infra.postgres import Connection, JsonDocument, transaction
from infra.sealing import MasterKeys, UnsealError

STALE_SNAPSHOT_GRACE = timedelta(seconds=60)
"""How long a replica that cannot reload may go on signing with a retired key."""

_LOCK = 5_904_417_320_886_142
"""Advisory lock of whoever changes the set of keys, so that there is one change at a time."""
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


class UnknownSigningKeyError(Exception):
    """There is no signing key of that kid."""


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
    _private_key: PrivateKey = field(repr=False)

    def signs_at(self, instant: datetime) -> bool:
        """Whether it may sign then."""
        return self.signs_from <= instant and (self.retired_at is None or instant < self.retired_at)

    def verifies_at(self, instant: datetime) -> bool:
        """Whether its signatures count then. A key that does not sign yet verifies already."""
        return self.verifies_until is None or instant < self.verifies_until

    def sign(self, message: bytes) -> bytes:
        """The JWS signature of a message: for ES256 r and s side by side (RFC 7518 §3.4)."""
        key = self._private_key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(message)
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), SHA256())
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")


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
        _private_key=private_key,
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


class SigningKeyRecord(msgspec.Struct, frozen=True):
    """What an operator sees of a signing key.

    Attributes:
        kid: RFC 7638 thumbprint.
        algorithm: JWS algorithm.
        created_at: When it was made and published.
        signs_from: When it signs.
        retired_at: When it stops signing, or None.
        verifies_until: When it stops verifying, or None.
    """

    kid: str
    algorithm: str
    created_at: datetime
    signs_from: datetime
    retired_at: datetime | None
    verifies_until: datetime | None

    @property
    def compromised(self) -> bool:
        """Whether it was marked so. A key that was only retired verifies for a while longer."""
        return self.retired_at is not None and self.retired_at == self.verifies_until


class SigningKeyStore:
    """The signing keys of one database. Every instant is the database's clock."""

    def __init__(self, engine: AsyncEngine, masters: MasterKeys) -> None:
        """Work through this pool; wrap and unwrap with these master keys."""
        self._engine = engine
        self._masters = masters
        self._unwrapped: dict[str, PrivateKey] = {}

    async def ensure_one(self, cause: Cause) -> bool:
        """At a first start, make a key that signs at once; replicas that start together make one.

        Returns:
            Whether this call made it.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            now = await _lock(connection)
            cursor = await connection.execute(
                "SELECT 1 FROM signing_keys WHERE retired_at IS NULL LIMIT 1"
            )
            if await cursor.fetchone() is not None:
                return False
            await self._create(connection, SigningAlgorithm.EDDSA, now, now, cause)
        return True

    async def rotate(
        self,
        algorithm: SigningAlgorithm,
        publish_ahead: timedelta,
        access_lifetime: timedelta,
        cause: Cause,
    ) -> str:
        """Publish a new key now, that takes over from the others a while later.

        Args:
            algorithm: What the new key signs with.
            publish_ahead: How long it is published before it signs: longer than clients cache
                the JWKS. Zero signs at once; other replicas then learn of it at their next reload.
            access_lifetime: The longest lifetime of a token that an old key may have signed.
            cause: By whom and in which request.

        Returns:
            The kid of the new key.

        Raises:
            ValueError: A duration is negative.
            StoreUnavailableError: The database cannot serve.
        """
        if publish_ahead < timedelta(0) or access_lifetime < timedelta(0):
            msg = "publish_ahead and access_lifetime must not be negative"
            raise ValueError(msg)
        async with transaction(self._engine) as connection:
            now = await _lock(connection)
            takes_over = now + publish_ahead
            verifies_until = takes_over + access_lifetime + STALE_SNAPSHOT_GRACE
            cursor = await connection.execute(
                "UPDATE signing_keys SET retired_at = %s, verifies_until = %s"
                " WHERE retired_at IS NULL RETURNING kid",
                (takes_over, verifies_until),
            )
            for (kid,) in await cursor.fetchall():
                retired = SigningKeyRetired(kid=kid, verifies_until_us=microseconds(verifies_until))
                await _record(connection, kid, retired, cause, now)
            return await self._create(connection, algorithm, now, takes_over, cause)

    async def mark_compromised(self, kid: str, cause: Cause) -> str | None:
        """Let a key neither sign nor verify any more, from now on.

        Where it was still to sign, a key of the same algorithm signs in its place. Other replicas
        follow at their next reload.

        Args:
            kid: The key.
            cause: By whom and in which request.

        Returns:
            The kid of the key in its place; None where none was needed, as when the key was
            retired or marked before.

        Raises:
            UnknownSigningKeyError: There is no such key.
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            now = await _lock(connection)
            cursor = await connection.execute(
                "SELECT algorithm, signs_from, retired_at, verifies_until"
                " FROM signing_keys WHERE kid = %s",
                (kid,),
                binary=True,
            )
            record = await cursor.fetchone()
            if record is None:
                msg = f"there is no signing key {kid!r}: list the keys to see their kids"
                raise UnknownSigningKeyError(msg)
            algorithm, signs_from, retired_at, verifies_until = record
            if verifies_until is not None and verifies_until <= now:
                return None
            await connection.execute(
                "UPDATE signing_keys SET retired_at = %s, verifies_until = %s WHERE kid = %s",
                (now, now, kid),
            )
            compromised = SigningKeyRetired(
                kid=kid, verifies_until_us=microseconds(now), compromised=True
            )
            await _record(connection, kid, compromised, cause, now)
            if retired_at is not None and retired_at <= now:
                return None
            takes_over = max(now, signs_from)
            return await self._create(
                connection, SigningAlgorithm(algorithm), now, takes_over, cause
            )

    async def list(self) -> tuple[SigningKeyRecord, ...]:
        """Every key there ever was, in the order in which they were made.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        columns = ", ".join(SigningKeyRecord.__struct_fields__)
        async with transaction(self._engine) as connection:
            cursor = await connection.execute(
                f"SELECT {columns} FROM signing_keys ORDER BY created_at, kid",  # noqa: S608 (names are ours)
                binary=True,
            )
            return tuple([SigningKeyRecord(*record) async for record in cursor])

    async def load(self) -> SigningKeySet:
        """The keys that still sign or verify anything.

        Raises:
            UnsealError: A key is not wrapped by a master key of ours.
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            # By the database's clock, so that a host whose clock is slow drops a compromised key
            # as soon as the others.
            cursor = await connection.execute(
                "SELECT kid, wrapped_private_key, signs_from, retired_at, verifies_until"
                " FROM signing_keys"
                " WHERE verifies_until IS NULL"
                # The second half leaves compromised keys out even if the clock is set back.
                " OR (verifies_until > clock_timestamp() AND verifies_until > retired_at)",
                binary=True,
            )
            records = await cursor.fetchall()
        unwrapped = {
            kid: self._unwrapped.get(kid) or self._unwrap(kid, wrapped)
            for kid, wrapped, *_ in records
        }
        self._unwrapped = unwrapped  # so that a reload costs no RSA checks
        return SigningKeySet(
            [signing_key(unwrapped[kid], *schedule) for kid, _, *schedule in records]
        )

    async def _create(
        self,
        connection: Connection,
        algorithm: SigningAlgorithm,
        now: datetime,
        signs_from: datetime,
        cause: Cause,
    ) -> str:
        private_key = await asyncio.to_thread(new_private_key, algorithm)
        key = signing_key(private_key, signs_from)
        der = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        jwk = canonical_json(dict(key.public_jwk))
        await connection.execute(
            "INSERT INTO signing_keys"
            " (kid, algorithm, wrapped_private_key, public_jwk, created_at, signs_from)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (
                key.kid,
                algorithm.value,
                self._masters.wrap(der, _owner(key.kid)),
                JsonDocument(jwk),
                now,
                signs_from,
            ),
        )
        created = SigningKeyCreated(
            kid=key.kid,
            algorithm=algorithm.value,
            public_jwk=jwk.decode("ascii"),
            signs_from_us=microseconds(signs_from),
        )
        await _record(connection, key.kid, created, cause, now)
        return key.kid

    def _unwrap(self, kid: str, wrapped: bytes) -> PrivateKey:
        key = load_der_private_key(self._masters.unwrap(wrapped, _owner(kid)), password=None)
        if not isinstance(key, PrivateKey):
            msg = f"signing key {kid} is a {type(key).__name__}: written by no build of ours"
            raise UnsealError(msg)
        return key


async def _lock(connection: Connection) -> datetime:
    """Take the turn of whoever changes keys, until the transaction ends; the clock at it."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    return await database_clock(connection)


async def _record(
    connection: Connection, kid: str, event: Event, cause: Cause, at: datetime
) -> None:
    stream = key_stream(kid)
    version = await stream_version(connection, stream)
    await append_stream(connection, stream, version, [NewEvent(event)], cause, at)


def _owner(kid: str) -> str:
    return "signing-key:" + kid


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
