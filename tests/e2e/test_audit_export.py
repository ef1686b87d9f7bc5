"""``audit export`` and ``audit verify-export``, and the same over HTTP."""

import asyncio
import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from audit.checkpoints import signed_checkpoint
from audit.merkle import Frontier, leaf_hash
from tests.e2e.audited import Run
from tests.e2e.test_audit_verify import tamper
from tests.generated_history import GeneratedHistory
from tests.integration.tree_world import SIGNER, sequenced

KEY = str(SIGNER.verifier)


@pytest.fixture
def exported(audit: Run, history: GeneratedHistory, tmp_path: Path) -> Path:
    path = tmp_path / "all.jsonl"
    done = audit("export", "-o", str(path))
    assert done.returncode == 0, done.stderr
    return path


def verify(audit: Run, path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return audit(
        "verify-export",
        str(path),
        "--key",
        KEY,
        *words,
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        SESSIONTRAIL_TREE_KEY="",
    )


def test_a_full_export_proves_that_nothing_is_left_out(
    audit: Run,
    exported: Path,
    tmp_path: Path,
) -> None:
    head = tmp_path / "head"
    head.write_text(audit("checkpoint").stdout)

    done = verify(audit, exported, "--head", str(head))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "none between them is left out" in done.stdout
    assert exported.stat().st_mode & 0o077 == 0


def test_a_stranger_verifies_an_export_in_a_few_lines(exported: Path) -> None:
    """As docs/audit.md describes the file; only the hashes are ours."""
    root, size, tree = None, 0, Frontier()
    for text in exported.read_bytes().splitlines():
        line = json.loads(text)
        if "export" in line:
            size = int(line["export"]["checkpoint"].splitlines()[1])
            root = line["export"]["checkpoint"].splitlines()[2]
        elif "event" in line:
            start = text.index(b'"event":') + len(b'"event":')
            tree.append(leaf_hash(text[start:-1]))
    assert tree.size == size
    assert base64.b64encode(tree.root()).decode() == root


def kept(audit: Run, path: Path) -> Path:
    path.write_text(audit("checkpoint").stdout)
    return path


def test_an_older_head_is_proved_by_an_export_of_everything(
    audit: Run, history: GeneratedHistory, conninfo: str, data_folder: Path, tmp_path: Path
) -> None:
    older = kept(audit, tmp_path / "older")
    audit("export", "-o", str(tmp_path / "before.jsonl"))  # is an event itself
    asyncio.run(sequenced(conninfo, data_folder / "tree"))
    path = tmp_path / "after.jsonl"
    assert audit("export", "-o", str(path)).returncode == 0

    done = verify(audit, path, "--head", str(older))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "begins with that of the head that you kept" in done.stdout


def test_a_head_that_nothing_tells_of_exits_with_3_until_it_is_proved(
    audit: Run, history: GeneratedHistory, conninfo: str, data_folder: Path, tmp_path: Path
) -> None:
    before = tmp_path / "before.jsonl"
    older = kept(audit, tmp_path / "older")
    size = older.read_text().splitlines()[1]
    assert audit("export", "-o", str(before)).returncode == 0
    asyncio.run(sequenced(conninfo, data_folder / "tree"))
    newer = kept(audit, tmp_path / "newer")
    proof = tmp_path / "proof"
    proof.write_text(audit("prove-consistency", size, newer.read_text().splitlines()[1]).stdout)
    few = tmp_path / "few.jsonl"
    some = ("--type", "LogExported")
    assert audit("export", "-o", str(few), *some, "--extends", str(older)).returncode == 0
    bare = tmp_path / "bare.parquet"
    assert audit("export", "-o", str(bare), "--format", "parquet", *some).returncode == 0
    with_it = tmp_path / "with.parquet"
    parquet = ("export", "-o", str(with_it), "--format", "parquet", *some)
    assert audit(*parquet, "--extends", str(older)).returncode == 0

    alone = verify(audit, before, "--head", str(newer))
    joined = verify(audit, before, "--head", str(newer), "--consistency", str(proof))
    carried = verify(audit, few, "--head", str(older))
    in_parquet = verify(audit, with_it, "--head", str(older))
    proof.write_text("AAAA\n")
    wrong = verify(audit, before, "--head", str(newer), "--consistency", str(proof))

    assert (alone.returncode, alone.stderr.count("\n")) == (3, 1)
    assert "is newer than the export's" in alone.stderr
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert "is of a tree that begins with its" in joined.stdout
    assert carried.returncode == 0, carried.stdout + carried.stderr
    assert in_parquet.returncode == 0, in_parquet.stdout + in_parquet.stderr
    assert wrong.returncode == 3
    assert "does not join the saved head" in wrong.stderr


def test_an_export_is_refused_where_the_log_does_not_extend_the_head(
    audit: Run, history: GeneratedHistory, tmp_path: Path
) -> None:
    forged = tmp_path / "forged"
    forged.write_text(signed_checkpoint(SIGNER, 100, b"x" * 32))
    path = tmp_path / "all.jsonl"

    done = audit("export", "-o", str(path), "--extends", str(forged))
    ocsf = audit("export", "-o", str(path), "--format", "ocsf", "--extends", str(forged))

    assert done.returncode == 1
    assert "does not begin with that of 100" in done.stderr
    assert "holds no proofs" in ocsf.stderr
    assert not path.exists()


def test_a_span_of_leaves_is_proved_to_be_whole(audit: Run, exported: Path, tmp_path: Path) -> None:
    size = json.loads(exported.read_bytes().splitlines()[0])["export"]["checkpoint"].split("\n")[1]
    path = tmp_path / "span.jsonl"

    done = audit("export", "-o", str(path), "--leaves", "300:")
    checked = verify(audit, path)
    lines = path.read_bytes().splitlines(keepends=True)
    beyond = audit("export", "-o", str(tmp_path / "x"), "--leaves", f"{size}0:")
    nonsense = audit("export", "-o", str(tmp_path / "x"), "--leaves", "300")

    assert done.returncode == 0, done.stderr
    assert [b'"leaf":300,' in line for line in lines[1:4]] == [False, True, False]
    assert checked.returncode == 0, checked.stdout
    assert f"leaves 300 to {int(size) - 1:,} of the" in checked.stdout
    assert "only a full export" not in checked.stdout
    assert "was signed yet" in beyond.stderr
    assert "is no span of leaves" in nonsense.stderr


def test_an_event_beside_the_selection_is_named(
    audit: Run, exported: Path, history: GeneratedHistory, tmp_path: Path
) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"selection":{}', b'"selection":{"types":["SessionStarted"]}')
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"".join(lines))

    done = verify(audit, path)

    assert done.returncode == 1
    assert "which the export's selection excludes" in done.stdout


def test_an_export_is_on_record_with_its_hash(exported: Path, owner_conninfo: str) -> None:
    with psycopg.connect(owner_conninfo) as connection:
        ((actor, data),) = connection.execute(
            "SELECT actor, data FROM events WHERE type = 'LogExported'"
        ).fetchall()

    assert actor.startswith("operator")
    assert data["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert data["events"] > 600
    assert not data.get("revealed")


def test_one_users_events_are_proved_among_the_others(
    audit: Run,
    history: GeneratedHistory,
    tmp_path: Path,
) -> None:
    user = history.lives.users[0].user_id
    path = tmp_path / "one.jsonl"

    done = audit("export", "-o", str(path), "--user", user)

    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert {each["event"]["subject_id"] for each in events if "event" in each} == {user}
    checked = verify(audit, path)
    assert checked.returncode == 0, checked.stdout
    assert "only a full export tells" in checked.stdout


def test_types_and_times_choose(
    audit: Run,
    exported: Path,
    tmp_path: Path,
) -> None:
    every = [
        json.loads(line)["event"]
        for line in exported.read_bytes().splitlines()[2:-1]
        if b'"event":' in line
    ]
    starts = [each["occurred_at"] for each in every if each["type"] == "SessionStarted"]
    path = tmp_path / "some.jsonl"

    done = audit("export", "-o", str(path), "--type", "SessionStarted", "--until", "2100-01-01Z")

    assert done.returncode == 1
    assert "instant" in done.stderr
    done = audit(
        "export", "-o", str(path), "--type", "SessionStarted", "--until", "2100-01-01T00:00:00Z"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{len(starts)} events")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda lines: [*lines[:9], lines[9].replace(b'"actor":"', b'"actor":"x'), *lines[10:]],
            "line 10 is not the event that was signed as leaf 7",
        ),
        (lambda lines: [*lines[:9], *lines[10:]], "line 10 has leaf 8 where leaf 7 is due"),
        (lambda lines: [*lines[:9], lines[9], lines[9], *lines[10:]], "where leaf 8 is due"),
        (lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]], "where leaf 7 is due"),
        (lambda lines: lines[:-1], "cut off"),
        (lambda lines: [*lines[:-1], lines[-1][:-5]], "is no line of an export"),
        (lambda lines: lines[1:], "does not begin as an export does"),
        (lambda lines: [*lines, lines[-1]], "follows the export's end"),
        (lambda lines: [*lines[:9], b"{}\n", *lines[9:]], "line 10 is no line of an export"),
    ],
    ids=["altered", "missing", "doubled", "swapped", "no end", "cut", "no head", "two ends", "{}"],
)
def test_whatever_is_done_to_an_export_is_found_and_named(
    audit: Run,
    exported: Path,
    change: Callable[[list[bytes]], list[bytes]],
    told: str,
) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    exported.write_bytes(b"".join(change(lines)))

    done = verify(audit, exported)

    assert done.returncode == 1
    assert told in done.stdout
    assert "Traceback" not in done.stderr


def test_another_key_and_another_head_are_refused(
    audit: Run,
    exported: Path,
    tmp_path: Path,
) -> None:
    foreign = audit("verify-export", str(exported), "--key", KEY.replace("tests.", "other."))
    head = tmp_path / "head"
    head.write_text("nonsense")

    assert foreign.returncode == 1
    assert verify(audit, exported, "--head", str(head)).returncode == 1
    assert verify(audit, tmp_path / "none").stderr.count("\n") == 1


def test_parquet_holds_the_same_and_is_checked_alike(
    audit: Run,
    exported: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "all.parquet"
    assert audit("export", "-o", str(path), "--format", "parquet").returncode == 0

    assert "left out" in verify(audit, path).stdout
    table = pq.read_table(path)
    assert table.num_rows >= 600
    assert table.column("leaf").to_pylist() == list(range(table.num_rows))
    rows = table.to_pylist()
    rows[9]["actor"] = "system:x"
    changed = tmp_path / "changed.parquet"
    pq.write_table(table.from_pylist(rows, schema=table.schema), changed)
    metadata = pq.ParquetFile(path).metadata.metadata
    with pq.ParquetWriter(changed, table.schema) as writer:
        writer.write_table(table.from_pylist(rows, schema=table.schema))
        writer.add_key_value_metadata({b"sessiontrail": metadata[b"sessiontrail"]})
    found = verify(audit, changed)
    assert found.returncode == 1
    assert "row 10 is not the event that was signed as leaf 9" in found.stdout
    with pq.ParquetWriter(changed, table.drop_columns(["personal"]).schema) as writer:
        writer.write_table(table.drop_columns(["personal"]))
        writer.add_key_value_metadata({b"sessiontrail": metadata[b"sessiontrail"]})
    assert "not those of an export" in verify(audit, changed).stdout
    changed.write_bytes(path.read_bytes()[:-100])
    assert "no Parquet file, or is cut off" in verify(audit, changed).stdout


def test_personal_data_is_opened_for_a_reason_only_and_on_record(
    audit: Run,
    exported: Path,
    history: GeneratedHistory,
    tmp_path: Path,
    owner_conninfo: str,
) -> None:
    opened = tmp_path / "opened.jsonl"
    reason = "ticket 4711, the person asked"

    refused = audit("export", "-o", str(opened), "--reveal")
    done = audit("export", "-o", str(opened), "--reveal", "--reason", reason)

    assert refused.returncode == 1
    assert "--reveal and --reason go together" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert b'"personal":{' not in exported.read_bytes()
    assert b'"user_agent"' in opened.read_bytes()
    assert b'"device_key"' not in opened.read_bytes()
    checked = verify(audit, opened)
    assert checked.returncode == 0
    assert "have opened personal data beside them, which nothing proves" in checked.stdout
    with psycopg.connect(owner_conninfo) as connection:
        rows = connection.execute(
            "SELECT data->>'revealed', data::text FROM events WHERE type = 'LogExported'"
            " ORDER BY version"
        ).fetchall()
    assert [row[0] for row in rows] == [None, "true"]
    assert "4711" not in str(rows)


def test_nothing_is_half_written(audit: Run, exported: Path, owner_conninfo: str) -> None:
    before = exported.read_bytes()
    again = audit("export", "-o", str(exported))
    tamper(owner_conninfo, "UPDATE events SET actor = 'system:x' WHERE position = 300")
    damaged = audit("export", "-o", str(exported.parent / "damaged.jsonl"))
    nowhere = audit("export", "-o", str(exported.parent / "no" / "such.jsonl"))

    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert exported.read_bytes() == before
    assert damaged.returncode == 1
    assert "not what was signed: run `sessiontrail audit verify`" in damaged.stderr
    assert nowhere.returncode == 1
    assert nowhere.stderr.count("\n") == 1
    assert [path.name for path in exported.parent.glob("*jsonl*")] == ["all.jsonl"]


def test_a_bundle_that_the_index_lacks_is_not_left_out_in_silence(
    audit: Run, history: GeneratedHistory, owner_conninfo: str, tmp_path: Path
) -> None:
    tamper(owner_conninfo, "DELETE FROM entry_bundles WHERE bundle = 1")

    done = audit("export", "-o", str(tmp_path / "all.jsonl"))

    assert done.returncode == 1
    assert "the events of bundle 1 are not what was signed" in done.stderr


def test_events_that_the_time_index_hides_are_not_left_out_in_silence(
    audit: Run, history: GeneratedHistory, owner_conninfo: str, tmp_path: Path
) -> None:
    tamper(
        owner_conninfo,
        "UPDATE entry_bundles SET earliest_at = '3000-01-01', latest_at = '3000-01-01'"
        " WHERE bundle = 1",
    )

    done = audit("export", "-o", str(tmp_path / "all.jsonl"), "--until", "2999-01-01T00:00:00Z")

    assert done.returncode == 1
    assert "such events, and the tree's index leads to" in done.stderr
    assert list(tmp_path.glob("all*")) == []


def test_no_export_leads_to_a_head_that_the_log_did_not_sign(
    audit: Run, history: GeneratedHistory, owner_conninfo: str, tmp_path: Path
) -> None:
    tamper(owner_conninfo, "UPDATE tree_heads SET note = 'x'")

    done = audit("export", "-o", str(tmp_path / "all.jsonl"))

    assert done.returncode == 1
    assert "the newest head is not signed by the log" in done.stderr


def test_standard_output_is_no_file(audit: Run, history: GeneratedHistory) -> None:
    done = audit("export", "-o", "-")

    assert done.returncode == 1
    assert "an export goes to a file" in done.stderr


def test_ocsf_is_written_for_a_siem(audit: Run, history: GeneratedHistory, tmp_path: Path) -> None:
    path = tmp_path / "siem.jsonl"

    assert audit("export", "-o", str(path), "--format", "ocsf").returncode == 0

    written = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert {each["class_uid"] for each in written} == {3002, 2004}
    titles = {each["finding_info"]["title"] for each in written if each["class_uid"] == 2004}
    assert not any(title.startswith("alert") for title in titles)
    assert "Alert" not in titles
