"""``kill -9`` of sequencers, three at once, while events go on being appended: one chain."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psycopg
import pytest

from tests.e2e.service import command, environment, make_keys
from tests.integration.tree_world import (
    SIGNER,
    append,
    assert_one_chain,
    assert_published,
    count_events,
    published_size,
    tree_size,
    until,
)

KILLS = int(os.environ.get("SEQUENCER_TEST_KILLS", "6"))
AT_ONCE = 3

pytestmark = pytest.mark.timeout(300)


@contextmanager
def appending(conninfo: str, seed: int) -> Iterator[None]:
    """Transactions of many sizes, two at a time and out of step, until the block ends."""
    stopping = threading.Event()
    writers = [
        threading.Thread(target=_append, args=(conninfo, seed + n, stopping)) for n in (0, 1)
    ]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        stopping.set()
        for writer in writers:
            writer.join(30)


def _append(conninfo: str, seed: int, stopping: threading.Event) -> None:
    random = Random(seed)
    while not stopping.wait(random.uniform(0, 0.1)):
        append(conninfo, random.choice((1, 1, 2, 5, 20, 90)))


def start_sequencer(variables: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "sequence"],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )


async def test_three_that_are_killed_again_and_again_make_one_chain(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    variables = environment(tmp_path, conninfo) | {"SESSIONTRAIL_TREE_KEY": SIGNER.exported()}
    make_keys(tmp_path)
    log = tmp_path / "sequencers.log"
    random = Random(20)
    running = [start_sequencer(variables, log) for _ in range(AT_ONCE)]
    try:
        with appending(owner_conninfo, 7):
            for _ in range(KILLS):
                grown = tree_size(conninfo) + random.randrange(1, 200)
                await until(lambda grown=grown: tree_size(conninfo) >= grown)  # type: ignore[misc]
                # Often whoever has the turn, at times only somebody who waits for it.
                for place in random.sample(range(AT_ONCE), random.randint(1, AT_ONCE)):
                    running[place].kill()
                    running[place].wait(10)
                    running[place] = start_sequencer(variables, log)
        await until(lambda: tree_size(conninfo) == count_events(conninfo))
        await until(lambda: published_size(tmp_path / "tree") == tree_size(conninfo))
    finally:
        for each in running:
            each.terminate()
        codes = [each.wait(30) for each in running]

    # One that was started just before has not got as far as listening to signals.
    assert set(codes) <= {0, -signal.SIGTERM}, log.read_text()
    assert "nothing is signed" not in log.read_text()
    assert_one_chain(owner_conninfo)
    await assert_published(conninfo, tmp_path / "tree")


async def test_a_sequencer_stops_and_says_why_when_the_database_was_set_back(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    variables = environment(tmp_path, conninfo) | {"SESSIONTRAIL_TREE_KEY": SIGNER.exported()}
    make_keys(tmp_path)
    append(owner_conninfo, 10)
    first = start_sequencer(variables, tmp_path / "first.log")
    await until((tmp_path / "tree/checkpoint").exists)
    first.terminate()
    assert first.wait(30) == 0
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM tree_heads")
        connection.execute("DELETE FROM tree_tiles")
        connection.execute("DELETE FROM checkpoints WHERE reader = 'sequencer'")

    second = await asyncio.to_thread(command, variables, "sequence")

    assert second.returncode == 1
    assert "nothing is signed any more: a tree of 10 events was published" in second.stderr
    assert "Traceback" not in second.stderr
