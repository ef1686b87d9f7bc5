"""Kafka as the detector's source, on a real broker: each event counts once, whatever happens."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage, StateKey, StoredState
from domain.events.users import PasswordChanged
from domain.ids import UserId
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_leases import Leases
from infra.detector_log import LogSource, PartitionLostError
from infra.detector_reactions import Reactions
from infra.detector_work import DetectorWork, Workbench
from infra.ids import new_uuid
from infra.kafka_access import KafkaAccess, reader_of
from infra.kafka_bookmarks import Bookmarks
from infra.kafka_messages import Message
from infra.kafka_publisher import Publisher
from infra.kafka_source import KafkaSource
from infra.local_kafka import LocalKafka
from infra.postgres import Connection, connect, transaction
from infra.sealing import DataKeys
from infra.tail import Place
from infra.user_commands import PostgresUserCommands
from tests.integration.test_kafka_relay import eventually, relaying, users, write
from tests.kafka_broker import PARTITIONS, fresh_topic

DEADLINE_S = 30.0
SCOPE = 99


@pytest.fixture
async def connection(conninfo: str) -> AsyncIterator[Connection]:
    """A connection that commits each statement."""
    async with await connect(conninfo) as opened:
        yield opened


@dataclass(slots=True)
class Consumers:
    """Makes members of one group over one database."""

    engine: AsyncEngine
    data_keys: DataKeys
    group: str = field(default_factory=new_uuid)

    def source(self, access: KafkaAccess) -> KafkaSource:
        """A new member, not at work yet."""
        policies = DetectionPolicyStore(self.engine, self.data_keys)
        people = PostgresUserCommands(self.engine, self.data_keys)
        reactions = Reactions(self.data_keys, people, policies, {}, lambda *_: True)
        shared = (
            Workbench(policies, reactions, self.data_keys),
            lambda _: [PasswordChanged.TYPE],
        )
        crowd = LogSource(self.engine, Leases(self.engine), *shared)
        return KafkaSource(self.engine, access, self.group, crowd, *shared)

    @asynccontextmanager
    async def at_work(self, access: KafkaAccess) -> AsyncIterator[KafkaSource]:
        """A member that judges whatever comes; leaves the group at the end."""
        source = self.source(access)
        async with reading(source), alongside(self.judge_all(source)):
            yield source

    async def judge_all(self, source: KafkaSource, limit: int = 50) -> None:
        """Judge batches for ever, as the worker does."""
        async for opening in source.batches(Stage.USERS, lambda: limit):
            with contextlib.suppress(PartitionLostError):
                async with opening as work:
                    await judge(work)


@pytest.fixture
def consumers(engine: AsyncEngine, data_keys: DataKeys) -> Consumers:
    return Consumers(engine, data_keys)


@asynccontextmanager
async def reading(source: KafkaSource) -> AsyncIterator[None]:
    """A member that reads, and leaves what it has read to the test."""
    async with alongside(source.run()):
        yield


@asynccontextmanager
async def alongside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Work that is cancelled at the end of the block; if it fails, so does the block, at once."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


async def judge(work: DetectorWork) -> None:
    """What stands for judging: each user's state is the list of the events that counted."""
    events = work.events[: work.taken]
    keys: list[StateKey] = [(SCOPE, str(event.subject_id)) for event in events]
    states = {key: json.loads(state) for key, state in (await work.load(keys)).items()}
    for event, key in zip(events, keys, strict=True):
        states.setdefault(key, []).append(event.event_id)
    await work.save(
        [StoredState(key, None, json.dumps(ids).encode()) for key, ids in states.items()]
    )


async def counted(connection: Connection) -> dict[str, list[str]]:
    """The events of each user that counted, in the order in which they did."""
    cursor = await connection.execute(
        "SELECT key, convert_from(state, 'UTF8') FROM detector_states WHERE scope = %s", (SCOPE,)
    )
    return {key: json.loads(state) for key, state in await cursor.fetchall()}


async def on_the_log(connection: Connection) -> dict[str, list[str]]:
    """The events of each user in the log's order, all that are committed."""
    cursor = await connection.execute(
        "SELECT subject_id::text, event_id::text FROM events WHERE type = 'PasswordChanged'"
        " AND stream LIKE 'user-%' ORDER BY transaction_id, position"
    )
    events: dict[str, list[str]] = {}
    for subject_id, event_id in await cursor.fetchall():
        events.setdefault(subject_id, []).append(event_id)
    return events


async def all_counted(connection: Connection) -> None:
    """Wait until as many events counted as there are on the log; it fails if they are not those."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    expected = await on_the_log(connection)
    while sum(map(len, (seen := await counted(connection)).values())) < sum(
        map(len, expected.values())
    ):
        assert asyncio.get_running_loop().time() < deadline, "not judged in time"
        await asyncio.sleep(0.02)
    assert seen == expected


async def test_every_event_counts_once_and_in_its_users_order(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    async with relaying(conninfo, kafka), consumers.at_work(kafka):
        await write(connection, *users(20), times=10)
        await all_counted(connection)


async def test_a_member_goes_on_where_the_last_one_stopped(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    everybody = users(10)

    async with relaying(conninfo, kafka):
        for _ in range(3):
            async with consumers.at_work(kafka):
                await write(connection, *everybody, times=3)
                await all_counted(connection)


async def test_a_batch_that_fails_leaves_nothing_and_comes_again(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    source = consumers.source(kafka)
    await write(connection, *users(1), times=3)
    came: list[list[int]] = []

    async with relaying(conninfo, kafka), reading(source):
        async for opening in source.batches(Stage.USERS, lambda: 3):
            with contextlib.suppress(ZeroDivisionError):
                async with opening as work:
                    came.append([event.version for event in work.events])
                    await judge(work)
                    _ = 1 / (len(came) - 1)  # the first time round
            if sum(map(len, came[1:])) >= 3:
                break

    assert came[0] == came[1][: len(came[0])]
    assert await counted(connection) == await on_the_log(connection)


async def test_a_batch_may_end_before_an_event_which_then_comes_again(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    source = consumers.source(kafka)
    await write(connection, *users(3), times=3)
    taken: list[str] = []

    async with relaying(conninfo, kafka), reading(source):
        async for opening in source.batches(Stage.USERS, lambda: 50):
            async with opening as work:
                work.stop_before(1)
                await judge(work)
                taken.append(work.events[0].event_id)
            if len(taken) == 9:
                break

    assert await counted(connection) == await on_the_log(connection)


async def test_messages_that_a_relay_published_again_count_once(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    everybody = users(10)
    async with consumers.at_work(kafka):
        for _ in range(2):
            async with relaying(conninfo, kafka):
                await write(connection, *everybody, times=3)
                await all_counted(connection)
            await connection.execute("UPDATE checkpoints SET transaction_id = '0', position = 0")


async def test_two_members_share_the_partitions_and_one_takes_over_what_the_other_leaves(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    everybody = users(40)

    async with relaying(conninfo, kafka), consumers.at_work(kafka):
        await write(connection, *everybody, times=2)
        async with consumers.at_work(kafka):
            await owners(connection, 2)
            await write(connection, *everybody, times=5)
            await all_counted(connection)
            await write(connection, *everybody, times=2)
        await write(connection, *everybody, times=2)
        await all_counted(connection)


async def owners(connection: Connection, count: int) -> None:
    """Wait until so many workers own the topic's partitions."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    query = "SELECT count(DISTINCT owner) FROM detector_partitions WHERE transport = 'kafka'"
    while await (await connection.execute(query)).fetchone() != (count,):
        assert asyncio.get_running_loop().time() < deadline, f"there never were {count} owners"
        await asyncio.sleep(0.05)


async def test_a_member_that_lost_its_partitions_without_knowing_changes_nothing(
    engine: AsyncEngine,
    conninfo: str,
    connection: Connection,
    consumers: Consumers,
    kafka: KafkaAccess,
) -> None:
    source = consumers.source(kafka)
    await write(connection, *users(4), times=5)
    lost = 0

    async with relaying(conninfo, kafka), reading(source):
        async with asyncio.timeout(DEADLINE_S):
            async for opening in source.batches(Stage.USERS, lambda: 5):
                if lost == 0:
                    await taken_over(engine)
                try:
                    async with opening as work:
                        await judge(work)
                except PartitionLostError:
                    lost += 1
                if sum(map(len, (await counted(connection)).values())) >= 20:
                    break

    assert lost >= 1
    assert await counted(connection) == await on_the_log(connection)


async def taken_over(engine: AsyncEngine) -> None:
    async with transaction(engine) as other:
        await Bookmarks(new_uuid()).take(other, range(PARTITIONS))


async def test_on_a_new_topic_the_detector_goes_on_where_it_stopped(
    conninfo: str,
    connection: Connection,
    consumers: Consumers,
    kafka: KafkaAccess,
    kafka_servers: str,
) -> None:
    everybody = users(10)
    another = fresh_topic(kafka_servers)
    await write(connection, *users(3), times=20)  # so that offsets differ
    async with relaying(conninfo, kafka), consumers.at_work(kafka):
        await write(connection, *everybody, times=3)
        await all_counted(connection)

    async with relaying(conninfo, another), consumers.at_work(another):
        await write(connection, *everybody, times=3)
        await all_counted(connection)


async def test_where_the_topic_lacks_events_the_detector_waits_instead_of_passing_them_over(
    caplog: pytest.LogCaptureFixture,
    conninfo: str,
    connection: Connection,
    consumers: Consumers,
    kafka: KafkaAccess,
    kafka_servers: str,
) -> None:
    everybody = users(10)
    async with relaying(conninfo, kafka), consumers.at_work(kafka):
        await write(connection, *everybody, times=3)
        await all_counted(connection)
    await write(connection, *everybody, times=3)
    gappy = fresh_topic(kafka_servers)
    await connection.execute(  # as if what comes before had expired on it
        "INSERT INTO checkpoints SELECT %s, max(transaction_id::text::bigint)::text::xid8,"
        " max(position), now() FROM events",
        (reader_of(gappy.topic),),
    )
    await write(connection, *everybody, times=1)
    source = consumers.source(gappy)

    async with relaying(conninfo, gappy), reading(source), alongside(consumers.judge_all(source)):
        await eventually(lambda: "the detector waits: events behind" in caplog.text)

    assert sum(map(len, (await counted(connection)).values())) == 30


async def test_what_nobody_can_read_is_set_aside_and_the_rest_goes_on(
    conninfo: str,
    owner_conninfo: str,
    connection: Connection,
    consumers: Consumers,
    kafka: KafkaAccess,
) -> None:
    await asyncio.to_thread(publish_garbage, kafka)
    [user] = users(1)
    await write(connection, user, times=2)
    insert_damaged(owner_conninfo, user)
    await write(connection, *users(3), times=2)

    async with relaying(conninfo, kafka), consumers.at_work(kafka):
        await connection.execute("SELECT 1")
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while sum(map(len, (await counted(connection)).values())) < 8:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)

    cursor = await connection.execute("SELECT type, stage, reason FROM detector_set_aside")
    [(type_, stage, reason)] = await cursor.fetchall()
    assert (type_, stage) == ("PasswordChanged", Stage.USERS)
    assert reason == "it cannot be read: MalformedEventError"


def publish_garbage(access: KafkaAccess) -> None:
    """What somebody else's program might write to our topic."""
    publisher = Publisher(access)
    publisher.publish([Message(Place(1, 1), str(key).encode(), b"garbage") for key in range(20)])
    publisher.close()


def insert_damaged(owner_conninfo: str, subject: UserId) -> None:
    """An event whose data no build of ours wrote."""
    with psycopg.connect(owner_conninfo) as tampering:
        tampering.execute(
            "INSERT INTO events (occurred_at, version, schema_version, event_id, subject_id,"
            " correlation_id, stream, type, actor, data) VALUES (now(), 1, 1, gen_random_uuid(),"
            " %s, gen_random_uuid(), 'damaged', 'PasswordChanged', 'user', '[]')",
            (subject,),
        )


async def test_what_was_judged_on_the_log_does_not_count_again(
    conninfo: str, connection: Connection, consumers: Consumers, kafka: KafkaAccess
) -> None:
    early, late = users(8), users(8)
    await write(connection, *early, times=3)
    await connection.execute(
        "INSERT INTO detector_partitions"
        " (transport, stage, partition, transaction_id, position, updated_at)"
        " SELECT 'log', 2, number, last.transaction_id, last.position, now()"
        "   FROM generate_series(0, 15) AS number,"
        "        (SELECT transaction_id, position FROM events"
        "          ORDER BY transaction_id DESC, position DESC LIMIT 1) AS last"
    )
    await write(connection, *late, times=3)

    async with relaying(conninfo, kafka), consumers.at_work(kafka):
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while sum(map(len, (await counted(connection)).values())) < 24:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)

    log = await on_the_log(connection)
    assert await counted(connection) == {str(user): log[user] for user in late}


async def test_members_survive_the_brokers_death(
    conninfo: str, connection: Connection, consumers: Consumers, killable_kafka: LocalKafka
) -> None:
    access = fresh_topic(killable_kafka.bootstrap_servers)
    everybody = users(20)

    async with relaying(conninfo, access), consumers.at_work(access):
        await write(connection, *everybody, times=3)
        await all_counted(connection)
        killable_kafka.kill()
        await write(connection, *everybody, times=3)
        await asyncio.to_thread(killable_kafka.start)
        await all_counted(connection)
