"""People whom only a backend knows by name: the command line finds them by that name."""

import json

import httpx
import pytest

from domain.service_keys import ServiceScope
from infra.ids import new_uuid
from tests.e2e.accounts import add_service_key, add_user
from tests.e2e.clients import used_secrets
from tests.e2e.service import RunningService, command


@pytest.fixture(scope="module")
def backend(shared_service: RunningService) -> str:
    """The key of a backend that opens sessions."""
    return add_service_key(shared_service, ServiceScope.CREATE_SESSIONS).text


def session_of(service: RunningService, backend: str, subject: str) -> str:
    """Open a session for whom the backend calls so; returns the id of the user."""
    opened = httpx.post(
        f"{service.url}/v1/sessions",
        json={"subject": subject},
        headers={"Authorization": f"Bearer {backend}"},
    )
    assert opened.status_code == httpx.codes.CREATED, opened.text
    used_secrets.update({opened.json()["access_token"], opened.json()["refresh_token"]})
    return str(opened.json()["session"]["user_id"])


def run(service: RunningService, *arguments: str) -> tuple[int, str]:
    """Exit code and all that is printed."""
    done = command(service.environment, *arguments)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("subject", [f"customer-{new_uuid()}", new_uuid()], ids=["name", "uuid"])
def test_a_person_is_erased_by_the_name_that_the_backend_has_for_them(
    shared_service: RunningService, backend: str, subject: str
) -> None:
    user_id = session_of(shared_service, backend, subject)

    status, said = run(shared_service, "users", "erase", subject, "--yes")

    assert (status, f"Erased user {user_id}" in said) == (0, True), said


@pytest.mark.parametrize("subject", [f"customer-{new_uuid()}", new_uuid()], ids=["name", "uuid"])
def test_their_past_is_found_by_it_too(
    shared_service: RunningService, backend: str, subject: str
) -> None:
    user_id = session_of(shared_service, backend, subject)

    status, said = run(shared_service, "audit", "history", "--user", subject, "--json")

    assert status == 0, said
    streams = {json.loads(line)["stream"] for line in said.splitlines()}
    assert f"user-{user_id}" in streams


def test_a_name_that_two_people_have_is_refused(
    shared_service: RunningService, backend: str
) -> None:
    local = add_user(shared_service)
    external = session_of(shared_service, backend, local.username)

    status, said = run(shared_service, "users", "erase", local.username, "--yes")

    assert status == 1
    assert f"{local.user_id} (local) and {external} (external): give the id" in said


def test_a_name_that_nobody_has_is_refused(shared_service: RunningService) -> None:
    status, said = run(shared_service, "users", "erase", "customer-nobody", "--yes")

    assert (status, "there is no user customer-nobody" in said) == (1, True), said
