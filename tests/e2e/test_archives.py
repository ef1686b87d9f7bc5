"""Retention at the command line: archive, go on without, restore."""

import subprocess
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from domain.events.users import Role
from tests.e2e.accounts import add_user
from tests.e2e.audited import Run
from tests.e2e.clients import Device
from tests.e2e.conftest import GENEROUS
from tests.e2e.service import service
from tests.generated_history import GeneratedHistory


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_log_is_archived_goes_on_without_and_comes_back(
    run: Run, history: GeneratedHistory, tmp_path: Path
) -> None:
    end = (history.lives.at + timedelta(days=1)).isoformat()
    early = (history.lives.at - timedelta(hours=4)).isoformat()
    user = history.lives.users[0].user_id
    shown = said(run("audit", "sessions", "--as-of", end, "--json"))
    proof = said(run("audit", "prove-inclusion", "leaf:300"))

    archived = said(run("audit", "archive", "--before", end, "--to", str(tmp_path / "kept")))

    (file,) = (tmp_path / "kept").iterdir()
    assert str(file) in archived
    assert "leaves 0 to 511" in archived
    assert said(run("audit", "sessions", "--as-of", end, "--json")) == shown
    assert "are the fold of the log" in said(run("projections", "verify"))
    refused = run("audit", "sessions", "--as-of", early)
    assert refused.returncode == 1
    assert file.name in refused.stderr
    history_of_one = run("audit", "history", "--user", user)
    assert file.name in history_of_one.stderr
    gone = run("audit", "prove-inclusion", "leaf:300")
    assert gone.returncode == 1
    assert "no longer in the database" in gone.stderr

    assert "are back" in said(run("audit", "restore", str(file)))

    assert (
        said(run("audit", "prove-inclusion", "leaf:300")).splitlines()[:3]
        == (proof.splitlines()[:3])
    )
    said(run("audit", "sessions", "--as-of", early))
    assert "are the fold of the log" in said(run("projections", "verify"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["archive", "--before", "position:1"], "--before takes an instant"),
        (["archive", "--before", "2020-01-01T00:00:00Z"], "there is no snapshot of before"),
        (["restore", "/nowhere.gz"], "/nowhere.gz"),
    ],
    ids=["place", "early", "file"],
)
def test_what_cannot_be_archived_or_restored_is_told_in_one_line(
    run: Run, words: list[str], told: str
) -> None:
    done = run("audit", *words)

    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("history")
def test_a_folder_that_cannot_be_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    occupied = tmp_path / "a file"
    occupied.touch()

    done = run("audit", "archive", "--before", "2100-01-01T00:00:00Z", "--to", str(occupied))

    assert done.returncode == 1
    assert f"{occupied}: File exists; no row was touched" in done.stderr
    assert "Traceback" not in done.stderr


def test_over_http_archived_entries_are_gone_and_their_hashes_are_not(
    run: Run, history: GeneratedHistory, conninfo: str, data_folder: Path, http: httpx.Client
) -> None:
    end = (history.lives.at + timedelta(days=1)).isoformat()
    said(run("audit", "archive", "--before", end))
    (file,) = (data_folder / "archive").iterdir()

    with service(data_folder, conninfo, **GENEROUS) as running:
        account = add_user(running, roles=(Role.AUDITOR,))
        auditor = Device(running.url, http)
        assert auditor.login(account.username, account.password).status_code == 200
        hashes = auditor.get("/tlog/tile/0/000")
        entries = auditor.get("/tlog/tile/entries/000")
        past = auditor.get("/v1/audit/sessions?as_of=leaf:100")
        told = auditor.get(f"/v1/audit/history?user={history.lives.users[-1].user_id}")

    assert (hashes.status_code, len(hashes.content)) == (200, 256 * 32)
    assert entries.status_code == past.status_code == 404
    assert file.name in entries.json()["detail"]
    assert file.name in past.json()["detail"]
    assert told.json()["archived"] == [file.name]


def test_only_the_owner_archives(
    run: Run, history: GeneratedHistory, conninfo: str, tmp_path: Path
) -> None:
    end = (history.lives.at + timedelta(days=1)).isoformat()

    done = run(
        *("audit", "archive", "--before", end, "--to", str(tmp_path / "kept")),
        SESSIONTRAIL_MIGRATION_DATABASE_URL=conninfo,
    )

    assert done.returncode == 1
    assert "need the owner of the tables" in done.stderr
