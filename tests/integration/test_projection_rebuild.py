"""Rebuilding ``sessions`` and ``users``: from a log that is written to meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from domain.ports import StoreUnavailableError
from domain.refresh_token import RefreshToken
from infra.postgres import create_engine
from infra.projection_build import DamagedLogError
from infra.projection_swap import Rebuilt, rebuild_projections
from infra.rebuild_session import NotTheOwnerError
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from tests.equivalence import assert_rows_are_folds
from tests.integration.accounts import SignedIn, at_work, cause, present
from tests.integration.projection_world import (
    World,
    meanwhile,
    no_progress,
    open_world,
    some_lives,
    until,
)


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's: she has another, and there are a few other lives."""
    return await some_lives(world)


async def test_a_database_that_was_right_is_not_written_to(world: World, session: SignedIn) -> None:
    before = world.tables()
    reports: list[tuple[int, int]] = []

    rebuilt = await world.rebuild(lambda done, total: reports.append((done, total)))

    assert rebuilt == {
        "users": Rebuilt("users", 4, 0, 0),
        "sessions": Rebuilt("sessions", 5, 0, 0),
        "alerts": Rebuilt("alerts", 2, 0, 0),
    }
    assert world.tables() == before
    assert reports[-1][0] == reports[-1][1] > 0


async def test_emptied_tables_come_back_as_they_were(world: World, session: SignedIn) -> None:
    before = world.contents()
    kept = world.sql("SELECT * FROM credentials"), world.sql("SELECT * FROM data_keys")
    world.sql("TRUNCATE sessions, users, alerts")

    rebuilt = await world.rebuild()

    assert world.contents() == before
    assert rebuilt["sessions"] == Rebuilt("sessions", 5, 0, 5)
    assert rebuilt["alerts"] == Rebuilt("alerts", 2, 0, 2)
    assert (world.sql("SELECT * FROM credentials"), world.sql("SELECT * FROM data_keys")) == kept
    assert await world.verify() == []


async def test_what_was_tampered_with_is_put_right_and_nothing_else_touched(
    world: World, session: SignedIn
) -> None:
    before, contents = world.tables(), world.contents()
    world.sql("UPDATE sessions SET generation = 1000 WHERE session_id = %s", session.session_id)
    world.insert_copy(session.session_id, "gen_random_uuid()")
    world.sql("UPDATE users SET roles = '{admin}' WHERE user_id = %s", session.user.user_id)
    world.sql("UPDATE alerts SET status = 'resolved' WHERE status = 'open'")

    rebuilt = await world.rebuild()

    assert rebuilt["sessions"] == Rebuilt("sessions", 5, removed=2, written=1)
    assert rebuilt["users"] == Rebuilt("users", 4, removed=1, written=1)
    assert rebuilt["alerts"] == Rebuilt("alerts", 2, removed=1, written=1)
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
         WHERE c.relname ~ '^(sessions|users|alerts)' ORDER BY c.relname
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
    bystander = await world.accounts.user()
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
            # In a thread: a sign-in beyond the limit may hold the row, and has to get on.
            await asyncio.to_thread(
                world.sql, "DELETE FROM sessions WHERE session_id = %s", session.session_id
            )
            world.sql("UPDATE users SET version = 9 WHERE user_id = %s", bystander.user_id)
            await world.rebuild()
        rebuilt.set()

    assert all(count.result() > 0 for count in counts)
    assert await world.verify() == []
    await assert_rows_are_folds(world.owner_conninfo, world.data_keys)


async def test_who_is_erased_while_the_log_is_folded_stays_erased(
    world: World, session: SignedIn
) -> None:
    async def erasure() -> None:
        world.erase(session.user.user_id)

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
    assert world.rows_beside() == {}


async def test_a_log_that_gives_two_families_one_session_is_a_damaged_one(
    world: World, session: SignedIn
) -> None:
    twin = await world.accounts.sign_in()
    world.sql(
        "UPDATE events SET data = data || jsonb_build_object('session_id', %s::text)"
        " WHERE stream = %s",
        session.session_id,
        "family-" + twin.family_id,
    )

    with pytest.raises(DamagedLogError, match="does not fit sessions"):
        await world.rebuild()


async def test_a_log_from_a_dump_is_folded_although_its_transactions_seem_yet_to_come(
    world: World, session: SignedIn
) -> None:
    before = world.contents()
    world.sql(
        "UPDATE events SET transaction_id = (transaction_id::text::bigint + 1000000000)::text::xid8"
    )
    world.sql("TRUNCATE sessions, users, alerts")

    await world.rebuild()

    assert world.contents() == before


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
    world.sql("TRUNCATE sessions, users, alerts")

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
