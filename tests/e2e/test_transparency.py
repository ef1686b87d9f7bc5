"""The transparency log of a running service, over HTTP and at the command line."""

import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from tlog_scales.backend import HttpBackend, LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof

from audit.signed_notes import parse_verifier
from audit.tiles import decode_bundle
from audit.tlog_proofs import parse_proof, verify_proof
from domain.events.users import Role
from tests.e2e.accounts import add_user
from tests.e2e.clients import Device
from tests.e2e.service import RunningService, command, json_of
from tests.e2e.signing import DEADLINE_S, covering, public_key, signing_service

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def logged(
    module_conninfo: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A service with a sequencer beside it."""
    with signing_service(tmp_path_factory.mktemp("data"), module_conninfo) as running:
        yield running


@pytest.fixture
def member(logged: RunningService, http: httpx.Client) -> Callable[[Role], Device]:
    """Signs somebody in who has a role."""

    def make(role: Role) -> Device:
        account = add_user(logged, roles=(role,))
        device = Device(logged.url, http)
        assert device.login(account.username, account.password).status_code == 200
        return device

    return make


@pytest.fixture
def auditor(member: Callable[[Role], Device]) -> Device:
    return member(Role.AUDITOR)


def test_a_reader_of_others_follows_the_log(logged: RunningService, auditor: Device) -> None:
    for _ in range(3):
        auditor.refresh()
    checkpoint = covering(logged, 5)
    reader = TilesReader(HttpBackend(logged.url + "/tlog"))
    reader.set_size(checkpoint.size)

    checkpoint.verify(Vkey.from_string(public_key(logged)))
    assert checkpoint.origin == "a.example/log"
    assert reader.calculate_root_hash() == checkpoint.root_hash
    name = f"000.p/{checkpoint.size}" if checkpoint.size < 256 else "000"
    answer = auditor.get(f"/tlog/tile/entries/{name}")
    assert answer.status_code == 200, answer.text
    for index, leaf in enumerate(decode_bundle(answer.content)):
        proof = reader.get_inclusion_proof(index, checkpoint.size)
        proof.check(sha256(b"\0" + leaf).digest(), checkpoint.root_hash)


def test_proofs_are_handed_out_checked_and_ready(logged: RunningService, auditor: Device) -> None:
    covering(logged, 5)

    inclusion = json_of(auditor.get("/v1/audit/proofs/inclusion?event=leaf:3"))
    consistency = json_of(auditor.get("/v1/audit/proofs/consistency?old=3"))

    leaf, text = b64decode(str(inclusion["leaf"])), str(inclusion["proof"])
    verify_proof(parse_proof(text), leaf, parse_verifier(public_key(logged)))
    proof = parse_proof(text)
    head = Checkpoint.from_text(proof.note)
    InclusionProof(3, head.size, list(proof.hashes)).check(
        sha256(b"\0" + leaf).digest(), head.root_hash
    )
    newer = Checkpoint.from_text(str(consistency["checkpoint"]))
    hashes = consistency["hashes"]
    assert isinstance(hashes, list)
    ConsistencyProof(3, newer.size, [b64decode(each) for each in hashes]).check(
        b64decode(str(consistency["old_root"])), newer.root_hash
    )


def test_an_event_is_found_by_its_id_and_by_its_position(
    logged: RunningService, auditor: Device
) -> None:
    covering(logged, 5)
    leaf = b64decode(
        str(json_of(auditor.get("/v1/audit/proofs/inclusion?event=leaf:2"))["leaf"])
    ).decode()
    event_id = leaf.partition('"event_id":"')[2][:36]
    position = leaf.partition('"position":')[2].partition(",")[0]

    for event in (event_id, position):
        found = json_of(auditor.get(f"/v1/audit/proofs/inclusion?event={event}"))
        assert found["index"] == 2


def test_what_never_changes_is_cached_and_the_head_is_not(
    logged: RunningService, auditor: Device
) -> None:
    covering(logged, 1)

    head = httpx.get(logged.url + "/tlog/checkpoint")
    tile = httpx.get(logged.url + "/tlog/tile/0/000.p/1")
    entries = auditor.get("/tlog/tile/entries/000.p/1")

    assert head.headers["content-type"] == "text/plain; charset=utf-8"
    assert head.headers["cache-control"] == "no-store"
    assert tile.headers["content-type"] == "application/octet-stream"
    assert "immutable" in tile.headers["cache-control"]
    assert "public" in tile.headers["cache-control"]
    assert len(tile.content) == 32
    assert "private" in entries.headers["cache-control"]
    assert sha256(b"\0" + decode_bundle(entries.content)[0]).digest() == tile.content


@pytest.mark.parametrize(
    "path",
    [
        "/tlog/tile/0/999", "/tlog/tile/0/000", "/tlog/tile/63/000", "/tlog/tile/64/000",
        "/tlog/tile/0/0", "/tlog/tile/x/000", "/tlog/tile/0/000.p/256", "/tlog/tile/0/000.p/255",
        "/tlog/tile/0/..%2f..%2fcheckpoint", "/tlog/tile/0/x999/x999/x999/x999/x999/999",
        "/tlog/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_problem(logged: RunningService, path: str) -> None:
    answer = httpx.get(logged.url + path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("inclusion?event=leaf:99999999", 404),
        ("inclusion?event=99999999", 404),
        ("inclusion?event=0199a5f2-7e1c-7d62-b2b4-000000000000", 404),
        ("inclusion?event=leaf:-1", 422),
        ("inclusion?event=x", 422),
        ("inclusion?event=9999999999999999999", 422),
        ("inclusion", 422),
        ("consistency?old=99999999", 404),
        ("consistency?old=1&new=99999999", 404),
        ("consistency?old=-1", 422),
    ],
)
def test_a_proof_that_there_is_not_is_a_problem(
    logged: RunningService, auditor: Device, query: str, status: int
) -> None:
    covering(logged, 1)

    answer = auditor.get(f"/v1/audit/proofs/{query}")

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    "path",
    [
        "/tlog/tile/entries/000.p/1",
        "/v1/audit/proofs/inclusion?event=leaf:0",
        "/v1/audit/proofs/consistency?old=1",
    ],
)
def test_entries_and_proofs_are_for_auditors(
    logged: RunningService, member: Callable[[Role], Device], path: str
) -> None:
    covering(logged, 1)

    assert httpx.get(logged.url + path).status_code == 401
    assert member(Role.ANALYST).get(path).status_code == 403
    assert member(Role.AUDITOR).get(path).status_code == 200


def test_a_kept_head_is_proved_at_the_command_line(
    logged: RunningService, auditor: Device, tmp_path: Path
) -> None:
    covering(logged, 5)
    kept = command(logged.environment, "audit", "checkpoint")
    assert kept.returncode == 0, kept.stderr
    saved = tmp_path / "head.txt"
    saved.write_text(kept.stdout)
    auditor.refresh()
    old = Checkpoint.from_text(kept.stdout)
    covering(logged, old.size + 1)

    printed = command(logged.environment, "audit", "prove-consistency", str(saved))
    proved = command(
        logged.environment, "audit", "prove-inclusion", "leaf:1", "--leaf", str(tmp_path / "leaf")
    )

    assert printed.returncode == 0, printed.stderr
    assert all(len(b64decode(line)) == 32 for line in printed.stdout.splitlines())
    assert proved.returncode == 0, proved.stderr
    verify_proof(
        parse_proof(proved.stdout),
        (tmp_path / "leaf").read_bytes(),
        parse_verifier(public_key(logged)),
    )


def test_a_forged_head_is_refused_at_the_command_line(
    logged: RunningService, tmp_path: Path
) -> None:
    covering(logged, 5)
    kept = command(logged.environment, "audit", "checkpoint").stdout
    forged = tmp_path / "head.txt"
    forged.write_text(kept.replace("\n", "\n1", 1))

    answer = command(logged.environment, "audit", "prove-consistency", str(forged))

    assert answer.returncode == 1
    assert "does not fit the note" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_files_beside_it_are_a_log_of_their_own(logged: RunningService) -> None:
    covering(logged, 5)
    folder = Path(logged.environment["SESSIONTRAIL_DATA_DIR"], "tree")
    deadline = time.monotonic() + DEADLINE_S
    while not (folder / "checkpoint").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reader = TilesReader(LocalBackend(folder))

    checkpoint = reader.get_checkpoint()

    assert reader.calculate_root_hash() == checkpoint.root_hash
    assert not (folder / "tile/entries").exists()


def test_readiness_and_metrics_tell_how_the_tree_stands(logged: RunningService) -> None:
    covering(logged, 1)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        ready = json_of(httpx.get(logged.url + "/readyz"))["optional"]
        assert isinstance(ready, dict)
        if ready["transparency_log"].partition(" ")[0] not in {"0", "not"}:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)

    metrics = httpx.get(logged.url + "/metrics").text

    assert "sessiontrail_tree_lag_seconds" in metrics
    assert "sessiontrail_tree_size" in metrics


def test_no_key_is_in_the_log_of_the_service_and_its_file_is_ours_alone(
    logged: RunningService,
) -> None:
    key = Path(logged.environment["SESSIONTRAIL_DATA_DIR"], "tree.key")

    assert key.stat().st_mode & 0o077 == 0
    assert key.read_text().strip().rpartition("+")[2] not in logged.log()
    again = command(logged.environment, "audit", "key", "--new")
    assert again.stdout.strip() == public_key(logged)
