"""Proving and rebuilding ``sessions`` and ``users``, against a PostgreSQL that is tampered with."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import psycopg
import pytest

from domain.events.families import EndReason
from domain.events.registry import UnknownEventError
from domain.family_decisions import EndSession, RenameSession
from domain.ids import UserId
from domain.ports import StoreUnavailableError
from domain.refresh_token import RefreshToken
from domain.refusals import Refusal
from infra.ids import new_uuid
from infra.postgres import create_engine
from infra.projection_folds import Progress
from infra.projection_store import (
    DamagedLogError,
    NotTheOwnerError,
    Rebuilt,
    rebuild_projections,
    verify_projections,
)
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from projections.comparison import Difference, DifferenceKind
from tests.equivalence import assert_rows_are_folds
from tests.integration.accounts import (
    PHONE,
    Accounts,
    SignedIn,
    at_work,
    carry_out,
    cause,
    present,
)

Work = Callable[[], Awaitable[object]]


def no_progress(_done: int, _total: int) -> None:
    """For tests that look elsewhere."""


class World:
    """A database with some lives in it, the service's hand on it, and an intruder's."""

    def __init__(self, conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> None:
        self.conninfo, self.owner_conninfo, self.data_keys = conninfo, owner_conninfo, data_keys
        self.engine = create_engine(conninfo, max_connections=8, wait_s=10)
        self.owner = create_engine(owner_conninfo, max_connections=2, wait_s=10)
        self.accounts = Accounts(self.engine, data_keys)

    async def close(self) -> None:
        await self.engine.dispose()
        await self.owner.dispose()

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """What a superuser does to it behind the service's back; the log's guard is off."""
        with psycopg.connect(self.owner_conninfo, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> list[list[tuple[object, ...]]]:
        """All that the two tables hold, with every version of every row told apart."""
        return [
            self.sql("SELECT s.ctid::text, s.xmin::text, s::text FROM sessions s ORDER BY 3"),
            self.sql("SELECT u.ctid::text, u.xmin::text, u::text FROM users u ORDER BY 3"),
        ]

    def contents(self) -> list[list[object]]:
        """All that the two tables hold, wherever it lies."""
        return [[row[2] for row in table] for table in self.tables()]

    async def verify(self, progress: Progress = no_progress) -> list[Difference]:
        found = verify_projections(self.engine, self.data_keys, progress)
        return [difference async for difference in found]

    async def rebuild(self, progress: Progress = no_progress) -> dict[str, Rebuilt]:
        rebuilt = await rebuild_projections(self.owner, self.data_keys, progress)
        return {each.table: each for each in rebuilt}

    async def refresh(self, session: SignedIn, times: int = 1) -> SignedIn:
        token = session.token
        async with at_work(RefreshLanes(self.conninfo, self.data_keys)) as lanes:
            for _ in range(times):
                answer = await present(lanes, token)
                assert isinstance(answer, RefreshToken), answer
                token = answer
        return SignedIn(session.family_id, session.user, token)


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    world = World(conninfo, owner_conninfo, data_keys)
    yield world
    await world.close()


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's, three refreshes old, beside a few lives of other kinds."""
    ada = await world.accounts.user("ada@example.com")
    session = await world.accounts.sign_in(ada, device_name="my laptop")
    session = await world.refresh(session, 3)
    await world.accounts.sign_in(ada, client=PHONE)
    renamed, ended, reused = [await world.accounts.sign_in() for _ in range(3)]
    async with at_work(RefreshLanes(world.conninfo, world.data_keys)) as lanes:
        await carry_out(lanes, renamed.family_id, RenameSession(renamed.session_id, "kitchen"))
        await carry_out(lanes, ended.family_id, EndSession(ended.session_id, EndReason.LOGOUT))
        await present(lanes, reused.token)
        assert await present(lanes, reused.token, client=PHONE) is Refusal.TOKEN_REUSED
    await world.accounts.users.disable(ended.user.user_id, cause())
    return session


def meanwhile(work: Work) -> Progress:
    """Progress that, when it first comes, lets something else happen and waits for its end."""
    faults: list[BaseException] = []
    done = threading.Event()

    async def awaited() -> None:
        await work()

    def run() -> None:
        try:
            asyncio.run(awaited())
        except BaseException as fault:  # noqa: BLE001 (raised again in the test)
            faults.append(fault)

    def progress(_done: int, _total: int) -> None:
        if not done.is_set():
            done.set()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            if faults:
                raise faults[0]

    return progress


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true within 30 s"
        await asyncio.sleep(0.005)


# ----------------------------------------------------------------------------------------- verify


async def test_nothing_differs_in_a_database_that_only_the_service_wrote_to(
    world: World, session: SignedIn
) -> None:
    reports: list[tuple[int, int]] = []

    assert await world.verify(lambda done, total: reports.append((done, total))) == []

    (events,) = world.sql("SELECT count(*) FROM events")[0]
    assert reports[-1] == (events, events)


async def test_an_empty_database_has_nothing_to_differ(world: World) -> None:
    assert await world.verify() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("generation", "1000"),
        ("family_version", "5"),
        ("secret_hash", "'of another secret'"),
        ("expires_at", "expires_at + interval '1 microsecond'"),
        ("expires_at", "'infinity'"),
        ("started_at", "'4713-01-01 BC'"),
        ("late_retries", "ARRAY['-infinity'::timestamptz]"),
        ("ended_at", "now()"),
        ("user_id", "gen_random_uuid()"),
        ("auth_methods", "'{pwd,otp}'"),
    ],
)
async def test_a_value_that_was_changed_is_found(
    world: World, session: SignedIn, column: str, value: str
) -> None:
    world.sql(f"UPDATE sessions SET {column} = {value} WHERE session_id = %s", session.session_id)

    (difference,) = await world.verify()

    assert (difference.kind, difference.table) == (DifferenceKind.DIFFERS, "sessions")
    assert (difference.key, difference.column) == (session.session_id, column)


async def test_a_row_of_an_older_version_is_found_with_all_that_is_out_of_date(
    world: World, session: SignedIn
) -> None:
    world.sql("CREATE TABLE kept AS SELECT * FROM sessions")
    await world.refresh(session)
    columns = "family_version, generation, secret_hash, previous_hash"
    world.sql(
        f"UPDATE sessions s SET ({columns}) = (SELECT {columns} FROM kept k"
        " WHERE k.session_id = s.session_id)"
    )

    found = await world.verify()

    assert [each.column for each in found] == columns.split(", ")
    assert (found[0].expected, found[0].found) == ("5", "4")


async def test_a_deleted_row_is_found(world: World, session: SignedIn) -> None:
    world.sql("DELETE FROM sessions WHERE session_id = %s", session.session_id)
    world.sql("DELETE FROM users WHERE user_id = %s", session.user.user_id)

    found = await world.verify()

    assert {(each.kind, each.table, each.key) for each in found} == {
        (DifferenceKind.MISSING_ROW, "sessions", session.session_id),
        (DifferenceKind.MISSING_ROW, "users", session.user.user_id),
    }


COPY_A_SESSION = """
INSERT INTO sessions (session_id, family_id, ordinal, {others})
SELECT %s, {family_id}, 1, {others} FROM sessions WHERE session_id = %s
"""
OTHERS = (
    "user_id, family_version, client_id, auth_methods, signed_in_at, expires_at, delivery,"
    " persistent, started_at, idle_timeout_s, generation, secret_hash, token_key, rotated_at,"
    " last_seen_at, idle_expires_at, late_retries, client"
)


@pytest.mark.parametrize("family_id", ["family_id", "gen_random_uuid()"])
async def test_an_inserted_row_is_found_in_a_known_family_and_in_an_invented_one(
    world: World, session: SignedIn, family_id: str
) -> None:
    stranger = new_uuid()
    statement = COPY_A_SESSION.format(others=OTHERS, family_id=family_id)
    world.sql(statement, stranger, session.session_id)

    (difference,) = await world.verify()

    assert difference.kind is DifferenceKind.EXTRA_ROW
    assert (difference.table, difference.key) == ("sessions", stranger)


async def test_an_inserted_user_is_found(world: World, session: SignedIn) -> None:
    stranger = new_uuid()
    world.sql(
        "INSERT INTO users (user_id, version, origin, roles, registered_at, credential_epoch)"
        " VALUES (%s, 1, 'local', '{admin}', now(), 0)",
        stranger,
    )

    (difference,) = await world.verify()

    assert difference.kind is DifferenceKind.EXTRA_ROW
    assert (difference.table, difference.key) == ("users", stranger)


@pytest.mark.parametrize(
    ("column", "value"),
    [("roles", "'{admin}'"), ("roles", "'{king}'"), ("origin", "'elsewhere'"), ("version", "9")],
)
async def test_a_user_who_was_given_something_is_found(
    world: World, session: SignedIn, column: str, value: str
) -> None:
    world.sql(f"UPDATE users SET {column} = {value} WHERE user_id = %s", session.user.user_id)

    (difference,) = await world.verify()

    assert (difference.table, difference.key) == ("users", session.user.user_id)
    assert difference.column == column


async def test_personal_data_that_was_changed_is_found_and_not_told(
    world: World, session: SignedIn
) -> None:
    world.sql("""UPDATE sessions SET client = '{"ip": "192.0.2.1"}', device_name = 'thief'""")
    world.sql("UPDATE users SET username = 'eve@example.com' WHERE username = 'ada@example.com'")

    found = await world.verify()

    mine = [each for each in found if each.key in {session.session_id, session.user.user_id}]
    assert {each.column for each in mine} == {"client", "device_name", "username"}
    told = repr(found) + " ".join(map(str, found))
    for secret in ("192.0.2", "203.0.113", "thief", "laptop", "@example.com"):
        assert secret not in told


async def test_an_event_that_was_deleted_leaves_a_gap_that_is_found(
    world: World, session: SignedIn
) -> None:
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s AND version = 2", stream)

    (difference,) = await world.verify()

    assert difference.kind is DifferenceKind.DAMAGED_STREAM
    assert (difference.table, difference.key) == ("events", stream)
    assert difference.found == "version 3 where version 2 is due"


async def test_the_last_event_cut_off_is_found_in_the_row_that_knows_of_it(
    world: World, session: SignedIn
) -> None:
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s AND version = 4", stream)

    found = await world.verify()

    assert (found[0].column, found[0].expected, found[0].found) == ("family_version", "3", "4")


async def test_a_stream_without_its_first_event_is_a_damaged_one_and_its_row_no_stranger(
    world: World, session: SignedIn
) -> None:
    world.sql("DELETE FROM events WHERE stream = %s AND version = 1", "family-" + session.family_id)

    assert [each.kind for each in await world.verify()] == [DifferenceKind.DAMAGED_STREAM]


async def test_an_event_that_was_altered_is_found(world: World, session: SignedIn) -> None:
    stream = "family-" + session.family_id
    world.sql(
        """UPDATE events SET data = data || '{"secret_hash": "another"}'
            WHERE stream = %s AND version = 4""",
        stream,
    )

    (difference,) = await world.verify()

    assert (difference.column, difference.expected) == ("secret_hash", "another")


async def test_a_personal_part_that_was_moved_to_another_event_is_found(
    world: World, session: SignedIn
) -> None:
    stream = "family-" + session.family_id
    world.sql(
        "UPDATE events e SET personal = (SELECT personal FROM events o"
        " WHERE o.stream = e.stream AND o.version = 3) WHERE stream = %s AND version = 4",
        stream,
    )

    (difference,) = await world.verify()

    assert (difference.kind, difference.key) == (DifferenceKind.DAMAGED_STREAM, stream)
    assert "does not open" in (difference.found or "")


ERASE = (
    "DELETE FROM data_keys WHERE subject_id = %s",
    "UPDATE sessions SET client = NULL, device_name = NULL WHERE user_id = %s",
    "UPDATE users SET username = NULL WHERE user_id = %s",
)


def erase(world: World, user_id: UserId) -> None:
    for statement in ERASE:
        world.sql(statement, user_id)


async def test_an_erased_user_has_nothing_personal_left_and_does_not_differ(
    world: World, session: SignedIn
) -> None:
    erase(world, session.user.user_id)

    assert await world.verify() == []


async def test_what_an_erasure_left_behind_is_found(world: World, session: SignedIn) -> None:
    world.sql(ERASE[0], session.user.user_id)

    found = await world.verify()

    assert {each.column for each in found} == {"client", "device_name", "username"}


async def test_what_is_written_while_it_looks_is_no_difference(
    world: World, session: SignedIn
) -> None:
    async def tampering() -> None:
        world.sql("DELETE FROM sessions")

    assert await world.verify(meanwhile(tampering)) == []
    assert await world.verify() != []


async def test_streams_longer_than_a_batch_and_more_of_them_are_all_looked_at(
    world: World, session: SignedIn
) -> None:
    await a_thousand_users_with_long_lives(world)
    reports: list[tuple[int, int]] = []

    found = await world.verify(lambda done, total: reports.append((done, total)))

    assert len(reports) > 2
    assert len(found) == 1000
    assert {each.kind for each in found} == {DifferenceKind.MISSING_ROW}


async def a_thousand_users_with_long_lives(world: World) -> None:
    """Of disabling and enabling: five events each, and no row."""
    world.sql("""
        INSERT INTO events (occurred_at, version, schema_version, event_id, correlation_id, stream,
                            type, actor, data)
        SELECT now(), version, 1, gen_random_uuid(), gen_random_uuid(), 'user-' || user_id,
               CASE WHEN version = 1 THEN 'UserRegistered'
                    WHEN version % 2 = 0 THEN 'UserDisabled' ELSE 'UserEnabled' END, 'system',
               CASE WHEN version = 1 THEN '{"origin": "local"}'::jsonb ELSE '{}' END
          FROM (SELECT gen_random_uuid() AS user_id FROM generate_series(1, 1000)) u,
               generate_series(1, 5) AS version
         ORDER BY version, user_id
    """)


async def test_it_stops_at_an_event_of_a_newer_build(world: World, session: SignedIn) -> None:
    world.sql(
        "UPDATE events SET schema_version = 99 WHERE stream = %s", "family-" + session.family_id
    )

    with pytest.raises(UnknownEventError):
        await world.verify()


async def test_it_can_be_broken_off(world: World, session: SignedIn) -> None:
    world.sql("DELETE FROM users")

    async with aclosing(verify_projections(world.engine, world.data_keys, no_progress)) as found:
        assert await anext(found) is not None

    assert world.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------- rebuild


async def test_a_database_that_was_right_is_not_written_to(world: World, session: SignedIn) -> None:
    before = world.tables()
    reports: list[tuple[int, int]] = []

    rebuilt = await world.rebuild(lambda done, total: reports.append((done, total)))

    assert rebuilt == {
        "users": Rebuilt("users", 4, 0, 0),
        "sessions": Rebuilt("sessions", 5, 0, 0),
    }
    assert world.tables() == before
    assert reports[-1][0] == reports[-1][1] > 0


async def test_emptied_tables_come_back_as_they_were(world: World, session: SignedIn) -> None:
    before = world.contents()
    kept = world.sql("SELECT * FROM credentials"), world.sql("SELECT * FROM data_keys")
    world.sql("TRUNCATE sessions, users")

    rebuilt = await world.rebuild()

    assert world.contents() == before
    assert rebuilt["sessions"] == Rebuilt("sessions", 5, 0, 5)
    assert (world.sql("SELECT * FROM credentials"), world.sql("SELECT * FROM data_keys")) == kept
    assert await world.verify() == []


async def test_what_was_tampered_with_is_put_right_and_nothing_else_touched(
    world: World, session: SignedIn
) -> None:
    before, contents = world.tables(), world.contents()
    world.sql("UPDATE sessions SET generation = 1000 WHERE session_id = %s", session.session_id)
    world.sql(
        COPY_A_SESSION.format(others=OTHERS, family_id="gen_random_uuid()"),
        new_uuid(),
        session.session_id,
    )
    world.sql("UPDATE users SET roles = '{admin}' WHERE user_id = %s", session.user.user_id)

    rebuilt = await world.rebuild()

    assert rebuilt["sessions"] == Rebuilt("sessions", 5, removed=2, written=1)
    assert rebuilt["users"] == Rebuilt("users", 4, removed=1, written=1)
    assert world.contents() == contents
    for was, now in zip(before, world.tables(), strict=True):
        assert len(set(was) - set(now)) == 1
    assert await world.verify() == []


async def test_two_users_whose_names_were_swapped_get_their_own_back(
    world: World, session: SignedIn
) -> None:
    await world.accounts.user("bob@example.com")
    before = world.contents()
    for old, new in (("ada", "x"), ("bob", "ada"), ("x", "bob")):
        world.sql(
            "UPDATE users SET username = %s WHERE username = %s",
            new + "@example.com",
            old + "@example.com",
        )
    assert world.contents() != before

    await world.rebuild()

    assert world.contents() == before


async def test_the_tables_stay_the_same_tables_and_the_service_goes_on_with_them(
    world: World, session: SignedIn
) -> None:
    look = """
        SELECT c.oid, c.relname, c.relacl::text, c.reloptions::text FROM pg_class c
         WHERE c.relname ~ '^(sessions|users|rebuilt)' ORDER BY c.relname
    """
    before = world.sql(look)
    world.sql("UPDATE sessions SET generation = 1000")

    await world.rebuild()

    assert world.sql(look) == before
    await world.refresh(session, 2)
    await world.accounts.sign_in(session.user)
    assert await world.verify() == []


async def test_what_is_written_while_the_log_is_folded_is_caught_up_with(
    world: World, session: SignedIn
) -> None:
    async def the_service_goes_on() -> None:
        other = World(world.conninfo, world.owner_conninfo, world.data_keys)
        await other.refresh(session, 5)
        newcomer = await other.accounts.sign_in(device_name="brand new")
        await other.refresh(newcomer, 2)
        await other.accounts.users.disable(newcomer.user.user_id, cause())
        await other.close()

    world.sql("DELETE FROM sessions WHERE session_id <> %s", session.session_id)
    world.sql("UPDATE users SET credential_epoch = 9 WHERE username <> 'ada@example.com'")

    rebuilt = await world.rebuild(meanwhile(the_service_goes_on))

    assert rebuilt["sessions"] == Rebuilt("sessions", 6, removed=0, written=4)
    assert rebuilt["users"] == Rebuilt("users", 5, removed=3, written=3)
    assert await world.verify() == []
    assert await assert_rows_are_folds(world.owner_conninfo, world.data_keys) == 6


async def test_refreshes_and_sign_ins_go_on_all_through_it(world: World, session: SignedIn) -> None:
    sessions = [await world.accounts.sign_in() for _ in range(8)]
    rebuilt = asyncio.Event()

    async def refresh_until_rebuilt(each: SignedIn) -> int:
        token, count = each.token, 0
        while not rebuilt.is_set():
            answer = await present(lanes, token)
            assert isinstance(answer, RefreshToken), answer
            token, count = answer, count + 1
        return count

    async def sign_in_until_rebuilt() -> int:
        count = 0
        while not rebuilt.is_set():
            await world.accounts.sign_in(session.user)
            count += 1
        return count

    working = at_work(RefreshLanes(world.conninfo, world.data_keys))
    async with working as lanes, asyncio.TaskGroup() as tasks:
        counts = [tasks.create_task(refresh_until_rebuilt(each)) for each in sessions]
        counts.append(tasks.create_task(sign_in_until_rebuilt()))
        for _ in range(5):
            await world.rebuild()
        rebuilt.set()

    assert all(count.result() > 0 for count in counts)
    assert await world.verify() == []
    await assert_rows_are_folds(world.owner_conninfo, world.data_keys)


async def test_who_is_erased_while_the_log_is_folded_stays_erased(
    world: World, session: SignedIn
) -> None:
    async def erasure() -> None:
        erase(world, session.user.user_id)

    rebuilt = await world.rebuild(meanwhile(erasure))

    assert rebuilt["sessions"] == Rebuilt("sessions", 5, 0, 0)
    (row,) = world.sql(
        "SELECT client, device_name FROM sessions WHERE session_id = %s", session.session_id
    )
    assert row == (None, None)
    assert await world.verify() == []


async def test_it_leaves_what_waits_for_a_lock_to_those_who_hold_one(
    world: World, session: SignedIn
) -> None:
    """A command on a user holds their row, then wants those of their sessions: so must we."""
    with psycopg.connect(world.owner_conninfo) as command:
        command.execute("SELECT FROM users WHERE username = 'ada@example.com' FOR UPDATE")

        rebuild = asyncio.create_task(world.rebuild())
        await until(lambda: waiting_for_a_lock(world) is not None)
        command.execute(
            "SELECT FROM sessions WHERE user_id = %s FOR UPDATE", [session.user.user_id]
        )
        command.commit()

    assert (await rebuild)["sessions"] == Rebuilt("sessions", 5, 0, 0)


async def test_it_lets_the_others_pass_when_a_lock_is_long_in_coming_and_tries_again(
    world: World, session: SignedIn
) -> None:
    with psycopg.connect(world.owner_conninfo) as long_one:
        long_one.execute("SELECT FROM sessions FOR UPDATE")

        rebuild = asyncio.create_task(world.rebuild())
        await until(lambda: waiting_for_a_lock(world) is not None)
        first_try = waiting_for_a_lock(world)
        assert first_try is not None
        await until(lambda: waiting_for_a_lock(world) not in {None, first_try})

    assert (await rebuild)["sessions"] == Rebuilt("sessions", 5, 0, 0)


def waiting_for_a_lock(world: World) -> object:
    """When the transaction began that waits for somebody's lock on a table, if one does."""
    found = world.sql(
        "SELECT a.xact_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE NOT l.granted AND l.mode = 'ExclusiveLock' AND a.datname = current_database()"
    )
    return found[0][0] if found else None


async def test_it_holds_no_transaction_id_while_it_folds_so_the_tail_goes_on(
    world: World, session: SignedIn
) -> None:
    writing: list[object] = []

    def look(_done: int, _total: int) -> None:
        writing.extend(
            world.sql(
                "SELECT query FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
                " AND datname = current_database() AND application_name = 'sessiontrail'"
            )
        )

    await world.rebuild(look)

    assert writing == []


async def test_a_damaged_log_is_not_folded_into_the_tables(world: World, session: SignedIn) -> None:
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s AND version = 2", stream)
    world.sql("UPDATE sessions SET generation = 1000 WHERE session_id <> %s", session.session_id)
    before = world.tables()

    with pytest.raises(DamagedLogError, match=f"{stream}: version 3 where version 2 is due"):
        await world.rebuild()

    assert world.tables() == before
    await until(lambda: world.sql("SELECT FROM pg_class WHERE relname ~ '^rebuilt'") == [])


async def test_the_services_role_may_verify_and_is_told_that_it_may_not_rebuild(
    world: World, session: SignedIn
) -> None:
    with pytest.raises(NotTheOwnerError, match="connect as its owner"):
        await rebuild_projections(world.engine, world.data_keys, no_progress)


async def test_it_can_be_run_twice_on_one_pool(world: World, session: SignedIn) -> None:
    await world.rebuild()
    world.sql("DELETE FROM sessions WHERE session_id = %s", session.session_id)

    rebuilt = await world.rebuild()

    assert rebuilt["sessions"] == Rebuilt("sessions", 5, removed=0, written=1)


async def test_two_at_once_come_to_the_same(world: World, session: SignedIn) -> None:
    other = create_engine(world.owner_conninfo, max_connections=2, wait_s=10)
    before = world.contents()
    world.sql("TRUNCATE sessions, users")

    await asyncio.gather(world.rebuild(), rebuild_projections(other, world.data_keys, no_progress))
    await other.dispose()

    assert world.contents() == before


async def test_a_database_that_is_gone_is_said_to_be_unavailable(
    data_keys: DataKeys, owner_conninfo: str
) -> None:
    nowhere = create_engine(owner_conninfo + " port=1", max_connections=2, wait_s=1)

    with pytest.raises(StoreUnavailableError):
        await rebuild_projections(nowhere, data_keys, no_progress)

    await nowhere.dispose()
