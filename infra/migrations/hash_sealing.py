"""Sealing the hashes of passwords and service keys that an older version left (migration 0005)."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, text

from infra.sealed_hashes import SealedHashes, UnsealedHashesError
from infra.sealing import MasterKeys, UnsealError

_CHUNK = 1_000
_BEFORE_ALL = "00000000-0000-0000-0000-000000000000"

# The columns stay where they are in their tables: as bytes first, sealed then, row by row. From
# version 18 on PostgreSQL names what is not to be null, by the column that it is made for.
_AS_BYTES = """
ALTER TABLE credentials ALTER COLUMN password_hash DROP NOT NULL,
      ALTER COLUMN password_hash TYPE bytea USING convert_to(password_hash, 'UTF8');
ALTER TABLE credentials RENAME COLUMN password_hash TO sealed_hash;
ALTER TABLE credentials ALTER COLUMN sealed_hash SET NOT NULL;
ALTER TABLE service_keys ALTER COLUMN secret_hash DROP NOT NULL,
      ALTER COLUMN secret_hash TYPE bytea
      USING CASE WHEN revoked_at IS NULL THEN convert_to(secret_hash, 'UTF8') END;
ALTER TABLE service_keys RENAME COLUMN secret_hash TO sealed_hash;
"""
_AS_TEXT = """
ALTER TABLE credentials ALTER COLUMN sealed_hash DROP NOT NULL,
      ALTER COLUMN sealed_hash TYPE text USING convert_from(sealed_hash, 'UTF8');
ALTER TABLE credentials RENAME COLUMN sealed_hash TO password_hash;
ALTER TABLE credentials ALTER COLUMN password_hash SET NOT NULL;
ALTER TABLE service_keys RENAME COLUMN sealed_hash TO secret_hash;
ALTER TABLE service_keys ALTER COLUMN secret_hash TYPE text
      USING coalesce(convert_from(secret_hash, 'UTF8'), ''),
      ALTER COLUMN secret_hash SET NOT NULL;
"""
_ANY = """
SELECT EXISTS (SELECT FROM credentials)
    OR EXISTS (SELECT FROM service_keys WHERE sealed_hash IS NOT NULL)
"""
_SOMEBODYS_KEY = "SELECT subject_id::text, wrapped_key FROM data_keys ORDER BY subject_id LIMIT 1"
_PASSWORDS = """
SELECT user_id::text, u.credential_epoch, c.sealed_hash
  FROM credentials c JOIN users u USING (user_id)
 WHERE user_id > CAST(:last AS uuid) ORDER BY user_id LIMIT :limit
"""
_SET_PASSWORD = "UPDATE credentials SET sealed_hash = :hash WHERE user_id = CAST(:id AS uuid)"
_KEYS = "SELECT key_id, name, scopes, sealed_hash FROM service_keys WHERE sealed_hash IS NOT NULL"
_SET_KEY = "UPDATE service_keys SET sealed_hash = :hash WHERE key_id = :id"

_Exchange = Callable[..., bytes]
"""The new bytes for what names their owner and the bytes that are there."""


def seal_hashes(connection: Connection, masters: Callable[[], MasterKeys] | None) -> None:
    """Change both columns to sealed hashes. Of revoked service keys none is kept.

    Args:
        connection: In the transaction of the migration.
        masters: Gives the master keys; asked only where there is something to seal.

    Raises:
        UnsealedHashesError: No keys were given, or not those of this database.
    """
    _execute(connection, _AS_BYTES)
    hashes = _keys_for(connection, masters)
    if hashes is not None:
        _exchange(
            connection,
            lambda user, epoch, plain: hashes.seal_password(user, epoch, plain.decode()),
            lambda key, name, scopes, plain: hashes.seal_key(key, name, scopes, plain.decode()),
        )


def open_hashes(connection: Connection, masters: Callable[[], MasterKeys] | None) -> None:
    """Change them back; a hash that does not open becomes one that nothing fits.

    Raises:
        UnsealedHashesError: As ``seal_hashes``.
    """
    hashes = _keys_for(connection, masters)
    if hashes is not None:
        _exchange(
            connection,
            lambda user, epoch, box: hashes.open_password(user, epoch, box).encode(),
            lambda key, name, scopes, box: hashes.open_key(key, name, scopes, box).encode(),
        )
    _execute(connection, _AS_TEXT)


def _keys_for(
    connection: Connection, masters: Callable[[], MasterKeys] | None
) -> SealedHashes | None:
    """What seals this database's hashes; None where it has none."""
    if not connection.scalar(text(_ANY)):
        return None
    if masters is None:
        msg = (
            "the hashes of passwords and service keys have to be sealed with the master keys:"
            " run `sessiontrail migrate` where these are"
        )
        raise UnsealedHashesError(msg)
    keys = masters()
    somebodys = connection.execute(text(_SOMEBODYS_KEY)).first()
    if somebodys is not None:
        try:
            keys.unwrap(somebodys.wrapped_key, somebodys.subject_id)
        except UnsealError as error:
            msg = (
                "the master keys do not open this database's data keys, so nobody could sign in"
                " if they sealed its passwords: give those that the service runs with"
            )
            raise UnsealedHashesError(msg) from error
    return SealedHashes(keys)


def _exchange(connection: Connection, password: _Exchange, key: _Exchange) -> None:
    last = _BEFORE_ALL
    while found := connection.execute(text(_PASSWORDS), {"last": last, "limit": _CHUNK}).all():
        last = found[-1][0]
        _set(connection, _SET_PASSWORD, [{"id": row[0], "hash": password(*row)} for row in found])
    keys = connection.execute(text(_KEYS)).all()
    _set(connection, _SET_KEY, [{"id": row[0], "hash": key(*row)} for row in keys])


def _set(connection: Connection, statement: str, rows: list[dict[str, Any]]) -> None:  # Any: values
    if rows:
        connection.execute(text(statement), rows)


def _execute(connection: Connection, statements: str) -> None:
    for statement in statements.split(";"):
        if statement.strip():
            connection.execute(text(statement))
