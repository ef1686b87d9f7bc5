"""Raw ceilings: the bare statement in pgbench, bare argon2id, bare COPY."""

import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import argon2
import psycopg

from bench.environment import Bench
from infra.password_hashing import HashingCost

# The bare statement: what a refresh cannot do without, with nothing around it. Update the row,
# insert the event, one commit; same tables, same indexes, same sizes as the service writes.
_STATEMENT = r"""
\set n random(1, 1000)
WITH updated AS (
  UPDATE sessions SET family_version = family_version + 1, generation = generation + 1,
         previous_hash = secret_hash, secret_hash = '95MBpORl1XqJdazZbZGwv9JgNA__CSq7lNoLvzygq7w',
         salt = 'ltY6Dc8-ZOCTKBUHGjxeQA', rotated_at = clock_timestamp(),
         last_seen_at = clock_timestamp(), idle_expires_at = clock_timestamp() + interval '14 days'
   WHERE session_id = ('00000000-0000-7000-8000-' || lpad(:n::text, 12, '0'))::uuid
  RETURNING family_id, family_version, user_id, generation
)
INSERT INTO events (stream, version, event_id, type, schema_version, occurred_at, subject_id,
                    actor, correlation_id, data, personal)
SELECT 'family-' || family_id, family_version, gen_random_uuid(), 'RefreshTokenRotated', 1,
       clock_timestamp(), user_id, 'user', gen_random_uuid(),
       jsonb_build_object('generation', generation, 'salt', 'ltY6Dc8-ZOCTKBUHGjxeQA',
         'token_key', 1, 'secret_hash', '95MBpORl1XqJdazZbZGwv9JgNA__CSq7lNoLvzygq7w'),
       decode(repeat('a5', 98), 'hex')
  FROM updated
"""

_SESSIONS = """
INSERT INTO sessions (session_id, family_id, ordinal, user_id, family_version, client_id,
    auth_methods, signed_in_at, expires_at, delivery, persistent, started_at, idle_timeout_s,
    generation, secret_hash, previous_hash, salt, token_key, rotated_at, last_seen_at,
    idle_expires_at, late_retries, client)
SELECT id, id, 0, id, 1, 'first-party', '{pwd}', now(), now() + interval '90 days', 'body', true,
    now(), 1209600, 1, '95MBpORl1XqJdazZbZGwv9JgNA__CSq7lNoLvzygq7w', NULL, NULL, 1, now(), now(),
    now() + interval '14 days', '{}', jsonb_build_object('ip', '127.0.0.1', 'user_agent',
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0')
  FROM (SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid AS id
          FROM generate_series(1, 1000) n) ids
"""


@dataclass(frozen=True, slots=True)
class PgbenchResult:
    """Transactions a second and mean latency in milliseconds."""

    per_second: float
    mean_ms: float


class BareStatement:
    """pgbench with the one bare statement, on a database of its own."""

    def __init__(self, on: Bench) -> None:
        """Make the database and its thousand sessions."""
        self._bench = on
        self._script = on.folder / "bare.sql"
        self._script.write_text(_STATEMENT)
        on.create_database("bare")
        with psycopg.connect(on.conninfo("bare", user="postgres"), autocommit=True) as connection:
            connection.execute(_SESSIONS)
            connection.execute("VACUUM ANALYZE")

    def run(self, clients: int, seconds: int) -> PgbenchResult:
        """Run it at a concurrency, prepared, for some seconds."""
        output = subprocess.run(
            [
                self._bench.program("pgbench"),
                *("--no-vacuum", "--protocol=prepared", "--jobs=2"),
                f"--file={self._script}",
                f"--client={clients}",
                f"--time={seconds}",
                "--host=" + str(self._bench.postgres.socket_dir),
                "--username=postgres",
                "bare",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        per_second = re.search(r"tps = ([\d.]+)", output)
        mean = re.search(r"latency average = ([\d.]+) ms", output)
        if per_second is None or mean is None:
            msg = f"pgbench said something else:\n{output}"
            raise RuntimeError(msg)
        return PgbenchResult(float(per_second[1]), float(mean[1]))


def bare_argon2_per_second(threads: int, seconds: float) -> float:
    """argon2id verifications a second with OWASP parameters, on so many threads, nothing else."""
    cost = HashingCost()
    hasher = argon2.PasswordHasher(
        time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=1
    )
    stored = hasher.hash("a password for the benchmark")
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def verify(place: int) -> None:
        while time.perf_counter() < until:
            hasher.verify(stored, "a password for the benchmark")
            counts[place] += 1

    workers = [threading.Thread(target=verify, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def copy_seconds(conninfo: str, sink: Path) -> float:
    """Seconds that COPY takes to read every event in one session."""
    began = time.perf_counter()
    with (
        psycopg.connect(conninfo) as connection,
        sink.open("wb") as out,
        connection.cursor().copy("COPY events TO STDOUT") as copy,
    ):
        for block in copy:
            out.write(block)
    return time.perf_counter() - began
