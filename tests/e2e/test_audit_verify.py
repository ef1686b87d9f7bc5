"""``sessiontrail audit verify`` as an auditor runs it."""

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.e2e.audited import Run
from tests.generated_history import GeneratedHistory
from tests.integration.tree_world import SIGNER


def tamper(owner_conninfo: str, statement: str) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement.encode())


@pytest.mark.usefixtures("history")
def test_an_untouched_store_verifies_against_the_head_that_was_saved(
    audit: Run, tmp_path: Path
) -> None:
    head = tmp_path / "head"
    head.write_text(audit("checkpoint").stdout)

    done = audit("verify", "--against", str(head), "--key", str(SIGNER.verifier))

    assert done.returncode == 0, done.stderr
    assert "events are as they were signed; the tables are their fold." in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("history")
def test_an_altered_event_is_named_and_the_exit_is_not_zero(
    audit: Run, owner_conninfo: str
) -> None:
    tamper(owner_conninfo, "UPDATE events SET actor = 'system:x' WHERE position = 300")

    done = audit("verify")

    assert done.returncode == 1
    assert "event 300 (" in done.stdout
    assert "was altered: it is not what leaf" in done.stdout
    assert done.stderr.startswith("sessiontrail: 1 findings: this is not the store")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("history")
def test_the_published_head_finds_a_log_that_was_cut_with_its_tree(
    audit: Run, owner_conninfo: str
) -> None:
    for table in ("events", "tree_heads", "tree_tiles", "sessions", "users", "alerts"):
        tamper(owner_conninfo, f"DELETE FROM {table}")

    done = audit("verify")

    assert done.returncode == 1
    assert "the published head is of" in done.stdout
    assert "set back" in done.stdout


@pytest.mark.usefixtures("history")
def test_a_key_that_was_put_into_its_table_is_named(audit: Run, owner_conninfo: str) -> None:
    tamper(
        owner_conninfo,
        "INSERT INTO service_keys VALUES ('evil', 'evil', 'x', '{sessions:create}', now(), NULL)",
    )

    done = audit("verify")

    assert done.returncode == 1
    assert "service_keys evil: the log knows of no such row" in done.stdout


@pytest.mark.usefixtures("history")
def test_rows_that_may_be_hidden_from_the_service_are_told_of(
    audit: Run, owner_conninfo: str
) -> None:
    tamper(
        owner_conninfo,
        "ALTER TABLE events ENABLE ROW LEVEL SECURITY;"
        " CREATE POLICY most ON events USING (position <> 300)",
    )

    done = audit("verify")

    assert done.returncode == 1
    assert "events has row security" in done.stdout


@pytest.mark.usefixtures("history")
def test_a_newer_event_is_told_of_whatever_time_it_names(audit: Run, owner_conninfo: str) -> None:
    tamper(
        owner_conninfo,
        "INSERT INTO events (stream, version, event_id, type, schema_version, occurred_at, actor,"
        " correlation_id, data) VALUES ('test-x', 1, gen_random_uuid(), 'OfANewerBuild', 1,"
        " '-infinity', 'system:x', gen_random_uuid(), '{}')",
    )

    done = audit("verify")

    assert "1 newer events, at no possible time, are not under a signed head yet." in done.stdout


@pytest.mark.usefixtures("history")
def test_a_head_of_another_log_is_a_finding(audit: Run, tmp_path: Path) -> None:
    head = tmp_path / "head"
    head.write_text("other.example/log\n5\nAAAA\n\n— other.example/log AAAAAAAA\n")

    done = audit("verify", "--against", str(head))

    assert done.returncode == 1
    assert f"the head in {head}:" in done.stdout


def test_an_archive_is_told_of_and_its_hashes_still_have_to_fit(
    audit: Run, history: GeneratedHistory, owner_conninfo: str, tmp_path: Path
) -> None:
    end = (history.lives.at + timedelta(days=1)).isoformat()
    archived = audit("archive", "--before", end, "--to", str(tmp_path / "kept"))
    assert archived.returncode == 0, archived.stderr

    verified = audit("verify")
    tamper(
        owner_conninfo,
        "UPDATE tree_tiles SET hashes = set_byte(hashes, 9, get_byte(hashes, 9) # 1)"
        " WHERE level = 0 AND tile = 0",
    )
    damaged = audit("verify")

    assert verified.returncode == 0, verified.stdout
    assert "Of 512 in archives the hashes are whole" in verified.stdout
    assert damaged.returncode == 1
    assert "signed over another tree" in damaged.stdout


@pytest.mark.usefixtures("history")
def test_where_nothing_was_signed_nothing_is_proved(
    audit: Run, owner_conninfo: str, data_folder: Path
) -> None:
    tamper(owner_conninfo, "TRUNCATE tree_heads, tree_tiles, entry_bundles")
    (data_folder / "tree" / "checkpoint").unlink()

    done = audit("verify")

    assert done.returncode == 1
    assert "nothing was signed yet" in done.stderr


@pytest.mark.usefixtures("history")
def test_it_says_when_no_head_from_outside_was_compared(audit: Run, data_folder: Path) -> None:
    (data_folder / "tree" / "checkpoint").unlink()

    done = audit("verify")

    assert done.returncode == 0, done.stderr
    assert "No head from outside the database was compared" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--key", "nonsense"], "a note key is NAME+ID+BASE64"),
        (["--key", SIGNER.exported()], "that is a private key"),
        (["--against", "no-such-file"], "no-such-file cannot be read"),
    ],
    ids=["no key", "a private key", "no file"],
)
def test_bad_words_get_one_line(audit: Run, words: list[str], told: str) -> None:
    done = audit("verify", *words)

    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert SIGNER.exported() not in done.stdout + done.stderr
