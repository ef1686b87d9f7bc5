"""Keys of trusted backends: ``stk_<key id>_<secret>``, shown once, stored as a hash.

The prefix lets secret scanners find leaks; the key id is public and finds the row; the secret has
256 random bits, so a plain SHA-256 of it is enough at rest: there is nothing to guess. It is sealed
by the master key for the key's id, name and scopes: a row that somebody without that key writes or
alters lets nobody in. A revoked key keeps no hash, so undoing that in its row is not enough.
"""

import hmac
import os
import re
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Cause, NewEvent
from domain.events.keys import ServiceKeyAdded, ServiceKeyRevoked
from domain.ids import key_stream
from domain.refresh_token import encode_bytes, hash_secret
from domain.service_keys import ServiceKey, ServiceScope
from infra.event_store import append_stream, database_clock, stream_version
from infra.postgres import transaction
from infra.sealed_hashes import SealedHashes
from infra.sealing import MasterKeys

PREFIX = "stk_"

_KEY_ID_BYTES = 8
_SECRET_BYTES = 32
_MAX_NAME_CHARS = 100
_SHAPE = re.compile(PREFIX + r"([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_NOBODY = ("", "", [""])
"""Id, name and scopes of a key that is opened where there is none to open."""
_NOBODYS_HASH = hash_secret(b"")
"""No secret of 43 characters hashes to it."""

_COLUMNS = "key_id, name, scopes, created_at, revoked_at"


class NewServiceKey(NamedTuple):
    """A key just added. ``text`` is the only copy of its secret there will ever be."""

    key_id: str
    text: str

    def __repr__(self) -> str:
        """Without the secret, so that a traceback or a log line cannot leak it."""
        return f"NewServiceKey(key_id={self.key_id!r})"


class ServiceKeyStore:
    """The service keys of one database."""

    def __init__(self, engine: AsyncEngine, masters: MasterKeys) -> None:
        """Work through this pool; seal and open with these master keys."""
        self._engine = engine
        self._hashes = SealedHashes(masters)
        self._nobodys = self._hashes.seal_key(*_NOBODY, _NOBODYS_HASH)

    async def add(self, name: str, scopes: Collection[ServiceScope], cause: Cause) -> NewServiceKey:
        """Make a key for a backend.

        Args:
            name: What to call the backend: 1 to 100 printable characters.
            scopes: What it may do: at least one.
            cause: By whom and in which request.

        Returns:
            Its id, and its full text to show once.

        Raises:
            ValueError: The name or the scopes are not as above.
            StoreUnavailableError: The database cannot serve.
        """
        if not name.strip() or len(name) > _MAX_NAME_CHARS or not name.isprintable():
            msg = f"a service key's name has 1 to {_MAX_NAME_CHARS} printable characters"
            raise ValueError(msg)
        if not scopes:
            msg = "a service key without a scope can do nothing: give it at least one"
            raise ValueError(msg)
        key_id = os.urandom(_KEY_ID_BYTES).hex()
        secret = encode_bytes(os.urandom(_SECRET_BYTES))
        granted = sorted({scope.value for scope in scopes})
        sealed = self._hashes.seal_key(key_id, name, granted, hash_secret(secret.encode("ascii")))
        async with transaction(self._engine) as connection:
            at = await database_clock(connection)
            await connection.execute(
                "INSERT INTO service_keys (key_id, name, sealed_hash, scopes, created_at)"
                " VALUES (%s, %s, %s, %s, %s)",
                (key_id, name, sealed, granted, at),
            )
            added = ServiceKeyAdded(key_id=key_id, name=name, scopes=granted)
            await append_stream(connection, key_stream(key_id), 0, [NewEvent(added)], cause, at)
        return NewServiceKey(key_id, f"{PREFIX}{key_id}_{secret}")

    async def revoke(self, key_id: str, cause: Cause) -> bool:
        """Take a key away; it fails from the commit on.

        Args:
            key_id: The public part of the key.
            cause: By whom and in which request.

        Returns:
            False where there is no such key or it was revoked before.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            at = await database_clock(connection)
            cursor = await connection.execute(
                "UPDATE service_keys SET revoked_at = %s, sealed_hash = NULL"
                " WHERE key_id = %s AND revoked_at IS NULL",
                (at, key_id),
            )
            if cursor.rowcount == 0:
                return False
            stream = key_stream(key_id)
            version = await stream_version(connection, stream)
            revoked = NewEvent(ServiceKeyRevoked(key_id=key_id))
            await append_stream(connection, stream, version, [revoked], cause, at)
        return True

    async def list(self) -> tuple[ServiceKey, ...]:
        """Every key there ever was, oldest first.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            cursor = await connection.execute(
                f"SELECT {_COLUMNS} FROM service_keys ORDER BY created_at, key_id",  # noqa: S608 (names are ours)
                binary=True,
            )
            return tuple([_key(record) async for record in cursor])

    async def authenticate(self, text: str) -> ServiceKey | None:
        """Whose key this is.

        A key id that does not exist costs the same query, box, hash and comparison as one that
        does, so the time taken tells nobody which ids there are.

        Args:
            text: What the caller presented.

        Returns:
            The key, or None where it is unknown, revoked, wrong or no service key at all.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            return None
        key_id, secret = shape.groups()
        presented = hash_secret(secret.encode("ascii"))
        async with transaction(self._engine) as connection:
            cursor = await connection.execute(
                f"SELECT sealed_hash, {_COLUMNS} FROM service_keys WHERE key_id = %s",  # noqa: S608 (names are ours)
                (key_id,),
                binary=True,
            )
            record = await cursor.fetchone()
        stored = self._stored_hash(record)
        if not hmac.compare_digest(presented, stored) or record is None:
            return None
        key = _key(record[1:])
        return key if key.revoked_at is None else None

    def _stored_hash(self, record: tuple[Any, ...] | None) -> str:  # Any: a row as it came
        if record is None or record[0] is None:
            return self._hashes.open_key(*_NOBODY, self._nobodys)
        sealed, key_id, name, scopes, *_ = record
        return self._hashes.open_key(key_id, name, scopes, sealed)


def _key(record: tuple[Any, ...]) -> ServiceKey:  # Any: a row as it came
    key_id, name, scopes, created_at, revoked_at = record
    return ServiceKey(
        key_id=key_id,
        name=name,
        # A scope that only a newer build knows grants nothing here.
        scopes=frozenset(scope for scope in ServiceScope if scope.value in scopes),
        created_at=created_at,
        revoked_at=revoked_at,
    )
