"""Who has the database, and puts a password or scopes of his own there, stays outside."""

from collections.abc import Callable

import argon2
import httpx
import psycopg

from domain.events.users import Role
from domain.service_keys import ServiceScope
from tests.e2e.accounts import add_service_key, add_user, conninfo_of
from tests.e2e.clients import Device, assert_no_secret_in
from tests.e2e.service import RunningService

OWN = "the thief's own password"
SET_HASH = "UPDATE credentials SET sealed_hash = %s WHERE user_id = %s"


def test_a_password_hash_of_his_own_is_a_wrong_password_and_an_error_in_the_log(
    shared_service: RunningService, device: Callable[..., Device]
) -> None:
    admin = add_user(shared_service, roles=(Role.ADMIN,))
    forged = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(OWN)
    with psycopg.connect(conninfo_of(shared_service)) as thief:
        (before,) = thief.execute(
            "SELECT sealed_hash FROM credentials WHERE user_id = %s", (admin.user_id,)
        ).fetchall()
        thief.execute(SET_HASH, (forged.encode(), admin.user_id))

    refused = [device().login(admin.username, each) for each in (OWN, admin.password)]
    with psycopg.connect(conninfo_of(shared_service)) as thief:
        thief.execute(SET_HASH, (*before, admin.user_id))
    back = device().login(admin.username, admin.password)

    assert [each.status_code for each in (*refused, back)] == [401, 401, 200]
    assert refused[0].json()["type"].endswith("/invalid-credentials")
    assert f"the password hash of user {admin.user_id} was not sealed" in shared_service.log()
    assert forged not in shared_service.log()
    assert_no_secret_in(shared_service.log())


def test_a_service_key_with_scopes_that_he_added_is_no_key(
    shared_service: RunningService, http: httpx.Client
) -> None:
    key = add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS)
    with psycopg.connect(conninfo_of(shared_service)) as thief:
        thief.execute(
            "UPDATE service_keys SET scopes = '{sessions:create}' WHERE key_id = %s", (key.key_id,)
        )

    answer = http.post(
        f"{shared_service.url}/v1/sessions",
        json={"subject": "anybody", "client_id": "web"},
        headers={"authorization": f"Bearer {key.text}"},
    )

    assert answer.status_code == 401, answer.text
    assert answer.json()["type"].endswith("/invalid-service-key")
