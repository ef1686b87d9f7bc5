"""``sessiontrail detect`` as its operator sees it: what it set aside, and how far behind it is."""

from collections.abc import Callable

import httpx
import psycopg
from psycopg.types.json import Jsonb

from tests.e2e.clients import Device
from tests.e2e.database import wait_for
from tests.e2e.service import RunningService, command
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


def set_aside(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT count(*) FROM detector_set_aside").fetchone()
    assert row is not None
    count: int = row[0]
    return count


def metrics(running: RunningService) -> list[str]:
    return httpx.get(running.url + "/metrics").text.splitlines()
