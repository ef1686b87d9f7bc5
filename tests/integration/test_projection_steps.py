"""Rebuilding in steps: build, compare, swap, roll back, with the service at work all the while."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from infra.projection_build import DamagedLogError
from infra.projection_leftovers import PERSONAL_LEFTOVERS
from infra.projection_rollback import CannotRollBackError, NothingReplacedError
from infra.projection_swap import Rebuilt, discard_rebuild
from infra.rebuild_session import NoBuildError
from infra.sealing import DataKeys
from tests.equivalence import assert_rows_are_folds
from tests.integration.accounts import SignedIn, cause
from tests.integration.projection_world import World, meanwhile, open_world, refreshing, some_lives

IN_CLEAR = ("ada@example.com", "my laptop", "Oslo")
"""What Ada is known by: her name, her device's, and where an alert has seen her."""


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's: she has another, and there are a few other lives."""
    return await some_lives(world)


def of_session(world: World, session: SignedIn) -> str:
    (row,) = world.sql("SELECT s::text FROM sessions s WHERE session_id = %s", session.session_id)
    return str(row[0])


def damage(world: World, session: SignedIn) -> None:
    """One row that says something else, one that is missing, one too many."""
    world.sql("UPDATE sessions SET device_name = 'hers' WHERE session_id = %s", session.session_id)
    world.sql("DELETE FROM users WHERE disabled_at IS NOT NULL")
    world.insert_copy(session.session_id, "gen_random_uuid()")


# --------------------------------------------------------------------------- build and compare


async def test_a_build_touches_no_table_that_is_read_from(world: World, session: SignedIn) -> None:
    damage(world, session)
    before = world.tables()
    reports: list[tuple[int, int]] = []

    rows = await world.build(lambda done, total: reports.append((done, total)))

    assert rows == 4 + 5 + 2
    assert world.tables() == before
    assert world.rows_beside() == {
        "rebuild_progress": 3,
        "rebuilt_users": 4,
        "rebuilt_sessions": 5,
        "rebuilt_alerts": 2,
    }
    assert reports[-1][0] == reports[-1][1] > 0


async def test_a_sound_table_compares_the_same_however_the_service_goes_on(
    world: World, session: SignedIn
) -> None:
    await world.build()
    await world.refresh(session, 3)
    await world.accounts.sign_in()

    async def the_service_goes_on() -> None:
        other = World(world.conninfo, world.owner_conninfo, world.data_keys)
        await other.accounts.sign_in(device_name="brand new")
        await other.close()

    compared = await world.compare(meanwhile(the_service_goes_on))

    assert compared.is_same
    assert compared.first == []
    assert [(each.table, each.rows) for each in compared.tables] == [
        ("users", 6),
        ("sessions", 7),
        ("alerts", 2),
    ]


async def test_what_differs_is_counted_and_named_and_nothing_personal_said(
    world: World, session: SignedIn
) -> None:
    await world.build()
    damage(world, session)
    world.sql("UPDATE alerts SET status = 'resolved' WHERE status = 'open'")

    compared = await world.compare()

    users, sessions, alerts = compared.tables
    assert (users.missing, users.extra, users.differing) == (1, 0, 0)
    assert (sessions.missing, sessions.extra, sessions.differing) == (0, 1, 1)
    assert (alerts.missing, alerts.extra, alerts.differing) == (0, 0, 1)
    said = "\n".join(map(str, compared.first))
    assert f"sessions {session.session_id} device_name: personal data differs" in said
    assert "status: expected open, found resolved" in said
    assert "hers" not in said
    assert not any(each in said for each in IN_CLEAR)


async def test_damage_done_to_a_family_that_goes_on_is_seen_at_any_instant(
    world: World, session: SignedIn
) -> None:
    """It is caught between the catching up and the snapshot that compares."""
    await world.build()
    world.sql("UPDATE sessions SET client_id = 'another' WHERE family_id = %s", session.family_id)

    async def the_family_goes_on() -> None:
        other = World(world.conninfo, world.owner_conninfo, world.data_keys)
        await other.refresh(session, 2)
        await other.close()

    compared = await world.compare(meanwhile(the_family_goes_on))

    assert [str(each) for each in compared.first] == [
        f"sessions {session.session_id} client_id: expected web, found another"
    ]


async def test_only_so_many_differences_are_spelled_out_and_all_are_counted(
    world: World, session: SignedIn
) -> None:
    await world.build()
    world.sql("UPDATE sessions SET generation = 1000")

    compared = await world.compare(shown=2)

    assert compared.tables[1].differing == 5
    assert len(compared.first) == 2


async def test_the_same_values_in_other_bytes_are_a_difference(
    world: World, session: SignedIn
) -> None:
    await world.build()
    world.sql(
        "UPDATE sessions SET auth_methods = '[0:0]={pwd}' WHERE session_id = %s", session.session_id
    )

    compared = await world.compare()

    assert compared.tables[1].differing == 1
    assert [str(each) for each in compared.first] == [
        f"sessions {session.session_id}: other bytes of the same values"
    ]


async def test_nothing_can_be_compared_or_swapped_where_there_is_no_build(
    world: World, session: SignedIn
) -> None:
    with pytest.raises(NoBuildError, match="projections build"):
        await world.compare()
    with pytest.raises(NoBuildError, match="projections build"):
        await world.swap()


async def test_progress_that_came_with_a_dump_of_another_database_is_no_build(
    world: World, session: SignedIn
) -> None:
    await world.build()
    world.sql("CREATE TABLE copied AS TABLE rebuild_progress")
    world.sql("TRUNCATE rebuild_progress")
    world.sql("INSERT INTO rebuild_progress SELECT * FROM copied")

    with pytest.raises(NoBuildError):
        await world.swap()


async def test_a_build_that_an_archive_has_overtaken_is_none(
    world: World, session: SignedIn
) -> None:
    await world.build()
    world.sql(
        "INSERT INTO log_archives (archive_id, first_leaf, end_leaf, transaction_id, position,"
        " snapshot_id, file_name, sha256, archived_at)"
        " VALUES (gen_random_uuid(), 0, 256, '1', 1, gen_random_uuid(), 'old', '', now())"
    )

    with pytest.raises(NoBuildError):
        await world.swap()


async def test_a_damaged_log_leaves_no_build(world: World, session: SignedIn) -> None:
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s AND version = 2", stream)

    with pytest.raises(DamagedLogError, match=f"{stream}: version 3 where version 2 is due"):
        await world.build()

    assert world.rows_beside() == {}


async def test_a_build_goes_on_where_one_was_left(world: World, session: SignedIn) -> None:
    class LeftError(Exception):
        """Stands for whatever ends the process."""

    def leave(done: int, total: int) -> None:
        if done > total / 2:
            raise LeftError

    with pytest.raises(LeftError):
        await world.build(leave)
    left = world.sql("SELECT r.user_id, r.xmin::text FROM rebuilt_users r ORDER BY 1")
    await world.refresh(session, 2)
    await world.accounts.users.disable(session.user.user_id, cause())

    await world.build()

    kept = world.sql("SELECT r.user_id, r.xmin::text FROM rebuilt_users r ORDER BY 1")
    assert len(left) == len(kept) == 4
    assert len(set(left) & set(kept)) == 3, "all but Ada's row were folded once"
    assert (await world.compare()).is_same


# -------------------------------------------------------------------------------------- swap


async def test_a_swap_mends_what_was_damaged_and_keeps_what_it_replaced(
    world: World, session: SignedIn
) -> None:
    before = world.contents()
    damage(world, session)
    await world.build()

    swapped = await world.swap()

    assert swapped == {
        "users": Rebuilt("users", 4, removed=0, written=1),
        "sessions": Rebuilt("sessions", 5, removed=2, written=1),
        "alerts": Rebuilt("alerts", 2, removed=0, written=0),
    }
    assert world.contents() == before
    assert world.rows_beside() == {"replaced_rows": 3}
    assert await world.verify() == []


async def test_a_swap_that_replaces_nothing_keeps_what_the_last_one_replaced(
    world: World, session: SignedIn
) -> None:
    damage(world, session)
    await world.rebuild()

    await world.rebuild()

    assert world.rows_beside() == {"replaced_rows": 3}


async def test_a_swap_catches_up_with_all_that_happened_since_the_build(
    world: World, session: SignedIn
) -> None:
    damage(world, session)
    await world.build()
    session = await world.refresh(session, 3)
    newcomer = await world.accounts.sign_in(device_name="brand new")
    await world.accounts.users.disable(newcomer.user.user_id, cause())

    await world.swap()

    assert await world.verify() == []
    assert await assert_rows_are_folds(world.owner_conninfo, world.data_keys) == 6


# --------------------------------------------------------------------------------- roll back


async def test_a_roll_back_brings_back_the_damage_to_the_byte(
    world: World, session: SignedIn
) -> None:
    damage(world, session)
    world.sql("UPDATE sessions SET expires_at = 'infinity' WHERE device_name = 'kitchen'")
    damaged = world.contents()
    await world.rebuild()
    assert world.contents() != damaged

    rolled_back = await world.rollback()

    assert world.contents() == damaged
    assert (rolled_back["sessions"].removed, rolled_back["sessions"].written) == (2, 3)
    assert (rolled_back["users"].removed, rolled_back["users"].written) == (1, 0)
    assert world.rows_beside() == {}


async def test_what_happened_since_the_swap_is_folded_onto_what_comes_back(
    world: World, session: SignedIn
) -> None:
    world.sql("UPDATE sessions SET device_name = 'hers', client_id = 'x'")
    await world.rebuild()
    session = await world.refresh(session, 3)
    newcomer = await world.accounts.sign_in(device_name="brand new")
    mended = of_session(world, session)

    await world.rollback()

    expected = mended.replace('"my laptop"', "hers").replace(",web,", ",x,")
    assert of_session(world, session) == expected != mended
    differing = await world.verify()
    assert {each.column for each in differing} == {"device_name", "client_id"}
    assert newcomer.session_id not in {each.key for each in differing}
    await world.refresh(session, 2)


async def test_what_happens_while_it_rolls_back_is_folded_too(
    world: World, session: SignedIn
) -> None:
    other = await world.accounts.sign_in()
    world.sql("UPDATE sessions SET device_name = 'hers'")
    await world.rebuild()
    session = await world.refresh(session, 1)

    async def the_service_goes_on() -> None:
        beside = World(world.conninfo, world.owner_conninfo, world.data_keys)
        await beside.refresh(session, 2)
        await beside.refresh(other, 2)
        await beside.close()

    await world.rollback(meanwhile(the_service_goes_on))

    assert {each.column for each in await world.verify()} == {"device_name"}


@pytest.mark.parametrize(
    "damaging",
    [
        "DELETE FROM sessions",
        "UPDATE sessions SET family_version = 9",
        "UPDATE sessions SET family_version = 1",
        "UPDATE sessions SET delivery = 'by pigeon'",
        "UPDATE sessions SET started_at = 'infinity'",
        "UPDATE sessions SET late_retries = '{-infinity}'",
        "UPDATE sessions SET client = '7'",
    ],
)
async def test_a_roll_back_is_refused_where_what_happened_since_cannot_follow(
    world: World, session: SignedIn, damaging: str
) -> None:
    world.sql(f"{damaging} WHERE session_id = %s", session.session_id)
    world.sql("UPDATE users SET version = 9")
    await world.rebuild()
    await world.refresh(session, 1)
    mended = world.tables()

    with pytest.raises(CannotRollBackError, match="family-" + session.family_id):
        await world.rollback()

    assert world.tables() == mended
    assert await world.verify() == []


async def test_a_roll_back_is_refused_where_what_happened_since_is_archived(
    world: World, session: SignedIn
) -> None:
    damage(world, session)
    await world.rebuild()
    await world.refresh(session, 2)
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s", stream)
    mended = world.tables()

    with pytest.raises(CannotRollBackError, match=stream):
        await world.rollback()

    assert world.tables() == mended


async def test_a_roll_back_is_refused_where_somebody_has_taken_the_place(
    world: World, session: SignedIn
) -> None:
    world.sql("UPDATE users SET username = 'eve@example.com' WHERE username = 'ada@example.com'")
    await world.rebuild()
    await world.accounts.user("eve@example.com")

    with pytest.raises(CannotRollBackError, match="something else took its place") as refused:
        await world.rollback()

    assert "eve" not in str(refused.value)
    assert await world.verify() == []


async def test_a_roll_back_is_refused_over_other_columns(world: World, session: SignedIn) -> None:
    damage(world, session)
    await world.rebuild()
    world.sql("ALTER TABLE sessions ADD COLUMN mood text")

    with pytest.raises(CannotRollBackError, match="other columns"):
        await world.rollback()


async def test_there_is_nothing_to_roll_back_twice_or_without_a_swap(
    world: World, session: SignedIn
) -> None:
    with pytest.raises(NothingReplacedError):
        await world.rollback()
    damage(world, session)
    await world.rebuild()
    await world.rollback()

    with pytest.raises(NothingReplacedError):
        await world.rollback()


async def test_what_was_rolled_back_can_be_swapped_again(world: World, session: SignedIn) -> None:
    damage(world, session)
    await world.rebuild()
    mended = world.contents()
    await world.rollback()

    await world.rebuild()

    assert world.contents() == mended
    assert await world.verify() == []


async def test_a_dump_that_reads_all_tables_holds_no_step_up(
    world: World, session: SignedIn
) -> None:
    damage(world, session)
    damaged = world.contents()
    with psycopg.connect(world.owner_conninfo) as dump:
        for table in ("users", "sessions", "alerts", "rebuild_progress", *PERSONAL_LEFTOVERS):
            dump.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE".encode())

        await world.build()
        assert (await world.swap())["sessions"].written == 1
        assert world.rows_beside() == {"replaced_rows": 3}
        await world.rollback()

    assert world.contents() == damaged
    assert world.rows_beside() == {}


async def test_discarding_leaves_nothing_beside_the_tables(world: World, session: SignedIn) -> None:
    damage(world, session)
    await world.rebuild()
    await world.build()

    await discard_rebuild(world.owner, world.data_keys)

    assert world.rows_beside() == {}


# ------------------------------------------------------------------------- with the service at work


async def test_refreshes_go_on_through_every_step(world: World, session: SignedIn) -> None:
    sessions = [await world.accounts.sign_in() for _ in range(8)]
    bystander = await world.accounts.sign_in()

    async with refreshing(world, sessions):
        for _ in range(3):
            await asyncio.to_thread(
                world.sql,
                "UPDATE sessions SET device_name = 'hers' WHERE session_id = %s",
                bystander.session_id,
            )
            await world.build()
            assert (await world.compare()).tables[1].differing == 1
            assert (await world.swap())["sessions"] == Rebuilt("sessions", 14, 1, 1)
            assert (await world.rollback())["sessions"].written == 1
            assert [each.key for each in await world.verify()] == [bystander.session_id]

    await world.rebuild()
    assert await world.verify() == []
    await assert_rows_are_folds(world.owner_conninfo, world.data_keys)
