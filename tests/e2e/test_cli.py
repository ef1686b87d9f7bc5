"""The command line as an operator meets it: what it does, and one line for what goes wrong."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import typer
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from domain.service_keys import ServiceScope
from infra.embedded_postgres import RunningPostgres
from infra.key_files import create_key_file
from sessiontrail.cli import app
from tests.e2e.accounts import PASSWORD, Account, add_service_key, add_user, conninfo_of
from tests.e2e.clients import Device, assert_no_secret_in, used_secrets
from tests.e2e.database import EventLog, types, wait_for
from tests.e2e.service import RunningService, command, free_port

Devices = Callable[..., Device]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def run(shared_service: RunningService) -> Run:
    """Runs a command on the service's database."""

    def on_the_database(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return command(shared_service.environment, *arguments, stdin=stdin)

    return on_the_database


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def one(device: Devices, account: Account) -> Device:
    """A device that is signed in."""
    return signed_in(device(), account)


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that did what it was told has printed."""
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that could not."""
    assert done.returncode != 0, done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr[-500:]
    assert lines[0].startswith("sessiontrail: ")
    assert not done.stdout
    return lines[0]


# ---------------------------------------------------------------------------- help


def commands_of(group: object, *before: str) -> Iterator[tuple[str, ...]]:
    yield before
    for name, each in getattr(group, "commands", {}).items():
        yield from commands_of(each, *before, name)


def test_every_command_has_help() -> None:
    every = list(commands_of(typer.main.get_command(app)))
    assert len(every) > 20

    for names in every:
        shown = CliRunner().invoke(app, [*names, "--help"])
        assert shown.exit_code == 0, names
        usage, says, *_ = [line.strip() for line in shown.output.splitlines() if line.strip()]
        assert usage.startswith("Usage:"), names
        assert len(says.split()) > 2, names


def test_the_module_and_the_command_are_the_same_program(run: Run) -> None:
    shown = said(run("--help"))

    for name in ("serve", "migrate", "users", "sessions", "keys", "service-keys", "projections"):
        assert name in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("users", "nonsense"),
        ("users", "add"),
        ("service-keys", "add", "a backend", "--scope", "everything"),
        ("serve", "--nonsense"),
    ],
    ids=" ".join,
)
def test_a_command_that_makes_no_sense_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    complaint(run(*arguments))


# ---------------------------------------------------------------------------- users


def test_a_user_is_added_with_a_password_from_standard_input(
    run: Run, device: Devices, log: EventLog
) -> None:
    name = "grace@example.com"
    used_secrets.add("a password of her own")

    user_id = said(run("users", "add", name, "--role", "analyst", stdin="a password of her own\n"))

    one = device()
    assert one.login(name, "a password of her own").json()["session"]["user_id"] == user_id.strip()
    assert one.get(f"/v1/users/{user_id.strip()}/sessions").status_code == 200
    (registered,) = log.of_user(user_id.strip())
    assert registered.type == "UserRegistered"
    assert registered.actor.startswith("operator:")
    assert registered.data["roles"] == ["analyst"]
    before = log.end()
    taken = complaint(run("users", "add", "GRACE@example.com", stdin="another password\n"))
    assert "there is a user grace@example.com already" in taken
    assert log.after(before) == []


@pytest.mark.parametrize(
    ("name", "password", "what"),
    [
        ("x1@example.com", "", "at least 8 characters"),
        ("x2@example.com", "password1", "most common"),
        ("x3@example.com", "with\x00nul in it", "control characters"),
        ("a\nb", "a good password", "control characters"),
    ],
)
def test_a_user_that_cannot_be_is_refused(
    run: Run, log: EventLog, name: str, password: str, what: str
) -> None:
    before = log.end()

    line = complaint(run("users", "add", name, stdin=password + "\n"))

    assert what in line
    assert not password or password not in line
    assert log.after(before) == []


NAMES = [
    "مستخدم@example.com",
    "zoë 🦊",
    "[red]brackets[/red]",
    "[/closing]",
    ":smile:",
    "<b>bold</b>",
]


def test_unicode_and_markup_in_names_are_listed_as_text(
    shared_service: RunningService, run: Run, device: Devices
) -> None:
    for name in NAMES:
        one = signed_in(device(), add_user(shared_service, name))
        one.patch(f"/v1/sessions/{one.session['session_id']}", {"device_name": name})

    listed = said(run("users", "list"))
    assert [name for name in NAMES if name not in listed] == []
    for name in (NAMES[0], NAMES[3]):
        assert name in said(run("sessions", "list", name))


def test_a_user_is_disabled_and_enabled(
    run: Run, device: Devices, account: Account, one: Device, log: EventLog
) -> None:
    assert "1 session" in said(run("users", "disable", account.username))
    assert one.refresh().status_code == 401
    assert device().login(account.username, account.password).status_code == 401
    assert "already" in complaint(run("users", "disable", account.user_id))

    said(run("users", "enable", account.user_id))

    assert device().login(account.username, account.password).status_code == 200
    assert one.refresh().status_code == 401  # what ended stays ended
    assert "not disabled" in complaint(run("users", "enable", account.username))
    events = log.of_user(account.user_id)
    assert types(events) == ["UserRegistered", "UserDisabled", "UserSessionsEnded", "UserEnabled"]
    assert all(event.actor.startswith("operator:") for event in events)


def test_roles_count_from_the_moment_that_they_are_given(
    run: Run, account: Account, one: Device
) -> None:
    own = f"/v1/users/{account.user_id}/sessions"
    assert one.get(own).status_code == 403

    said(run("users", "roles", account.username, "--role", "auditor"))
    assert one.get(own).status_code == 200
    assert one.delete(own).status_code == 403
    said(run("users", "roles", account.username))
    assert one.get(own).status_code == 403


@pytest.mark.parametrize(
    "arguments",
    [
        ("users", "disable", "nobody@example.com"),
        ("users", "roles", str(uuid4())),
        ("sessions", "list", "nobody@example.com"),
        ("sessions", "revoke", "--user", "nobody@example.com"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_user_that_is_not_there_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    assert "there is no user" in complaint(run(*arguments))


# ---------------------------------------------------------------------------- sessions


def test_sessions_are_listed_and_revoked(
    run: Run, device: Devices, account: Account, log: EventLog
) -> None:
    devices = [signed_in(device(), account) for _ in range(4)]
    ids = [(each.session["session_id"], each.session["family_id"]) for each in devices]

    listed = said(run("sessions", "list", account.username))
    assert all(session in listed and family in listed for session, family in ids)
    assert "Firefox on Linux" in listed
    assert "127.0.0.1" in listed
    assert "1 session family" in said(run("sessions", "revoke", "--session", ids[0][0]))
    assert "1 session family" in said(run("sessions", "revoke", "--family", ids[1][1]))
    assert [each.refresh().status_code for each in devices] == [401, 401, 200, 200]
    assert "2 session families" in said(run("sessions", "revoke", "--user", account.user_id))

    assert [each.refresh().status_code for each in devices] == [401] * 4
    for _, family in ids:
        ended = next(event for event in log.of_family(family) if event.type == "FamilyRevoked")
        assert ended.data["reason"] == "staff"
        assert ended.actor.startswith("operator:")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--user", "a", "--family", "b"), "exactly one"),
        (("--session", "nonsense"), "is not an id"),
        (("--session", str(uuid4())), "there is no session"),
        (("--family", str(uuid4())), "there is no family"),
    ],
)
def test_revoking_what_is_not_there_is_one_line(
    run: Run, arguments: tuple[str, ...], what: str
) -> None:
    assert what in complaint(run("sessions", "revoke", *arguments))


# ---------------------------------------------------------------------------- keys


def test_a_service_key_is_shown_once(
    run: Run, shared_service: RunningService, http: httpx.Client, log: EventLog
) -> None:
    name = "the shop [/] 🛒"
    shown = said(run("service-keys", "add", name, "--scope", "sessions:create")).strip()
    used_secrets.add(shown)
    _, key_id, secret = shown.split("_", 2)

    opened = http.post(
        f"{shared_service.url}/v1/sessions",
        json={"subject": "customer/1"},
        headers={"Authorization": f"Bearer {shown}"},
    )
    assert opened.status_code == 201
    used_secrets.update({opened.json()["access_token"], opened.json()["refresh_token"]})
    (added,) = log.of_key(key_id)
    assert (added.type, added.data["scopes"]) == ("ServiceKeyAdded", ["sessions:create"])
    assert added.actor.startswith("operator:")
    said(run("service-keys", "revoke", key_id))
    assert "no live service key" in complaint(run("service-keys", "revoke", key_id))
    listed = said(run("service-keys", "list"))
    assert key_id in listed
    assert secret not in listed
    assert name in listed


def test_a_service_key_that_cannot_be_is_refused(run: Run, log: EventLog) -> None:
    before = log.end()

    complaint(run("service-keys", "add", "a\tb", "--scope", ServiceScope.CREATE_SESSIONS))
    complaint(run("service-keys", "revoke", "nonsense"))

    assert log.after(before) == []


@pytest.mark.parametrize("kid", ["nonsense", "-a-thumbprint-may-begin-with-a-dash_and_so_on"])
def test_a_signing_key_that_is_not_there_is_one_line(run: Run, log: EventLog, kid: str) -> None:
    before = log.end()

    assert "there is no signing key" in complaint(run("keys", "compromised", kid))

    assert log.after(before) == []


def test_a_key_file_is_made_once(tmp_path: Path) -> None:
    environment = {"SESSIONTRAIL_DATA_DIR": str(tmp_path / "data")}

    assert "Back it up" in said(command(with_path(environment), "keys", "init"))
    made = (tmp_path / "data" / "keys.json").read_bytes()
    assert "already" in complaint(command(with_path(environment), "keys", "init"))

    assert (tmp_path / "data" / "keys.json").read_bytes() == made
    assert (tmp_path / "data" / "keys.json").stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------------------- settings


def with_path(environment: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", **environment}


UNREACHABLE = "postgresql://sessiontrail:hunter2hunter2@127.0.0.1:1/nowhere"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"SESSIONTRAIL_IDLE_TIMEOUT": "a week"}, "SESSIONTRAIL_IDLE_TIMEOUT"),
        ({"SESSIONTRAIL_TRUSTED_PROXIES": "10.0.0.0/8, nonsense"}, "SESSIONTRAIL_TRUSTED_PROXIES"),
        ({"SESSIONTRAIL_ALLOWED_ORIGINS": "https://app.example.com/page"}, "ALLOWED_ORIGINS"),
        ({"SESSIONTRAIL_ISSUER": "id.example.com"}, "SESSIONTRAIL_ISSUER"),
        ({"PORT": "80000"}, "PORT"),
        ({"DATABASE_URL": UNREACHABLE}, "database"),
        ({"DATABASE_URL": "nonsense with hunter2hunter2"}, "DATABASE_URL"),
        ({"SESSIONTRAIL_MASTER_KEYS": "1:hunter2hunter2"}, "master keys"),
    ],
    ids=lambda value: "=".join(*value.items()) if isinstance(value, dict) else "",
)
def test_a_setting_that_cannot_be_used_is_one_line(
    tmp_path: Path, settings: dict[str, str], what: str
) -> None:
    create_key_file(tmp_path / "keys.json")
    environment = {
        "SESSIONTRAIL_DATA_DIR": str(tmp_path),
        "SESSIONTRAIL_TOKEN_KEYS": "1:" + "A" * 43 + "=",
        "DATABASE_URL": UNREACHABLE,
        **settings,
    }

    line = complaint(command(with_path(environment), "users", "list"))

    assert what in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSIONTRAIL_LATE_RETRY_BUDGET", "9"),
        ("SESSIONTRAIL_LIMIT_LOGIN_PER_NETWORK", "plenty"),
        ("REDIS_URL", "nonsense"),
    ],
)
def test_a_service_with_a_setting_that_cannot_be_kept_does_not_start(
    shared_service: RunningService, name: str, value: str
) -> None:
    environment = {**shared_service.environment, "PORT": "0", name: value}

    done = command(environment, "serve")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sessiontrail: "), done.stderr
    assert "Traceback" not in done.stderr


def test_keys_that_are_missing_or_open_to_others_are_one_line(
    shared_service: RunningService, tmp_path: Path
) -> None:
    environment = {**shared_service.environment, "SESSIONTRAIL_DATA_DIR": str(tmp_path)}

    assert "keys.json" in complaint(command(environment, "users", "list"))
    create_key_file(tmp_path / "keys.json")
    (tmp_path / "keys.json").chmod(0o644)
    assert "keys.json" in complaint(command(environment, "users", "list"))


def test_a_taken_port_is_one_line(shared_service: RunningService) -> None:
    done = command(shared_service.environment, "serve")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sessiontrail: ")
    assert shared_service.environment["PORT"] in last
    assert "Traceback" not in done.stderr


def test_migrating_an_up_to_date_database_changes_nothing(run: Run, log: EventLog) -> None:
    before = log.end()

    assert "up to date" in said(run("migrate"))

    assert log.after(before) == []


@pytest.mark.parametrize("name", ["serve", "migrate"])
def test_a_role_that_may_not_migrate_is_told_who_may_in_one_line(
    shared_service: RunningService, postgres: RunningPostgres, conninfo: str, name: str
) -> None:
    """The first thing that somebody on their own PostgreSQL forgets, and at each upgrade again."""
    dbname = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(postgres.conninfo(dbname=dbname), autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version")

    done = command({**shared_service.environment, "DATABASE_URL": conninfo}, name)

    assert "SESSIONTRAIL_MIGRATION_DATABASE_URL" in complaint(done)


@pytest.mark.parametrize("arguments", [("users", "list"), ("projections", "verify")])
def test_a_database_that_is_not_migrated_is_refused_in_one_line(
    shared_service: RunningService, postgres: RunningPostgres, conninfo: str, arguments: list[str]
) -> None:
    dbname = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(postgres.conninfo(dbname=dbname), autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version, users")

    done = command({**shared_service.environment, "DATABASE_URL": conninfo}, *arguments)

    assert "run `sessiontrail migrate`" in complaint(done)


def test_limits_in_redis_without_its_client_are_refused_in_one_line(
    shared_service: RunningService, tmp_path: Path
) -> None:
    (tmp_path / "redis.py").write_text("raise ImportError")
    environment = {
        **shared_service.environment,
        "PORT": str(free_port()),
        "REDIS_URL": "redis://127.0.0.1:1",
        "PYTHONPATH": str(tmp_path),
    }

    assert "pip install 'sessiontrail[redis]'" in complaint(command(environment, "serve"))


# ---------------------------------------------------------------------------- the log


def test_the_tables_are_the_fold_of_everything_above(run: Run, one: Device) -> None:
    one.refresh()

    assert "fold of the log" in said(run("projections", "verify"))


def test_the_log_is_printed_as_json_lines(run: Run, one: Device, log: EventLog) -> None:
    one.refresh()
    # The tail holds back while any transaction that writes is open anywhere.
    newest = log.end()

    def printed() -> list[dict[str, object]]:
        lines = said(run("events", "tail", "--from-start", "--no-follow")).splitlines()
        events = [json.loads(line) for line in lines]
        return events if events[-1]["position"] >= newest else []

    events = wait_for(printed)

    assert [event["position"] for event in events] == [event.position for event in log.after(0)]
    mine = [each for each in events if each["stream"] == "family-" + one.session["family_id"]]
    assert [each["type"] for each in mine] == ["SessionStarted", "RefreshTokenRotated"]
    assert {each["subject"] for each in mine} == {one.session["user_id"]}
    assert all(each["sealed"] for each in mine)
    assert "127.0.0.1" not in json.dumps(mine)


def test_unknown_event(
    shared_service: RunningService, postgres: RunningPostgres, run: Run, log: EventLog
) -> None:
    """A newer writer's type reaches this reader: it prints all before, stops there, and says so."""
    dbname = str(conninfo_to_dict(conninfo_of(shared_service))["dbname"])
    before = log.end()
    with psycopg.connect(postgres.conninfo(dbname=dbname)) as connection:
        connection.execute(
            "INSERT INTO events (occurred_at, version, schema_version, event_id, correlation_id,"
            " stream, type, actor, data) VALUES (now(), 1, 1, gen_random_uuid(),"
            " gen_random_uuid(), 'portal-of-the-future', 'PortalOpened', 'system', '{}')"
        )
    add_service_key(shared_service, ServiceScope.CREATE_SESSIONS)

    done = run("events", "tail", "--from-start", "--no-follow")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "'PortalOpened' version 1 is newer than this build knows" in done.stderr
    printed = [json.loads(line)["position"] for line in done.stdout.splitlines()]
    assert printed == [event.position for event in log.after(0) if event.position <= before]


def test_proving_the_tables_stops_at_an_unknown_event_with_one_line(
    shared_service: RunningService, postgres: RunningPostgres, run: Run, one: Device
) -> None:
    dbname = str(conninfo_to_dict(conninfo_of(shared_service))["dbname"])
    rename = "UPDATE events SET type = %s WHERE type = %s AND stream = %s"
    stream = "family-" + one.session["family_id"]
    with psycopg.connect(postgres.conninfo(dbname=dbname), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(rename, ("PortalOpened", "SessionStarted", stream))
        try:
            done = run("projections", "verify")
        finally:
            connection.execute(rename, ("SessionStarted", "PortalOpened", stream))

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sessiontrail: event type 'PortalOpened' version 1 is newer")


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    used_secrets.add(PASSWORD)
    assert shared_service.stop() == 0
    assert '"logger":"access"' in shared_service.log()
    assert_no_secret_in(shared_service.log())
