"""``sessiontrail simulate`` as it is typed: a file, no database, answers or a summary."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from detector.world.generator import generate
from detector.world.plan import World
from tests.e2e.service import command, environment

Simulate = Callable[..., "subprocess.CompletedProcess[str]"]
Json = dict[str, Any]

LOGIN = (
    b'{"at":"2026-01-05T08:00:00Z","do":"login","user":"ada","family":"f1","ip":"203.0.113.7",'
    b'"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}'
)
REFRESH = LOGIN.replace(b'"login","user":"ada"', b'"refresh","generation":1').replace(
    b"T08:00", b"T08:10"
)
REUSE = REFRESH.replace(b"T08:10", b"T09:10").replace(b"203.0.113.7", b"198.51.100.9")


@pytest.fixture
def simulate(tmp_path: Path) -> Simulate:
    """Runs the command where there is neither a database nor a data folder."""

    def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return command(
            environment(tmp_path / "no-such-folder", "postgresql://nobody@192.0.2.1/none"),
            "simulate",
            *(str(each) for each in arguments),
            stdin=stdin,
        )

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def to_file(content: bytes) -> Path:
        path = tmp_path / "requests.jsonl"
        path.write_bytes(content)
        return path

    return to_file


def answers(done: "subprocess.CompletedProcess[str]") -> list[Json]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_says_one_line_for_each_line(
    simulate: Simulate, write: Callable[[bytes], Path]
) -> None:
    done = simulate(write(b"\n".join([LOGIN, REFRESH, REUSE]) + b"\n"), "--json")

    assert (done.returncode, done.stderr) == (0, "")
    said = answers(done)
    assert [each["line"] for each in said] == [1, 2, 3]
    assert [each["result"] for each in said] == ["ok", "ok", "reuse"]
    finding = said[2]["findings"][0]
    assert finding["rule"] == "refresh-token-reuse"
    assert (finding["severity"], finding["response"]) == ("critical", "revoke_family")
    assert (finding["family"], finding["user"]) == ("f1", "ada")


def test_without_json_it_sums_up_by_result_rule_and_response(
    simulate: Simulate, write: Callable[[bytes], Path]
) -> None:
    done = simulate(write(b"\n".join([LOGIN, REFRESH, REUSE])))

    assert (done.returncode, done.stderr) == (0, "")
    assert "3 requests of 1 users over 0.0 days" in done.stdout
    for text in ("reuse", "refresh-token-reuse", "revoke_family"):
        assert text in done.stdout


def test_a_bad_line_is_named_and_the_rest_is_played(
    simulate: Simulate, write: Callable[[bytes], Path]
) -> None:
    done = simulate(write(b"\n".join([LOGIN, b"nonsense", b"", REFRESH, b"{}"])), "--json")

    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["line 2", "line 5", "sessiontrail"]
    assert told[2] == "sessiontrail: 2 lines could not be read; the rest was played"
    said = answers(done)
    assert [each["line"] for each in said] == [1, 2, 4, 5]
    assert [each["result"] for each in said] == ["ok", "refused", "ok", "refused"]
    assert said[1]["error"] in told[0]


@pytest.mark.parametrize(
    "content",
    [
        LOGIN + b"\r\n" + REFRESH + b"\r\n",
        LOGIN + b"\n" + REFRESH,
        b"\xef\xbb\xbf" + LOGIN + b"\n \t\n\n" + REFRESH + b"\n\n",
    ],
    ids=["CRLF", "no newline at the end", "a byte order mark and blank lines"],
)
def test_files_from_anywhere_are_read(
    simulate: Simulate, write: Callable[[bytes], Path], content: bytes
) -> None:
    done = simulate(write(content), "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert [each["result"] for each in answers(done)] == ["ok", "ok"]


def test_an_empty_file_is_no_fault(simulate: Simulate, write: Callable[[bytes], Path]) -> None:
    summary, as_json = simulate(write(b"")), simulate(write(b""), "--json")

    assert (summary.returncode, summary.stderr) == (0, "")
    assert "0 requests of 0 users" in summary.stdout
    assert (as_json.returncode, as_json.stdout) == (0, "")


def test_a_line_without_end_is_one_bad_line(
    simulate: Simulate, write: Callable[[bytes], Path]
) -> None:
    huge = b'{"do":"' + b"x" * 5_000_000 + b'"}'

    done = simulate(write(b"\n".join([LOGIN, huge, REFRESH])), "--json")

    assert done.returncode == 1
    assert "line 2: longer than 262,144 bytes" in done.stderr
    assert [each["result"] for each in answers(done)] == ["ok", "refused", "ok"]


def test_requests_come_from_standard_input(simulate: Simulate) -> None:
    done = simulate("-", "--json", stdin=LOGIN.decode() + "\n")

    assert (done.returncode, done.stderr) == (0, "")
    assert [each["result"] for each in answers(done)] == ["ok"]


def test_a_file_that_cannot_be_read_is_one_line(simulate: Simulate, tmp_path: Path) -> None:
    missing = simulate(tmp_path / "missing.jsonl")
    folder = simulate(tmp_path)

    for done, why in ((missing, "No such file"), (folder, "Is a directory")):
        assert done.returncode == 1
        assert done.stderr.startswith("sessiontrail: cannot read ")
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


def test_a_policy_file_is_played_under(
    simulate: Simulate, write: Callable[[bytes], Path], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(
        '{"rules": {"refresh-token-reuse": {"enabled": false}}, "session": {"session_limit": 1}}'
    )
    another = LOGIN.replace(b'"f1"', b'"f2"').replace(b"T08:00", b"T08:05")

    done = simulate(write(b"\n".join([LOGIN, another, REFRESH])), "--json", "--policy", policy)

    assert (done.returncode, done.stderr) == (0, "")
    assert [each["result"] for each in answers(done)] == ["ok", "ok", "revoked"]


def test_a_policy_file_that_cannot_be_used_is_one_line(
    simulate: Simulate, write: Callable[[bytes], Path], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"rules": {"no-such-rule": {}}}')

    wrong = simulate(write(LOGIN), "--policy", policy)
    missing = simulate(write(LOGIN), "--policy", tmp_path / "missing.json")

    assert (wrong.returncode, missing.returncode) == (1, 1)
    assert "there is no rule no-such-rule" in wrong.stderr
    assert "No such file" in missing.stderr
    assert [len(done.stderr.splitlines()) for done in (wrong, missing)] == [1, 1]


def test_whoever_reads_the_answers_may_stop(write: Callable[[bytes], Path], tmp_path: Path) -> None:
    path = write(b"\n".join(_world()))
    process = subprocess.Popen(
        [sys.executable, "-m", "sessiontrail", "simulate", str(path), "--json"],
        env=environment(tmp_path / "none", None),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None

    first = process.stdout.readline()
    process.stdout.close()
    complaints = process.stderr.read()
    process.stderr.close()
    process.wait(30)

    assert json.loads(first)["line"] == 1
    assert b"Traceback" not in complaints


def test_the_same_file_is_answered_the_same(
    simulate: Simulate, write: Callable[[bytes], Path]
) -> None:
    path = write(b"\n".join(_world()))

    one, other = simulate(path, "--json"), simulate(path, "--json")

    assert one.returncode == 0
    assert one.stdout == other.stdout
    assert len(answers(one)) == len(path.read_bytes().splitlines())


def _world() -> Iterator[bytes]:
    return iter(list(generate(World(seed=3, users=40, days=7, attacks=1))))
