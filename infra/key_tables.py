"""Comparing ``signing_keys`` and ``service_keys`` with what the log says of keys."""

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.registry import MalformedEventError, decode_event
from infra.instants import any_instant_cursor
from infra.postgres import Connection
from infra.projection_folds import snapshot
from projections.comparison import Difference, row_differences
from projections.key_rows import KeyEvent, KeyRows, ServiceKeyRow, SigningKeyRow, key_rows

_EVENTS = """
SELECT type, schema_version, convert_to(data::text, 'UTF8'), occurred_at FROM events
 WHERE starts_with(stream, 'key-') ORDER BY stream, version
"""
_SIGNING_KEYS = """
SELECT kid, algorithm, convert_to(public_jwk::text, 'UTF8'), created_at, signs_from, retired_at,
       verifies_until
  FROM signing_keys ORDER BY kid
"""
_SERVICE_KEYS = """
SELECT key_id, name, scopes, created_at, revoked_at FROM service_keys ORDER BY key_id
"""


async def key_differences(engine: AsyncEngine) -> list[Difference]:
    """How the tables of keys differ from the log; nothing if all is well.

    Args:
        engine: Any role that may read.

    Raises:
        UnknownEventError: A newer build wrote of keys.
        MalformedEventError: An event of a key cannot be read.
        StoreUnavailableError: The database went away.
    """
    async with snapshot(engine) as reader:
        expected = await _as_the_log_has_them(reader)
        cursor = any_instant_cursor(reader)
        await cursor.execute(_SIGNING_KEYS)
        signing = {row[0]: SigningKeyRow(*row) for row in await cursor.fetchall()}
        await cursor.execute(_SERVICE_KEYS)
        service = {row[0]: ServiceKeyRow(*row) for row in await cursor.fetchall()}
    return [
        *row_differences("signing_keys", expected.signing, signing),
        *row_differences("service_keys", expected.service, service),
    ]


async def _as_the_log_has_them(reader: Connection) -> KeyRows:
    cursor = any_instant_cursor(reader)
    await cursor.execute(_EVENTS)
    try:
        return key_rows(
            KeyEvent(decode_event(type_, schema_version, data), at)
            for type_, schema_version, data, at in await cursor.fetchall()
        )
    except OverflowError as error:
        msg = "an event of a key has a time that is none"
        raise MalformedEventError(msg) from error
