"""``kill -9`` of the service and of PostgreSQL: nothing acknowledged is lost, clients recover.

A client that lost an answer does what any client does: it presents the token that it has once more.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from infra import embedded_postgres
from infra.embedded_postgres import RunningPostgres
from tests.e2e.accounts import add_user
from tests.e2e.clients import Device
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, types, wait_for
from tests.e2e.service import RunningService, command, service, start

CLIENTS = 16
A_STORM = 64 * CLIENTS
"""Rotations before the kill: by then every client is under way."""


@dataclass(slots=True)
class OwnPostgres:
    """A PostgreSQL of the test's own, with durable commits, to stop and to kill."""

    data_dir: Path
    running: RunningPostgres
    conninfo: str

    def kill(self) -> None:
        """``kill -9`` of the postmaster; its children end when they notice."""
        os.kill(self.running.pid, signal.SIGKILL)
        wait_for(lambda: not self.running.is_running())

    def start(self) -> None:
        """Start it again, on the same data and under the same name."""
        self.running.stop()  # lets go of it, where it was killed
        self.running = embedded_postgres.start(self.data_dir)


@contextmanager
def own_postgres(folder: Path | None = None) -> Iterator[OwnPostgres]:
    """A PostgreSQL with an empty database that the service's role owns."""
    # Not in pytest's folder, which is closed to the account that PostgreSQL runs as under root.
    with tempfile.TemporaryDirectory(prefix="sessiontrail-own-") as temporary:
        data_dir = (folder or Path(temporary)) / "data"
        running = embedded_postgres.start(data_dir, settings={"synchronous_commit": "on"})
        own = OwnPostgres(
            data_dir, running, running.conninfo(user="sessiontrail", dbname="sessiontrail")
        )
        try:
            with psycopg.connect(running.conninfo(), autocommit=True) as connection:
                connection.execute("CREATE ROLE sessiontrail LOGIN")
                connection.execute("CREATE DATABASE sessiontrail OWNER sessiontrail")
            yield own
        finally:
            own.running.stop()


@dataclass(slots=True)
class Chain:
    """A client that follows its own chain of tokens as fast as it is answered."""

    device: Device
    acknowledged: int = 0
    unavailable: int = 0
    refused: list[str] = field(default_factory=list)

    def follow(self, halt: threading.Event) -> None:
        """Refresh, and after a 503 try again, until told to halt or the service is gone."""
        while not halt.is_set():
            try:
                answer = self.device.refresh()
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                self.acknowledged += 1
            elif answer.status_code == 503:
                assert answer.headers["Retry-After"]
                self.unavailable += 1
                halt.wait(0.1)
            else:
                self.refused.append(answer.text)
                return

    def assert_recovers(self, log: EventLog) -> None:
        """Assert that the token it has works: as the current one, or as a retry of the lost one.

        Either way the rotation is the next after those that were acknowledged: none is lost, and
        none was made twice.
        """
        assert not self.refused
        answer = self.device.refresh()
        assert answer.status_code == 200, answer.text
        self.acknowledged += 1
        assert self.device.session["generation"] == 1 + self.acknowledged
        happened = types(log.of_family(self.device.session["family_id"]))
        assert happened.count("RefreshTokenRotated") == self.acknowledged
        assert set(happened) <= {"SessionStarted", "RefreshTokenRotated", "RefreshRetried"}
        row = log.session(self.device.session["session_id"])
        assert (row["generation"], row["ended_at"]) == (1 + self.acknowledged, None)


@contextmanager
def clients(running: RunningService, number: int = CLIENTS) -> Iterator[list[Chain]]:
    """Clients that are signed in, each with connections of its own."""
    account = add_user(running)
    with contextlib.ExitStack() as stack:
        chains = [
            Chain(Device(running.url, stack.enter_context(httpx.Client(timeout=30))))
            for _ in range(number)
        ]
        for chain in chains:
            answer = chain.device.login(account.username, account.password)
            assert answer.status_code == 200, answer.text
        yield chains


@contextmanager
def storm(chains: list[Chain]) -> Iterator[None]:
    """All of them refresh, from the first to the last line of the block."""
    halt = threading.Event()
    with ThreadPoolExecutor(len(chains)) as pool:
        following = [pool.submit(chain.follow, halt) for chain in chains]
        try:
            yield
        finally:
            halt.set()
        for each in following:
            each.result()


def wait_for_rotations(chains: list[Chain], number: int) -> None:
    """Wait until so many further rotations were acknowledged, and one at least to each client."""
    before = [chain.acknowledged for chain in chains]

    def enough() -> bool:
        gained = [chain.acknowledged - was for chain, was in zip(chains, before, strict=True)]
        return min(gained) > 0 and sum(gained) >= number

    wait_for(enough, within_s=30)


def assert_rows_are_folds(running: RunningService) -> None:
    verified = command(running.environment, "projections", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has buried does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return state.strip()[:1] not in {"", "Z"}


@pytest.fixture
def own_server() -> Iterator[OwnPostgres]:
    with own_postgres() as own:
        yield own


def test_service_killed_in_a_refresh_storm(own_server: OwnPostgres, data_dir: Path) -> None:
    first = start(data_dir, own_server.conninfo, **GENEROUS)
    try:
        with clients(first) as chains:
            with storm(chains):
                wait_for_rotations(chains, A_STORM)
                first.kill()
            with service(data_dir, own_server.conninfo, **GENEROUS) as second:
                log = EventLog(own_server.conninfo)
                for chain in chains:
                    chain.device.url = second.url
                    chain.assert_recovers(log)
                assert_rows_are_folds(second)
    finally:
        first.stop()


def test_postgres_killed_in_a_refresh_storm(own_server: OwnPostgres, data_dir: Path) -> None:
    with (
        service(data_dir, own_server.conninfo, **GENEROUS) as running,
        clients(running) as chains,
    ):
        with storm(chains):
            wait_for_rotations(chains, A_STORM)
            own_server.kill()
            wait_for(lambda: all(chain.unavailable for chain in chains))
            own_server.start()
            wait_for_rotations(chains, A_STORM)
        assert running.process.poll() is None
        for chain in chains:
            chain.assert_recovers(EventLog(own_server.conninfo))
        assert_rows_are_folds(running)


@pytest.fixture
def embedded_data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sessiontrail-embedded-") as folder:
        data_dir = Path(folder) / "data"
        yield data_dir
        if (data_dir / "postgres" / "postmaster.pid").exists():  # the test failed half-way
            embedded_postgres.start(data_dir / "postgres").stop()


def test_killed_service_finds_its_embedded_postgres_again(
    embedded_data_dir: Path, http: httpx.Client
) -> None:
    alone = {"SESSIONTRAIL_DETECTOR": "false", "SESSIONTRAIL_SEQUENCER": "false"}
    first = start(embedded_data_dir, None, **alone, **GENEROUS)
    try:
        device = Device(first.url, http)
        assert device.login().status_code == 200
        assert device.refresh().status_code == 200
        postmaster = postmaster_of(embedded_data_dir)
    finally:
        first.kill()

    with service(embedded_data_dir, None, **GENEROUS) as second:
        device.url = second.url
        assert device.refresh().status_code == 200
        assert device.session["generation"] == 3
        listed = device.get("/v1/sessions").json()["sessions"]
        assert [each["session_id"] for each in listed] == [device.session["session_id"]]
        assert postmaster_of(embedded_data_dir) == postmaster
        assert is_alive(postmaster)

        assert second.stop() == 0
        assert not is_alive(postmaster)
        assert not (embedded_data_dir / "postgres" / "postmaster.pid").exists()


def test_the_detector_of_a_killed_service_ends_and_stops_its_embedded_postgres(
    embedded_data_dir: Path, http: httpx.Client
) -> None:
    first = start(embedded_data_dir, None, SESSIONTRAIL_DETECTOR="true", **GENEROUS)
    try:
        device = Device(first.url, http)
        assert device.login().status_code == 200
        postmaster = postmaster_of(embedded_data_dir)
    finally:
        first.kill()

    wait_for(lambda: not is_alive(postmaster))

    with service(embedded_data_dir, None, **GENEROUS) as second:
        device.url = second.url
        assert device.refresh().status_code == 200


def test_killed_embedded_postgres_and_service_start_again(
    embedded_data_dir: Path, http: httpx.Client
) -> None:
    first = start(embedded_data_dir, None, **GENEROUS)
    device = Device(first.url, http)
    try:
        assert device.login().status_code == 200
        assert device.refresh().status_code == 200
        postmaster = postmaster_of(embedded_data_dir)
        os.kill(postmaster, signal.SIGKILL)
    finally:
        first.kill()

    with service(embedded_data_dir, None, **GENEROUS) as second:
        device.url = second.url
        assert device.refresh().status_code == 200
        assert device.session["generation"] == 3
        assert postmaster_of(embedded_data_dir) != postmaster


def postmaster_of(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def test_refresh_vs_restart(
    private_service: Callable[..., RunningService],
    owner_conninfo: str,
    http: httpx.Client,
) -> None:
    running = private_service()
    device = Device(running.url, http)
    assert device.login().status_code == 200
    assert device.refresh().status_code == 200  # from here on the statement is prepared
    log = EventLog(owner_conninfo)
    family_id = device.session["family_id"]
    before = types(log.of_family(family_id))

    # The service is stopped while its statement waits for a lock, so that it cannot answer; the
    # statement then goes through, and PostgreSQL commits it.
    with holding_log(owner_conninfo), sent_refresh(device):
        wait_for(lambda: is_waiting_for_a_lock(owner_conninfo))
        running.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: types(log.of_family(family_id)) == [*before, "RefreshTokenRotated"])
    finally:
        running.kill()

    device.url = private_service().url
    answer = device.refresh()

    assert answer.status_code == 200, answer.text
    assert device.session["generation"] == 3
    assert types(log.of_family(family_id))[3:] == ["RefreshRetried"]
    assert device.refresh().status_code == 200
    assert types(log.of_family(family_id))[4:] == ["RefreshTokenRotated"]


@contextmanager
def holding_session(owner_conninfo: str, device: Device) -> Iterator[None]:
    """Another transaction holds the row of the device's session, for as long as the block lasts."""
    with psycopg.connect(owner_conninfo) as holder:
        query = "SELECT 1 FROM sessions WHERE session_id = %s FOR UPDATE"
        assert holder.execute(query, (device.session["session_id"],)).fetchone()
        yield


@contextmanager
def holding_log(owner_conninfo: str) -> Iterator[None]:
    """Nothing can be appended for as long as the block lasts; what tries waits."""
    with psycopg.connect(owner_conninfo) as holder:
        holder.execute("LOCK TABLE events IN SHARE MODE")
        yield


@contextmanager
def sent_refresh(device: Device) -> Iterator[None]:
    """A refresh whose answer nobody reads."""
    address = urlsplit(device.url)
    body = f'{{"refresh_token": "{device.refresh_token}"}}'
    request = (
        f"POST /v1/refresh HTTP/1.1\r\nHost: {address.netloc}\r\nUser-Agent: {device.user_agent}"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request.encode())
        yield


def is_waiting_for_a_lock(owner_conninfo: str) -> bool:
    with psycopg.connect(owner_conninfo) as connection:
        query = (
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return connection.execute(query).fetchone() is not None
