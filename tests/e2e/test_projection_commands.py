"""``sessiontrail projections`` as an operator uses it: look before, and go back after."""

import subprocess
from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from infra.embedded_postgres import RunningPostgres
from tests.e2e.accounts import add_user, conninfo_of
from tests.e2e.clients import Device
from tests.e2e.service import RunningService, command

Projections = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def owner(shared_service: RunningService, postgres: RunningPostgres) -> str:
    """Connects to the service's database as its owner."""
    return postgres.conninfo(dbname=str(conninfo_to_dict(conninfo_of(shared_service))["dbname"]))


@pytest.fixture
def projections(shared_service: RunningService, owner: str) -> Projections:
    environment = {**shared_service.environment, "SESSIONTRAIL_MIGRATION_DATABASE_URL": owner}
    return lambda step: command(environment, "projections", step)


def test_what_is_built_is_compared_swapped_in_and_rolled_back(
    shared_service: RunningService,
    owner: str,
    projections: Projections,
    device: Callable[..., Device],
) -> None:
    account = add_user(shared_service)
    one = device()
    assert one.login(account.username, account.password).status_code == 200
    session = one.session["session_id"]
    with psycopg.connect(owner, autocommit=True) as intruder:
        intruder.execute("UPDATE sessions SET client_id = 'x' WHERE session_id = %s", (session,))

    built = projections("build")
    one.refresh()
    differs = projections("compare")
    swapped = projections("swap")
    one.refresh()
    verified = projections("verify")
    rolled_back = projections("rollback")
    one.refresh()
    damaged = projections("verify")
    rebuilt = projections("rebuild")
    discarded = projections("discard")

    assert built.returncode == 0, built.stderr
    assert "rows stand beside the tables" in built.stdout
    assert differs.returncode == 1
    assert differs.stderr == "sessiontrail: the tables are not what was built\n"
    assert f"sessions {session} client_id: expected first-party, found x\n" in differs.stdout
    assert "1 differ, 0 missing, 0 extra." in differs.stdout
    for done in (swapped, rebuilt):
        assert done.returncode == 0, done.stderr
        assert ", 1 removed, 1 written." in done.stdout
    assert verified.returncode == 0, verified.stderr
    assert "sessions: 1 removed, 1 written." in rolled_back.stdout
    assert damaged.returncode == 1
    assert discarded.stdout == "Nothing is left beside the tables.\n"


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("compare", "there is no build, or not to its end: run `sessiontrail projections build`"),
        ("swap", "there is no build, or not to its end: run `sessiontrail projections build`"),
        ("rollback", "no swap has replaced anything that could be brought back"),
    ],
)
def test_a_step_that_nothing_was_done_for_is_one_line(
    projections: Projections, step: str, complaint: str
) -> None:
    projections("discard")

    done = projections(step)

    assert done.returncode == 1
    assert done.stderr == f"sessiontrail: {complaint}\n"


def test_the_services_role_is_told_whom_to_connect_as(shared_service: RunningService) -> None:
    done = command(shared_service.environment, "projections", "build")

    assert done.returncode == 1
    assert done.stderr.endswith("connect as its owner\n")
