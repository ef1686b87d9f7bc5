"""A database with a history and its tree, and the commands that auditors run on it: fixtures."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.key_files import create_key_file, load_key_ring
from infra.postgres import create_engine
from infra.projection_swap import rebuild_projections
from infra.sealing import DataKeys
from infra.snapshot_taking import take_snapshot
from tests.e2e.service import command
from tests.generated_history import GeneratedHistory
from tests.integration.accounts import cause
from tests.integration.projection_world import no_progress
from tests.integration.tree_world import SIGNER, sequenced

Run = Callable[..., subprocess.CompletedProcess[str]]


async def _grow(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys, folder: Path
) -> GeneratedHistory:
    """Some hundred events of a generated history, a snapshot, and all of it in the tree."""
    engine = create_engine(conninfo, max_connections=4, wait_s=10)
    owner = create_engine(owner_conninfo, max_connections=2, wait_s=10)
    history = GeneratedHistory(engine, data_keys, seed=11)
    await history.write(600)
    assert await take_snapshot(engine, cause()) is not None
    await rebuild_projections(owner, data_keys, no_progress)
    await sequenced(conninfo, folder)
    await engine.dispose()
    await owner.dispose()
    return history


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    create_key_file(folder / "keys.json")
    return folder


@pytest.fixture
def history(conninfo: str, owner_conninfo: str, data_folder: Path) -> GeneratedHistory:
    data_keys = DataKeys(load_key_ring(data_folder / "keys.json", None, None).masters)
    return asyncio.run(_grow(conninfo, owner_conninfo, data_keys, data_folder / "tree"))


@pytest.fixture
def run(conninfo: str, owner_conninfo: str, data_folder: Path, history: GeneratedHistory) -> Run:
    """Runs a command on the database, as its owner."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": conninfo,
        "SESSIONTRAIL_MIGRATION_DATABASE_URL": owner_conninfo,
        "SESSIONTRAIL_DATA_DIR": str(data_folder),
        "SESSIONTRAIL_TREE_KEY": SIGNER.exported(),
    }

    def on_the_database(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return command(environment | more, *arguments)

    return on_the_database


@pytest.fixture
def audit(run: Run) -> Run:
    """Runs an audit command."""
    return lambda *words, **more: run("audit", *words, **more)
