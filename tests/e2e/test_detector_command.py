"""``sessiontrail detect`` as its operator sees it: what it set aside, and how far behind it is."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
from psycopg.types.json import Jsonb

from tests.e2e.clients import Device
from tests.e2e.database import wait_for
from tests.e2e.service import RunningService, command, environment, make_keys
from tests.e2e.test_detector_crashes import detector

LAG = 'sessiontrail_detector_lag_seconds{stage="users"} '


def test_what_was_set_aside_is_listed_and_the_services_metrics_tell_the_lag(
    private_service: Callable[..., RunningService], owner_conninfo: str, http: httpx.Client
) -> None:
    running = private_service()
    nothing = command(running.environment, "detect", "--set-aside")
    device = Device(running.url, http)
    assert device.login().status_code == 200
    stream = "family-" + device.session["family_id"]
    with psycopg.connect(owner_conninfo) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE events SET data = %s WHERE stream = %s", (Jsonb([]), stream))

    with detector(running.environment, running.log_path.parent):
        wait_for(lambda: set_aside(owner_conninfo) == 2)
        listed = command(running.environment, "detect", "--set-aside")
    shown = wait_for(lambda: [line for line in metrics(running) if line.startswith(LAG)])

    assert (nothing.returncode, nothing.stdout) == (0, "No event was set aside.\n")
    assert listed.returncode == 0
    assert listed.stdout.count(stream) == 2
    assert listed.stdout.count("MalformedEventError") == 2
    assert "users" in listed.stdout
    assert "crowd" in listed.stdout
    assert shown == [LAG + "0.0"]


def test_a_detector_ends_in_good_order_with_the_process_that_started_it(
    conninfo: str, data_dir: Path
) -> None:
    data_dir.mkdir(mode=0o700)
    make_keys(data_dir)
    process = subprocess.Popen(
        [sys.executable, "-m", "sessiontrail", "detect", "--with-parent"],
        env=environment(data_dir, conninfo),
        stdin=subprocess.PIPE,
    )
    wait_for(lambda: owned(conninfo) == 17)

    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(15) == 0
    assert owned(conninfo) == 0


def owned(conninfo: str) -> int:
    """How many partitions of both stages have an owner."""
    return count(conninfo, "SELECT count(owner) FROM detector_partitions")


def set_aside(conninfo: str) -> int:
    return count(conninfo, "SELECT count(*) FROM detector_set_aside")


def count(conninfo: str, query: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def metrics(running: RunningService) -> list[str]:
    return httpx.get(running.url + "/metrics").text.splitlines()
