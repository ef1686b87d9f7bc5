"""The pool: what stands in a transaction and what by itself, and connections lost while idle."""

import asyncio

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.as_of import AlteredHistoryError
from domain.ports import StoreUnavailableError
from infra.event_store import database_clock
from infra.postgres import create_engine, fetch_one, queries, transaction
from infra.sealing import DataKeys
from tests.integration.accounts import Accounts

_POOL = 8
_ADD = "INSERT INTO data_keys (subject_id, wrapped_key) VALUES (gen_random_uuid(), 'x')"
_COUNT = "SELECT count(*) FROM data_keys"


async def fill(engine: AsyncEngine) -> None:
    """Have the pool open all the connections it may."""
    everyone = asyncio.Barrier(_POOL)

    async def use_one() -> None:
        async with transaction(engine):
            await everyone.wait()

    await asyncio.gather(*(use_one() for _ in range(_POOL)))


def end_connections(owner_conninfo: str) -> None:
    """End every connection but ours, as a restart of the server does."""
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert len(ended) >= _POOL


async def until_somebody_waits_for_a_lock(owner_conninfo: str) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(owner_conninfo, autocommit=True) as looking:
        async with asyncio.timeout(30):
            while await (await looking.execute(query)).fetchone() == (0,):
                pass


async def test_a_transaction_passes_over_connections_that_were_lost_while_idle(
    engine: AsyncEngine, owner_conninfo: str
) -> None:
    await fill(engine)
    end_connections(owner_conninfo)

    async with transaction(engine) as connection:
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_queries_pass_over_connections_that_were_lost_while_idle(
    engine: AsyncEngine, owner_conninfo: str
) -> None:
    await fill(engine)
    end_connections(owner_conninfo)

    async with queries(engine) as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_query_by_itself_passes_over_connections_that_were_lost_while_idle(
    engine: AsyncEngine, owner_conninfo: str
) -> None:
    await fill(engine)
    end_connections(owner_conninfo)

    assert await fetch_one(engine, "SELECT %s::int", 7) == (7,)


async def test_a_connection_lost_inside_a_transaction_is_not_made_up_for(
    engine: AsyncEngine, owner_conninfo: str
) -> None:
    await fill(engine)

    async def lose_it_half_way() -> None:
        async with transaction(engine) as connection:
            end_connections(owner_conninfo)
            await connection.execute("SELECT 1")

    with pytest.raises(StoreUnavailableError):
        await lose_it_half_way()

    assert await fetch_one(engine, "SELECT 1") == (1,)


async def test_a_server_that_is_not_there_is_said_to_be_away(conninfo: str) -> None:
    nowhere = create_engine(conninfo + " port=1", max_connections=2, wait_s=1)

    with pytest.raises(StoreUnavailableError):
        await fetch_one(nowhere, "SELECT 1")

    await nowhere.dispose()


@pytest.mark.parametrize("time", ["infinity", "-infinity", "4000-01-01 BC", "20000-01-01"])
async def test_a_time_that_python_does_not_have_is_said_to_be_altered(
    engine: AsyncEngine, time: str
) -> None:
    query = f"SELECT '{time}'::timestamptz"

    with pytest.raises(AlteredHistoryError, match="audit verify"):
        await fetch_one(engine, query)
    with pytest.raises(AlteredHistoryError, match="audit verify"):
        async with queries(engine) as connection:
            (await connection.execute(text(query))).all()


async def test_data_that_the_database_refuses_stays_what_it_is(engine: AsyncEngine) -> None:
    with pytest.raises(psycopg.DataError):
        await fetch_one(engine, "SELECT %s::int", "no number")


async def test_a_transaction_that_fails_half_way_leaves_nothing(engine: AsyncEngine) -> None:
    async def fail() -> None:
        async with transaction(engine) as connection:
            await connection.execute(_ADD)
            await connection.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await fail()

    assert await fetch_one(engine, _COUNT) == (0,)


async def test_queries_that_fail_half_way_leave_nothing(engine: AsyncEngine) -> None:
    async def fail() -> None:
        async with queries(engine) as connection:
            await connection.execute(text(_ADD))
            await connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(sqlalchemy.exc.DataError):
        await fail()

    assert await fetch_one(engine, _COUNT) == (0,)


async def test_a_transaction_and_queries_commit_at_their_end(engine: AsyncEngine) -> None:
    async with transaction(engine) as first:
        await first.execute(_ADD)
        assert await fetch_one(engine, _COUNT) == (0,)
    async with queries(engine) as second:
        await second.execute(text(_ADD))
        assert await fetch_one(engine, _COUNT) == (1,)

    assert await fetch_one(engine, _COUNT) == (2,)


async def test_a_sign_in_that_waits_for_its_user_begins_when_the_wait_is_over(
    engine: AsyncEngine, owner_conninfo: str, data_keys: DataKeys
) -> None:
    accounts = Accounts(engine, data_keys)
    user = await accounts.user()

    async with transaction(engine) as held:
        await held.execute("SELECT FROM users WHERE user_id = %s FOR UPDATE", (user.user_id,))
        signing_in = asyncio.create_task(accounts.sign_in(user))
        await until_somebody_waits_for_a_lock(owner_conninfo)
        let_go_at = await database_clock(held)
    signed_in = await signing_in

    query = "SELECT started_at > %s FROM sessions WHERE family_id = %s"
    assert await fetch_one(engine, query, let_go_at, signed_in.family_id) == (True,)
