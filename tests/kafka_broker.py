"""A real Apache Kafka for tests: one broker for all of them, started by the first that asks.

``KAFKA_BOOTSTRAP_SERVERS`` names one of your own instead. Where there is neither that nor Java and
Maven, these tests are skipped and say what is missing; in CI they fail.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from infra.ids import new_uuid
from infra.kafka_access import KafkaAccess
from infra.kafka_clients import ensure_topic
from infra.kafka_distribution import NoKafkaError
from infra.local_kafka import LocalKafka, free_ports

PARTITIONS = 4

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def local_kafka() -> Iterator[LocalKafka]:
    """The broker that we start, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="sessiontrail-kafka-") as folder:
        broker = LocalKafka(Path(folder), *free_ports(2))
        try:
            broker.start()
        except NoKafkaError as error:
            without_kafka(str(error))
        try:
            yield broker
        finally:
            broker.stop()


@pytest.fixture
def killable_kafka(local_kafka: LocalKafka) -> Iterator[LocalKafka]:
    """The same one, for a test that stops or kills it: it runs again afterwards."""
    yield local_kafka
    if local_kafka.pid is None:
        local_kafka.start()


@pytest.fixture(scope="session")
def kafka_servers(request: pytest.FixtureRequest) -> str:
    """Where clients connect: to your broker, or to the one that we start."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        return given
    local: LocalKafka = request.getfixturevalue("local_kafka")
    return local.bootstrap_servers


@pytest.fixture
def kafka(kafka_servers: str) -> KafkaAccess:
    """A fresh topic."""
    return fresh_topic(kafka_servers)


def fresh_topic(servers: str) -> KafkaAccess:
    """A topic that no other test, and no earlier run on the same broker, has used."""
    topic = f"test-{next(_numbers)}-{new_uuid()}"
    access = KafkaAccess(servers, topic, partitions=PARTITIONS)
    ensure_topic(access)
    return access


def without_kafka(reason: str) -> NoReturn:
    """Skip the test, which has no broker; in CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"Kafka tests must not be skipped in CI: {reason}")
    pytest.skip(reason)
