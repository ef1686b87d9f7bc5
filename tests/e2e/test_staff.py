"""What members of staff may see and do, and that the log names who did it."""

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from domain.events.users import Role
from domain.service_keys import ServiceScope
from tests.e2e.accounts import Account, add_service_key, add_user
from tests.e2e.clients import Device, assert_no_secret_in
from tests.e2e.database import EventLog, types, wait_for
from tests.e2e.service import RunningService

Devices = Callable[..., Device]

READERS = [Role.ANALYST, Role.AUDITOR, Role.ADMIN]
ACTORS = [Role.ANALYST, Role.ADMIN]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def target(shared_service: RunningService, device: Devices) -> Device:
    """The device of a plain user, signed in."""
    return signed_in(device(), add_user(shared_service))


@pytest.fixture
def staff(shared_service: RunningService, device: Devices) -> Callable[..., Device]:
    """Makes devices of members of staff with these roles, signed in."""

    def make(*roles: Role) -> Device:
        return signed_in(device(), add_user(shared_service, roles=roles))

    return make


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def sessions_of(target: Device) -> str:
    return f"/v1/users/{target.session['user_id']}/sessions"


def session_of(target: Device) -> str:
    return f"{sessions_of(target)}/{target.session['session_id']}"


def family_of(target: Device) -> str:
    return f"/v1/families/{target.session['family_id']}"


ACTS = [sessions_of, session_of, family_of]


def assert_ended_by(target: Device, member: Device, log: EventLog) -> None:
    assert target.refresh().status_code == 401
    assert target.get("/v1/sessions").status_code == 401
    ended = log.of_family(target.session["family_id"])[1]
    assert ended.type in {"FamilyRevoked", "SessionEnded"}
    assert ended.data["reason"] == "staff"
    assert ended.actor == f"staff:{member.session['user_id']}"
    assert ended.subject_id == target.session["user_id"]


# ---------------------------------------------------------------------------- who may


@pytest.mark.parametrize("role", READERS)
def test_staff_may_read_a_users_sessions(
    staff: Callable[..., Device], target: Device, log: EventLog, role: Role
) -> None:
    member = staff(role)
    before = log.end()

    answer = member.get(sessions_of(target))

    assert answer.status_code == 200, answer.text
    listed = answer.json()["sessions"]
    assert [each["session_id"] for each in listed] == [target.session["session_id"]]
    assert listed[0]["current"] is False
    assert log.after(before) == []


@pytest.mark.parametrize("address", ACTS)
@pytest.mark.parametrize("role", ACTORS)
def test_an_analyst_and_an_admin_may_revoke(
    staff: Callable[..., Device],
    target: Device,
    log: EventLog,
    role: Role,
    address: Callable[[Device], str],
) -> None:
    member = staff(role)

    answer = member.delete(address(target))

    assert answer.status_code in {200, 204}, answer.text
    assert_ended_by(target, member, log)


@pytest.mark.parametrize("address", ACTS)
@pytest.mark.parametrize("roles", [(Role.AUDITOR,), ()])
def test_an_auditor_and_a_plain_user_may_not(
    staff: Callable[..., Device],
    target: Device,
    log: EventLog,
    roles: tuple[Role, ...],
    address: Callable[[Device], str],
) -> None:
    member = staff(*roles)
    before = log.end()

    answer = member.delete(address(target))

    assert_forbidden(answer)
    assert log.after(before) == []
    assert target.refresh().status_code == 200


def test_a_plain_user_may_not_read_the_sessions_of_any_user(
    staff: Callable[..., Device], target: Device
) -> None:
    member = staff()

    assert_forbidden(member.get(sessions_of(target)))
    assert_forbidden(member.get(sessions_of(member)))
    assert_forbidden(member.get(f"/v1/users/{uuid4()}/sessions"))


def assert_forbidden(answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/forbidden")
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("authorization", [None, "Bearer nonsense", "Basic YTpi"])
def test_nobody_in_particular_may_nothing(
    shared_service: RunningService,
    http: httpx.Client,
    target: Device,
    authorization: str | None,
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    for address in ACTS:
        answer = http.delete(shared_service.url + address(target), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    assert target.refresh().status_code == 200


def test_a_service_key_is_no_member_of_staff(
    shared_service: RunningService, http: httpx.Client, target: Device
) -> None:
    key = add_service_key(shared_service, *ServiceScope).text

    answer = http.delete(
        shared_service.url + family_of(target), headers={"Authorization": f"Bearer {key}"}
    )

    assert answer.status_code == 401
    assert target.refresh().status_code == 200


def test_a_member_of_staff_who_signed_out_may_nothing(
    staff: Callable[..., Device], target: Device
) -> None:
    member = staff(Role.ADMIN)
    assert member.post("/v1/logout").status_code == 204

    assert member.delete(family_of(target)).status_code == 401
    assert target.refresh().status_code == 200


# ---------------------------------------------------------------------------- what it comes to


def test_revoking_a_user_ends_every_session_of_theirs_in_one_act(
    shared_service: RunningService, device: Devices, staff: Callable[..., Device], log: EventLog
) -> None:
    account = add_user(shared_service)
    devices = [signed_in(device(), account) for _ in range(3)]
    member = staff(Role.ANALYST)
    before, request_id = log.end(), str(uuid4())
    member.headers["X-Request-Id"] = request_id

    answer = member.delete(sessions_of(devices[0]))

    assert answer.json() == {"ended": 3}
    assert answer.headers["x-request-id"] == request_id
    events = log.after(before)
    assert sorted(types(events)) == [*["FamilyRevoked"] * 3, "UserSessionsEnded"]
    assert len({event.transaction_id for event in events}) == 1
    assert {event.correlation_id for event in events} == {request_id}
    assert {event.actor for event in events} == {f"staff:{member.session['user_id']}"}
    for each in devices:
        assert_ended_by(each, member, log)
    assert signed_in(device(), account).refresh().status_code == 200


def test_an_act_that_changes_nothing_is_no_error_and_no_event(
    staff: Callable[..., Device], target: Device, log: EventLog
) -> None:
    member = staff(Role.ADMIN)
    assert member.delete(family_of(target)).json() == {"ended": 1}
    before = log.end()

    assert member.delete(family_of(target)).json() == {"ended": 0}
    assert member.delete(session_of(target)).status_code == 204

    assert log.after(before) == []


def test_what_does_not_exist_is_not_found(
    staff: Callable[..., Device], target: Device, log: EventLog
) -> None:
    member = staff(Role.ADMIN)
    before = log.end()
    unknown = str(uuid4())

    answers = [
        member.get(f"/v1/users/{unknown}/sessions"),
        member.delete(f"/v1/users/{unknown}/sessions"),
        member.delete(f"/v1/users/{unknown}/sessions/{target.session['session_id']}"),
        member.delete(f"{sessions_of(target)}/{unknown}"),
        member.delete(f"{sessions_of(target)}/{member.session['session_id']}"),  # another's
        member.delete(f"/v1/families/{unknown}"),
        member.delete("/v1/families/%00%ff"),
        member.delete("/v1/families/" + "9" * 36),
        member.get("/v1/users/' OR 1=1 --/sessions"),
        member.get("/v1/users/💥/sessions"),
    ]

    for answer in answers:
        assert answer.status_code == 404, answer.request.url
        assert answer.json()["type"].endswith("/not-found")
    assert log.after(before) == []
    assert target.refresh().status_code == 200


def test_a_staff_members_list_comes_in_pages(
    shared_service: RunningService, device: Devices, staff: Callable[..., Device]
) -> None:
    account = add_user(shared_service)
    devices = [signed_in(device(), account) for _ in range(3)]
    member = staff(Role.AUDITOR)

    first = member.get(sessions_of(devices[0]) + "?limit=2").json()
    second = member.get(sessions_of(devices[0]) + f"?limit=2&before={first['next']}").json()

    seen = [each["session_id"] for each in first["sessions"] + second["sessions"]]
    assert seen == [each.session["session_id"] for each in reversed(devices)]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"X-Request-Id": "3F61D53E-0000-4000-8000-000000000001"}, True),
        ({"Traceparent": "00-3f61d53e00004000800000000000000a-00f067aa0ba902b7-01"}, True),
        ({"X-Request-Id": "x\t; DROP TABLE events"}, False),
    ],
)
def test_one_id_ties_the_answer_the_events_and_the_log_together(
    shared_service: RunningService,
    target: Device,
    log: EventLog,
    headers: dict[str, str],
    taken: bool,
) -> None:
    target.headers |= headers

    correlation_id = target.refresh().headers["x-request-id"]

    assert (correlation_id.replace("-", "") in str(headers).lower().replace("-", "")) is taken
    assert log.of_family(target.session["family_id"])[-1].correlation_id == correlation_id
    wait_for(lambda: f'"correlation_id":"{correlation_id}"' in shared_service.log())


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert '"logger":"access"' in shared_service.log()
    assert_no_secret_in(shared_service.log())
