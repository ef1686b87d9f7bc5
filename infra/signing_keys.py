"""The asymmetric keys that sign access tokens, as the database keeps them.

Each row's private key is wrapped by a master key for its own kid, and everything else about a key
(algorithm, public half, kid) is derived from what was unwrapped: a row that somebody without the
master key writes into the table neither signs nor verifies anything.
"""

import asyncio
from datetime import datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import canonical_json, microseconds
from domain.events.envelope import Cause, NewEvent
from domain.events.keys import SigningKeyCreated, SigningKeyRetired
from domain.events.registry import Event
from domain.ids import key_stream
from infra.event_store import append_stream, database_clock, stream_version
from infra.postgres import Connection, JsonDocument, transaction
from infra.sealing import MasterKeys, UnsealError
from infra.signing_key_set import (
    PrivateKey,
    SigningAlgorithm,
    SigningKeySet,
    new_private_key,
    signing_key,
)

STALE_SNAPSHOT_GRACE = timedelta(seconds=60)
"""How long a replica that cannot reload may go on signing with a retired key."""

_LOCK = 5_904_417_320_886_142
"""Advisory lock of whoever changes the set of keys, so that there is one change at a time."""


class UnknownSigningKeyError(Exception):
    """There is no signing key of that kid."""


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
