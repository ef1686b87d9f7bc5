"""The sequencer: events a second beside ``COPY``, what it takes from refreshes, how far behind.

Catching up is measured in a process of its own (``python -m bench.audit_tree``).
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from audit.publication import Publication
from audit.sequencer import Sequencer
from audit.signed_notes import Signer
from bench.ceilings import copy_seconds
from bench.dataset import make_history
from bench.environment import Bench, service, sign_in
from bench.figures import Figure
from bench.load import Load, run_load
from bench.measures import CONCURRENCY, Say, median_pair
from bench.sampling import sampled
from infra.tree_files import TreeFolder
from infra.tree_growth import SequencerTurns
from infra.tree_metrics import SequencerMetrics

_FAMILIES = 2_500
_GENERATIONS = 100
_ROUNDS = 5
_SECONDS = 6
_LOOK_EVERY_S = 0.1
SIGNER = Signer("bench.example/tlog", bytes(32))
"""Of the trees that are measured."""

# How old the first event is that is in no signed tree: one look into an index, since what measures
# takes from refreshes, too.
_BEHIND = """
SELECT extract(epoch FROM clock_timestamp() - e.occurred_at)::float8
  FROM checkpoints c
 CROSS JOIN LATERAL (
    SELECT occurred_at FROM events
     WHERE transaction_id >= c.transaction_id
       AND (transaction_id, position) > (c.transaction_id, c.position)
     ORDER BY transaction_id, position LIMIT 1) e
 WHERE c.reader = 'sequencer'
"""


def tree_figures(on: Bench, say: Say) -> list[Figure]:
    """Catching up with a log that waits, then keeping up with refreshes at full load."""
    return [*_catching_up(on, say), *_keeping_up(on, say)]


def _catching_up(on: Bench, say: Say) -> list[Figure]:
    on.create_database("tree")
    say(f"making {_FAMILIES * _GENERATIONS:,} events")
    asyncio.run(make_history(on, "tree", [_GENERATIONS] * _FAMILIES, lambda _count: None))
    conninfo = on.conninfo("tree", user="postgres")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    events = count_events(conninfo)
    copies = [copy_seconds(conninfo, on.folder / "copy.out") for _ in range(3)]
    say(f"sequencing {events:,} events")
    took = sequence_all(on, "tree")
    per_second, copied = events / took, events / statistics.median(copies)
    return [
        Figure("sequencer", per_second, "events/s", None, 15_000, at_least=True),
        Figure("sequencer beside COPY", per_second, "events/s", copied, 0.05, at_least=True),
    ]


def sequence_all(on: Bench, database: str) -> float:
    """Sequence a log to its end in a process of its own; returns the seconds that took."""
    folder = on.folder / f"tree of {database}"
    return float(
        subprocess.run(
            [sys.executable, "-m", "bench.audit_tree", on.conninfo(database), str(folder)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def _keeping_up(on: Bench, say: Say) -> list[Figure]:
    """Refreshes alone and beside a sequencer, turn about."""
    on.create_database("treeload")
    alone: list[Load] = []
    beside: list[Load] = []
    behind = 0.0
    with service(on, "treeload") as serving:
        tokens = asyncio.run(sign_in(on, "treeload", CONCURRENCY))
        run_load("refresh", serving.port, 1, tokens)
        for each in range(_ROUNDS):
            say(f"refresh without and with the sequencer, round {each + 1} of {_ROUNDS}")
            tokens = asyncio.run(sign_in(on, "treeload", CONCURRENCY))
            alone.append(run_load("refresh", serving.port, _SECONDS, tokens))
            tokens = asyncio.run(sign_in(on, "treeload", CONCURRENCY))
            with _sequencing(on, "treeload"), _watching(on, "treeload") as lags:
                beside.append(run_load("refresh", serving.port, _SECONDS, tokens))
            behind = max(behind, *lags)
    rates = [(with_.per_second, without.per_second) for with_, without in _pairs(beside, alone)]
    p99s = [(with_.p99_ms, without.p99_ms) for with_, without in _pairs(beside, alone)]
    rate, bare_rate = median_pair(rates)
    p99, bare_p99 = median_pair(p99s)
    return [
        Figure("refresh beside the sequencer", rate, "1/s", bare_rate, 0.95, at_least=True),
        Figure("refresh p99 beside the sequencer", p99, "ms", bare_p99, 1.25, at_least=False),
        Figure("sequencer behind at most", behind, "s", None, 2, at_least=False),
    ]


def _pairs(beside: list[Load], alone: list[Load]) -> list[tuple[Load, Load]]:
    return list(zip(beside, alone, strict=True))


@contextmanager
def _sequencing(on: Bench, database: str) -> Iterator[None]:
    """A ``sessiontrail sequence`` that has caught up, for as long as the block lasts."""
    with (on.folder / "sequencer.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "sequence"],
            env=_environment(on, database),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        conninfo = on.conninfo(database, user="postgres")
        deadline = time.monotonic() + 60
        while _tree_size(conninfo) < count_events(conninfo):
            if time.monotonic() > deadline:
                msg = "the sequencer did not catch up; see sequencer.log"
                raise RuntimeError(msg)
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _environment(on: Bench, database: str) -> Mapping[str, str]:
    return os.environ | {
        "DATABASE_URL": on.conninfo(database),
        "SESSIONTRAIL_DATA_DIR": str(on.folder),
        "SESSIONTRAIL_TREE_KEY": SIGNER.exported(),
        "SESSIONTRAIL_TREE_DIR": str(on.folder / database),
    }


@contextmanager
def _watching(on: Bench, database: str) -> Iterator[list[float]]:
    """How far the tree was behind, every tenth of a second of the block."""
    with psycopg.connect(on.conninfo(database, user="postgres"), autocommit=True) as connection:

        def behind() -> float:
            row = connection.execute(_BEHIND).fetchone()
            return float(row[0]) if row else 0.0

        with sampled(behind, _LOOK_EVERY_S) as lags:
            yield lags


def count_events(conninfo: str) -> int:
    """How many events a log has."""
    return _number(conninfo, "SELECT count(*) FROM events")


def _tree_size(conninfo: str) -> int:
    return _number(conninfo, "SELECT coalesce(max(size), 0) FROM tree_heads")


def _number(conninfo: str, query: str) -> int:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


async def _catch_up(conninfo: str, folder: Path, events: int) -> float:
    done = asyncio.Event()

    class Until(SequencerMetrics):
        def grew(self, size: int, leaves: int, newest: float) -> None:
            super().grew(size, leaves, newest)
            if size >= events:
                done.set()

    publication = Publication(TreeFolder(folder), SIGNER.verifier)
    sequencer = Sequencer(SequencerTurns(conninfo), SIGNER, publication, Until())
    began = time.perf_counter()
    working = asyncio.create_task(sequencer.run())
    await done.wait()
    took = time.perf_counter() - began
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    return took


def _main() -> None:
    conninfo, folder = sys.argv[1], Path(sys.argv[2])
    sys.stdout.write(str(asyncio.run(_catch_up(conninfo, folder, count_events(conninfo)))))


if __name__ == "__main__":
    _main()
