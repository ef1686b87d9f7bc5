"""Whoever is erased stays erased through every step of a rebuild, and lies about in none."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.postgres import connect
from infra.projection_leftovers import PERSONAL_LEFTOVERS, keep_rebuilds_out
from infra.sealing import DataKeys
from tests.integration.accounts import SignedIn
from tests.integration.projection_world import World, meanwhile, open_world, some_lives, until

IN_CLEAR = ("ada@example.com", "my laptop", "Oslo")
"""What Ada is known by: her name, her device's, and where an alert has seen her."""


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def ada(world: World) -> SignedIn:
    """Ada's session, in a world where each of her rows says something wrong besides."""
    session = await some_lives(world)
    world.sql("UPDATE users SET roles = '{admin}' WHERE username = 'ada@example.com'")
    world.sql("UPDATE sessions SET client_id = 'another'")
    world.sql("UPDATE alerts SET rule_version = 9")
    return session


def in_clear(world: World, *tables: str) -> set[str]:
    """What tables say of Ada."""
    text = [str(row) for table in tables for row in world.sql(f"SELECT t::text FROM {table} t")]
    return {each for each in IN_CLEAR if each in "\n".join(text)}


LIVE = ("users", "sessions", "alerts")


async def test_a_build_holds_what_the_tables_hold_until_somebody_is_erased(
    world: World, ada: SignedIn
) -> None:
    await world.build()
    assert in_clear(world, *PERSONAL_LEFTOVERS) == set(IN_CLEAR)

    await world.accounts.erase(ada.user)

    assert in_clear(world, *PERSONAL_LEFTOVERS) == set()


async def test_who_is_erased_between_build_and_swap_is_not_brought_back_and_not_kept(
    world: World, ada: SignedIn
) -> None:
    await world.build()
    await world.accounts.erase(ada.user)

    swapped = await world.swap()

    assert swapped["sessions"].written == 5
    assert in_clear(world, *LIVE, *PERSONAL_LEFTOVERS) == set()
    assert await world.verify() == []
    assert ada.user.user_id not in str(world.sql("SELECT * FROM replaced_rows"))


async def test_who_is_erased_between_swap_and_roll_back_is_not_brought_back(
    world: World, ada: SignedIn
) -> None:
    await world.rebuild()
    assert in_clear(world, "replaced_rows") == set(IN_CLEAR)
    await world.accounts.erase(ada.user)
    assert in_clear(world, *PERSONAL_LEFTOVERS) == set()

    rolled_back = await world.rollback()

    assert rolled_back["sessions"].written == 3, "those of the others"
    assert in_clear(world, *LIVE, *PERSONAL_LEFTOVERS) == set()
    hers = {
        row[0]
        for row in world.sql(
            "SELECT session_id::text FROM sessions WHERE user_id = %s", ada.user.user_id
        )
    }
    assert len(hers) == 2
    assert not hers & {each.key for each in await world.verify()}


@pytest.mark.parametrize("step", ["build", "compare", "swap", "rebuild", "rollback"])
async def test_who_is_erased_in_the_middle_of_a_step_stays_erased(
    world: World, ada: SignedIn, step: str
) -> None:
    async def erasure() -> None:
        other = World(world.conninfo, world.owner_conninfo, world.data_keys)
        await other.accounts.erase(ada.user)
        await other.close()

    if step in {"compare", "swap"}:
        await world.build()
    if step == "rollback":
        await world.rebuild()
    await world.refresh(ada, 1)

    await getattr(world, step)(meanwhile(erasure))

    assert in_clear(world, *LIVE, *PERSONAL_LEFTOVERS) == set()
    if step == "build":
        await world.swap()
    assert in_clear(world, *LIVE, *PERSONAL_LEFTOVERS) == set()


async def test_rows_are_not_put_while_an_erasure_is_about_to_commit(
    world: World, ada: SignedIn
) -> None:
    """Its data key would still be there, and what it was to clear not yet."""
    erasing = await connect(world.owner_conninfo)
    await erasing.execute("BEGIN")
    await erasing.execute("SELECT FROM users WHERE user_id = %s FOR UPDATE", (ada.user.user_id,))
    await keep_rebuilds_out(erasing)
    await erasing.execute("DELETE FROM data_keys WHERE subject_id = %s", (ada.user.user_id,))

    build = asyncio.create_task(world.build())
    await until(lambda: somebody_waits_for_an_erasure(world))
    await erasing.execute("COMMIT")
    await erasing.close()
    await build

    assert in_clear(world, *PERSONAL_LEFTOVERS) == set()


def somebody_waits_for_an_erasure(world: World) -> bool:
    return bool(
        world.sql(
            "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE NOT l.granted AND l.locktype = 'advisory' AND a.datname = current_database()"
        )
    )


async def test_what_an_intruder_wrote_of_somebody_erased_is_mended_and_not_kept(
    world: World, ada: SignedIn
) -> None:
    await world.accounts.erase(ada.user)
    world.sql("UPDATE sessions SET device_name = 'my laptop' WHERE user_id = %s", ada.user.user_id)

    await world.rebuild()

    assert in_clear(world, *LIVE, *PERSONAL_LEFTOVERS) == set()
    assert await world.verify() == []


async def test_what_is_emptied_leaves_the_disk(world: World, ada: SignedIn) -> None:
    def files() -> set[object]:
        names = ", ".join(f"pg_relation_filepath('{table}')" for table in PERSONAL_LEFTOVERS)
        return set(world.sql(f"SELECT unnest(ARRAY[{names}])"))

    await world.build()
    await world.refresh(ada, 1)
    await world.build()
    built = files()

    await world.swap()
    await world.rollback()

    assert not built & files(), "a file that is replaced is removed with all that it held"
