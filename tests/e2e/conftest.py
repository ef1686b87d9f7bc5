"""A running service for each test module that asks for one, and devices on it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from infra.embedded_postgres import RunningPostgres
from tests.e2e.audited import audit, data_folder, history, run  # noqa: F401 (fixtures)
from tests.e2e.browsing import chromium, opened, victim  # noqa: F401 (fixtures)
from tests.e2e.clients import Device
from tests.e2e.service import RunningService, service, start
from tests.e2e.visiting import visitor  # noqa: F401 (fixtures)

_numbers = itertools.count(1)

GENEROUS = {
    "SESSIONTRAIL_LIMIT_LOGIN_PER_NETWORK": "100000/minute",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_SITE": "100000/minute",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT_AND_NETWORK": "100000/minute",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT": "100000/minute",
    "SESSIONTRAIL_LIMIT_REFRESH_PER_SESSION": "100000/minute",
    "SESSIONTRAIL_LIMIT_REFRESH_PER_NETWORK": "1000000/minute",
}
"""Rate limits that tests about something else never meet."""


@pytest.fixture(scope="module")
def module_conninfo(postgres: RunningPostgres) -> Iterator[str]:
    """A fresh migrated database for a whole module, as the service's role."""
    name = f"module_{next(_numbers)}"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy")
    yield postgres.conninfo(user="sessiontrail", dbname=name)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def shared_service(
    module_conninfo: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """One service for a module whose tests do not disturb each other."""
    with service(tmp_path_factory.mktemp("data"), module_conninfo, **GENEROUS) as running:
        yield running


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """An HTTP client that keeps no cookies between tests."""
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture
def device(shared_service: RunningService, http: httpx.Client) -> Callable[..., Device]:
    """Makes devices on the module's service, not signed in yet."""

    def make(**attributes: str) -> Device:
        return Device(shared_service.url, http, **attributes)  # type: ignore[arg-type]  # plain strings

    return make


@pytest.fixture
def private_service(conninfo: str, tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    """Starts services of the test's own, on the test's own database, with settings."""
    running: list[RunningService] = []

    def start_one(**settings: str) -> RunningService:
        started = start(tmp_path / "data", conninfo, **(GENEROUS | settings))
        running.append(started)
        return started

    yield start_one
    for each in running:
        each.stop()
