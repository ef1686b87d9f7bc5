"""Erasing a person at any point of their life: afterwards no byte of them is left anywhere."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from domain.events.users import Role
from infra.kafka_access import KafkaAccess
from infra.local_kafka import LocalKafka
from tests.e2e.clients import Device
from tests.e2e.database import types, wait_for
from tests.e2e.erasing import (
    MARKS,
    USERNAME,
    Clamour,
    Deployment,
    Life,
    deployment,
    staff_device,
)
from tests.e2e.service import command

pytestmark = pytest.mark.timeout(300)


def right_after_registration(_life: Life, _analyst: Device) -> None:
    """Nothing else has happened yet."""


def in_the_middle_of_a_session(life: Life, _analyst: Device) -> None:
    life.sign_in()


def with_an_open_alert(life: Life, analyst: Device) -> None:
    life.sign_in()
    life.be_robbed(analyst)


@pytest.fixture(params=["log", "kafka"])
def transport(request: pytest.FixtureRequest) -> tuple[KafkaAccess | None, LocalKafka | None]:
    if request.param == "log":
        return None, None
    return request.getfixturevalue("kafka"), request.getfixturevalue("local_kafka")


@pytest.mark.parametrize(
    "so_far",
    [right_after_registration, in_the_middle_of_a_session, with_an_open_alert],
    ids=lambda so_far: so_far.__name__,
)
def test_no_byte_of_an_erased_person_is_left(
    transport: tuple[KafkaAccess | None, LocalKafka | None],
    so_far: Callable[[Life, Device], None],
) -> None:
    with deployment(*transport) as where:
        admin = staff_device(where, "root@example.com", Role.ADMIN)
        bob = staff_device(where, "bob@example.com")
        life = Life(where)
        secrets = life.secrets()
        so_far(life, admin)
        where.time_passes()

        erased = admin.delete(f"/v1/users/{life.user_id}?reason=request%204711")
        again = admin.delete(f"/v1/users/{life.user_id}")

        assert erased.status_code == again.status_code == httpx.codes.OK, erased.text
        assert (erased.json()["repeated"], again.json()["repeated"]) == (False, True)
        assert life.phone.login(USERNAME, life.account.password).status_code == 401
        assert bob.refresh().status_code == httpx.codes.OK
        where.all_judged()
        assert_all_is_sound(where)
        where.run("users", "scrub")
        where.stop()
        assert where.found(secrets) == set()


def test_nobody_who_is_at_it_brings_an_erased_person_back(
    transport: tuple[KafkaAccess | None, LocalKafka | None],
) -> None:
    with deployment(*transport) as where:
        admin = staff_device(where, "root@example.com", Role.ADMIN)
        life = Life(where)
        secrets = life.secrets()
        life.sign_in()
        life.be_robbed(admin)
        clamour = Clamour(life)
        with clamour.going_on():
            wait_for(lambda: clamour.seen > 200)
            erased = where.run("users", "erase", USERNAME, "--yes", "--reason", "request 4711")
            before = clamour.seen
            wait_for(lambda: clamour.seen > before + 100)

        assert "session families ended" in erased
        assert clamour.statuses <= {200, 401, 429, 503}
        events = where.log.of_user(life.user_id)
        assert types(events)[-1] == "UserErased"
        where.all_judged()
        assert_all_is_sound(where)
        where.run("users", "scrub")
        where.stop()
        assert where.found(secrets) == set()


def test_proofs_and_the_past_go_on_with_an_erased_person(tmp_path: Path) -> None:
    with deployment(None, None) as where:
        admin = staff_device(where, "root@example.com", Role.ADMIN)
        life = Life(where)
        life.sign_in()
        where.run("audit", "snapshot")
        (registered, *_) = ids_of_events(where, life.user_id)
        wait_for(lambda: is_proven(where, registered), within_s=30)
        kept = tmp_path / "head.txt"
        kept.write_text(where.run("audit", "checkpoint"))
        moment = f"position:{where.log.end()}"
        of_them = ("audit", "sessions", "--as-of", moment, "--json", "--user", life.user_id)
        before = where.run(*of_them)

        assert admin.delete(f"/v1/users/{life.user_id}").status_code == httpx.codes.OK

        events = ids_of_events(where, life.user_id)
        wait_for(lambda: all(is_proven(where, each) for each in events[-2:]), within_s=30)
        assert all(is_proven(where, each) for each in events[:3])
        where.run("audit", "prove-consistency", str(kept))
        assert where.run(*of_them) == before != ""
        assert where.run(*of_them, "--from-start") == before
        told = where.run("audit", "history", "--user", life.user_id)
        assert "UserErased" in told
        assert not [mark for mark in MARKS.values() if mark in told + before]
        reveal = ("audit", "history", "--user", life.user_id, "--reveal", "--reason", "to see")
        assert command(where.service.environment, *reveal).returncode == 1
        assert_all_is_sound(where)


def ids_of_events(where: Deployment, user_id: str) -> list[str]:
    """The events about somebody, in the log's order."""
    rows = where.asked(
        "SELECT event_id::text FROM events WHERE subject_id = %s ORDER BY transaction_id, position",
        user_id,
    )
    return [str(row[0]) for row in rows]


def is_proven(where: Deployment, event_id: str) -> bool:
    """Whether the newest signed head proves that the event is in the log."""
    done = command(where.service.environment, "audit", "prove-inclusion", event_id)
    return done.returncode == 0


def test_whoever_was_not_erased_is_found() -> None:
    """Or the tests above would find nothing because they look in the wrong way."""
    with deployment(None, None) as where:
        life = Life(where)
        secrets = life.secrets()
        life.sign_in()
        where.run("users", "scrub")
        where.stop()

        found = {name for name, _ in where.found(secrets)}

    # What an analyst writes lies sealed from the first; boxes are in nothing that we write as text.
    as_text = {"wrapped key, as text", "sealed password hash, as text"}
    assert found == set(secrets) - {"comment"} - as_text


def assert_all_is_sound(where: Deployment) -> None:
    """The tables are the fold of the log, and nothing of the log was lost."""
    assert "are the fold of the log" in where.run("projections", "verify")
    (counted,) = where.asked(
        "SELECT count(*) FROM sessions WHERE client IS NOT NULL AND user_id IN"
        " (SELECT user_id FROM users WHERE erased_at IS NOT NULL)"
    )
    assert counted == (0,)
