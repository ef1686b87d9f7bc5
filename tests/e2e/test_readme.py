"""What README.md tells people to paste works: run here as it stands, but for the addresses."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from infra.embedded_postgres import RunningPostgres
from sessiontrail.demo import commands
from tests.e2e.clients import Device
from tests.e2e.service import START_DEADLINE_S, RunningService, environment, free_port

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"
COMMAND = ".venv/bin/sessiontrail"
SHELLS = [shell for shell in ("bash", "dash", "zsh") if shutil.which(shell)]

Claims = Callable[[str], dict[str, Any]]
"""The README's function. Any: claims are of several types."""


def fences_under(heading: str, language: str) -> list[str]:
    """The blocks of a language in a section of the README."""
    _, _, rest = README.partition(f"\n## {heading}\n")
    text = rest.partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(shell: str, script: str, service: RunningService) -> str:
    """What a block prints, run whole against a service instead of the demo."""
    here = script.replace(URL, service.url).replace(COMMAND, f"{sys.executable} -m sessiontrail")
    done = subprocess.run(
        [shell, "-c", here],
        env=dict(service.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def the_walk() -> str:
    (walk,) = (block for block in fences_under("Run it", "sh") if "curl" in block)
    return walk


@pytest.fixture
def claims_of(shared_service: RunningService) -> Claims:
    """The verification snippet, for the running service."""
    (snippet,) = fences_under("Verifying access tokens", "python")
    names: dict[str, Any] = {}  # Any: whatever the snippet defines
    exec(snippet.replace(URL, shared_service.url), names)  # noqa: S102 (our own README)
    found: Claims = names["claims_of"]
    return found


def test_make_run_prints_the_walk_of_the_readme(
    private_service: Callable[..., RunningService],
) -> None:
    service = private_service()

    service.stop()

    assert the_walk() == commands(URL)
    assert commands(service.url) in service.log()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_walk_refreshes_and_throws_thief_and_victim_out(
    shared_service: RunningService, shell: str
) -> None:
    printed = run(shell, the_walk(), shared_service).splitlines()

    answers = [json.loads(line) for line in printed if line.startswith("{")]
    listed, thief, victim, revoked = answers
    assert [line[:2] for line in printed if not line.startswith("{")] == [
        "1.", "2.", "3.", "4.", "5.", "6.",
    ]  # fmt: skip
    assert [one["device"]["name"] for one in listed["sessions"] if one["current"]] == ["laptop"]
    assert (thief["type"], thief["status"]) == ("/problems/invalid-grant", 401)
    assert (victim["type"], victim["status"]) == ("/problems/invalid-grant", 401)
    assert revoked == {"ended": 1}


def test_the_log_keeps_what_the_walk_did(shared_service: RunningService) -> None:
    (tail,) = (block for block in fences_under("Run it", "sh") if "events tail" in block)
    run("bash", the_walk(), shared_service)

    printed = run("bash", tail, shared_service)

    events = [line for line in printed.splitlines() if line.startswith("{")]
    types = [json.loads(line)["type"] for line in events]
    reuse = len(types) - 1 - types[::-1].index("RefreshTokenReused")
    assert types[reuse - 2 : reuse + 2] == [
        "SessionStarted",
        "RefreshTokenRotated",
        "RefreshTokenReused",
        "FamilyRevoked",
    ]


def test_the_snippet_verifies_access_tokens_and_nothing_else(
    device: Callable[..., Device], claims_of: Claims
) -> None:
    ada = device()
    ada.login()

    claims = claims_of(ada.access_token)

    assert claims["sub"] == ada.session["subject"]
    assert claims["sid"] == ada.session["session_id"]
    header, payload, signature = ada.access_token.split(".")
    forged = jwt.encode(claims, secrets.token_bytes(32), "HS256", {"typ": "at+jwt"})
    for other in (ada.refresh_token, f"{header}.{payload}.{signature[::-1]}", forged):
        with pytest.raises(jwt.PyJWTError):
            claims_of(other)


def test_a_backend_opens_a_session_for_a_user_of_its_own(
    shared_service: RunningService, device: Callable[..., Device], claims_of: Claims
) -> None:
    blocks = fences_under("With your own user table", "sh")

    opened = json.loads(run("bash", "\n".join(blocks), shared_service))

    assert claims_of(opened["access_token"])["sub"] == "customer-42"
    refreshed = device().present(opened["refresh_token"])
    assert claims_of(refreshed.json()["access_token"])["sub"] == "customer-42"


@pytest.fixture
def roles(postgres: RunningPostgres) -> Iterator[Callable[[str], str]]:
    """Renames the README's roles and database, for those that it names are in use here."""
    name = f"readme_{secrets.token_hex(4)}"

    def renamed(text: str) -> str:
        text = text.replace("@db.example.com/sessiontrail", f"@/{name}?host={postgres.socket_dir}")
        text = re.sub(r"//sessiontrail(_owner)?:", rf"//{name}\1:", text)
        return re.sub(r"\b(ROLE|DATABASE|OWNER) sessiontrail(_owner)?\b", rf"\1 {name}\2", text)

    yield renamed
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE IF EXISTS {name}")
        connection.execute(f"DROP ROLE IF EXISTS {name}_owner")


def test_it_runs_on_a_postgresql_of_ones_own(
    postgres: RunningPostgres, roles: Callable[[str], str], tmp_path: Path
) -> None:
    (statements,) = fences_under("On your own PostgreSQL", "sql")
    (script,) = fences_under("On your own PostgreSQL", "sh")
    port = free_port()
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        for statement in roles(statements).split(";"):
            if statement.strip():
                connection.execute(statement.encode())

    process = subprocess.Popen(
        ["bash", "-e", "-c", roles(script).replace(COMMAND, f"{sys.executable} -m sessiontrail")],
        env=environment(tmp_path, None, PORT=str(port)),
        start_new_session=True,
    )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        issuer = httpx.get(f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)

    assert issuer.json()["issuer"] == "https://id.example.com"
    database = re.search(r"DATABASE (\w+)", roles(statements))
    assert database is not None
    with (
        psycopg.connect(
            postgres.conninfo(user=database[1], dbname=database[1]), autocommit=True
        ) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM events")


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service exited"
        try:
            if httpx.get(url + "/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the service was not ready in time")
