"""The sequencer's process takes snapshots when they are due."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from infra.key_files import create_key_file, load_key_ring
from infra.postgres import create_engine
from infra.sealing import DataKeys
from tests.generated_history import GeneratedHistory
from tests.integration.tree_world import SIGNER, sequenced

_DEADLINE_S = 60.0


async def _grow(conninfo: str, data_keys: DataKeys, folder: Path) -> None:
    engine = create_engine(conninfo, max_connections=4, wait_s=10)
    await GeneratedHistory(engine, data_keys, seed=13).write(600)
    await sequenced(conninfo, folder)
    await engine.dispose()


def _snapshots(conninfo: str) -> int:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM snapshots").fetchone()
    return row[0] if row else 0


def test_a_sequencer_takes_a_snapshot_that_is_due_and_stops_when_told(
    conninfo: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    create_key_file(folder / "keys.json")
    data_keys = DataKeys(load_key_ring(folder / "keys.json", None, None).masters)
    asyncio.run(_grow(conninfo, data_keys, folder / "tree"))
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": conninfo,
        "SESSIONTRAIL_DATA_DIR": str(folder),
        "SESSIONTRAIL_TREE_KEY": SIGNER.exported(),
        "SESSIONTRAIL_SNAPSHOT_EVENTS": "256",
    }

    process = subprocess.Popen(
        [sys.executable, "-m", "sessiontrail", "sequence"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while _snapshots(conninfo) == 0:
            assert time.monotonic() < deadline, "no snapshot was taken"
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)

    assert process.returncode == 0, log
    assert b"Traceback" not in log
