"""``kill -9`` of relay, detector and broker: what is found is what is found undisturbed."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import psycopg
import pytest
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from domain.detection_work import Stage
from infra.detector_lag import lag_s
from infra.embedded_postgres import RunningPostgres
from infra.kafka_access import KafkaAccess
from infra.kafka_relay import relay_status
from infra.key_files import load_key_ring
from infra.local_kafka import LocalKafka
from infra.postgres import create_engine, transaction
from infra.sealing import DataKeys
from sessiontrail.detector import types_read
from tests.detector_history import result_of, write_history
from tests.e2e.database import wait_for
from tests.e2e.service import environment, make_keys
from tests.e2e.test_detector_crashes import detector, start
from tests.e2e.test_kafka_relay import relay, settings
from tests.integration.detecting import is_done
from tests.kafka_broker import fresh_topic

EVENTS = 1500
THEFTS = REUSES = 4
IN_TIME_S = 60.0


@pytest.fixture
def history(conninfo: str, data_dir: Path) -> str:
    """A database whose history no detector has read."""
    data_dir.mkdir(mode=0o700)
    make_keys(data_dir)
    keys = load_key_ring(data_dir / "keys.json", None, None)

    async def write() -> None:
        engine = create_engine(conninfo, max_connections=2, wait_s=10)
        until = datetime.now(UTC) - timedelta(minutes=1)
        await write_history(
            engine,
            DataKeys(keys.masters),
            until,
            events=EVENTS,
            thefts=THEFTS,
            reuses=REUSES,
            bursts=1,
        )
        await engine.dispose()

    asyncio.run(write())
    return conninfo


@pytest.fixture
def copy(postgres: RunningPostgres, history: str) -> Iterator[str]:
    """A second database with the same."""
    name = psycopg.conninfo.conninfo_to_dict(history)["dbname"]
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE quiet TEMPLATE {name}".encode())
    yield psycopg.conninfo.make_conninfo(history, dbname="quiet")
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("DROP DATABASE quiet WITH (FORCE)")


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
    consumer = KafkaConsumer(bootstrap_servers=access.bootstrap_servers)
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
    history: str, copy: str, data_dir: Path, killable_kafka: LocalKafka
) -> None:
    access = fresh_topic(killable_kafka.bootstrap_servers)
    variables = on_kafka(data_dir, history, access)
    dice = Random(5)
    with detector(environment(data_dir, copy), data_dir):
        wait_for(lambda: asyncio.run(is_done(copy)), IN_TIME_S)
    undisturbed = result_of(copy)

    with relay(data_dir, history, access) as first:
        killed = start(variables, data_dir)
        wait_for(lambda: judged(history) >= dice.randrange(1, EVENTS // 3), IN_TIME_S)
        killed.kill()
        first.kill()
    with relay(data_dir, history, access), detector(variables, data_dir):
        wait_for(lambda: judged(history) >= EVENTS // 2, IN_TIME_S)
        killable_kafka.kill()
        killable_kafka.start()
        wait_for(lambda: is_all_judged(history, access), IN_TIME_S)

    assert result_of(history) == undisturbed
    assert len(undisturbed.done) >= THEFTS
    assert len(undisturbed.alerts) >= THEFTS + REUSES
    assert undisturbed.set_aside == []
