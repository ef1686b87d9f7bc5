"""The detector on Kafka: events a second, and how soon a thief is shut out, relay and all."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from bench.detector import EVENTS_EACH, judge, make_history
from bench.environment import Bench
from bench.figures import Figure
from bench.thefts import running, shut_out_after
from infra.kafka_distribution import NoKafkaError
from infra.kafka_relay import relay_status
from infra.local_kafka import LocalKafka, free_ports

_USERS = 400
_THEFTS = 60
_RELAYED_WITHIN_S = 60.0
_TRANSPORT = {"SESSIONTRAIL_DETECTOR_TRANSPORT": "kafka"}
Say = Callable[[str], None]


def kafka_figures(on: Bench, say: Say) -> list[Figure]:
    """The worker on a topic that waits for it; then thefts, each through relay and broker."""
    broker = LocalKafka(Path(on.folder, "kafka"), *free_ports(2))
    say("starting a Kafka broker")
    try:
        broker.start()
    except NoKafkaError as error:
        say(f"the group kafka is left out: {error}")
        return []
    try:
        return _measured(on, broker, say)
    finally:
        broker.stop()


def _measured(on: Bench, broker: LocalKafka, say: Say) -> list[Figure]:
    events = _USERS * EVENTS_EACH
    topic = _settings(broker, "throughput")
    on.create_database("kafka")
    say(f"making {events:,} events, and relaying them")
    make_history(on, "kafka", _USERS)
    with running(on, "kafka", {"relay": topic}):
        _wait_until_relayed(on, "throughput")
    say("judging them")
    judged = judge(on, "kafka", events, topic | _TRANSPORT)

    on.create_database("kafka_thefts")
    topic = _settings(broker, "thefts")
    workers = {"relay": topic, "detect": topic | _TRANSPORT}
    median, slowest = shut_out_after(on, say, "kafka_thefts", _THEFTS, workers)
    return [
        Figure("detector on Kafka", judged["per_s"], "1/s", None, 3_000, at_least=True),
        Figure("flag to revoked on Kafka p50", median, "ms", None, 500, at_least=False),
        Figure("flag to revoked on Kafka p99", slowest, "ms", None, 1_000, at_least=False),
    ]


def _settings(broker: LocalKafka, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "SESSIONTRAIL_KAFKA_TOPIC": topic,
        "SESSIONTRAIL_KAFKA_GROUP": f"group-{topic}",
    }


def _wait_until_relayed(on: Bench, topic: str) -> None:
    deadline = time.monotonic() + _RELAYED_WITHIN_S
    while asyncio.run(relay_status(on.conninfo("kafka"), topic)).waiting:
        if time.monotonic() > deadline:
            msg = "the relay did not come to its end; see workers.log"
            raise RuntimeError(msg)
        time.sleep(0.1)
