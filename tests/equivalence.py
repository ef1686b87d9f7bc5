"""The proof that tests end with: every row is the fold of its events, over a whole database.

Written apart from ``sessiontrail projections verify``, so that neither hides a fault of the other.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

from domain.events.envelope import RecordedEvent
from domain.events.families import FamilyEvent
from domain.events.personal import PersonalPart, Sealed
from domain.events.users import UserEvent
from domain.family import Family, evolve
from domain.ids import FamilyId, Stream, UserId
from domain.user import User, evolve_user
from infra.event_store import load_families
from infra.postgres import Connection, connect
from infra.sealing import DataKeys
from infra.tail import read_stream
from infra.user_rows import USER_COLUMNS, user_of


async def assert_rows_are_folds(
    conninfo: str, data_keys: DataKeys, families: Iterable[FamilyId] | None = None
) -> int:
    """Assert that the rows of all families (or of these) and of their users are their folds.

    Returns:
        How many families were compared.
    """
    async with _one_snapshot(conninfo) as connection:
        keys = await _wrapped_keys(connection)
        chosen = list(families) if families is not None else await _all_families(connection)
        stored, _ = await load_families(connection, chosen)
        for family_id in chosen:
            events = await read_stream(connection, Stream("family-" + family_id))
            folded = _fold_family(family_id, events, keys, data_keys)
            assert family_id in stored, f"family {family_id} has events and no row"
            assert stored[family_id].family == folded
        owners = None if families is None else {each.family.user_id for each in stored.values()}
        await _assert_users_are_folds(connection, keys, data_keys, owners)
    return len(chosen)


async def read_family(conninfo: str, family_id: str) -> list[RecordedEvent]:
    """The events of one family, in order, still sealed."""
    async with _one_snapshot(conninfo) as connection:
        return await read_stream(connection, Stream("family-" + family_id))


@asynccontextmanager
async def _one_snapshot(conninfo: str) -> AsyncIterator[Connection]:
    connection = await connect(conninfo)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection
    finally:
        await connection.close()


async def _wrapped_keys(connection: Connection) -> dict[str, bytes]:
    cursor = await connection.execute("SELECT subject_id, wrapped_key FROM data_keys", binary=True)
    return dict(await cursor.fetchall())


async def _all_families(connection: Connection) -> list[FamilyId]:
    """Those with a row and those with an event: neither may be without the other."""
    cursor = await connection.execute(
        "SELECT family_id::text FROM sessions"
        " UNION SELECT substr(stream, 8) FROM events WHERE stream LIKE 'family-%' ORDER BY 1"
    )
    return [FamilyId(record[0]) for record in await cursor.fetchall()]


def _fold_family(
    family_id: FamilyId,
    events: list[RecordedEvent],
    keys: dict[str, bytes],
    data_keys: DataKeys,
) -> Family:
    family: Family | None = None
    for version, recorded in enumerate(events, 1):
        assert recorded.version == version, f"family {family_id} lacks version {version}"
        family = evolve(
            family,
            family_id,
            cast("FamilyEvent", recorded.event),
            _opened(recorded, keys, data_keys),
            recorded.occurred_at,
        )
    assert family is not None, f"family {family_id} has a row and no events"
    return family


async def _assert_users_are_folds(
    connection: Connection,
    keys: dict[str, bytes],
    data_keys: DataKeys,
    users: set[UserId] | None,
) -> None:
    cursor = await connection.execute(
        f"SELECT {', '.join(USER_COLUMNS)} FROM users"
        " WHERE %s::uuid[] IS NULL OR user_id = ANY(%s)",
        (None if users is None else list(users),) * 2,
        binary=True,
    )
    for row in [user_of(record) for record in await cursor.fetchall()]:
        folded: User | None = None
        for recorded in await read_stream(connection, Stream("user-" + row.user_id)):
            folded = evolve_user(
                folded,
                UserId(row.user_id),
                cast("UserEvent", recorded.event),
                _opened(recorded, keys, data_keys),
                recorded.occurred_at,
            )
        assert row == folded


def _opened(recorded: RecordedEvent, keys: dict[str, bytes], data_keys: DataKeys) -> PersonalPart:
    part = recorded.personal
    if not isinstance(part, Sealed) or recorded.subject_id is None:
        return part
    return data_keys.unwrap(keys[recorded.subject_id], recorded.subject_id).open(part)
