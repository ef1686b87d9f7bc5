"""The database away, slow, full, read-only, migrated under the service, restored from a backup.

Everywhere the same: a 503 in bounded time that says when to try again, no half state, and the
service heals by itself.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from infra.embedded_postgres import RunningPostgres
from tests.e2e.clients import Device
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, types, wait_for
from tests.e2e.service import RunningService, command, service
from tests.e2e.test_crashes import (
    assert_rows_are_folds,
    clients,
    holding_session,
    own_postgres,
    storm,
    wait_for_rotations,
)

BOUND_S = 15
"""The longest that anybody waits for an answer, whatever the database does."""


def signed_in(running: RunningService, http: httpx.Client) -> Device:
    device = Device(running.url, http)
    answer = device.login()
    assert answer.status_code == 200, answer.text
    return device


def assert_unavailable(ask: Callable[[], httpx.Response]) -> None:
    """Assert that the answer is a 503 within the bound, which says when to try again."""
    asked_at = time.monotonic()
    answer = ask()
    assert time.monotonic() - asked_at < BOUND_S
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def assert_heals(device: Device, log: EventLog, rotations: int) -> None:
    """Assert that the token it has works again, as the next rotation: none was lost or forked."""
    wait_for(lambda: device.refresh().status_code == 200)
    assert device.session["generation"] == 1 + rotations
    happened = types(log.of_family(device.session["family_id"]))
    assert happened.count("RefreshTokenRotated") == rotations
    assert set(happened) <= {"SessionStarted", "RefreshTokenRotated", "RefreshRetried"}


def test_database_gone(data_dir: Path, http: httpx.Client) -> None:
    with own_postgres() as own, service(data_dir, own.conninfo, **GENEROUS) as running:
        device = signed_in(running, http)
        assert device.refresh().status_code == 200

        own.running.stop()

        assert_unavailable(device.refresh)
        assert_unavailable(Device(running.url, http).login)
        assert_unavailable(lambda: device.get("/v1/sessions"))
        asked_at = time.monotonic()
        ready = http.get(running.url + "/readyz")
        assert time.monotonic() - asked_at < BOUND_S
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "database" in ready.json()["not_ready"]
        assert http.get(running.url + "/healthz").status_code == 200

        own.start()

        assert_heals(device, EventLog(own.conninfo), rotations=2)
        wait_for(lambda: Device(running.url, http).login().status_code == 200)
        wait_for(lambda: http.get(running.url + "/readyz").status_code == 200)
        assert running.process.poll() is None
        assert_rows_are_folds(running)


def test_database_that_hangs(data_dir: Path, http: httpx.Client) -> None:
    """It neither answers nor goes away: a storage that hangs, or a host that was cut off."""
    with own_postgres() as own, service(data_dir, own.conninfo, **GENEROUS) as running:
        device = signed_in(running, http)
        with ThreadPoolExecutor(16) as pool:  # from here on the service has connections to spare
            list(pool.map(lambda _: device.get("/v1/sessions"), range(64)))
            asking = (
                device.refresh,
                Device(running.url, http).login,
                lambda: device.get("/v1/sessions"),
                lambda: device.post("/v1/logout-others"),
            )

            with hanging(own.running.pid):
                for answered in [pool.submit(assert_unavailable, ask) for ask in asking]:
                    answered.result()
                assert http.get(running.url + "/healthz").status_code == 200

        assert_heals(device, EventLog(own.conninfo), rotations=1)
        wait_for(lambda: Device(running.url, http).login().status_code == 200)
        wait_for(lambda: http.get(running.url + "/readyz").status_code == 200)
        assert_rows_are_folds(running)


@contextmanager
def hanging(postmaster: int) -> Iterator[None]:
    """PostgreSQL with all its backends stands still for as long as the block lasts."""
    listing = ["ps", "-o", "pid=", "--ppid", str(postmaster)]
    children = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    processes = [postmaster, *map(int, children)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def test_slow_database(
    private_service: Callable[..., RunningService], owner_conninfo: str, http: httpx.Client
) -> None:
    running = private_service()
    device = signed_in(running, http)
    with holding_session(owner_conninfo, device), httpx.Client(timeout=1) as hurried:
        gives_up = Device(running.url, hurried, refresh_token=device.refresh_token)
        with pytest.raises(httpx.ReadTimeout):
            gives_up.refresh()
        with ThreadPoolExecutor() as pool:  # it retries, and another tab asks too
            for waiting in [pool.submit(assert_unavailable, device.refresh) for _ in range(2)]:
                waiting.result()
        assert http.get(running.url + "/healthz").status_code == 200

    assert_heals(device, EventLog(owner_conninfo), rotations=1)
    assert_rows_are_folds(running)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of 128 MB, in memory."""
    with tempfile.TemporaryDirectory(prefix="sessiontrail-disk-") as name:
        folder = Path(name)
        options = ["-t", "tmpfs", "-o", "size=128m,mode=0755", "tmpfs"]
        mounted = subprocess.run(["mount", *options, name], capture_output=True, check=False)
        if mounted.returncode != 0:
            pytest.skip("only who may mount a file system can have one that is full")
        try:
            yield folder
        finally:
            subprocess.run(["umount", name], check=True)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_disk_full(data_dir: Path, http: httpx.Client) -> None:
    """PostgreSQL on a real file system that is really full: it cannot extend its tables."""
    with (
        small_disk() as disk,
        own_postgres(disk) as own,
        service(data_dir, own.conninfo, **GENEROUS) as running,
    ):
        device = signed_in(running, http)
        fill(disk / "filler")
        # What pages there are take some more events.
        rotations = 0
        while (answer := device.refresh()).status_code == 200:
            rotations += 1
            assert rotations < 1000, "the disk never fills up"
        assert_unavailable(lambda: answer)

        assert_unavailable(device.refresh)
        assert_unavailable(device.refresh)
        assert "53100" in running.log()
        log = EventLog(own.conninfo)
        assert log.session(device.session["session_id"])["generation"] == 1 + rotations
        assert len(log.of_family(device.session["family_id"])) == 1 + rotations

        (disk / "filler").unlink()

        assert_heals(device, log, rotations + 1)
        assert Device(running.url, http).login().status_code == 200
        assert_rows_are_folds(running)


def test_database_read_only(
    private_service: Callable[..., RunningService], owner_conninfo: str, http: httpx.Client
) -> None:
    """After a failover to a standby that is not promoted yet, as near as one server comes to it."""
    running = private_service()
    device = signed_in(running, http)
    assert device.refresh().status_code == 200
    log = EventLog(owner_conninfo)
    end = log.end()
    set_read_only(owner_conninfo, "on")

    assert_unavailable(device.refresh)
    assert_unavailable(Device(running.url, http).login)
    assert log.end() == end

    set_read_only(owner_conninfo, "off")
    assert_heals(device, log, rotations=2)
    wait_for(lambda: Device(running.url, http).login().status_code == 200)


def set_read_only(owner_conninfo: str, value: str) -> None:
    """For the test's database, and for the connections to it that are open."""
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only ="
            f" {value}', current_database()); END $$"
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_migrate_while_serving(
    private_service: Callable[..., RunningService], owner_conninfo: str, http: httpx.Client
) -> None:
    running = private_service()
    owner = {
        **running.environment,
        "DATABASE_URL": owner_conninfo,
        "SESSIONTRAIL_MIGRATION_DATABASE_URL": owner_conninfo,
    }
    with clients(running, 2) as chains:
        with storm(chains):
            wait_for_rotations(chains, 20)
            migrated = command(owner, "migrate")
            assert migrated.returncode == 0, migrated.stderr
            wait_for_rotations(chains, 20)

            add_later_revision(owner_conninfo)
            wait_for_rotations(chains, 20)

            old_build = private_service()  # a replica of the version that runs, started late
            device = signed_in(old_build, http)
            assert device.refresh().status_code == 200
            wait_for_rotations(chains, 20)
        for chain in chains:
            assert not chain.unavailable
            chain.device.url = old_build.url
            chain.assert_recovers(EventLog(owner_conninfo))
    for each in (running, old_build):
        assert http.get(each.url + "/readyz").status_code == 200
    assert_rows_are_folds(old_build)
    with psycopg.connect(owner_conninfo) as connection:
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert revision == ("9999",)


def add_later_revision(owner_conninfo: str) -> None:
    """What a later version may do while this one runs: add."""
    with psycopg.connect(owner_conninfo) as connection:
        for table in ("sessions", "events", "users"):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN of_a_later_version text")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


@pytest.fixture
def backup_name(postgres: RunningPostgres, database_name: str) -> Iterator[str]:
    name = database_name + "_backup"
    yield name
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_restore_from_backup(
    postgres: RunningPostgres,
    database_name: str,
    backup_name: str,
    private_service: Callable[..., RunningService],
    data_dir: Path,
    http: httpx.Client,
) -> None:
    before = private_service()
    busy, idle = signed_in(before, http), signed_in(before, http)
    assert busy.refresh().status_code == 200
    of_the_backup = busy.refresh_token
    before.stop()
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {backup_name} TEMPLATE {database_name}")

    after = private_service()
    busy.url = idle.url = after.url
    assert busy.refresh().status_code == 200
    just_after = busy.refresh_token
    assert busy.refresh().status_code == 200
    later = signed_in(after, http)
    after.stop()

    backup = postgres.conninfo(user="sessiontrail", dbname=backup_name)
    log = EventLog(postgres.conninfo(dbname=backup_name))
    with service(data_dir, backup, **GENEROUS) as restored:
        busy.url = idle.url = later.url = restored.url
        end = log.end()
        for issued_since in (busy.refresh_token, just_after, later.refresh_token):
            refused = busy.present(issued_since)
            assert refused.status_code == 401, refused.text
            assert refused.json()["type"].endswith("/invalid-grant")
        recorded = log.after(end)
        assert types(recorded) == ["RefreshTokenUnrecognised"]
        assert recorded[0].stream == "family-" + busy.session["family_id"]
        assert recorded[0].data["presented_generation"] == 4
        assert recorded[0].data["current_generation"] == 2
        assert log.session(busy.session["session_id"])["ended_at"] is None

        assert idle.refresh().status_code == 200
        busy.refresh_token = of_the_backup
        assert busy.refresh().status_code == 200
        assert busy.session["generation"] == 3
        assert busy.refresh().status_code == 200
        assert_rows_are_folds(restored)
