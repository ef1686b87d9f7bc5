"""The append: guarded by versions, whole or not at all, and for ever, in a real PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import EndReason
from domain.events.personal import Sealed
from domain.family_decisions import EndSession, FamilyCommand, RenameSession
from domain.ids import FamilyId, Stream, family_stream
from domain.user import ChangePassword, decide_user, fold_new_user
from infra.event_rows import StreamConflictError
from infra.event_store import (
    FamilyAppend,
    append_stream,
    append_user,
    database_clock,
    insert_families,
    load_families,
    stream_version,
    update_families,
)
from infra.family_execution import carry_out, hold_families
from infra.postgres import Connection, connect, transaction
from infra.sealing import DataKeys, UnsealError
from infra.tail import read_stream
from projections.session_rows import SESSION_COLUMNS
from tests.equivalence import assert_rows_are_folds, read_family
from tests.integration.accounts import Accounts, SignedIn, cause, refresh


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


@pytest.fixture
async def connection(conninfo: str) -> AsyncIterator[Connection]:
    """A connection as the refresh lanes have it: each statement commits by itself."""
    opened = await connect(conninfo)
    yield opened
    await opened.close()


async def decided(
    connection: Connection, family_id: FamilyId, command: FamilyCommand, data_keys: DataKeys
) -> FamilyAppend:
    """What a command comes to, decided on the family as it is now; not appended yet."""
    loaded, clock = await load_families(connection, [family_id])
    _, append = carry_out(loaded[family_id], [(command, cause())], clock, data_keys)
    assert append is not None
    return append


async def decided_refresh(
    connection: Connection, session: SignedIn, data_keys: DataKeys
) -> FamilyAppend:
    return await decided(connection, session.family_id, refresh(session.token), data_keys)


async def event_types(conninfo: str, family_id: FamilyId) -> list[str]:
    return [recorded.event.TYPE for recorded in await read_family(conninfo, family_id)]


# ----------------------------------------------------------------------------- version guard


async def test_of_two_decisions_on_one_state_the_second_is_refused(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()
    rotation = await decided_refresh(connection, session, data_keys)
    logout = EndSession(session.session_id, EndReason.LOGOUT)
    end = await decided(connection, session.family_id, logout, data_keys)

    first = await update_families(connection, [end])
    second = await update_families(connection, [rotation])

    assert (first, second) == ({session.family_id}, set())
    assert await event_types(conninfo, session.family_id) == ["SessionStarted", "SessionEnded"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_an_append_passes_over_a_family_that_another_writer_is_at(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    held, free = await accounts.sign_in(), await accounts.sign_in()
    batch = [await decided_refresh(connection, session, data_keys) for session in (held, free)]

    async with await connect(conninfo) as other, other.transaction(force_rollback=True):
        await hold_families(other, [held.family_id])
        meanwhile = await update_families(connection, batch)  # and it does not wait
    afterwards = await update_families(connection, batch)

    assert (meanwhile, afterwards) == ({free.family_id}, {held.family_id})
    for session in (held, free):
        log = await event_types(conninfo, session.family_id)
        assert log == ["SessionStarted", "RefreshTokenRotated"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_family_of_several_sessions_is_appended_to_whole_or_not_at_all(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()
    second = await add_session_row(connection, session.family_id)
    rotation = await decided_refresh(connection, session, data_keys)

    async with await connect(conninfo) as other, other.transaction():
        query = "SELECT 1 FROM sessions WHERE session_id = %s FOR UPDATE"
        await other.execute(query, (second,))
        meanwhile = await update_families(connection, [rotation])
    untouched, _ = await load_families(connection, [session.family_id])
    afterwards = await update_families(connection, [rotation])
    stored, _ = await load_families(connection, [session.family_id])

    assert (meanwhile, afterwards) == (set(), {session.family_id})
    assert untouched[session.family_id].family == rotation.before
    assert stored[session.family_id].family == rotation.after
    log = await event_types(conninfo, session.family_id)
    assert log == ["SessionStarted", "RefreshTokenRotated"]


async def add_session_row(connection: Connection, family_id: FamilyId) -> str:
    """A second session, as token exchange will make one: no command does so yet."""
    copied = ", ".join(
        column for column in SESSION_COLUMNS if column not in {"session_id", "ordinal"}
    )
    cursor = await connection.execute(
        f"INSERT INTO sessions (session_id, ordinal, {copied})"
        f" SELECT gen_random_uuid(), 1, {copied} FROM sessions WHERE family_id = %s"
        " RETURNING session_id::text",
        (family_id,),
    )
    record = await cursor.fetchone()
    assert record is not None
    session_id: str = record[0]
    return session_id


async def test_a_family_starts_once(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()
    loaded, _ = await load_families(connection, [session.family_id])
    family = loaded[session.family_id].family
    (started,) = await read_family(conninfo, session.family_id)
    again = FamilyAppend(
        before=None,
        after=family,
        events=[(NewEvent(started.event), cause())],
        data_key=data_keys.unwrap(loaded[session.family_id].wrapped_key or b"", family.user_id),
        at=started.occurred_at,
    )

    with pytest.raises(StreamConflictError):
        await insert_families(connection, [again])

    assert await event_types(conninfo, session.family_id) == ["SessionStarted"]


async def test_of_two_commands_on_one_user_the_second_is_refused(
    accounts: Accounts, engine: AsyncEngine, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    async with transaction(engine) as connection:
        at = await database_clock(connection)
    events = decide_user(user, ChangePassword(user.credential_epoch)).events
    after = fold_new_user(user, user.user_id, events, at)
    async with transaction(engine) as connection:
        await append_user(connection, user, after, events, cause(), None, at)

    with pytest.raises(StreamConflictError):
        async with transaction(engine) as connection:
            await append_user(connection, user, after, events, cause(), None, at)

    async with transaction(engine) as connection:
        log = await read_stream(connection, Stream("user-" + user.user_id))
    assert [recorded.event.TYPE for recorded in log] == ["UserRegistered", "PasswordChanged"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_stream_without_state_is_guarded_by_its_version_alone(
    accounts: Accounts, connection: Connection
) -> None:
    user = await accounts.user()
    events = decide_user(user, ChangePassword(user.credential_epoch)).events
    stream = Stream("policy-test")
    at = await database_clock(connection)
    await append_stream(connection, stream, 0, events, cause(), at)

    with pytest.raises(StreamConflictError):
        await append_stream(connection, stream, 0, events, cause(), at)

    assert await stream_version(connection, stream) == 1
    assert await stream_version(connection, Stream("policy-other")) == 0


# ----------------------------------------------------------------------------- batches


async def test_a_batch_takes_the_families_that_stayed_and_leaves_those_that_moved(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    sessions = [await accounts.sign_in(user) for _ in range(5)]
    batch = [await decided_refresh(connection, session, data_keys) for session in sessions]
    moved = sessions[2].family_id
    end = EndSession(sessions[2].session_id, EndReason.LOGOUT)
    await update_families(connection, [await decided(connection, moved, end, data_keys)])

    accepted = await update_families(connection, batch)

    assert accepted == {session.family_id for session in sessions} - {moved}
    for session in sessions:
        happened = "SessionEnded" if session.family_id == moved else "RefreshTokenRotated"
        assert await event_types(conninfo, session.family_id) == ["SessionStarted", happened]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_batch_with_one_unwritable_event_writes_nothing_at_all(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    sessions = [await accounts.sign_in(user) for _ in range(3)]
    batch = [await decided_refresh(connection, session, data_keys) for session in sessions]
    unwritable = RenameSession(sessions[1].session_id, "PostgreSQL has no \x00 in its text")
    batch[1] = await decided(connection, sessions[1].family_id, unwritable, data_keys)

    with pytest.raises(psycopg.DataError):
        await update_families(connection, batch)

    for session in sessions:
        assert await event_types(conninfo, session.family_id) == ["SessionStarted"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_batches_that_overlap_in_any_order_never_end_in_a_deadlock(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    sessions = [await accounts.sign_in(user) for _ in range(12)]
    shuffled = random.Random(7)

    async def writer(rounds: int) -> int:
        done = 0
        async with await connect(conninfo) as connection:
            for _ in range(rounds):
                chosen = shuffled.sample(sessions, 6)
                loaded, clock = await load_families(
                    connection, [session.family_id for session in chosen]
                )
                shuffled.shuffle(chosen)
                batch = [
                    rename(loaded[session.family_id].family.version, session) for session in chosen
                ]
                appends = [
                    append
                    for session, command in zip(chosen, batch, strict=True)
                    if (
                        append := carry_out(
                            loaded[session.family_id], [(command, cause())], clock, data_keys
                        )[1]
                    )
                ]
                done += len(await update_families(connection, appends))
        return done

    def rename(version: int, session: SignedIn) -> RenameSession:
        return RenameSession(session.session_id, f"name {version} {shuffled.random()}")

    accepted = sum(await asyncio.gather(*(writer(25) for _ in range(6))))

    written = [len(await read_family(conninfo, session.family_id)) - 1 for session in sessions]
    assert sum(written) == accepted > 0
    await assert_rows_are_folds(conninfo, data_keys)


# ----------------------------------------------------------------------------- append-only

TAMPERING = (
    "UPDATE events SET actor = 'user:mallory'",
    "UPDATE events SET actor = 'user:mallory' WHERE false",
    "DELETE FROM events",
    "TRUNCATE events",
    "TRUNCATE events CASCADE",
)
DISARMING = (
    "ALTER TABLE events DISABLE TRIGGER events_append_only",
    "DROP TRIGGER events_append_only ON events",
    "DROP TABLE events",
    "SET session_replication_role = replica",
    (
        "CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger"
        " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    ),
)


async def test_the_services_role_can_neither_change_nor_remove_an_event(
    accounts: Accounts, conninfo: str
) -> None:
    session = await accounts.sign_in()

    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in TAMPERING:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                connection.execute(statement.encode())

    assert await event_types(conninfo, session.family_id) == ["SessionStarted"]


async def test_even_the_owner_is_stopped_by_the_trigger(
    accounts: Accounts, conninfo: str, owner_conninfo: str
) -> None:
    session = await accounts.sign_in()

    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        for statement in TAMPERING:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement.encode())

    assert await event_types(conninfo, session.family_id) == ["SessionStarted"]


def test_the_services_role_cannot_take_the_guard_away(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in DISARMING:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_the_services_role_cannot_choose_an_events_position(conninfo: str) -> None:
    insert = (
        "INSERT INTO events (position, occurred_at, version, schema_version, event_id,"
        " correlation_id, stream, type, actor, data)"
        " VALUES (1, now(), 1, 1, gen_random_uuid(), gen_random_uuid(), 's', 't', 'user', '{}')"
    )

    with psycopg.connect(conninfo) as connection, pytest.raises(psycopg.errors.GeneratedAlways):
        connection.execute(insert.encode())


# ----------------------------------------------------------------------------- personal data


async def test_what_identifies_a_person_is_nowhere_in_the_log_in_clear(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    client = ClientContext(
        ip="198.51.100.213",
        user_agent="Netscape/4.04 (X11; I; SunOS 5.4 sun4m)",
        hints={"sec-ch-ua-model": '"Fairphone 9"'},
        device_key="kkkkkkkkkkkkkkkkkkkkkk",
    )
    user = await accounts.user("marie.curie@example.org")
    session = await accounts.sign_in(user, client=client, device_name="Marie's Radium Phone")
    rotation = await decided(
        connection, session.family_id, refresh(session.token, client=client), data_keys
    )
    await update_families(connection, [rotation])
    renamed = RenameSession(session.session_id, "Pierre's Old Phone")
    await update_families(
        connection, [await decided(connection, session.family_id, renamed, data_keys)]
    )

    cursor = await connection.execute("SELECT e::text FROM events e")
    stored = "\n".join(record[0] for record in await cursor.fetchall()).encode()
    cursor = await connection.execute("SELECT personal FROM events WHERE personal IS NOT NULL")
    boxes = b"\n".join(record[0] for record in await cursor.fetchall())

    assert b"SessionRenamed" in stored
    for personal in (
        b"198.51.100", b"Netscape", b"Fairphone", b"kkkkkkkk", b"marie", b"Marie", b"Pierre",
    ):  # fmt: skip
        assert personal not in stored
        assert personal.hex().encode() not in stored
        assert personal not in boxes


async def test_a_sealed_part_opens_for_its_own_event_only(
    accounts: Accounts, connection: Connection, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()
    rotation = await decided_refresh(connection, session, data_keys)
    await update_families(connection, [rotation])
    loaded, _ = await load_families(connection, [session.family_id])
    key = data_keys.unwrap(loaded[session.family_id].wrapped_key or b"", session.user.user_id)

    started, rotated = await read_family(conninfo, session.family_id)

    assert started.stream == family_stream(session.family_id)
    await assert_rows_are_folds(conninfo, data_keys)  # both open, as themselves
    swapped = Sealed(started.event_id, rotated.personal.box)  # type: ignore[union-attr]
    with pytest.raises(UnsealError):
        key.open(swapped)
