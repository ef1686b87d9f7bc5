"""Several workers on the log: the same result as one, whoever joins, leaves or stands still."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from infra.detector_leases import LEASE_S, PARTITIONS, Leases
from infra.embedded_postgres import RunningPostgres
from infra.event_rows import EVENT_COLUMNS
from infra.postgres import transaction
from infra.sealing import DataKeys, MasterKeys
from tests.detector_history import Result, result_of, write_history
from tests.integration.detecting import all_judged, detecting, eventually

EVENTS = 4_000
_numbers = itertools.count(1)
Clone = Callable[[], str]


@pytest.fixture
async def history(
    engine: AsyncEngine, data_keys: DataKeys, postgres: RunningPostgres, database_name: str
) -> AsyncIterator[Clone]:
    """Makes databases that have one and the same history; gives the service's connection string."""
    await write_history(engine, data_keys, datetime.now(UTC) - timedelta(minutes=1), events=EVENTS)
    await engine.dispose()
    made: list[str] = []

    def clone() -> str:
        name = f"{database_name}_{next(_numbers)}"
        with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {name} TEMPLATE {database_name} STRATEGY file_copy".encode()
            )
        made.append(name)
        return postgres.conninfo(user="sessiontrail", dbname=name)

    yield clone
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def undisturbed(conninfo: str, masters: MasterKeys) -> Result:
    async with detecting(conninfo, masters):
        await all_judged(conninfo)
    return result_of(conninfo)


async def test_two_and_four_workers_find_what_one_finds(
    history: Clone, masters: MasterKeys
) -> None:
    alone = await undisturbed(history(), masters)

    for workers in (2, 4):
        conninfo = history()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(workers):
                await stack.enter_async_context(detecting(conninfo, masters))
            await all_judged(conninfo)

        assert result_of(conninfo) == alone
    assert [row[3] for row in alone.done] == ["rule:device-change"] * 6
    assert len(alone.alerts) >= 6 + 6 + 2


async def test_workers_that_join_and_leave_in_the_middle_change_nothing(
    history: Clone, masters: MasterKeys, postgres: RunningPostgres
) -> None:
    alone = await undisturbed(history(), masters)
    conninfo = history()
    name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
    log = Rewound(postgres.conninfo(dbname=str(name)))

    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        await first.enter_async_context(detecting(conninfo, masters))
        log.play(0.25)
        for count in (2, 3):
            await stack.enter_async_context(detecting(conninfo, masters))
            log.play(0.1)
            await owners(conninfo, count)
            log.play(0.1)
        await first.aclose()
        log.play(0.35)
        await owners(conninfo, 2)
        log.play(1)
        await all_judged(conninfo)

    assert result_of(conninfo) == alone


class Rewound:
    """A log that is empty again, and comes back part by part, with the same events."""

    def __init__(self, owner_conninfo: str) -> None:
        self.owner_conninfo = owner_conninfo
        self._sql("CREATE TABLE later AS TABLE events", "TRUNCATE events")

    def play(self, share: float) -> None:
        """Bring back a share of all that there was, or the rest."""
        self._sql(
            f"WITH part AS (DELETE FROM later WHERE position < (SELECT min(position) + {share}"
            f" * (SELECT max(position) FROM later) FROM later) OR {share} = 1 RETURNING *)"
            f" INSERT INTO events (position, {EVENT_COLUMNS}) OVERRIDING SYSTEM VALUE"
            f" SELECT position, {EVENT_COLUMNS} FROM part ORDER BY position"
        )

    def _sql(self, *statements: str) -> None:
        with psycopg.connect(self.owner_conninfo, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement.encode())


async def owners(conninfo: str, count: int) -> None:
    """Wait until so many workers own partitions."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:

        async def there_are() -> bool:
            cursor = await connection.execute(
                "SELECT count(DISTINCT owner) FROM detector_partitions WHERE stage = 2"
            )
            return await cursor.fetchone() == (count,)

        await eventually(there_are, f"{count} owners")


# ------------------------------------------------------------------------------------- the leases


async def shares(engine: AsyncEngine, *leases: Leases) -> list[int]:
    """How many partitions of the users' stage each owns."""
    async with transaction(engine) as connection:
        return [len(await each.places(connection, Stage.USERS)) for each in leases]


async def change(engine: AsyncEngine, statement: str, *values: object) -> None:
    async with transaction(engine) as connection:
        await connection.execute(statement.encode(), values)


async def test_partitions_are_shared_fairly_and_all_of_them_are_owned(engine: AsyncEngine) -> None:
    one, two, three = Leases(engine), Leases(engine), Leases(engine)

    await one.renew()
    alone = await shares(engine, one)
    for each in (two, one, two):
        await each.renew()
    two_of_them = await shares(engine, one, two)
    for each in (three, one, two, three):
        await each.renew()
    three_of_them = await shares(engine, one, two, three)

    assert alone == [PARTITIONS]
    assert two_of_them == [8, 8]
    assert sum(three_of_them) == PARTITIONS
    assert max(three_of_them) == 6


async def test_only_one_owns_the_crowds_stage(engine: AsyncEngine) -> None:
    one, two = Leases(engine), Leases(engine)

    for each in (one, two, one, two):
        await each.renew()

    async with transaction(engine) as connection:
        owned = [len(await each.places(connection, Stage.CROWD)) for each in (one, two)]
    assert owned == [1, 0]


async def test_who_leaves_hands_everything_back_at_once(engine: AsyncEngine) -> None:
    leaving, staying = Leases(engine), Leases(engine)
    work = asyncio.create_task(leaving.run())
    await eventually(lambda: owns(engine, leaving), "it owns something")

    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    await staying.renew()

    assert await shares(engine, leaving, staying) == [0, PARTITIONS]


async def owns(engine: AsyncEngine, leases: Leases) -> bool:
    return (await shares(engine, leases))[0] > 0


async def test_who_is_not_heard_of_loses_everything_once_the_lease_is_over(
    engine: AsyncEngine,
) -> None:
    dead, alive = Leases(engine), Leases(engine)
    await dead.renew()

    await alive.renew()
    too_early = await shares(engine, dead, alive)
    await change(
        engine,
        "UPDATE detector_workers SET seen_at = seen_at - make_interval(secs => %s)",
        LEASE_S + 1,
    )
    await change(
        engine,
        "UPDATE detector_partitions SET leased_until = leased_until - make_interval(secs => %s)",
        LEASE_S + 1,
    )
    await alive.renew()

    assert too_early == [PARTITIONS, 0]
    assert await shares(engine, dead, alive) == [0, PARTITIONS]
    assert dead.changes == 1
    await dead.renew()
    assert dead.changes == 2


async def test_a_lease_from_before_the_clock_stepped_back_keeps_nobody_waiting(
    engine: AsyncEngine,
) -> None:
    dead, alive = Leases(engine), Leases(engine)
    await dead.renew()
    await change(engine, "UPDATE detector_workers SET seen_at = seen_at + interval '1 hour'")
    await change(
        engine, "UPDATE detector_partitions SET leased_until = leased_until + interval '1 hour'"
    )

    await alive.renew()

    assert await shares(engine, dead, alive) == [0, PARTITIONS]


async def test_a_partition_in_a_batch_is_not_taken_from_its_owner(engine: AsyncEngine) -> None:
    busy, other = Leases(engine), Leases(engine)
    await busy.renew()
    await change(engine, "UPDATE detector_partitions SET leased_until = 'epoch'")

    async with transaction(engine) as connection:
        await connection.execute(
            "SELECT 1 FROM detector_partitions WHERE stage = 2 AND partition < 5 FOR UPDATE"
        )
        await other.renew()

    mine, others = await shares(engine, busy, other)
    assert (mine, others) == (8, 8)
    async with transaction(engine) as connection:
        assert {0, 1, 2, 3, 4} <= (await busy.places(connection, Stage.USERS)).keys()


LONG_ANSWER = b"SELECT repeat('x', 10000) FROM generate_series(1, 5000)"


@pytest.mark.parametrize("pipelined", [False, True], ids=["in_an_answer", "in_a_pipeline"])
async def test_a_batch_that_stands_still_within_a_statement_is_cut_off(
    engine: AsyncEngine, conninfo: str, pipelined: bool
) -> None:
    dead, alive = Leases(engine), Leases(engine)
    await dead.renew()
    with contextlib.closing(psycopg.connect(conninfo)) as standing:
        standing.execute("SELECT 1 FROM detector_partitions FOR UPDATE")
        if pipelined:
            standing.pgconn.enter_pipeline_mode()
            standing.pgconn.send_query_params(b"SELECT 1", None)
            standing.pgconn.send_flush_request()
        else:
            standing.pgconn.send_query(LONG_ANSWER)
        standing.pgconn.flush()
        await change(engine, "UPDATE detector_workers SET seen_at = 'epoch'")

        async def is_taken_over() -> bool:
            await alive.renew()
            return await shares(engine, alive) == [PARTITIONS]

        await eventually(is_taken_over, "its partitions are taken over")


async def test_a_worker_of_the_crowds_stage_alone_takes_no_share_of_the_users(
    engine: AsyncEngine,
) -> None:
    crowd_only, full = Leases(engine, [Stage.CROWD]), Leases(engine)

    await crowd_only.renew()
    await full.renew()

    assert await shares(engine, crowd_only, full) == [0, PARTITIONS]
