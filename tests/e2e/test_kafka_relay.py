"""``sessiontrail relay`` as a process: killed at any point, it doubles at most, and says so."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import psycopg

from domain.ids import UserId, user_stream
from infra.ids import new_uuid
from infra.kafka_access import KafkaAccess, reader_of
from infra.tail import Place
from tests.e2e.database import wait_for
from tests.e2e.service import command, environment, free_port
from tests.kafka_topic import messages_on, seen_once

EVENTS = 12_000
KILLS = 3

_INSERT = """
WITH given AS (SELECT %(ids)s::uuid[] AS ids, %(users)s::int AS users)
INSERT INTO events (occurred_at, version, schema_version, event_id, subject_id, correlation_id,
                    stream, type, actor, data)
SELECT now(), 1 + n / users, 1, gen_random_uuid(), ids[1 + n %% users],
       gen_random_uuid(), 'user-' || ids[1 + n %% users]::text, 'PasswordChanged', 'user', '{}'
  FROM given, generate_series(%(first)s::int, %(last)s::int) AS n
"""


@contextmanager
def relay(
    folder: Path, conninfo: str, access: KafkaAccess, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A relay in a process of its own; killed at the end if it still runs."""
    with (folder / "relay.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "relay", *options],
            env=settings(folder, conninfo, access),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def settings(folder: Path, conninfo: str, access: KafkaAccess) -> dict[str, str]:
    """The environment of a process that reaches the topic."""
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": access.bootstrap_servers,
        "SESSIONTRAIL_KAFKA_TOPIC": access.topic,
        "SESSIONTRAIL_KAFKA_PARTITIONS": str(access.partitions),
        "SESSIONTRAIL_KAFKA_SECURITY_PROTOCOL": access.security_protocol,
        "SESSIONTRAIL_KAFKA_CA_FILE": str(access.ca_file or ""),
        "SESSIONTRAIL_KAFKA_SASL_MECHANISM": access.sasl_mechanism,
        "SESSIONTRAIL_KAFKA_USERNAME": access.username,
        "SESSIONTRAIL_KAFKA_PASSWORD": access.password,
    }
    return environment(folder, conninfo, **{name: each for name, each in given.items() if each})


def write_events(conninfo: str, count: int, users: int = 100) -> list[Place]:
    """Events of many users in many transactions, as the service would append them, only faster.

    Returns:
        Their places in the log's order.
    """
    ids = [UserId(new_uuid()) for _ in range(users)]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for first in range(0, count, 500):
            given = {"users": users, "ids": ids, "first": first, "last": first + 499}
            connection.execute(_INSERT, given)
        rows = connection.execute(
            "SELECT transaction_id::text::bigint, position FROM events"
            " WHERE stream = ANY(%s) ORDER BY transaction_id, position",
            ([user_stream(each) for each in ids],),
        ).fetchall()
    return [Place(*row) for row in rows]


def reached(conninfo: str, access: KafkaAccess) -> Place:
    """Where the relay's checkpoint stands."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT transaction_id::text::bigint, position FROM checkpoints WHERE reader = %s",
            (reader_of(access.topic),),
        ).fetchone()
    return Place(0, 0) if row is None else Place(*row)


def is_reached(conninfo: str, access: KafkaAccess, place: Place) -> bool:
    return reached(conninfo, access) >= place


def test_relay_killed(conninfo: str, tmp_path: Path, kafka: KafkaAccess) -> None:
    places = write_events(conninfo, EVENTS)
    chance = random.Random(20_261_125)

    for kill in range(1, KILLS + 1):
        with relay(tmp_path, conninfo, kafka) as running:
            wait_for(partial(is_reached, conninfo, kafka, places[kill * 2000]))
            time.sleep(chance.uniform(0, 0.2))  # the point of it: anywhere within a batch
            running.send_signal(signal.SIGKILL)
            running.wait(10)
    assert reached(conninfo, kafka) < places[-1]  # each was killed at work
    with relay(tmp_path, conninfo, kafka) as running:
        wait_for(lambda: reached(conninfo, kafka) == places[-1])
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0

    messages = messages_on(kafka)
    seen = seen_once(messages)
    assert [Place(event.transaction_id, event.position) for event in seen] == places
    assert len(messages) <= EVENTS + KILLS * 1000


def test_the_command_says_how_far_publishing_is(
    conninfo: str, tmp_path: Path, kafka: KafkaAccess
) -> None:
    places = write_events(conninfo, 1000)
    ask = settings(tmp_path, conninfo, kafka)

    before = command(ask, "relay", "--status")
    with relay(tmp_path, conninfo, kafka):
        wait_for(lambda: reached(conninfo, kafka) == places[-1])
    after = command(ask, "relay", "--status")

    assert "published up to position 0\n1000 events wait, the oldest for" in before.stdout
    assert f"position {places[-1][1]}\n0 events wait, the oldest for 0.0 s" in after.stdout


def test_metrics_say_what_was_published(conninfo: str, tmp_path: Path, kafka: KafkaAccess) -> None:
    places = write_events(conninfo, 1000)
    port = free_port()

    with relay(tmp_path, conninfo, kafka, "--metrics-port", str(port)):
        wait_for(lambda: reached(conninfo, kafka) == places[-1])
        exposition = httpx.get(f"http://127.0.0.1:{port}/metrics").text

    assert "sessiontrail_relay_published_total 1000.0" in exposition
    assert "sessiontrail_relay_has_turn 1.0" in exposition


def test_without_brokers_the_command_says_what_to_set(conninfo: str, tmp_path: Path) -> None:
    ask = environment(tmp_path, conninfo, KAFKA_BOOTSTRAP_SERVERS="")

    answer = command(ask, "relay")

    assert answer.returncode == 1
    assert answer.stderr.startswith("sessiontrail: KAFKA_BOOTSTRAP_SERVERS: not set; give the")
