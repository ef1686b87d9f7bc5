"""The detector: events a second, what a million users cost, and how soon a thief is shut out."""

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from bench.dataset import make_family
from bench.environment import Bench, cause, service, sign_in
from bench.figures import Figure
from bench.load import HEADERS
from domain.events.users import UserOrigin
from domain.ids import UserId
from domain.user import RegisterUser, User
from infra.event_rows import EVENT_COLUMNS
from infra.ids import new_uuid
from infra.postgres import create_engine, transaction
from infra.user_commands import PostgresUserCommands

_USERS = 1_000
_EVENTS_EACH = 50
_MANY = 1_000_000
_CHUNK = 500
_LOAD_PER_S = 500
_LOAD_FAMILIES = 64
_THEFTS = 120
_OWNER = HEADERS | {"X-Forwarded-For": "203.0.113.7"}
_THIEF = {
    "Host": "127.0.0.1",
    "Content-Type": "application/json",
    "User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
    "X-Forwarded-For": "198.51.100.9",
}
Say = Callable[[str], None]

# As people live: each family a refresh every ten minutes or so, everybody's in between.
_MIX = """
CREATE TABLE unmixed AS
SELECT row_number() OVER (ORDER BY at) AS number, e.*
  FROM (SELECT *, now() - interval '12 hours'
               + version * interval '10 minutes' + random() * interval '3 minutes' AS at
          FROM events WHERE stream LIKE 'family-%') e
"""
_REPLAY = f"""
INSERT INTO events ({EVENT_COLUMNS})
SELECT {EVENT_COLUMNS.replace("occurred_at", "at")} FROM unmixed
 WHERE number > %s AND number <= %s ORDER BY number
"""  # noqa: S608 (column names are ours)
_FILL = """
WITH added AS (
  INSERT INTO data_keys (subject_id, wrapped_key)
  SELECT gen_random_uuid(), decode(repeat('00', 62), 'hex') FROM generate_series(1, %s)
  RETURNING subject_id
)
INSERT INTO detector_states (scope, key, subject_id, state, updated_at)
SELECT s.scope, CASE s.scope WHEN 1 THEN a.subject_id ELSE gen_random_uuid() END::text,
       a.subject_id, s.state, now()
  FROM added a
 CROSS JOIN (SELECT DISTINCT ON (scope) scope, state FROM sample ORDER BY scope) s
"""


def detector_figures(on: Bench, say: Say) -> list[Figure]:
    """The worker on a log that waits for it, with few users and with many; then under load."""
    on.create_database("detector")
    say(f"making {_USERS * _EVENTS_EACH:,} events")
    asyncio.run(_make_events(on))
    _mix(on)
    say("judging them, 1,000 users known")
    few = _judge(on)
    say("filling in the states of 1,000,000 users")
    _fill(on)
    say("judging them, 1,000,000 users known")
    many = _judge(on)
    latencies = _latencies(on, say)
    return [
        Figure("detector", many["per_s"], "1/s", None, 5_000, at_least=True),
        Figure(
            "detector, an event of 1,000,000 users",
            many["cpu_us"],
            "µs",
            few["cpu_us"],
            1.2,
            at_least=False,
        ),
        Figure(
            "detector, wall for 1,000,000 users",
            1e6 / many["per_s"],
            "µs",
            1e6 / few["per_s"],
            1.5,
            at_least=False,
        ),
        Figure("detector resident", many["resident_mb"], "MB", None, 300, at_least=False),
        Figure("flag to revoked p50", latencies[0], "ms", None, 250, at_least=False),
        Figure("flag to revoked p99", latencies[1], "ms", None, 500, at_least=False),
    ]


async def _make_events(on: Bench) -> None:
    engine = create_engine(on.conninfo("detector"), max_connections=2, wait_s=10)
    users = PostgresUserCommands(engine, on.data_keys)
    for number in range(_USERS):
        name = f"user-{number}@example.com"
        command = RegisterUser(origin=UserOrigin.LOCAL, username=name)
        user = await users.register(UserId(new_uuid()), command, None, cause())
        if not isinstance(user, User):
            msg = f"the user name {name} is taken"
            raise TypeError(msg)
        async with transaction(engine) as connection:
            await make_family(on, connection, user, _EVENTS_EACH)
    await engine.dispose()


def _owned(on: Bench, database: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(on.conninfo(database, user="postgres"), autocommit=True)


def _mix(on: Bench) -> None:
    with _owned(on, "detector") as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(_MIX)
        connection.execute("TRUNCATE events")
        for first in range(0, _USERS * _EVENTS_EACH, _CHUNK):
            connection.execute(_REPLAY.encode(), (first, first + _CHUNK))
        connection.execute("VACUUM ANALYZE")


def _fill(on: Bench) -> None:
    with _owned(on, "detector") as connection:
        connection.execute("CREATE TABLE sample AS SELECT * FROM detector_states WHERE scope < 3")
        connection.execute("TRUNCATE detector_states")
        for _ in range(10):
            connection.execute(_FILL.encode(), (_MANY // 10,))
        connection.execute("UPDATE detector_partitions SET transaction_id = '0', position = 0")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


# ------------------------------------------------------------------------- a worker of its own


def _judge(on: Bench) -> dict[str, float]:
    """Run a detector until it has judged everything; in a process of its own, to tell its cost."""
    output = subprocess.run(
        [sys.executable, "-m", "bench.detector_run", on.conninfo("detector"), str(on.folder)],
        capture_output=True,
        text=True,
        check=True,
        input=str(_USERS * _EVENTS_EACH),
    ).stdout
    measured: dict[str, float] = json.loads(output)
    return measured


# ------------------------------------------------------------------------------- flag to revoked


def _latencies(on: Bench, say: Say) -> tuple[float, float]:
    """Milliseconds from a thief's answer to the family refusing: median and 99th percentile."""
    on.create_database("thefts")
    tokens = asyncio.run(sign_in(on, "thefts", _LOAD_FAMILIES + _THEFTS))
    say(f"{_THEFTS} thefts among {_LOAD_PER_S} refreshes a second")
    with _proxy_trusted(), service(on, "thefts") as serving, _detector(on):
        took = asyncio.run(_steal(on, serving.port, tokens))
    took.sort()
    return statistics.median(took), took[len(took) * 99 // 100]


@contextmanager
def _proxy_trusted() -> Iterator[None]:
    os.environ["SESSIONTRAIL_TRUSTED_PROXIES"] = "127.0.0.1/32"
    try:
        yield
    finally:
        del os.environ["SESSIONTRAIL_TRUSTED_PROXIES"]


@contextmanager
def _detector(on: Bench) -> Iterator[None]:
    environment = os.environ | {
        "DATABASE_URL": on.conninfo("thefts"),
        "SESSIONTRAIL_DATA_DIR": str(on.folder),
    }
    with (on.folder / "detector.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "detect"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


async def _steal(on: Bench, port: int, tokens: list[str]) -> list[float]:
    took: list[float] = []
    load = [
        asyncio.create_task(_refresh_steadily(port, token)) for token in tokens[:_LOAD_FAMILIES]
    ]
    with _owned(on, "thefts") as connection:
        for token in tokens[_LOAD_FAMILIES:]:
            # The circuit breaker allows twenty an hour among so few families.
            connection.execute("DELETE FROM detector_actions")
            took.append(await _theft(port, token))
            for task in load:
                if task.done():
                    task.result()
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    return took


async def _refresh_steadily(port: int, token: str) -> None:
    client = await _Client.connect(port, _OWNER)
    pause_s = _LOAD_FAMILIES / _LOAD_PER_S
    due = time.perf_counter() + random.uniform(0, pause_s)
    while True:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        due += pause_s
        status, token = await client.refresh(token)
        if status != 200:
            msg = f"a refresh of the load was answered {status}"
            raise RuntimeError(msg)


async def _theft(port: int, token: str) -> float:
    owner = await _Client.connect(port, _OWNER)
    thief = await _Client.connect(port, _THIEF)
    _, token = await owner.refresh(token)
    status, token = await thief.refresh(token)
    began = time.perf_counter()
    while status == 200:
        await asyncio.sleep(0.002)
        status, token = await thief.refresh(token)
    took = time.perf_counter() - began
    owner.close()
    thief.close()
    return took * 1000


class _Client:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: Mapping[str, str],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._head = "POST /v1/refresh HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )

    @classmethod
    async def connect(cls, port: int, headers: Mapping[str, str]) -> "_Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port), headers)

    async def refresh(self, token: str) -> tuple[int, str]:
        """Status and successor of a refresh; the token itself where it is refused."""
        body = json.dumps({"refresh_token": token})
        self._writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answer = json.loads(await self._reader.readexactly(length))
        return int(head.split(" ")[1]), answer.get("refresh_token", token)

    def close(self) -> None:
        self._writer.close()
