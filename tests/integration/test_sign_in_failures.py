"""Failed sign-ins: counted in memory, one event a window and source, whatever the attack."""

import asyncio
import logging
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import from_microseconds
from domain.events.envelope import RecordedEvent
from domain.events.personal import Sealed
from domain.events.sign_in_failures import AccountFailures, SignInFailuresCounted
from domain.ids import SYSTEM_SUBJECT, Stream, UserId
from infra.embedded_postgres import RunningPostgres
from infra.ids import new_uuid
from infra.postgres import queries, transaction
from infra.sealing import DataKeys
from infra.sign_in_failures import SignInFailureCounter
from infra.tail import read_stream

KEY = b"a key of the deployment, 32 byte"
NETWORK = "203.0.113.0/24"
ADA, BOB = UserId(new_uuid()), UserId(new_uuid())


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counter(engine: AsyncEngine, data_keys: DataKeys) -> SignInFailureCounter:
    return SignInFailureCounter(engine, data_keys, KEY)


async def written(engine: AsyncEngine) -> list[RecordedEvent]:
    async with queries(engine) as connection:
        streams = await connection.scalars(
            text("SELECT stream FROM events GROUP BY stream ORDER BY min(position)")
        )
    async with transaction(engine) as raw:
        return [
            event for stream in streams.all() for event in await read_stream(raw, Stream(stream))
        ]


def counted(event: RecordedEvent) -> SignInFailuresCounted:
    assert isinstance(event.event, SignInFailuresCounted)
    return event.event


async def networks(engine: AsyncEngine, data_keys: DataKeys, event: RecordedEvent) -> list[str]:
    async with queries(engine) as connection:
        wrapped = await connection.scalar(
            text("SELECT wrapped_key FROM data_keys WHERE subject_id = :id"), {"id": SYSTEM_SUBJECT}
        )
    assert isinstance(event.personal, Sealed)
    return data_keys.unwrap(wrapped, SYSTEM_SUBJECT).open(event.personal).networks or []


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 30
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true within 30 s"
        await asyncio.sleep(0.01)


async def test_the_failures_of_a_source_become_one_event(
    counter: SignInFailureCounter, engine: AsyncEngine, data_keys: DataKeys
) -> None:
    counter.note(NETWORK, ADA, limited=False)
    counter.note(NETWORK, BOB, limited=False)
    counter.note(NETWORK, ADA, limited=False)
    counter.note(NETWORK, None, limited=False)
    counter.note(NETWORK, None, limited=True)

    await counter.flush()

    (event,) = await written(engine)
    assert counted(event).failures == 5
    assert counted(event).limited == 1
    assert counted(event).unknown_accounts == 2
    assert counted(event).accounts == [AccountFailures(ADA, 2), AccountFailures(BOB, 1)]
    assert counted(event).accounts_omitted == 0
    assert await networks(engine, data_keys, event) == [NETWORK]
    assert str(event.cause.actor) == "system:sign-in-failures"
    assert event.subject_id == SYSTEM_SUBJECT


async def test_a_source_is_named_nowhere_in_clear(
    counter: SignInFailureCounter, engine: AsyncEngine
) -> None:
    counter.note(NETWORK, ADA, limited=False)

    await counter.flush()

    async with queries(engine) as connection:
        rows = (await connection.execute(text("SELECT events::text FROM events"))).scalars().all()
    assert len(rows) == 1
    assert "203.0.113" not in rows[0]
    assert b"203.0.113".hex() not in rows[0]


async def test_a_window_without_failures_writes_nothing(
    counter: SignInFailureCounter, engine: AsyncEngine
) -> None:
    counter.note(NETWORK, ADA, limited=False)

    await counter.flush()
    await counter.flush()

    assert len(await written(engine)) == 1


async def test_a_source_keeps_its_stream_from_window_to_window_and_from_replica_to_replica(
    counter: SignInFailureCounter, engine: AsyncEngine, data_keys: DataKeys
) -> None:
    replica = SignInFailureCounter(engine, data_keys, KEY)
    for one in (counter, replica, counter):
        one.note(NETWORK, ADA, limited=False)
        await one.flush()

    events = await written(engine)

    assert [event.version for event in events] == [1, 2, 3]
    assert len({event.stream for event in events}) == 1
    assert events[0].stream.startswith("source-")
    assert len(events[0].stream) == len("source-") + 32


async def test_the_event_says_which_window_it_counts_by_the_databases_clock(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    clock = Clock()
    counter = SignInFailureCounter(engine, data_keys, KEY, clock=clock)
    counter.note(NETWORK, ADA, limited=False)
    clock.now += 10.2

    await counter.flush()

    (event,) = await written(engine)
    start = from_microseconds(counted(event).window_start_us)
    assert counted(event).window_s == 10
    assert event.occurred_at - start == timedelta(seconds=10.2)
    assert abs(event.occurred_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_the_accounts_most_tried_are_named_and_the_others_numbered(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    counter = SignInFailureCounter(engine, data_keys, KEY, max_accounts=2)
    users = [UserId(new_uuid()) for _ in range(4)]
    for tries, user in enumerate(users, start=1):
        for _ in range(tries):
            counter.note(NETWORK, user, limited=False)

    await counter.flush()

    (event,) = await written(engine)
    assert counted(event).accounts == [AccountFailures(users[3], 4), AccountFailures(users[2], 3)]
    assert counted(event).accounts_omitted == 2
    assert counted(event).failures == 10


async def test_stuffing_an_account_tried_hard_is_not_hidden_by_thousands_tried_once(
    counter: SignInFailureCounter, engine: AsyncEngine
) -> None:
    for number in range(5_000):
        counter.note(NETWORK, UserId(new_uuid()), limited=False)
        if number % 50 == 0:
            counter.note(NETWORK, ADA, limited=False)

    await counter.flush()

    (event,) = await written(engine)
    assert counted(event).accounts[0].user_id == ADA
    assert counted(event).accounts[0].count > 80
    assert len(counted(event).accounts) <= 32
    assert counted(event).failures == 5_100


async def test_sources_beyond_the_limit_are_merged_into_one_event(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    counter = SignInFailureCounter(engine, data_keys, KEY, max_sources=2)
    sources = [f"198.51.{number}.0/24" for number in range(4)]
    for _ in range(3):
        for source in sources:
            counter.note(source, ADA, limited=False)

    await counter.flush()

    by_stream = {event.stream: event for event in await written(engine)}
    others = by_stream.pop(Stream("source-others"))
    assert [counted(event).failures for event in by_stream.values()] == [3, 3]
    assert counted(others).failures == 6
    assert await networks(engine, data_keys, others) == sources[2:]


async def test_stuffing_from_everywhere_at_everyone_grows_neither_log_nor_memory(
    counter: SignInFailureCounter, engine: AsyncEngine
) -> None:
    def attack(first: int, end: int) -> None:
        for number in range(first, end):
            counter.note(
                f"2001:db8:{number // 9:x}::/64", UserId(str(UUID(int=number))), limited=False
            )

    attack(0, 10_000)
    tracemalloc.start()
    attack(10_000, 110_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    await counter.flush()

    events = await written(engine)
    assert grown < 1_000_000
    assert len(events) == 101
    assert sum(counted(event).failures for event in events) == 110_000
    async with queries(engine) as connection:
        size = await connection.scalar(text("SELECT sum(pg_column_size(events)) FROM events"))
    assert size < 120_000


async def test_replicas_that_flush_at_once_lose_nothing(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    replicas = [SignInFailureCounter(engine, data_keys, KEY, max_sources=5) for _ in range(4)]
    for place, replica in enumerate(replicas):
        for number in range(10):  # the same sources, each replica in an order of its own
            replica.note(f"198.51.{(number + place * 3) % 10}.0/24", ADA, limited=False)

    await asyncio.gather(*(replica.flush() for replica in replicas))

    events = await written(engine)
    assert sum(counted(event).failures for event in events) == 40
    assert len(events) == 4 * 6


async def test_the_data_key_of_the_system_is_made_once(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    replicas = [SignInFailureCounter(engine, data_keys, KEY) for _ in range(4)]
    for number, replica in enumerate(replicas):
        replica.note(f"198.51.{number}.0/24", ADA, limited=False)

    await asyncio.gather(*(replica.flush() for replica in replicas))

    found = [await networks(engine, data_keys, event) for event in await written(engine)]
    assert sorted(found) == [[f"198.51.{number}.0/24"] for number in range(4)]


async def test_what_a_database_that_is_away_cannot_take_is_written_when_it_is_back(
    engine: AsyncEngine,
    data_keys: DataKeys,
    postgres: RunningPostgres,
    database_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    counter = SignInFailureCounter(engine, data_keys, KEY, clock=clock)
    counter.note(NETWORK, ADA, limited=False)
    allow = f"ALTER DATABASE {database_name} ALLOW_CONNECTIONS"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as admin:
        admin.execute(f"{allow} false".encode())
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (database_name,),
        )
        clock.now += 10
        with caplog.at_level(logging.WARNING):
            await counter.flush()
        counter.note(NETWORK, ADA, limited=False)
        counter.note("192.0.2.0/24", None, limited=True)
        admin.execute(f"{allow} true".encode())
    clock.now += 10

    await counter.flush()

    events = await written(engine)
    assert sorted(counted(event).failures for event in events) == [1, 2]
    assert {counted(event).window_s for event in events} == {20}
    assert "will be written later" in caplog.text


async def test_running_it_writes_every_window(engine: AsyncEngine, data_keys: DataKeys) -> None:
    counter = SignInFailureCounter(engine, data_keys, KEY, window_s=1)
    running = asyncio.ensure_future(counter.run())

    async def wrote_one() -> bool:
        return len(await written(engine)) == 1

    async def wrote_two() -> bool:
        return len(await written(engine)) == 2

    counter.note(NETWORK, ADA, limited=False)
    await until(wrote_one)
    counter.note(NETWORK, ADA, limited=False)
    await until(wrote_two)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_last_window_is_written_when_the_service_stops(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    counter = SignInFailureCounter(engine, data_keys, KEY, window_s=3_600)
    running = asyncio.ensure_future(counter.run())
    await asyncio.sleep(0)
    counter.note(NETWORK, ADA, limited=False)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(await written(engine)) == 1


async def test_a_service_that_stops_in_the_middle_of_a_flush_writes_it_once(
    engine: AsyncEngine, data_keys: DataKeys, owner_conninfo: str
) -> None:
    counter = SignInFailureCounter(engine, data_keys, KEY, window_s=0)
    counter.note(NETWORK, ADA, limited=False)

    async def is_waiting() -> bool:
        waiting = await other.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return await waiting.fetchone() is not None

    async with await psycopg.AsyncConnection.connect(owner_conninfo) as other:
        await other.execute("LOCK TABLE data_keys")
        running = asyncio.ensure_future(counter.run())
        await until(is_waiting)

        running.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await running
    assert [counted(event).failures for event in await written(engine)] == [1]
