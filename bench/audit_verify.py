"""``sessiontrail audit verify`` over untouched events, beside ``COPY`` of the same rows."""

import os
import statistics
import subprocess
import sys
import time

import psycopg

from bench.audit_projections import rebuild_figures
from bench.audit_tree import SIGNER, count_events, sequence_all
from bench.ceilings import copy_seconds
from bench.environment import Bench
from bench.figures import Figure
from bench.measures import Say
from bench.memory import peak_watched


def verify_figures(on: Bench, database: str, say: Say) -> list[Figure]:
    """Rebuild the tables from a log, sequence it, verify all of it.

    Args:
        on: Where.
        database: Its log is complete; its tables may be empty.
        say: Tells the person who waits.
    """
    conninfo = on.conninfo(database, user="postgres")
    copy_s = statistics.median(copy_seconds(conninfo, on.folder / "copy.out") for _ in range(3))
    rebuilt = rebuild_figures(on, database, copy_s, say)
    events = count_events(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("TRUNCATE entry_bundles")
    say(f"sequencing {events:,} events")
    sequence_all(on, database)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    say(f"verifying {events:,} events")
    took, peak_mb = _verify(on, database)
    return [
        *rebuilt,
        Figure("verify", events / took, "events/s", events / copy_s, 0.1, at_least=True),
        Figure("verify resident", peak_mb, "MB", None, 250, at_least=False),
    ]


def _verify(on: Bench, database: str) -> tuple[float, float]:
    """Seconds, and the most resident memory of its two processes together, in MB.

    Raises:
        RuntimeError: It found something.
    """
    environment = os.environ | {
        "DATABASE_URL": on.conninfo(database, user="postgres"),
        "SESSIONTRAIL_DATA_DIR": str(on.folder),
        "SESSIONTRAIL_TREE_KEY": SIGNER.exported(),
        "SESSIONTRAIL_TREE_DIR": str(on.folder / "no-such-folder"),
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sessiontrail", "audit", "verify"], env=environment
    )
    with peak_watched(process.pid) as resident:
        status = process.wait()
    if status:
        msg = "an untouched log did not verify"
        raise RuntimeError(msg)
    return time.perf_counter() - began, max(resident)
