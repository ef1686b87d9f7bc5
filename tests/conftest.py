"""What all tests share: a real PostgreSQL, and a fresh migrated database for each test."""

import asyncio
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from infra import embedded_postgres
from infra.embedded_postgres import RunningPostgres
from infra.migrate import migrate
from infra.postgres import create_engine
from infra.sealing import DataKeys, MasterKeys
from tests.kafka_broker import (  # noqa: F401 (fixtures)
    kafka,
    kafka_servers,
    killable_kafka,
    local_kafka,
)

_TEMPLATE = "migrated"
_SERVICE_ROLE = "sessiontrail"
_numbers = itertools.count(1)

# A shell that starts the tests in the background has Ctrl-C ignored, by all that they start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def postgres() -> Iterator[RunningPostgres]:
    """The embedded PostgreSQL, in a folder of its own: as root it runs as another account."""
    # Not pytest's own folder: every start of pytest closes that to all but its owner.
    with tempfile.TemporaryDirectory(prefix="sessiontrail-postgres-") as folder:
        server = embedded_postgres.start(
            Path(folder) / "data",
            settings={"max_connections": "100", "synchronous_commit": "off"},
        )
        try:
            _make_template(server)
            yield server
        finally:
            server.stop()


def _make_template(server: RunningPostgres) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {_SERVICE_ROLE} LOGIN")
        connection.execute(f"CREATE DATABASE {_TEMPLATE}")

    async def migrated() -> None:
        engine = create_engine(server.conninfo(dbname=_TEMPLATE), max_connections=1, wait_s=5)
        await migrate(engine, service_role=_SERVICE_ROLE)
        await engine.dispose()

    asyncio.run(migrated())


@pytest.fixture
def database_name(postgres: RunningPostgres) -> Iterator[str]:
    """A fresh migrated database, dropped afterwards."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    yield name
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def owner_conninfo(postgres: RunningPostgres, database_name: str) -> str:
    """Connects to the test's database as the superuser: to look, and to tamper."""
    return postgres.conninfo(dbname=database_name)


@pytest.fixture
def conninfo(postgres: RunningPostgres, database_name: str) -> str:
    """Connects to the test's database as the role that the service runs as."""
    return postgres.conninfo(user=_SERVICE_ROLE, dbname=database_name)


@pytest.fixture
async def engine(conninfo: str) -> AsyncIterator[AsyncEngine]:
    """A pool on the test's database, as the service's role."""
    pool = create_engine(conninfo, max_connections=8, wait_s=10)
    yield pool
    await pool.dispose()


@pytest.fixture
def masters() -> MasterKeys:
    """A ring of one master key."""
    return MasterKeys(1, {1: bytes(range(32))})


@pytest.fixture
def data_keys(masters: MasterKeys) -> DataKeys:
    """Data keys under that master key."""
    return DataKeys(masters)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder of the test's own."""
    return tmp_path / "data"
