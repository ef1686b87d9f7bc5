"""Rotation and reuse, over HTTP: who gets a successor, who loses the family (design §5)."""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Barrier

import httpx
import jwt
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from domain.refresh_token import MAX_GENERATION, RefreshToken, TokenKeys, mint, parse
from infra.embedded_postgres import RunningPostgres
from tests.e2e.accounts import Account, add_user, key_ring_of
from tests.e2e.clients import CHROME, DEVICE_HEADER, Device
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, MovableClock, types
from tests.e2e.log_checks import assert_no_secret_in
from tests.e2e.service import RunningService, service

PAST_THE_WINDOW = timedelta(seconds=11)
REUSED = ["RefreshTokenReused", "FamilyRevoked"]

Devices = Callable[..., Device]


@pytest.fixture(scope="module")
def owner(postgres: RunningPostgres, module_conninfo: str) -> str:
    return postgres.conninfo(dbname=str(conninfo_to_dict(module_conninfo)["dbname"]))


@pytest.fixture(scope="module")
def clock(owner: str) -> MovableClock:
    """The clock that decides expiry. It only steps on: no test takes it back under another."""
    return MovableClock(owner)


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)
