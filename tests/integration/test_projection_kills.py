"""``kill -9`` at each step of a rebuild, a crash of the server, and two rebuilds at once."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra import embedded_postgres
from infra.migrate import migrate
from infra.postgres import create_engine
from infra.rebuild_session import NoBuildError, RebuildUnderWayError, rebuilding
from infra.sealing import DataKeys
from tests.equivalence import assert_rows_are_folds
from tests.integration.accounts import SignedIn
from tests.integration.projection_world import World, open_world, refreshing, some_lives, until


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's, and it has another name than the log says."""
    session = await some_lives(world)
    world.sql("UPDATE sessions SET device_name = 'hers' WHERE session_id = %s", session.session_id)
    return session


async def killed(world: World, step: str, locked: str, *, mode: str = "ACCESS EXCLUSIVE") -> None:
    """Start a step in a process of its own, and kill it while it waits for a table."""
    with psycopg.connect(world.owner_conninfo) as holder:
        holder.execute(f"LOCK TABLE {locked} IN {mode} MODE".encode())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.projection_step"),
            *(world.owner_conninfo, step),
        )
        await until(lambda: waits_for(world, locked))
        process.kill()
        await process.wait()


def waits_for(world: World, table: str) -> bool:
    return bool(
        world.sql(
            "SELECT 1 FROM pg_locks l WHERE NOT l.granted AND l.relation = to_regclass(%s)"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            table,
        )
    )


async def test_a_build_that_was_killed_as_it_began_is_begun_again(
    world: World, session: SignedIn
) -> None:
    await killed(world, "build", "rebuilt_sessions")
    assert world.rows_beside() == {}

    await world.build()

    assert (await world.compare()).tables[1].differing == 1


async def test_a_build_that_was_killed_midway_is_gone_on_with(
    world: World, session: SignedIn
) -> None:
    world.sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN LOCK TABLE credentials IN SHARE MODE; RETURN new; END'"
    )
    world.sql(
        "CREATE TRIGGER wait BEFORE INSERT ON rebuilt_sessions"
        " FOR EACH STATEMENT EXECUTE FUNCTION wait()"
    )
    await killed(world, "build", "credentials")
    users = world.sql("SELECT r.user_id, r.xmin::text FROM rebuilt_users r")
    assert len(users) == 4
    session = await world.refresh(session, 2)

    await world.build()

    assert world.sql("SELECT r.user_id, r.xmin::text FROM rebuilt_users r") == users
    assert (await world.compare()).tables[1].differing == 1


async def test_a_compare_that_was_killed_is_done_again(world: World, session: SignedIn) -> None:
    await world.build()

    await killed(world, "compare", "alerts")

    assert (await world.compare()).tables[1].differing == 1


@pytest.mark.parametrize("step", ["swap", "rebuild"])
async def test_a_swap_that_was_killed_has_changed_nothing(
    world: World, session: SignedIn, step: str
) -> None:
    await world.build()
    before = world.tables()

    await killed(world, step, "replaced_rows")

    assert world.tables() == before
    assert "replaced_rows" not in world.rows_beside()
    session = await world.refresh(session, 2)
    assert (await world.swap())["sessions"].written == 1
    assert await world.verify() == []


async def test_a_roll_back_that_was_killed_has_changed_nothing(
    world: World, session: SignedIn
) -> None:
    await world.rebuild()
    before = world.tables()

    # The last that it does is to empty this table, which is all that this lock keeps it from.
    await killed(world, "rollback", "replaced_rows", mode="SHARE")

    assert world.tables() == before
    session = await world.refresh(session, 2)
    assert (await world.rollback())["sessions"].written == 1
    assert {each.column for each in await world.verify()} == {"device_name"}


@pytest.mark.parametrize(
    ("step", "locked", "mode"),
    [
        ("build", "rebuilt_users", "ACCESS EXCLUSIVE"),
        ("compare", "rebuilt_alerts", "ACCESS EXCLUSIVE"),
        ("swap", "replaced_rows", "ACCESS EXCLUSIVE"),
        ("rebuild", "replaced_rows", "ACCESS EXCLUSIVE"),
        ("rollback", "replaced_rows", "SHARE"),
    ],
)
async def test_who_refreshes_gets_on_when_a_step_is_killed_and_done_again(
    world: World, session: SignedIn, step: str, locked: str, mode: str
) -> None:
    sessions = [await world.accounts.sign_in() for _ in range(4)]
    if step in {"compare", "swap"}:
        await world.build()
    if step == "rollback":
        await world.rebuild()

    async with refreshing(world, sessions):
        await killed(world, step, locked, mode=mode)
        await getattr(world, step)()

    await world.rebuild()
    assert await world.verify() == []
    await assert_rows_are_folds(world.owner_conninfo, world.data_keys)


async def test_only_one_rebuilds_at_a_time(world: World, session: SignedIn) -> None:
    await world.build()
    other = create_engine(world.owner_conninfo, max_connections=2, wait_s=10)

    async with rebuilding(other, world.data_keys):
        with pytest.raises(RebuildUnderWayError):
            await world.swap()

    await other.dispose()
    await world.swap()


@pytest.fixture
def crashing() -> Iterator[Callable[[], str]]:
    """Crashes a server of the test's own, and starts it again; returns how to connect to it."""
    with tempfile.TemporaryDirectory(prefix="sessiontrail-crashing-") as folder:
        server = embedded_postgres.start(Path(folder) / "data")

        def crash() -> str:
            nonlocal server
            server.stop("immediate")
            server = embedded_postgres.start(Path(folder) / "data")
            return server.conninfo()

        try:
            yield crash
        finally:
            server.stop()


async def test_a_crash_of_the_server_leaves_no_build_and_keeps_what_was_replaced(
    crashing: Callable[[], str], data_keys: DataKeys
) -> None:
    conninfo = crashing()
    engine = create_engine(conninfo, max_connections=1, wait_s=5)
    await migrate(engine)
    await engine.dispose()
    async with open_world(conninfo, conninfo, data_keys) as world:
        session = await some_lives(world)
        world.sql("UPDATE sessions SET client_id = 'x' WHERE session_id = %s", session.session_id)
        await world.rebuild()
        await world.build()

    conninfo = crashing()

    async with open_world(conninfo, conninfo, data_keys) as world:
        with pytest.raises(NoBuildError):
            await world.swap()
        assert world.rows_beside() == {"replaced_rows": 1}
        assert (await world.rollback())["sessions"].written == 1
