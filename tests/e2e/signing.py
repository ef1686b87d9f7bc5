"""Services whose log is signed as it grows, and how to wait for that."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
from tlog_scales.tlog import Checkpoint

from tests.e2e.conftest import GENEROUS
from tests.e2e.service import RunningService, command, service

DEADLINE_S = 60.0


@contextmanager
def signing_service(folder: Path, conninfo: str) -> Iterator[RunningService]:
    """A service with a sequencer beside it."""
    settings = GENEROUS | {
        "SESSIONTRAIL_SEQUENCER": "true",
        "SESSIONTRAIL_TREE_ORIGIN": "a.example/log",
    }
    with service(folder, conninfo, **settings) as running:
        made = command(running.environment, "audit", "key", "--new")
        assert made.returncode == 0, made.stderr
        yield running


def covering(running: RunningService, events: int) -> Checkpoint:
    """A checkpoint of that many events at least, as soon as there is one."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        answer = httpx.get(running.url + "/tlog/checkpoint")
        if answer.status_code == 200:
            checkpoint = Checkpoint.from_text(answer.text)
            if checkpoint.size >= events:
                return checkpoint
        time.sleep(0.05)
    raise AssertionError(f"no such checkpoint came:\n{running.log()}")


def wait_for_all_signed(running: RunningService, conninfo: str) -> None:
    """Wait until every event that there is now is under a signed head."""
    with psycopg.connect(conninfo) as connection:
        found = connection.execute("SELECT count(*) FROM events").fetchone()
    assert found is not None
    covering(running, found[0])


def public_key(running: RunningService) -> str:
    """The key of a service's log, as auditors are given it."""
    printed = command(running.environment, "audit", "key")
    assert printed.returncode == 0, printed.stderr
    return printed.stdout.strip()
