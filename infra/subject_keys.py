"""Data keys of subjects, as the database has them; the service's own among them."""

from collections.abc import Iterable

from domain.ids import SYSTEM_SUBJECT, UserId
from domain.ports import StoreUnavailableError
from infra.postgres import Connection
from infra.sealing import DataKey, DataKeys


async def subject_keys(
    connection: Connection, subjects: Iterable[UserId], data_keys: DataKeys
) -> dict[UserId, DataKey]:
    """The data keys of those subjects that have one: who was erased has none.

    Raises:
        UnsealError: One of them does not open.
    """
    cursor = await connection.execute(
        "SELECT subject_id, wrapped_key FROM data_keys WHERE subject_id = ANY(%s::uuid[])",
        (list(subjects),),
        binary=True,
    )
    return {
        UserId(subject_id): data_keys.unwrap(wrapped_key, subject_id)
        for subject_id, wrapped_key in await cursor.fetchall()
    }


async def hold_subject_keys(
    connection: Connection, subjects: Iterable[UserId]
) -> dict[UserId, bytes]:
    """The wrapped data keys of those subjects that have one, held until the transaction ends.

    Whoever is about to write personal data in clear takes it before any row of the subject's but
    ``users`` and ``sessions``: an erasure, which deletes the key, comes wholly before or wholly
    after.
    """
    cursor = await connection.execute(
        "SELECT subject_id, wrapped_key FROM data_keys WHERE subject_id = ANY(%s::uuid[])"
        " ORDER BY subject_id FOR KEY SHARE",
        (sorted(set(subjects)),),
        binary=True,
    )
    return {UserId(subject_id): wrapped for subject_id, wrapped in await cursor.fetchall()}


async def system_key(connection: Connection, data_keys: DataKeys) -> DataKey:
    """The key that seals what concerns no user in particular; made where there is none yet.

    Raises:
        UnsealError: It does not open.
        StoreUnavailableError: It was removed as it was made.
    """
    await connection.execute(
        "INSERT INTO data_keys (subject_id, wrapped_key) VALUES (%s, %s)"
        " ON CONFLICT (subject_id) DO NOTHING",
        (SYSTEM_SUBJECT, data_keys.new(SYSTEM_SUBJECT)),
    )
    found = await subject_keys(connection, [SYSTEM_SUBJECT], data_keys)
    if SYSTEM_SUBJECT not in found:
        msg = "the system's data key was removed as it was made"
        raise StoreUnavailableError(msg)
    return found[SYSTEM_SUBJECT]
