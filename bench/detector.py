"""The detector: events a second, what a million users cost, and how soon a thief is shut out."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping

from bench.dataset import make_family
from bench.environment import Bench, cause, owned
from bench.figures import Figure
from bench.thefts import shut_out_after
from domain.events.users import UserOrigin
from domain.ids import UserId
from domain.user import RegisterUser, User
from infra.event_rows import EVENT_COLUMNS
from infra.ids import new_uuid
from infra.postgres import create_engine, transaction
from infra.user_commands import PostgresUserCommands

_USERS = 1_000
EVENTS_EACH = 50
_MANY = 1_000_000
_CHUNK = 500
_THEFTS = 120
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
    events = _USERS * EVENTS_EACH
    say(f"making {events:,} events")
    make_history(on, "detector", _USERS)
    say("judging them, 1,000 users known")
    few = judge(on, "detector", events)
    say("filling in the states of 1,000,000 users")
    _fill(on)
    say("judging them, 1,000,000 users known")
    many = judge(on, "detector", events)
    on.create_database("thefts")
    latencies = shut_out_after(on, say, "thefts", _THEFTS, {"detect": {}})
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


def make_history(on: Bench, database: str, users: int) -> None:
    """Fill a fresh database with ``EVENTS_EACH`` events of each user, everybody's in between."""
    asyncio.run(_make_events(on, database, users))
    _mix(on, database, users * EVENTS_EACH)


async def _make_events(on: Bench, database: str, count: int) -> None:
    engine = create_engine(on.conninfo(database), max_connections=2, wait_s=10)
    users = PostgresUserCommands(engine, on.data_keys)
    for number in range(count):
        name = f"user-{number}@example.com"
        command = RegisterUser(origin=UserOrigin.LOCAL, username=name)
        user = await users.register(UserId(new_uuid()), command, None, cause())
        if not isinstance(user, User):
            msg = f"the user name {name} is taken"
            raise TypeError(msg)
        async with transaction(engine) as connection:
            await make_family(on, connection, user, EVENTS_EACH)
    await engine.dispose()


def _mix(on: Bench, database: str, events: int) -> None:
    with owned(on, database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(_MIX)
        connection.execute("TRUNCATE events")
        for first in range(0, events, _CHUNK):
            connection.execute(_REPLAY.encode(), (first, first + _CHUNK))
        connection.execute("VACUUM ANALYZE")


def _fill(on: Bench) -> None:
    with owned(on, "detector") as connection:
        connection.execute("CREATE TABLE sample AS SELECT * FROM detector_states WHERE scope < 3")
        connection.execute("TRUNCATE detector_states")
        for _ in range(10):
            connection.execute(_FILL.encode(), (_MANY // 10,))
        connection.execute("UPDATE detector_partitions SET transaction_id = '0', position = 0")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


# ------------------------------------------------------------------------- a worker of its own


def judge(
    on: Bench, database: str, events: int, settings: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Run a detector until it has judged everything; in a process of its own, to tell its cost.

    Args:
        on: The benchmark.
        database: Which database.
        events: How many there are to judge.
        settings: Environment variables beside the benchmark's own.
    """
    output = subprocess.run(
        [sys.executable, "-m", "bench.detector_run", on.conninfo(database), str(on.folder)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | (settings or {}),
        input=str(events),
    ).stdout
    measured: dict[str, float] = json.loads(output)
    return measured
