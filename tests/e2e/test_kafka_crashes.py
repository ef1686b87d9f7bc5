"""``kill -9`` of relay, detector, broker and PostgreSQL: what is found is as if undisturbed."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import psycopg
import pytest
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from domain.detection_work import Stage
from infra.detector_lag import lag_s
from infra.kafka_access import KafkaAccess
from infra.kafka_clients import connect
from infra.kafka_relay import relay_status
from infra.local_kafka import LocalKafka
from infra.postgres import create_engine, transaction
from sessiontrail.detector import types_read
from tests.detector_history import result_of
from tests.e2e.database import wait_for
from tests.e2e.test_detector_crashes import World, detector, start, world_of
from tests.e2e.test_kafka_relay import relay, settings
from tests.kafka_broker import fresh_topic

EVENTS = int(os.environ.get("KAFKA_TEST_EVENTS", "1500"))
"""20,000 take a quarter of a minute more: for whoever changes the worker or the relay."""
THEFTS = REUSES = 4
IN_TIME_S = 60 + EVENTS / 100

pytestmark = pytest.mark.timeout(60 + 4 * IN_TIME_S)


@pytest.fixture
def world(data_dir: Path) -> Iterator[World]:
    """A history that no detector has read."""
    with world_of(data_dir, events=EVENTS, thefts=THEFTS, reuses=REUSES, bursts=1) as made:
        yield made


def on_kafka(folder: Path, conninfo: str, access: KafkaAccess) -> Mapping[str, str]:
    """The environment of a detector that reads the topic."""
    return settings(folder, conninfo, access) | {
        "SESSIONTRAIL_DETECTOR_TRANSPORT": "kafka",
        "SESSIONTRAIL_KAFKA_GROUP": f"group-{access.topic}",
    }


def judged(conninfo: str) -> int:
    """How many messages of the topic the bookmarks are behind."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(kafka_offset), 0)::int FROM detector_partitions"
            " WHERE transport = 'kafka'"
        ).fetchone()
    assert row is not None
    count: int = row[0]
    return count


def published(access: KafkaAccess) -> int:
    """How many messages there are on the topic."""
    consumer = connect(access, KafkaConsumer)
    try:
        numbers = consumer.partitions_for_topic(access.topic)
        ends = consumer.end_offsets([TopicPartition(access.topic, each) for each in numbers])
        return int(sum(ends.values()))
    finally:
        consumer.close()


async def crowd_is_done(conninfo: str) -> bool:
    """Whether the crowd's stage, which reads the log, has come to its end."""
    engine = create_engine(conninfo, max_connections=1, wait_s=10)
    try:
        async with transaction(engine) as connection:
            return await lag_s(connection, Stage.CROWD, types_read(Stage.CROWD)) == 0
    finally:
        await engine.dispose()


def is_all_judged(conninfo: str, access: KafkaAccess) -> bool:
    """Whether everybody is at the end, also of what the detector added itself meanwhile."""

    def is_relayed() -> bool:
        return asyncio.run(relay_status(conninfo, access.topic)).waiting == 0

    def are_members_done() -> bool:
        return judged(conninfo) == published(access)

    steps = (is_relayed, are_members_done, lambda: asyncio.run(crowd_is_done(conninfo)))
    return all(step() for step in (*steps, is_relayed, are_members_done))


def test_what_is_found_on_kafka_is_what_is_found_on_the_log_whoever_is_killed(
    world: World, killable_kafka: LocalKafka
) -> None:
    access = fresh_topic(killable_kafka.bootstrap_servers)
    folder, busy = world.folder, world.busy
    variables = on_kafka(folder, busy, access)
    dice = Random(5)

    def wait_for_progress(of: int) -> None:
        """Wait for so many messages more to be judged, or all there are."""
        reach = judged(busy) + of
        wait_for(lambda: judged(busy) >= reach or is_all_judged(busy, access), IN_TIME_S)

    undisturbed = world.undisturbed()
    with relay(folder, busy, access) as first:
        killed = start(variables, folder)
        wait_for(lambda: judged(busy) >= dice.randrange(1, EVENTS // 3), IN_TIME_S)
        killed.kill()
        first.kill()
    with relay(folder, busy, access), detector(variables, folder):
        wait_for_progress(dice.randrange(1, EVENTS // 6))
        killable_kafka.kill()
        killable_kafka.start()
        wait_for_progress(dice.randrange(1, EVENTS // 6))
        world.server.kill()
        world.server.start()
        wait_for(lambda: is_all_judged(busy, access), IN_TIME_S)

    assert result_of(busy) == undisturbed
    assert len(undisturbed.done) >= THEFTS
    assert len(undisturbed.alerts) >= THEFTS + REUSES
    assert undisturbed.set_aside == []
