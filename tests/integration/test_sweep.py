"""Expiry swept by many replicas at once, and what a long life costs, on a real PostgreSQL."""

import asyncio
import os
from collections import Counter
from datetime import datetime, timedelta

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.families import TokenDelivery
from domain.family import fold_new
from domain.family_decisions import StartSession, decide
from domain.ids import FamilyId, SessionId
from domain.refresh_token import RefreshToken
from domain.refusals import Refusal
from domain.user import User
from infra.event_store import FamilyAppend, database_clock, insert_families
from infra.family_execution import hold_families
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from infra.sweep import sweep_once
from projections.session_rows import SESSION_COLUMNS
from tests.equivalence import assert_rows_are_folds, read_family
from tests.integration.accounts import KEYS, LAPTOP, POLICY, Accounts, at_work, cause, present

EXPIRED = 5_000
REPLICAS = 6
ROTATIONS = 2_000
CROWD = 12_000


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


async def signed_in_at(
    engine: AsyncEngine, data_keys: DataKeys, user: User, at: datetime, number: int
) -> list[RefreshToken]:
    """Many sessions that began then, written as sign-ins write them."""
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT wrapped_key FROM data_keys WHERE subject_id = %s", (user.user_id,)
        )
        record = await cursor.fetchone()
        assert record is not None
        key = data_keys.unwrap(record[0], user.user_id)
        appends, tokens = [], []
        for _ in range(number):
            family_id, session_id = FamilyId(new_uuid()), SessionId(new_uuid())
            token = RefreshToken(1, family_id, session_id, 1, os.urandom(32))
            events = decide(None, started(user, token), at).events
            after = fold_new(None, family_id, events, at)
            appends.append(
                FamilyAppend(
                    before=None,
                    after=after,
                    events=[(event, cause()) for event in events],
                    data_key=key,
                    at=at,
                )
            )
            tokens.append(token)
        for first in range(0, number, 1_000):
            await insert_families(connection, appends[first : first + 1_000])
    return tokens


def started(user: User, token: RefreshToken) -> StartSession:
    return StartSession(
        session_id=token.session_id,
        user_id=user.user_id,
        client_id="web",
        auth_methods=("pwd",),
        delivery=TokenDelivery.COOKIE,
        persistent=True,
        secret=token.secret,
        token_key=KEYS.current_id,
        client=LAPTOP,
        device_name=None,
        policy=POLICY,
    )


async def now(engine: AsyncEngine) -> datetime:
    async with transaction(engine) as connection:
        return await database_clock(connection)


async def sweep_until_nothing_is_left(engine: AsyncEngine, data_keys: DataKeys) -> int:
    """As one replica does; returns how many families it expired."""
    swept = 0
    while expired := await sweep_once(engine, data_keys):
        swept += expired
    return swept


COUNTED = (
    "seq_scan", "idx_scan", "seq_tup_read", "idx_tup_fetch",
    "n_tup_ins", "n_tup_upd", "n_tup_hot_upd",
)  # fmt: skip


def work_on_sessions(owner_conninfo: str) -> Counter[str]:
    """How ``sessions`` has been read and written, by those whose connection is closed."""
    with psycopg.connect(owner_conninfo) as connection:
        row = connection.execute(
            f"SELECT {', '.join(COUNTED)} FROM pg_stat_user_tables WHERE relname = 'sessions'"
        ).fetchone()
    assert row is not None
    return Counter(dict(zip(COUNTED, row, strict=True)))


async def work_once_counted(owner_conninfo: str, column: str, count: int) -> Counter[str]:
    """The same, once the statistics have caught up so far."""
    deadline = asyncio.get_running_loop().time() + 20
    while (seen := work_on_sessions(owner_conninfo))[column] < count:
        assert asyncio.get_running_loop().time() < deadline, seen
        await asyncio.sleep(0.05)
    return seen


def analyze(owner_conninfo: str) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("ANALYZE sessions, events")


def crowd(owner_conninfo: str) -> None:
    """Many more rows like the one that is there: enough for an index to be worth its while."""
    columns = ", ".join(
        column for column in SESSION_COLUMNS if column not in {"session_id", "family_id"}
    )
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute(
            f"INSERT INTO sessions (session_id, family_id, {columns})"
            f" SELECT gen_random_uuid(), gen_random_uuid(), {columns}"
            f" FROM sessions, generate_series(1, {CROWD})"
        )
    analyze(owner_conninfo)


async def test_sweep_many_replicas(
    accounts: Accounts,
    engine: AsyncEngine,
    conninfo: str,
    owner_conninfo: str,
    data_keys: DataKeys,
) -> None:
    user = await accounts.user()
    at = await now(engine)
    expired = await signed_in_at(engine, data_keys, user, at - timedelta(days=15), EXPIRED)
    live = await signed_in_at(engine, data_keys, user, at, 200)
    analyze(owner_conninfo)

    async with at_work(RefreshLanes(conninfo, data_keys)) as lanes:
        swept, refreshed = await asyncio.gather(
            asyncio.gather(
                *(sweep_until_nothing_is_left(engine, data_keys) for _ in range(REPLICAS))
            ),
            asyncio.gather(*(present(lanes, token) for token in live)),
        )

    assert sum(swept) == EXPIRED
    assert sum(1 for share in swept if share) > 1, "one replica did it all"
    assert all(isinstance(answer, RefreshToken) for answer in refreshed)
    with psycopg.connect(conninfo) as connection:
        counts = connection.execute(
            "SELECT count(*), count(DISTINCT stream), min(data->>'kind'), max(data->>'kind'),"
            " min(actor), max(actor) FROM events WHERE type = 'SessionExpired'"
        ).fetchone()
        alive = connection.execute("SELECT count(*) FROM sessions WHERE ended_at IS NULL")
        assert alive.fetchone() == (len(live),)
    assert counts == (EXPIRED, EXPIRED, "idle", "idle", "system:expiry", "system:expiry")
    looked_at = [token.family_id for token in (*expired[:200], *expired[-200:], *live)]
    await assert_rows_are_folds(conninfo, data_keys, looked_at)


async def test_a_sweep_of_nothing_reads_nothing_however_many_sessions_live(
    accounts: Accounts, engine: AsyncEngine, owner_conninfo: str, data_keys: DataKeys
) -> None:
    await accounts.sign_in()
    crowd(owner_conninfo)
    await engine.dispose()
    before = await work_once_counted(owner_conninfo, "n_tup_ins", CROWD + 1)

    assert await sweep_once(engine, data_keys) == 0

    await engine.dispose()
    after = await work_once_counted(owner_conninfo, "idx_scan", before["idx_scan"] + 1)
    work = after - before
    assert (work["seq_scan"], work["idx_scan"], work["idx_tup_fetch"]) == (0, 1, 0)


async def test_a_session_that_expires_at_use_and_in_the_sweep_expires_once(
    accounts: Accounts, engine: AsyncEngine, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    long_ago = await now(engine) - timedelta(days=15)
    tokens = await signed_in_at(engine, data_keys, user, long_ago, 300)

    async with at_work(RefreshLanes(conninfo, data_keys)) as lanes:
        swept, answers = await asyncio.gather(
            sweep_until_nothing_is_left(engine, data_keys),
            asyncio.gather(*(present(lanes, token) for token in tokens)),
        )

    assert set(answers) <= {Refusal.SESSION_EXPIRED, Refusal.SESSION_ENDED}
    assert swept + answers.count(Refusal.SESSION_EXPIRED) >= 300
    for token in tokens:
        log = [recorded.event.TYPE for recorded in await read_family(conninfo, token.family_id)]
        assert log.count("SessionExpired") == 1
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_session_that_another_transaction_holds_is_left_for_the_next_sweep(
    accounts: Accounts, engine: AsyncEngine, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    long_ago = await now(engine) - timedelta(days=15)
    tokens = await signed_in_at(engine, data_keys, user, long_ago, 3)

    async with transaction(engine) as other:
        await hold_families(other, [tokens[1].family_id])
        meanwhile = await sweep_once(engine, data_keys)
    afterwards = await sweep_once(engine, data_keys)

    assert (meanwhile, afterwards) == (2, 1)


async def test_long_lived(
    accounts: Accounts,
    engine: AsyncEngine,
    conninfo: str,
    owner_conninfo: str,
    data_keys: DataKeys,
) -> None:
    token = (await accounts.sign_in()).token
    crowd(owner_conninfo)
    await engine.dispose()
    tenth = ROTATIONS // 10
    written = await work_once_counted(owner_conninfo, "n_tup_ins", CROWD + 1)
    costs: list[Counter[str]] = []
    sizes = []

    for _ in range(10):
        token = await rotated(conninfo, data_keys, token, tenth)
        target = written["n_tup_upd"] + tenth
        after = await work_once_counted(owner_conninfo, "n_tup_upd", target)
        costs.append(after - written)
        sizes.append(row_and_table_size(owner_conninfo, token))
        written = after

    assert token.generation == 1 + ROTATIONS
    for cost in costs:  # the last as the first
        assert cost["seq_scan"] == 0
        assert cost["idx_scan"] <= 4 * tenth
        assert cost["n_tup_upd"] == tenth
        assert cost["n_tup_hot_upd"] >= 0.95 * tenth  # no index is touched
    (row, table, indexes), last = sizes[0], sizes[-1]
    assert (last[0], last[2]) == (row, indexes)
    # Unpruned, its versions would be a sixth of the table. ANALYZE, which sets in by itself, keeps
    # some from being pruned while it runs.
    assert table <= last[1] <= 1.03 * table
    assert len(await read_family(conninfo, token.family_id)) == 1 + ROTATIONS
    await assert_rows_are_folds(conninfo, data_keys, [token.family_id])


async def rotated(
    conninfo: str, data_keys: DataKeys, token: RefreshToken, times: int
) -> RefreshToken:
    """Refresh so many times, on a connection that then closes and so reports what it did."""
    async with at_work(RefreshLanes(conninfo, data_keys, lanes=1)) as lanes:
        for _ in range(times):
            answer = await present(lanes, token)
            assert isinstance(answer, RefreshToken), answer
            token = answer
    return token


def row_and_table_size(owner_conninfo: str, token: RefreshToken) -> tuple[int, int, int]:
    """Bytes of the session's row, of the table, and of its indexes."""
    with psycopg.connect(owner_conninfo) as connection:
        row = connection.execute(
            "SELECT pg_column_size(s), pg_table_size('sessions'), pg_indexes_size('sessions')"
            " FROM sessions s WHERE session_id = %s",
            (token.session_id,),
        ).fetchone()
    assert row is not None
    return (row[0], row[1], row[2])
