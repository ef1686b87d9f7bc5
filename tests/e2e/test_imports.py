"""``sessiontrail import``: the detector knows imported users at their first sign-in here."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import geo_files
from tests.e2e.accounts import Account, add_user
from tests.e2e.clients import CHROME, FIREFOX, Device
from tests.e2e.database import EventLog, wait_for
from tests.e2e.service import RunningService, command

AT_HOME, ABROAD = "192.0.2.7", "198.51.100.9"


def earlier(account: Account) -> Iterator[str]:
    """Ten sign-ins at home, on one browser, lately."""
    for day in range(10, 0, -1):
        yield json.dumps(
            {
                "at": (datetime.now(UTC) - timedelta(days=day)).isoformat(),
                "do": "login",
                "user": account.username,
                "family": f"{account.username}-{day}",
                "ip": AT_HOME,
                "user_agent": FIREFOX,
            }
        )


@pytest.fixture
def detecting(private_service: Callable[..., RunningService], tmp_path: Path) -> RunningService:
    """A service behind a proxy, with GeoIP files and a detector."""
    return private_service(
        SESSIONTRAIL_DETECTOR="true",
        SESSIONTRAIL_TRUSTED_PROXIES="127.0.0.1",
        SESSIONTRAIL_GEOIP_CITY=str(geo_files.maxmind_city(tmp_path / "city.mmdb")),
        SESSIONTRAIL_GEOIP_ASN=str(geo_files.maxmind_asn(tmp_path / "asn.mmdb")),
    )


def alerts_of(log: EventLog, user_id: str) -> list[dict[str, Any]]:
    """What was raised about a user, but for what is only put on record."""
    raised = log.of_type("AlertRaised")
    return [
        event.data
        for event in raised
        if str(event.subject_id) == user_id and event.data["response"] != "record"
    ]


def test_an_imported_user_is_known_and_their_thief_is_not(
    detecting: RunningService, device: Callable[..., Device], tmp_path: Path
) -> None:
    owner, victim = add_user(detecting), add_user(detecting)
    file = tmp_path / "earlier.jsonl"
    file.write_text("\n".join([*earlier(owner), *earlier(victim)]))
    log = EventLog(detecting.environment["DATABASE_URL"])

    imported = command(detecting.environment, "import", str(file))
    own = Device(detecting.url, device().http, FIREFOX, {"X-Forwarded-For": AT_HOME})
    thief = Device(detecting.url, device().http, CHROME, {"X-Forwarded-For": ABROAD})
    assert own.login(owner.username, owner.password).status_code == 200
    assert thief.login(victim.username, victim.password).status_code == 200
    wait_for(lambda: alerts_of(log, victim.user_id))

    assert (imported.returncode, imported.stderr) == (0, "")
    assert imported.stdout == "Learned from 20 sign-ins of 2 users, 0 of them new here.\n"
    rules = {str(alert["rule"]) for alert in alerts_of(log, victim.user_id)}
    assert rules & {"new-device", "new-country"}
    assert alerts_of(log, owner.user_id) == []


def test_the_same_file_again_is_one_line(shared_service: RunningService, tmp_path: Path) -> None:
    file = tmp_path / "earlier.jsonl"
    file.write_text("\n".join(earlier(add_user(shared_service))))

    first = command(shared_service.environment, "import", str(file))
    again = command(shared_service.environment, "import", str(file))

    assert first.returncode == 0
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == (
        "sessiontrail: this file was imported before; its sign-ins would count twice\n"
    )


def test_bad_lines_are_named_and_the_rest_is_imported(
    shared_service: RunningService, tmp_path: Path
) -> None:
    file = tmp_path / "earlier.jsonl"
    file.write_text("\n".join(["nonsense", *earlier(add_user(shared_service))]))

    done = command(shared_service.environment, "import", str(file), "--known-only")

    assert done.returncode == 1
    assert done.stdout == "Learned from 10 sign-ins of 1 users, 0 of them new here.\n"
    assert done.stderr.startswith("line 1: ")
    assert "1 lines could not be read; the rest was imported" in done.stderr


def test_what_is_no_file_is_one_line(shared_service: RunningService, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        done = command(shared_service.environment, "import", str(path))

        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "is no file" in done.stderr
