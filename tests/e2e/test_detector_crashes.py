"""``kill -9`` of detectors and of their database: each event counts once, as if undisturbed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import psycopg
import pytest

from infra.key_files import KeyRing, load_key_ring
from infra.postgres import create_engine
from infra.sealing import DataKeys
from tests.detector_history import Result, result_of, write_history
from tests.e2e.service import command, environment, make_keys
from tests.e2e.test_crashes import OwnPostgres, own_postgres
from tests.integration.detecting import is_done

EVENTS = int(os.environ.get("DETECTOR_TEST_EVENTS", "20000"))
"""All 50,000 take half a minute more: for whoever changes the worker."""
THEFTS = REUSES = 12
KILLS = 4
IN_TIME_S = 60 + EVENTS / 200
LOOK_EVERY_S = 0.2

pytestmark = pytest.mark.timeout(60 + 8 * IN_TIME_S)


@dataclass(slots=True)
class Detector:
    """One ``sessiontrail detect`` process."""

    process: subprocess.Popen[bytes]
    log_path: Path

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def start(variables: Mapping[str, str], folder: Path) -> Detector:
    """Start a detector; it logs into the folder."""
    log_path = folder / "detector.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "detect"],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Detector(process, log_path)


@contextmanager
def detector(variables: Mapping[str, str], folder: Path) -> Iterator[Detector]:
    """A detector that is stopped at the end."""
    running = start(variables, folder)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.stop()


def wait(observe: Callable[[], bool]) -> None:
    """Look again and again; not too often, since starting to look costs the cores something too."""
    deadline = time.monotonic() + IN_TIME_S
    while not observe():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(LOOK_EVERY_S)


@dataclass(slots=True)
class World:
    """A database with a history that no detector has read, and a second one with the same."""

    server: OwnPostgres
    folder: Path
    busy: str
    quiet: str

    def variables(self, conninfo: str) -> dict[str, str]:
        """The environment of a detector on one of the two."""
        return environment(self.folder, conninfo)

    def wait_for_place(self, place: int) -> None:
        """Wait until the detector of the busy one is so far in the users' events, and at work."""
        with psycopg.connect(self.busy, autocommit=True) as connection:
            query = (
                "SELECT 1 FROM detector_partitions WHERE stage = 2 AND owner IS NOT NULL"
                " AND leased_until > clock_timestamp() HAVING min(position) >= %s"
            )
            wait(lambda: connection.execute(query, (place,)).fetchone() is not None)

    def owners(self) -> set[object]:
        """Who owns partitions of the users' stage."""
        with psycopg.connect(self.busy, autocommit=True) as connection:
            rows = connection.execute("SELECT owner FROM detector_partitions WHERE stage = 2")
            return {row[0] for row in rows}

    def end_leases(self) -> None:
        """What time does: whoever is not heard of is taken for dead, without the wait."""
        with psycopg.connect(self.busy, autocommit=True) as connection:
            connection.execute(
                "UPDATE detector_partitions SET leased_until = clock_timestamp() - interval '1s'"
            )
            connection.execute("DELETE FROM detector_workers")

    def take_over(self) -> bool:
        """End the leases, for a test that waits for somebody else to take them."""
        self.end_leases()
        return True

    def wait_for_the_end(self, conninfo: str) -> None:
        """Wait until everything is judged."""
        wait(lambda: asyncio.run(is_done(conninfo)))

    def undisturbed(self) -> Result:
        """What one detector makes of it that nobody disturbs."""
        with detector(self.variables(self.quiet), self.folder):
            self.wait_for_the_end(self.quiet)
        return result_of(self.quiet)


@contextmanager
def world_of(folder: Path, **history: int) -> Iterator[World]:
    """A history (``tests.detector_history``) on a PostgreSQL of its own, with durable commits."""
    folder.mkdir(mode=0o700)
    make_keys(folder)
    with own_postgres() as own:
        migrated = command(environment(folder, own.conninfo), "migrate")
        assert migrated.returncode == 0, migrated.stderr
        keys = load_key_ring(folder / "keys.json", None, None)
        asyncio.run(_write(own.conninfo, keys, history))
        quiet = _copy(own)
        yield World(own, folder, own.conninfo, quiet)


@pytest.fixture
def world(data_dir: Path) -> Iterator[World]:
    """A history that no detector has read."""
    with world_of(data_dir, events=EVENTS, thefts=THEFTS, reuses=REUSES) as made:
        yield made


async def _write(conninfo: str, keys: KeyRing, history: Mapping[str, int]) -> None:
    engine = create_engine(conninfo, max_connections=2, wait_s=10)
    until = datetime.now(UTC) - timedelta(minutes=1)
    await write_history(engine, DataKeys(keys.masters), until, **history)
    await engine.dispose()


def _copy(own: OwnPostgres) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(own.conninfo)
    with psycopg.connect(own.running.conninfo(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE quiet OWNER {parts['user']} TEMPLATE {parts['dbname']}".encode()
        )
    return psycopg.conninfo.make_conninfo(own.conninfo, dbname="quiet")


def test_killed_detectors_and_a_killed_database_lose_nothing_and_double_nothing(
    world: World,
) -> None:
    undisturbed = world.undisturbed()
    dice = Random(11)
    places = sorted(dice.randrange(1, EVENTS) for _ in range(KILLS))
    killed = 0

    for number, place in enumerate(places):
        running = start(world.variables(world.busy), world.folder)
        world.wait_for_place(place)
        if number % 2:
            world.server.kill()
            world.server.start()
        killed += running.process.poll() is None
        running.kill()
        world.end_leases()
    with detector(world.variables(world.busy), world.folder):
        world.wait_for_the_end(world.busy)

    assert killed == KILLS
    assert result_of(world.busy) == undisturbed
    assert [row[2] for row in undisturbed.done] == ["FamilyRevoked"] * THEFTS
    assert len(undisturbed.alerts) >= THEFTS + REUSES + 2
    assert undisturbed.set_aside == []


def test_a_detector_that_stood_still_past_its_lease_doubles_nothing(world: World) -> None:
    undisturbed = world.undisturbed()
    dice = Random(12)
    variables = world.variables(world.busy)

    with detector(variables, world.folder) as sleeper:
        world.wait_for_place(dice.randrange(1, EVENTS // 4))
        with sleeper.standing_still():
            asleep = world.owners()
            with detector(variables, world.folder) as other:
                # A batch that was under way holds its partitions until the database ends it.
                wait(lambda: world.take_over() and not asleep & world.owners())
                world.wait_for_place(dice.randrange(EVENTS // 4, EVENTS // 2))
                sleeper.process.send_signal(signal.SIGCONT)
                world.wait_for_the_end(world.busy)
                assert other.process.poll() is None
        assert sleeper.process.poll() is None

    assert result_of(world.busy) == undisturbed
