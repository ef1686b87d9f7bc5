"""Rebuilding the projections beside ``COPY`` of the same rows.

It runs in a process of its own (``python -m bench.audit_projections``), to tell its memory.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench.environment import Bench
from bench.figures import Figure
from bench.memory import own_peak_mb
from infra.key_files import load_key_ring
from infra.postgres import create_engine
from infra.projection_swap import rebuild_projections
from infra.sealing import DataKeys


def rebuild_figures(
    on: Bench, database: str, copy_s: float, say: Callable[[str], None]
) -> list[Figure]:
    """Rebuild a database's projections once: time beside its ``COPY``, and memory.

    Args:
        on: Where.
        database: Its log is as it was when ``copy_s`` was measured.
        copy_s: Seconds that ``COPY`` takes for its events (``bench.ceilings.copy_seconds``).
        say: Tells the person who waits.
    """
    events = _events(on, database)
    say(f"rebuilding from {events:,} events")
    began = time.perf_counter()
    peak_mb = _rebuild_in_own_process(on, database)
    took = time.perf_counter() - began
    return [
        Figure("rebuild", events / took, "events/s", events / copy_s, 0.1, at_least=True),
        Figure("rebuild resident", peak_mb, "MB", None, 150, at_least=False),
    ]


def _events(on: Bench, database: str) -> int:
    with psycopg.connect(on.conninfo(database, user="postgres")) as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
    return int(row[0]) if row else 0


def _rebuild_in_own_process(on: Bench, database: str) -> float:
    """Rebuild; returns the process's peak resident memory in MB."""
    conninfo = on.conninfo(database, user="postgres")
    output = subprocess.run(
        [sys.executable, "-m", "bench.audit_projections", conninfo, str(on.folder / "keys.json")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return float(output)


async def _rebuild(conninfo: str, key_file: Path) -> None:
    engine = create_engine(conninfo, max_connections=4, wait_s=10)
    keys = load_key_ring(key_file, None, None)
    await rebuild_projections(engine, DataKeys(keys.masters), lambda _done, _total: None)
    await engine.dispose()


def _main() -> None:
    asyncio.run(_rebuild(sys.argv[1], Path(sys.argv[2])))
    sys.stdout.write(str(own_peak_mb()))


if __name__ == "__main__":
    _main()
