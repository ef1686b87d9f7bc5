"""The relay on a real broker and a real PostgreSQL: the whole log, in order, whatever happens."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import NewEvent, RecordedEvent
from domain.events.users import PasswordChanged
from domain.ids import Stream, UserId, user_stream
from infra.event_store import append_stream, database_clock
from infra.ids import new_uuid
from infra.kafka_access import KafkaAccess, reader_of
from infra.kafka_metrics import RelayMetrics
from infra.kafka_relay import KafkaRelay, relay_status
from infra.local_kafka import LocalKafka
from infra.postgres import Connection, connect
from infra.sealing import DataKeys
from infra.tail import START, read_tail
from tests.integration.accounts import LAPTOP, PHONE, Accounts, cause
from tests.kafka_broker import fresh_topic
from tests.kafka_topic import messages_on, seen_once

DEADLINE_S = 30.0


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


@pytest.fixture
async def connection(conninfo: str) -> AsyncIterator[Connection]:
    """A connection that commits each statement."""
    async with await connect(conninfo) as opened:
        yield opened


@asynccontextmanager
async def relaying(conninfo: str, access: KafkaAccess) -> AsyncIterator[KafkaRelay]:
    """A relay at work; stopped as by Ctrl-C at the end."""
    stopping = asyncio.Event()
    relay = KafkaRelay(conninfo, access, RelayMetrics())
    task = asyncio.create_task(relay.run(stopping))
    try:
        yield relay
    finally:
        stopping.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def write(connection: Connection, *subjects: UserId, times: int = 1) -> None:
    """Append events of these users, turn by turn, each in a transaction of its own."""
    for _ in range(times):
        for subject in subjects:
            await append_next(connection, user_stream(subject), subject)


async def append_next(connection: Connection, stream: Stream, subject: UserId | None) -> None:
    """Append one event."""
    at = await database_clock(connection)
    version = _versions[stream]
    _versions[stream] += 1
    changed = [NewEvent(PasswordChanged())]
    await append_stream(connection, stream, version, changed, cause(), at, subject_id=subject)


_versions: defaultdict[str, int] = defaultdict(int)


def users(count: int) -> list[UserId]:
    """Users of whom nothing is known but their ids."""
    return [UserId(new_uuid()) for _ in range(count)]


async def published(conninfo: str, access: KafkaAccess) -> None:
    """Wait until the relay's checkpoint is behind the last event of the log."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while (await relay_status(conninfo, access.topic)).waiting:
        assert asyncio.get_running_loop().time() < deadline, "not published in time"
        await asyncio.sleep(0.02)


async def log_of(connection: Connection) -> list[RecordedEvent]:
    return await read_tail(connection, START, 100_000)


async def test_the_topic_is_the_log_event_by_event(
    conninfo: str, connection: Connection, accounts: Accounts, kafka: KafkaAccess
) -> None:
    async with relaying(conninfo, kafka):
        for client in (LAPTOP, PHONE):
            await accounts.sign_in(client=client, device_name="Ada's own")
        await write(connection, *users(5), times=10)
        await published(conninfo, kafka)

    messages = messages_on(kafka)
    assert seen_once(messages) == await log_of(connection)
    assert len(messages) == len(await log_of(connection))  # and nothing twice


async def test_events_of_one_user_lie_on_one_partition_in_order(
    conninfo: str, connection: Connection, kafka: KafkaAccess
) -> None:
    everybody = users(20)

    async with relaying(conninfo, kafka):
        await write(connection, *everybody, times=10)
        await published(conninfo, kafka)

    messages = messages_on(kafka)
    partitions = {
        user: {each.partition for each in messages if each.key == user.encode()}
        for user in everybody
    }
    assert all(len(numbers) == 1 for numbers in partitions.values())
    assert len(set.union(*partitions.values())) > 1
    for user in everybody:
        versions = [event.version for event in seen_once(messages) if event.subject_id == user]
        assert versions == list(range(1, 11))


async def test_an_event_without_a_subject_has_its_streams_key(
    conninfo: str, connection: Connection, kafka: KafkaAccess
) -> None:
    stream = Stream(f"policy-{new_uuid()}")

    async with relaying(conninfo, kafka):
        await append_next(connection, stream, None)
        await published(conninfo, kafka)

    assert [message.key for message in messages_on(kafka)] == [stream.encode()]


async def test_nothing_personal_can_be_read_on_the_topic(
    conninfo: str, accounts: Accounts, kafka: KafkaAccess
) -> None:
    user = await accounts.user("ada.lovelace@example.com")

    async with relaying(conninfo, kafka):
        await accounts.sign_in(user, client=LAPTOP, device_name="Ada's own")
        await published(conninfo, kafka)

    everything = b"".join(message.key + message.value for message in messages_on(kafka))
    for clear in (str(LAPTOP.ip), "Firefox", "Ada", "lovelace", "example.com"):
        assert clear.encode() not in everything


async def test_a_late_commit_is_published_in_its_place(
    conninfo: str, connection: Connection, kafka: KafkaAccess
) -> None:
    early, late = users(2)

    async with relaying(conninfo, kafka):
        async with await connect(conninfo) as other, other.transaction():
            await append_next(other, user_stream(late), late)
            await write(connection, early, times=3)
            assert (await relay_status(conninfo, kafka.topic)).waiting == 3
        await published(conninfo, kafka)

    assert seen_once(messages_on(kafka)) == await log_of(connection)
    assert (await log_of(connection))[0].subject_id == late


async def test_a_relay_goes_on_where_the_last_one_stopped(
    conninfo: str, connection: Connection, kafka: KafkaAccess
) -> None:
    someone = users(3)

    for _ in range(3):
        async with relaying(conninfo, kafka):
            await write(connection, *someone, times=5)
            await published(conninfo, kafka)

    messages = messages_on(kafka)
    assert seen_once(messages) == await log_of(connection)
    assert len(messages) == 45


async def test_a_new_topic_gets_the_whole_log(
    conninfo: str, connection: Connection, kafka: KafkaAccess, kafka_servers: str
) -> None:
    await write(connection, *users(3), times=5)
    async with relaying(conninfo, kafka):
        await published(conninfo, kafka)
    another = fresh_topic(kafka_servers)

    async with relaying(conninfo, another):
        await published(conninfo, another)

    assert seen_once(messages_on(another)) == seen_once(messages_on(kafka))


async def test_a_lost_checkpoint_costs_duplicates_and_nothing_else(
    conninfo: str, connection: Connection, kafka: KafkaAccess
) -> None:
    everybody = users(10)
    await write(connection, *everybody, times=5)
    async with relaying(conninfo, kafka):
        await published(conninfo, kafka)
    await connection.execute("UPDATE checkpoints SET transaction_id = '0', position = 0")
    await write(connection, *everybody, times=5)

    async with relaying(conninfo, kafka):
        await published(conninfo, kafka)

    messages = messages_on(kafka)
    assert len(messages) == 150
    assert seen_once(messages) == await log_of(connection)


async def test_of_two_relays_one_publishes_and_the_other_takes_over(
    conninfo: str, connection: Connection, kafka: KafkaAccess
) -> None:
    everybody = users(10)

    async with relaying(conninfo, kafka):
        async with relaying(conninfo, kafka):
            await write(connection, *everybody, times=5)
            await published(conninfo, kafka)
            await cut_off_the_one_with_the_turn(connection, kafka)
            await write(connection, *everybody, times=5)
            await published(conninfo, kafka)
        await write(connection, *everybody, times=5)
        await published(conninfo, kafka)

    messages = messages_on(kafka)
    assert len(messages) == 150  # nobody published beside the other
    assert seen_once(messages) == await log_of(connection)


async def cut_off_the_one_with_the_turn(connection: Connection, access: KafkaAccess) -> None:
    cursor = await connection.execute(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_locks"
        " WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0)",
        (reader_of(access.topic),),
    )
    assert await cursor.fetchone() == (1,)


async def test_broker_gone(
    conninfo: str, connection: Connection, accounts: Accounts, killable_kafka: LocalKafka
) -> None:
    access = fresh_topic(killable_kafka.bootstrap_servers)
    everybody = users(20)

    async with relaying(conninfo, access):
        await write(connection, *everybody, times=3)
        await published(conninfo, access)
        killable_kafka.kill()
        await write(connection, *everybody, times=3)
        await accounts.sign_in()  # nobody who signs in notices
        assert (await relay_status(conninfo, access.topic)).waiting > 60
        await asyncio.to_thread(killable_kafka.start)
        await published(conninfo, access)

    assert seen_once(messages_on(access)) == await log_of(connection)


async def test_a_broker_killed_in_the_middle_of_publishing_loses_and_swaps_nothing(
    conninfo: str, connection: Connection, killable_kafka: LocalKafka
) -> None:
    access = fresh_topic(killable_kafka.bootstrap_servers)
    everybody = users(40)
    still_writing = True

    async def keep_writing() -> None:
        async with await connect(conninfo) as writer:
            while still_writing:
                await write(writer, *everybody)

    async with relaying(conninfo, access):
        writing = asyncio.create_task(keep_writing())
        await eventually(lambda: len(messages_on(access)) > 100)
        killable_kafka.kill()
        await asyncio.to_thread(killable_kafka.start)
        still_writing = False
        await writing
        await published(conninfo, access)

    assert seen_once(messages_on(access)) == await log_of(connection)


async def eventually(is_so: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not await asyncio.to_thread(is_so):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def test_a_relay_that_starts_without_a_broker_waits_for_one_and_stops_when_told_to(
    conninfo: str, connection: Connection, killable_kafka: LocalKafka
) -> None:
    access = fresh_topic(killable_kafka.bootstrap_servers)
    killable_kafka.stop()
    await write(connection, *users(3))

    async with asyncio.timeout(15), relaying(conninfo, access):
        await asyncio.sleep(0)  # told to stop before it found one
    async with relaying(conninfo, access):
        await asyncio.to_thread(killable_kafka.start)
        await published(conninfo, access)

    assert seen_once(messages_on(access)) == await log_of(connection)
