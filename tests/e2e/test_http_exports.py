"""Exports over HTTP: handed over whole, and proved without the service."""

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO

import httpx
import pytest

from audit.checkpoints import open_checkpoint
from audit.export_lines import read_lines
from audit.export_verification import check_export
from audit.signed_notes import parse_verifier
from domain.events.users import Role
from tests.e2e.accounts import add_user
from tests.e2e.browsing import beside
from tests.e2e.clients import Device
from tests.e2e.service import RunningService
from tests.e2e.signing import public_key, signing_service, wait_for_all_signed

PATH = "/v1/audit/exports"


@pytest.fixture(scope="module")
def shared_service(
    module_conninfo: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """In place of the plain one: a service whose log is signed as it grows."""
    with signing_service(tmp_path_factory.mktemp("data"), module_conninfo) as running:
        yield running


@pytest.fixture
def auditor(shared_service: RunningService, http: httpx.Client) -> Device:
    account = beside(add_user, shared_service, roles=(Role.AUDITOR,))
    device = Device(shared_service.url, http)
    device.login(account.username, account.password)
    return device


@pytest.fixture
def all_signed(shared_service: RunningService, module_conninfo: str) -> Callable[[], None]:
    """Waits until every event that there is now is under a signed head."""
    return partial(wait_for_all_signed, shared_service, module_conninfo)


def test_what_came_since_a_kept_head_is_whole_and_joined_to_it(
    shared_service: RunningService,
    http: httpx.Client,
    auditor: Device,
    all_signed: Callable[[], None],
) -> None:
    verifier = parse_verifier(public_key(shared_service))
    all_signed()
    note = http.get(f"{shared_service.url}/tlog/checkpoint").content
    kept = open_checkpoint(note, verifier)
    beside(add_user, shared_service)
    all_signed()

    answer = auditor.post(PATH, {"first_leaf": kept.size, "extends": [kept.size]})

    assert answer.status_code == 200, answer.text
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    checked = check_export(read_lines(BytesIO(answer.content)), verifier, kept)
    assert (checked.findings, checked.unproved) == ([], None)
    assert (checked.first, checked.is_contiguous) == (kept.size, True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"format": "ocsf", "extends": [1]}, 422),
        ({"extends": [-1]}, 422),
        ({"first_leaf": 2**60}, 422),
        ({"first_leaf": 2**50}, 409),
        ({"extends": [2**50]}, 409),
        ({"format": "parquet"}, 422),
    ],
    ids=["ocsf", "negative", "no leaf", "no such leaf", "no such head", "parquet"],
)
def test_what_cannot_be_is_refused(
    auditor: Device, all_signed: Callable[[], None], body: dict[str, object], status: int
) -> None:
    all_signed()

    assert auditor.post(PATH, body).status_code == status
