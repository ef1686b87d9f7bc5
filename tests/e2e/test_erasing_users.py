"""Erasing users through the API and the command line: who may, and what they are told."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from domain.events.users import Role
from infra.ids import new_uuid
from tests.alerts import raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.clients import Device, assert_no_secret_in
from tests.e2e.database import EventLog, types
from tests.e2e.service import RunningService, command

Devices = Callable[..., Device]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def target(device: Devices, account: Account) -> Device:
    """A plain user's device, signed in."""
    return signed_in(device(), account)


@pytest.fixture
def admin(shared_service: RunningService, device: Devices) -> Device:
    return signed_in(device(), add_user(shared_service, roles=(Role.ADMIN,)))


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == httpx.codes.OK, answer.text
    return device


def run(service: RunningService, *arguments: str) -> tuple[int, str]:
    """Exit code and all that is printed."""
    done = command(service.environment, "users", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_an_admin_erases_a_user(
    admin: Device, target: Device, account: Account, log: EventLog
) -> None:
    erased = admin.delete(f"/v1/users/{account.user_id}?reason=request%204711")

    body = erased.json()
    assert erased.status_code == httpx.codes.OK
    assert (body["user_id"], body["repeated"], body["families"]) == (account.user_id, False, 1)
    assert (body["rows"]["data_keys"], body["rows"]["credentials"]) == (1, 1)
    assert target.refresh().status_code == httpx.codes.UNAUTHORIZED
    assert target.get("/v1/sessions").status_code == httpx.codes.UNAUTHORIZED
    assert target.login(account.username, account.password).status_code == 401
    events = log.of_user(account.user_id)
    assert types(events) == ["UserRegistered", "UserSessionsEnded", "UserErased"]
    assert events[-1].data == {"reason": "request 4711"}
    assert {event.actor for event in events[1:]} == {f"staff:{admin.session['user_id']}"}


def test_erasing_twice_is_no_error(admin: Device, account: Account, log: EventLog) -> None:
    first = admin.delete(f"/v1/users/{account.user_id}").json()
    before = log.end()

    second = admin.delete(f"/v1/users/{account.user_id}").json()

    assert (second["repeated"], second["erased_at"]) == (True, first["erased_at"])
    assert set(second["rows"].values()) == {0}
    assert log.after(before) == []


@pytest.mark.parametrize("roles", [(), (Role.ANALYST,), (Role.AUDITOR,)], ids=str)
def test_only_admins_erase(
    shared_service: RunningService,
    device: Devices,
    account: Account,
    roles: tuple[Role, ...],
) -> None:
    other = signed_in(device(), add_user(shared_service, roles=roles))

    assert other.delete(f"/v1/users/{account.user_id}").status_code == httpx.codes.FORBIDDEN
    assert signed_in(device(), account).session


def test_nobody_erases_without_a_token(
    shared_service: RunningService, http: httpx.Client, account: Account
) -> None:
    refused = http.delete(f"{shared_service.url}/v1/users/{account.user_id}")

    assert refused.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize("user_id", [new_uuid(), "nobody", "0"], ids=["unknown", "a word", "0"])
def test_who_is_no_user_is_not_found(admin: Device, user_id: str) -> None:
    assert admin.delete(f"/v1/users/{user_id}").status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize(
    "reason", ["ada%40example.com", "x" * 101, "", "%20", "a%0Ab"], ids=lambda reason: reason[:8]
)
def test_a_reason_is_short_and_plain(admin: Device, account: Account, reason: str) -> None:
    refused = admin.delete(f"/v1/users/{account.user_id}?reason={reason}")

    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert refused.json()["type"] == "/problems/invalid-input"


def test_a_reason_does_not_name_the_user(
    shared_service: RunningService, admin: Device, device: Devices
) -> None:
    account = add_user(shared_service, "zebedee")

    refused = admin.delete(f"/v1/users/{account.user_id}?reason=for%20Zebedee")

    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert signed_in(device(), account).session


def test_an_admin_who_erases_themselves_is_out(
    shared_service: RunningService, device: Devices
) -> None:
    account = add_user(shared_service, roles=(Role.ADMIN,))
    admin = signed_in(device(), account)

    erased = admin.delete(f"/v1/users/{account.user_id}")

    assert erased.status_code == httpx.codes.OK
    assert admin.delete(f"/v1/users/{account.user_id}").status_code == 401


def test_of_an_erased_users_alert_staff_see_no_person(
    shared_service: RunningService, admin: Device, account: Account
) -> None:
    alert = raise_alert(shared_service, raised(user_id=account.user_id))  # type: ignore[arg-type]
    path = f"/v1/alerts/{alert.alert_id}"
    assert admin.post(path + "/comment", {"comment": "she rang"}).status_code == httpx.codes.OK
    before = admin.get(path).json()

    admin.delete(f"/v1/users/{account.user_id}")

    after = admin.get(path).json()
    late = admin.post(path + "/comment", {"comment": "she rang again"})
    assert (before["user"]["name"], after["user"]["name"]) == (account.username, None)
    assert "she rang" in str(before)
    assert "she rang" not in str(after)
    assert "198.51.100.66" not in str(after)
    assert late.status_code == httpx.codes.CONFLICT
    assert admin.post(path + "/acknowledge").status_code == httpx.codes.OK


def test_a_user_is_erased_at_the_command_line(
    shared_service: RunningService, target: Device, account: Account, log: EventLog
) -> None:
    status, said = run(
        shared_service, "erase", account.username, "--yes", "--reason", "request 4711"
    )

    assert status == 0, said
    assert "1 session families ended" in said
    assert "data_keys: 1 rows" in said
    assert account.username not in said
    assert target.refresh().status_code == httpx.codes.UNAUTHORIZED
    assert log.of_user(account.user_id)[-1].actor.startswith("operator:")
    assert run(shared_service, "erase", account.username, "--yes")[0] == 1
    again, said_again = run(shared_service, "erase", account.user_id)
    assert (again, "was erased before" in said_again) == (0, True)
    assert account.username not in run(shared_service, "list")[1]


def test_nobody_is_erased_unasked(
    shared_service: RunningService, target: Device, account: Account
) -> None:
    status, said = run(shared_service, "erase", account.username)

    assert (status, "say --yes" in said) == (1, True)
    assert target.refresh().status_code == httpx.codes.OK


@pytest.mark.parametrize("answer", ["y", "n"])
def test_somebody_at_a_terminal_is_asked(
    shared_service: RunningService, target: Device, account: Account, answer: str
) -> None:
    terminal, other_end = pty.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard:
        keyboard.write(f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "sessiontrail", "users", "erase", account.username],
            env=dict(shared_service.environment),
            stdin=other_end,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    os.close(other_end)

    assert f"Erase {account.username} ({account.user_id}) for ever?" in done.stdout + done.stderr
    assert done.returncode == (0 if answer == "y" else 130)
    assert target.refresh().status_code == (401 if answer == "y" else 200)


def test_an_erased_user_cannot_be_changed_at_the_command_line(
    shared_service: RunningService, account: Account
) -> None:
    run(shared_service, "erase", account.user_id, "--yes")

    for arguments in (["disable"], ["enable"], ["roles"]):
        status, said = run(shared_service, *arguments, account.user_id)
        assert (status, "was erased" in said) == (1, True), said


def test_the_name_is_free_again(
    shared_service: RunningService, device: Devices, admin: Device, account: Account
) -> None:
    admin.delete(f"/v1/users/{account.user_id}")

    another = add_user(shared_service, account.username)

    session = signed_in(device(), another).session
    assert session["user_id"] == another.user_id != account.user_id


def test_a_scrub_needs_the_owner_of_the_tables(shared_service: RunningService) -> None:
    status, said = run(shared_service, "scrub")

    assert (status, "SESSIONTRAIL_MIGRATION_DATABASE_URL" in said) == (1, True)


def test_the_log_holds_no_secret(shared_service: RunningService, account: Account) -> None:
    assert_no_secret_in(shared_service.log())
    assert account.username not in shared_service.log()
