"""The past over HTTP and at the command line: for auditors, and without a secret in it."""

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from domain.events.users import Role
from infra.embedded_postgres import RunningPostgres
from tests.alerts import TEXTS, raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.clients import Device, assert_no_secret_in
from tests.e2e.database import EventLog
from tests.e2e.service import RunningService, command

Devices = Callable[..., Device]
Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "Ada's laptop"


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def ada(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def laptop(ada: Account, device: Devices) -> Device:
    """Signed in, and refreshed twice."""
    signed_in = device()
    answer = signed_in.login(ada.username, ada.password, device_name=NAME)
    assert answer.status_code == 200, answer.text
    for _ in range(2):
        assert signed_in.refresh().status_code == 200
    return signed_in


@pytest.fixture
def auditor(shared_service: RunningService, device: Devices) -> Device:
    return staff(shared_service, device, Role.AUDITOR)


@pytest.fixture
def run(shared_service: RunningService) -> Run:
    """Runs an audit command on the service's database."""

    def on_the_database(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command(shared_service.environment, "audit", *arguments)

    return on_the_database


def staff(service: RunningService, device: Devices, *roles: Role) -> Device:
    account = add_user(service, roles=roles)
    made = device()
    assert made.login(account.username, account.password).status_code == 200
    return made


def now() -> str:
    return datetime.now(UTC).isoformat()


def ok(answer: httpx.Response) -> Any:  # noqa: ANN401 (JSON)
    assert answer.status_code == 200, answer.text
    assert_no_secret_in(answer.text)
    assert "hash" not in answer.text
    return answer.json()


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert_no_secret_in(done.stdout)
    assert "hash" not in done.stdout
    return done.stdout


def ask(auditor: Device, path: str, parameters: dict[str, str]) -> httpx.Response:
    return auditor.get(f"{path}?{urlencode(parameters)}")


def positions_of(conninfo: str, family_id: str) -> list[int]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT position FROM events WHERE stream = %s ORDER BY version",
            ("family-" + family_id,),
        ).fetchall()
    return [position for (position,) in rows]


# ---------------------------------------------------------------------------------------- HTTP


def test_a_session_is_seen_as_it_stood_after_each_of_its_events(
    laptop: Device, auditor: Device, ada: Account, module_conninfo: str
) -> None:
    seen = []
    for position in positions_of(module_conninfo, laptop.session["family_id"]):
        page = ok(auditor.get(f"/v1/audit/sessions?as_of=position:{position}&user={ada.user_id}"))
        (session,) = page["sessions"]
        assert session["session_id"] == laptop.session["session_id"]
        assert session["status"] == "live"
        seen.append(session["generation"])

    assert seen == [1, 2, 3]


def test_an_instant_before_the_sign_in_knows_no_session_and_one_after_the_end_says_why(
    ada: Account, device: Devices, auditor: Device
) -> None:
    before = now()
    laptop = device()
    assert laptop.login(ada.username, ada.password).status_code == 200
    during = now()
    assert laptop.post("/v1/logout").status_code == 204

    found = [
        ok(ask(auditor, "/v1/audit/sessions", {"as_of": at, "user": ada.user_id}))["sessions"]
        for at in (before, during, now())
    ]

    assert found[0] == []
    assert found[1][0]["status"] == "live"
    assert (found[2][0]["status"], found[2][0]["end_reason"]) == ("ended", "logout")


def test_everybody_comes_in_pages_that_hold_each_session_once(
    laptop: Device, auditor: Device, device: Devices, ada: Account
) -> None:
    for _ in range(3):
        assert device().login(ada.username, ada.password).status_code == 200
    at = now()
    found: list[str] = []
    after = None
    while True:
        parameters = {"as_of": at, "limit": "2"} | ({"after": after} if after else {})
        page = ok(ask(auditor, "/v1/audit/sessions", parameters))
        found += [session["session_id"] for session in page["sessions"]]
        after = page["next"]
        if after is None:
            break

    whole = ok(ask(auditor, "/v1/audit/sessions", {"as_of": at, "limit": "200"}))
    assert whole["next"] is None
    assert found == [session["session_id"] for session in whole["sessions"]]
    assert len(set(found)) == len(found) >= 5


def test_sessions_can_be_asked_for_by_status(laptop: Device, auditor: Device, ada: Account) -> None:
    asked = {"as_of": now(), "user": ada.user_id}

    ended = ok(ask(auditor, "/v1/audit/sessions", asked | {"status": "ended"}))
    live = ok(ask(auditor, "/v1/audit/sessions", asked | {"status": "live"}))

    assert (len(ended["sessions"]), len(live["sessions"])) == (0, 1)


def test_a_diff_tells_what_changed_and_of_what_is_personal_only_that_it_did(
    laptop: Device, auditor: Device, ada: Account
) -> None:
    since = now()
    laptop.refresh()

    page = ok(ask(auditor, "/v1/audit/diff", {"since": since, "until": now(), "user": ada.user_id}))

    (change,) = page["changes"]
    fields = {field["name"]: (field["before"], field["after"]) for field in change["fields"]}
    assert (change["kind"], change["what"]) == ("changed", "session")
    assert fields["generation"] == (3, 4)
    assert fields["client"] == (None, None)


def test_a_history_has_every_event_with_its_actor_and_request_and_is_sealed(
    laptop: Device, auditor: Device, ada: Account
) -> None:
    first = ok(auditor.get(f"/v1/audit/history?user={ada.user_id}&limit=2"))
    rest = ok(auditor.get(f"/v1/audit/history?user={ada.user_id}&after={first['next']}"))

    events = first["events"] + rest["events"]
    assert [event["type"] for event in events] == [
        "UserRegistered",
        "SessionStarted",
        "RefreshTokenRotated",
        "RefreshTokenRotated",
    ]
    assert events[1]["actor"] == "user"
    assert events[2]["data"] == {"generation": 2, "token_key": 1}
    assert all(event["sealed"] and event["personal"] is None for event in events)
    assert NAME not in json.dumps(events)


def test_a_reveal_opens_it_and_goes_on_record(
    laptop: Device, auditor: Device, ada: Account, log: EventLog
) -> None:
    before = log.end()

    page = ok(
        auditor.post(
            "/v1/audit/reveals",
            {"family": laptop.session["family_id"], "reason": "case 4711"},
        )
    )

    (event,) = log.after(before)
    assert event.type == "PersonalDataRevealed"
    assert event.data == {"scope": "family", "scope_id": laptop.session["family_id"]}
    assert event.actor == f"staff:{auditor.session['user_id']}"
    assert page["events"][0]["personal"]["device_name"] == NAME
    assert "device_key" not in page["events"][0]["personal"]["client"]
    last = ok(auditor.get(f"/v1/audit/history?user={ada.user_id}"))["events"][-1]
    assert (last["type"], last["sealed"]) == ("PersonalDataRevealed", True)


_PATHS = [
    "/v1/audit/sessions?as_of=position:1",
    "/v1/audit/diff?since=position:1&until=position:1",
    f"/v1/audit/history?user={uuid4()}",
]


@pytest.mark.parametrize("roles", [(), (Role.ANALYST,), (Role.ADMIN,)], ids=str)
def test_only_auditors_see_the_past(
    shared_service: RunningService, device: Devices, roles: tuple[Role, ...]
) -> None:
    other = staff(shared_service, device, *roles)

    answers = [other.get(path).status_code for path in _PATHS]
    answers.append(
        other.post("/v1/audit/reveals", {"user": str(uuid4()), "reason": "x"}).status_code
    )

    assert answers == [403] * 4


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("sessions?as_of=yesterday", 422),
        ("sessions?as_of=2026-11-25T10:00:00", 422),
        ("sessions?as_of=position:999999999", 404),
        ("sessions?as_of=leaf:999999999", 404),
        ("sessions?as_of=2026-11-25T10:00:00Z&user=ada", 422),
        ("sessions?as_of=2026-11-25T10:00:00Z&after=zzz", 422),
        ("diff?since=2026-11-25T10:00:00Z&until=x", 422),
        ("history", 422),
        ("history?user=0195513a-0000-7000-8000-0000000000aa&family=x", 422),
        ("history?session=0195513a-0000-7000-8000-0000000000aa", 404),
        ("history?alert=nonsense", 422),
    ],
)
def test_what_makes_no_sense_is_a_problem_that_says_so(
    auditor: Device, path: str, status: int
) -> None:
    answer = auditor.get("/v1/audit/" + path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_altered_snapshot_is_a_problem_that_names_it(
    laptop: Device, auditor: Device, run: Run, postgres: RunningPostgres, module_conninfo: str
) -> None:
    name = said(run("snapshot")).partition(" ")[2].partition(":")[0]
    database = str(conninfo_to_dict(module_conninfo)["dbname"])
    change = "UPDATE snapshots SET latest_at = latest_at - interval '1 hour' * %s"

    with psycopg.connect(postgres.conninfo(dbname=database), autocommit=True) as connection:
        connection.execute(change, (1,))
        answer = ask(auditor, "/v1/audit/sessions", {"as_of": now()})
        failed = run("sessions", "--as-of", now())
        connection.execute(change, (-1,))

    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/altered-history"
    assert name in answer.json()["detail"]
    assert failed.returncode == 1
    assert name in failed.stderr


# -------------------------------------------------------------------------------- command line


def test_the_command_shows_sessions_as_they_stood(
    laptop: Device, ada: Account, run: Run, module_conninfo: str
) -> None:
    second = positions_of(module_conninfo, laptop.session["family_id"])[1]

    shown = said(run("sessions", "--as-of", f"position:{second}", "--user", ada.username))
    lines = said(run("sessions", "--as-of", now(), "--user", ada.user_id, "--json")).splitlines()

    assert laptop.session["session_id"] in shown
    assert "1 sessions" in shown
    assert [json.loads(line)["generation"] for line in lines] == [3]


def test_the_command_shows_histories_and_opens_them_for_a_reason(
    laptop: Device, run: Run, log: EventLog
) -> None:
    session_id = laptop.session["session_id"]
    sealed = said(run("history", "--session", session_id))
    before = log.end()
    opened = said(run("history", "--session", session_id, "--reveal", "--reason", "case 4711"))

    assert sealed.count("RefreshTokenRotated") == 2
    assert NAME not in sealed
    assert NAME in opened
    (event,) = log.after(before)
    assert event.type == "PersonalDataRevealed"
    assert event.actor.startswith("operator:")


def test_the_command_opens_an_alert_about_nobody(shared_service: RunningService, run: Run) -> None:
    alert = raise_alert(shared_service, raised())

    opened = said(run("history", "--alert", alert.alert_id, "--reveal", "--reason", "case 4711"))

    assert TEXTS["new_asn"] in opened


def test_the_command_tells_a_difference_and_goes_on_from_snapshots(
    laptop: Device, ada: Account, run: Run, module_conninfo: str
) -> None:
    first, *_, last = positions_of(module_conninfo, laptop.session["family_id"])
    span = (f"position:{first}", f"position:{last}")

    told = said(run("diff", *span, "--user", ada.user_id))
    taken = said(run("snapshot"))
    later = said(run("diff", f"position:{first}", now(), "--user", ada.user_id))

    assert "generation: 1 -> 3" in told
    assert "client: recorded anew (personal)" in told
    assert "1 changes" in told
    assert taken.startswith("Snapshot ")
    assert "generation: 1 -> 3" in later


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sessions", "--as-of", "2026-11-25T10:00:00"], "an instant needs an offset or Z"),
        (["sessions", "--as-of", "position:999999999"], "no event has position 999999999"),
        (["sessions", "--as-of", "position:1", "--user", "nobody@example.com"], "no user"),
        (["history"], "exactly one of"),
        (["history", "--family", "x"], "x is not an id"),
        (["history", "--user", "0195513a-0000-7000-8000-0000000000aa"], "the log has no user"),
        (["history", "--alert", "0195513a-0000-7000-8000-0000000000aa", "--reveal"], "--reason"),
        (["diff", "position:1", "tomorrow"], "give an instant"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else None,
)
def test_what_cannot_be_shown_is_told_in_one_line(run: Run, words: list[str], told: str) -> None:
    done = run(*words)

    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
