"""``sessiontrail demo``: the thefts are told of, the honest are not, and nothing is left behind."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sessiontrail.demo_people import HONEST
from tests.e2e.service import environment, free_port

_ALERT = re.compile(r"! (?P<severity>[A-Z]+)  (?P<rule>[a-z-]+)  about (?P<whom>.+)$")
_DEADLINE_S = 240


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder. Not pytest's own, which every start of pytest closes to other accounts."""
    with tempfile.TemporaryDirectory(prefix="sessiontrail-demo-") as made:
        yield Path(made) / "data"


def started(folder: Path, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """The demo, as it is typed, with settings about that must not matter to it."""
    return subprocess.Popen(
        [sys.executable, "-m", "sessiontrail", "demo", "--pace", "0", *arguments],
        env=environment(
            folder, "postgresql://nobody@192.0.2.1/real", SESSIONTRAIL_DETECTOR="false", **settings
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(_DEADLINE_S)
def test_every_theft_is_told_of_and_nobody_honest(folder: Path) -> None:
    process = started(folder, "--once")

    said, complaints = process.communicate(timeout=_DEADLINE_S)

    assert process.returncode == 0, complaints
    assert complaints == ""
    alerts = [found.groupdict() for found in map(_ALERT.search, said.splitlines()) if found]
    rules = {
        alert["whom"]: {a["rule"] for a in alerts if a["whom"] == alert["whom"]} for alert in alerts
    }
    assert "device-change" in rules["Ingrid"]
    assert "anonymous-network" in rules["Jonas"]
    assert "impossible-travel" in rules["Olav"]
    assert "credential-stuffing" in rules["many users"]
    assert "success-in-burst" in rules["Tora"]
    assert rules["Sven"] == {"refresh-token-reuse"}
    assert rules.keys() == {"Ingrid", "Jonas", "Olav", "many users", "Tora", "Sven"}
    assert not rules.keys() & {person.name for person in HONEST}
    assert "done: revoke family" in said
    assert "done: step up" in said
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(_DEADLINE_S)
def test_it_stays_up_for_the_analyst_until_ctrl_c(folder: Path) -> None:
    port = free_port()
    process = started(folder, PORT=str(port))
    assert process.stdout is not None
    said = []

    for line in process.stdout:
        said.append(line)
        if line == "Ctrl-C stops everything.\n":
            break
    found = re.search(r"Analyst (\S+), password: (\S+)", "".join(said))
    assert found is not None
    url = f"http://127.0.0.1:{port}"
    login = httpx.post(
        url + "/v1/login",
        json={"username": found[1], "password": found[2], "token_delivery": "body"},
    )
    token = login.json()["access_token"]
    listed = httpx.get(url + "/v1/alerts", headers={"Authorization": f"Bearer {token}"})
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)

    assert listed.status_code == 200, listed.text
    assert len(listed.json()["alerts"]) >= 6
    assert process.returncode == 0, complaints
    assert complaints == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/healthz")
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(_DEADLINE_S)
def test_ctrl_c_in_the_middle_ends_it_at_once(folder: Path) -> None:
    process = started(folder, "--pace", "600")
    assert process.stdout is not None

    for line in process.stdout:
        if "people sign in at home" in line:
            break
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)

    assert process.returncode == 0, complaints
    assert complaints == ""
    assert list(folder.iterdir()) == []
