"""The audit pages on a log that was altered, or archived, or whose key is not known."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from re import search

import httpx
import psycopg
import pytest

from audit.checkpoints import open_checkpoint, signed_checkpoint
from audit.signed_notes import Signer
from domain.events.users import Role
from tests.e2e.accounts import add_user
from tests.e2e.audited import Run
from tests.e2e.clients import Device
from tests.e2e.service import RunningService
from tests.e2e.test_audit_verify import tamper
from tests.e2e.visiting import Visitor, signed_in
from tests.generated_history import GeneratedHistory
from tests.integration.tree_world import SIGNER

Started = Callable[..., RunningService]
AUDIT = "/console/audit"
FOREIGN = Signer(SIGNER.verifier.name, bytes(range(1, 33)))
"""A DBA's own key, under the log's name."""
DELETE_FIRST_ROTATION = """
DELETE FROM events WHERE position = (
  SELECT e.position FROM events e JOIN events later ON later.stream = e.stream
   WHERE e.type = 'RefreshTokenRotated' AND later.version > e.version AND later.position < 550
   ORDER BY e.position LIMIT 1)
RETURNING stream, subject_id
"""
DELETE_FROM_LEAF_500 = """
DELETE FROM events
 WHERE (transaction_id, position) >= (SELECT transaction_id, position FROM events
                                       ORDER BY transaction_id, position OFFSET 500 LIMIT 1)
"""


@pytest.fixture
def served(private_service: Started, history: GeneratedHistory) -> RunningService:
    """A service on the history that has the tree's key, and signs nothing."""
    return private_service(SESSIONTRAIL_TREE_KEY=SIGNER.exported())


def auditor_of(service: RunningService, http: httpx.Client) -> Device:
    account = add_user(service, roles=(Role.AUDITOR,))
    device = Device(service.url, http)
    assert device.login(account.username, account.password).status_code == 200
    return device


def slider_of(page: str) -> dict[str, int]:
    """Where a page's slider begins and ends, and where it stands."""
    found = search(r'type="range" min="(\d+)" max="(\d+)" value="(\d+)"', page)
    assert found is not None
    return dict(zip(("min", "max", "value"), map(int, found.groups()), strict=True))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE events SET actor = 'system:x' WHERE position = 300",
            r"leaf \d+ is not what the tree of \d+ leaves was signed over",
        ),
        (
            "UPDATE events SET occurred_at = 'infinity' WHERE position = 300",
            r"leaf \d+ is not what the tree of \d+ leaves was signed over",
        ),
        (
            "UPDATE tree_heads SET note = overlay(note placing 'x' from 1 for 1)",
            "the signature of .* does not fit the note",
        ),
        (
            "UPDATE tree_heads SET note = 'nonsense'",
            "the note has no signature lines",
        ),
    ],
    ids=["event", "instant", "name-in-head", "head"],
)
def test_an_event_that_is_not_as_it_was_signed_is_shown_as_evidence(
    served: RunningService,
    http: httpx.Client,
    owner_conninfo: str,
    statement: str,
    told: str,
) -> None:
    visitor, auditor = signed_in(served, http, Role.AUDITOR), auditor_of(served, http)
    assert visitor.get(f"{AUDIT}/events/300").status_code == 200

    tamper(owner_conninfo, statement)
    page = visitor.get(f"{AUDIT}/events/300")
    answer = auditor.get("/v1/audit/proofs/inclusion?event=300")

    assert page.status_code == 500
    assert search(f"No: .*{told}", page.text), page.text
    assert "sessiontrail audit verify" in page.text
    assert "position 300" in page.text
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/altered-history"
    assert search(told, answer.json()["detail"])
    assert "Traceback" not in served.log()


def test_a_head_that_somebody_else_signed_is_found(
    served: RunningService, http: httpx.Client, owner_conninfo: str
) -> None:
    visitor = signed_in(served, http, Role.AUDITOR)
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        (note,) = owner.execute(
            "SELECT note FROM tree_heads ORDER BY size DESC LIMIT 1"
        ).fetchone() or ("",)
        head = open_checkpoint(note, SIGNER.verifier)
        forged = signed_checkpoint(FOREIGN, head.size, head.root)
        owner.execute("SET session_replication_role = replica")
        owner.execute("UPDATE tree_heads SET note = %s WHERE size = %s", (forged, head.size))

    page, pasts = visitor.get(f"{AUDIT}/events/leaf:3"), visitor.get(AUDIT)

    assert page.status_code == 500
    assert f"the note is not signed by {SIGNER.verifier.name}" in page.text
    assert "This head is not as it was signed: the note is not signed by" in pasts.text
    assert "sessiontrail audit verify" in pasts.text


@pytest.mark.parametrize(
    ("statement", "path", "api", "told"),
    [
        (
            DELETE_FROM_LEAF_500,
            f"{AUDIT}/events/leaf:500",
            "/v1/audit/proofs/inclusion?event=leaf:500",
            "leaf 500 is missing: its event was deleted",
        ),
        (
            "UPDATE tree_tiles SET hashes = substring(hashes for 32) WHERE level = 0",
            f"{AUDIT}/events/leaf:5",
            "/v1/audit/proofs/inclusion?event=leaf:5",
            "tile 0 of level 0 is missing or cut short",
        ),
        (
            "UPDATE snapshots SET latest_at = latest_at - interval '1 hour'",
            AUDIT,
            "/v1/audit/sessions?as_of=2100-01-01T00:00:00Z",
            "is not as the log says it was taken: its row differs",
        ),
    ],
    ids=["deleted", "tile", "snapshot"],
)
def test_what_cannot_be_shown_for_the_log_was_altered_has_a_page_that_says_so(
    served: RunningService,
    http: httpx.Client,
    owner_conninfo: str,
    statement: str,
    path: str,
    api: str,
    told: str,
) -> None:
    visitor, auditor = signed_in(served, http, Role.AUDITOR), auditor_of(served, http)

    tamper(owner_conninfo, statement)
    page, answer = visitor.get(path), auditor.get(api)

    assert page.status_code == 500
    assert "The log does not match what was signed" in page.text
    assert "sessiontrail audit verify" in page.text
    assert told in page.text
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/altered-history"
    assert told in answer.json()["detail"]
    assert "Traceback" not in served.log()


def test_a_stream_that_cannot_be_folded_is_named_with_what_to_do(
    served: RunningService, http: httpx.Client, owner_conninfo: str
) -> None:
    visitor = signed_in(served, http, Role.AUDITOR)
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        owner.execute("SET session_replication_role = replica")
        deleted = owner.execute(DELETE_FIRST_ROTATION).fetchone()
    assert deleted is not None

    page = visitor.get(f"{AUDIT}?as_of=position:550&user={deleted[1]}")

    assert page.status_code == 200
    assert f"{deleted[0]}: version" in page.text
    assert "The log was altered" in page.text
    assert "sessiontrail audit verify" in page.text


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("settings", "told", "is_checked"),
    [
        ({}, "Who signed the head was not checked", False),
        ({"SESSIONTRAIL_TREE_PUBLIC_KEY": str(SIGNER.verifier)}, str(SIGNER.verifier), True),
        ({"SESSIONTRAIL_TREE_KEY": SIGNER.exported()}, str(SIGNER.verifier), True),
    ],
    ids=["no-key", "public-key", "tree-key"],
)
def test_a_page_says_with_which_key_it_checked_who_signed(
    private_service: Started,
    http: httpx.Client,
    settings: dict[str, str],
    told: str,
    *,
    is_checked: bool,
) -> None:
    page = signed_in(private_service(**settings), http, Role.AUDITOR).get(f"{AUDIT}/events/leaf:3")

    assert page.status_code == 200
    assert "Yes. These bytes" in page.text
    assert told in page.text
    assert ("the log’s key has signed that head" in page.text) is is_checked


def test_the_slider_begins_at_the_first_event(
    served: RunningService, http: httpx.Client, owner_conninfo: str
) -> None:
    with psycopg.connect(owner_conninfo) as owner:
        (first,) = owner.execute(
            "SELECT occurred_at FROM events ORDER BY transaction_id, position LIMIT 1"
        ).fetchone() or (None,)
    assert isinstance(first, datetime)

    slider = slider_of(signed_in(served, http, Role.AUDITOR).get(AUDIT).text)

    assert 0 <= slider["min"] - first.timestamp() < 1


def test_over_an_archived_log_the_slider_begins_where_replay_is_possible(
    served: RunningService, http: httpx.Client, run: Run, history: GeneratedHistory, tmp_path: Path
) -> None:
    visitor = signed_in(served, http, Role.AUDITOR)
    end = (history.lives.at + timedelta(days=1)).isoformat()
    archived = run("audit", "archive", "--before", end, "--to", str(tmp_path / "kept"))
    assert archived.returncode == 0, archived.stderr

    begins = slider_of(visitor.get(AUDIT).text)["min"]

    assert shown_at(visitor, begins) == 200
    assert shown_at(visitor, begins - 1) == 404
    assert visitor.get(f"{AUDIT}/diff").status_code == 200


def shown_at(visitor: Visitor, second: int) -> int:
    at = datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")
    return visitor.get(f"{AUDIT}?as_of={at}").status_code
