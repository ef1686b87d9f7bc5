"""Rules and the allow-list over HTTP: who may set what, and that every change is on record."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.events.users import Role
from tests.e2e.accounts import Account, add_user
from tests.e2e.clients import Device
from tests.e2e.database import EventLog
from tests.e2e.service import RunningService

Staff = Callable[..., Device]
Json = dict[str, Any]

RULE = "refresh-token-reuse"


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def staff(shared_service: RunningService, device: Callable[..., Device]) -> Staff:
    """Makes devices of members of staff with these roles, signed in."""

    def make(*roles: Role) -> Device:
        return signed_in(device(), add_user(shared_service, roles=roles))

    return make


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def put(member: Device, path: str, body: Json) -> httpx.Response:
    headers = {"Authorization": f"Bearer {member.access_token}"}
    return member.http.put(member.url + path, json=body, headers=headers)


def entry(**fields: object) -> Json:
    """An entry about a network, for a week, unless said otherwise."""
    chosen: Json = {"network": "203.0.113.0/24", "reason": "our office", "until": in_days(7)}
    return {name: value for name, value in (chosen | fields).items() if value is not None}


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def done(answer: httpx.Response, status: int = 200) -> Json:
    assert answer.status_code == status, answer.text
    body: Json = answer.json()
    return body


def assert_forbidden(answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


# ------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize("role", [Role.ANALYST, Role.AUDITOR, Role.ADMIN])
def test_staff_may_read_the_policy(staff: Staff, role: Role) -> None:
    member = staff(role)

    listed = done(member.get("/v1/rules"))
    shown = done(member.get(f"/v1/rules/{RULE}"))
    allowed = done(member.get("/v1/allow-list"))

    assert RULE in [rule["name"] for rule in listed["rules"]]
    assert shown["title"]
    assert shown["looks_for"]
    assert shown["in_force"]["severity"] in {"info", "low", "medium", "high", "critical"}
    assert allowed["policy_version"] == listed["policy_version"]


def test_a_plain_user_sees_no_policy(staff: Staff) -> None:
    member = staff()

    for path in ("/v1/rules", f"/v1/rules/{RULE}", "/v1/allow-list"):
        assert_forbidden(member.get(path))


@pytest.mark.parametrize("roles", [(Role.ANALYST,), (Role.AUDITOR,), ()])
def test_only_an_admin_sets_a_rule(staff: Staff, log: EventLog, roles: tuple[Role, ...]) -> None:
    member = staff(*roles)
    before = log.end()

    assert_forbidden(put(member, f"/v1/rules/{RULE}", {"enabled": False}))

    assert log.after(before) == []


def test_an_admin_sets_a_rule_and_it_is_an_event(staff: Staff, log: EventLog) -> None:
    admin = staff(Role.ADMIN)
    default = done(admin.get(f"/v1/rules/{RULE}"))
    before = log.end()

    body = {"severity": "low", "response": "alert"}
    changed = done(put(admin, f"/v1/rules/{RULE}", body))
    again = done(put(admin, f"/v1/rules/{RULE}", body))
    back = done(put(admin, f"/v1/rules/{RULE}", {}))

    assert (changed["in_force"]["severity"], changed["in_force"]["response"]) == ("low", "alert")
    assert changed["settings"]["severity"] == "low"
    assert changed["severity"] == default["severity"]
    assert again == changed
    assert back["in_force"] == default["in_force"]
    first, second = log.after(before)
    assert first.stream == second.stream == "policy-detection"
    assert first.data == {"rule": RULE, "severity": "low", "response": "alert"}
    assert second.data == {"rule": RULE}
    assert first.actor == f"staff:{admin.session['user_id']}"
    assert done(admin.get("/v1/rules"))["policy_version"] == second.version


@pytest.mark.parametrize(
    "body",
    [
        {"severity": "awful"},
        {"response": "shout"},
        {"enabled": "no"},
        {"parameters": {"no_such_parameter": 1}},
        {"parameters": {"no_such_parameter": -1}},
        {"threshold": 1},
    ],
)
def test_settings_that_mean_nothing_are_refused(staff: Staff, body: Json) -> None:
    answer = put(staff(Role.ADMIN), f"/v1/rules/{RULE}", body)

    assert answer.status_code == 422, answer.text


def test_a_rule_that_there_is_not_is_not_found(staff: Staff) -> None:
    admin = staff(Role.ADMIN)

    assert admin.get("/v1/rules/unheard-of").status_code == 404
    assert put(admin, "/v1/rules/unheard-of", {}).status_code == 404


# -------------------------------------------------------------------------------- allow-list


@pytest.mark.parametrize("role", [Role.ANALYST, Role.ADMIN])
def test_an_entry_is_added_and_removed_and_both_are_events(
    staff: Staff, log: EventLog, role: Role
) -> None:
    member = staff(role)
    me = member.session["user_id"]
    before = log.end()

    added = done(member.post("/v1/allow-list", entry(rule=RULE)), 201)
    listed = done(member.get("/v1/allow-list"))
    removed = member.delete(f"/v1/allow-list/{added['id']}")
    left = done(member.get("/v1/allow-list"))
    again = member.delete(f"/v1/allow-list/{added['id']}")

    assert (added["kind"], added["network"], added["rule"]) == ("network", "203.0.113.0/24", RULE)
    assert (added["owner"], added["reason"]) == (me, "our office")
    assert added in listed["entries"]
    assert removed.status_code == 204
    assert added["id"] not in [each["id"] for each in left["entries"]]
    assert again.status_code == 404
    first, second = log.after(before)
    assert (first.type, second.type) == ("AllowListed", "AllowListEntryRemoved")
    assert first.actor == second.actor == f"staff:{me}"
    assert "203.0.113" not in str(first.data)
    assert "office" not in str(first.data)
    assert first.personal is not None


@pytest.mark.parametrize("roles", [(Role.AUDITOR,), ()])
def test_an_auditor_and_a_plain_user_allow_nothing(
    staff: Staff, log: EventLog, roles: tuple[Role, ...]
) -> None:
    admin, member = staff(Role.ADMIN), staff(*roles)
    added = done(admin.post("/v1/allow-list", entry(network="192.0.2.1")), 201)
    before = log.end()

    assert_forbidden(member.post("/v1/allow-list", entry()))
    assert_forbidden(member.delete(f"/v1/allow-list/{added['id']}"))

    assert log.after(before) == []


def test_entries_are_about_a_system_or_a_user_too(
    shared_service: RunningService, staff: Staff
) -> None:
    admin = staff(Role.ADMIN)
    user_id = add_user(shared_service).user_id

    by_asn = done(admin.post("/v1/allow-list", entry(network=None, asn=64_500)), 201)
    by_user = done(admin.post("/v1/allow-list", entry(network=None, user_id=user_id)), 201)

    assert (by_asn["kind"], by_asn["asn"], by_asn["network"]) == ("asn", 64_500, None)
    assert (by_user["kind"], by_user["user_id"]) == ("user", user_id)


def test_an_analyst_allows_for_a_month_and_an_admin_for_a_year(staff: Staff) -> None:
    analyst, admin = staff(Role.ANALYST), staff(Role.ADMIN)

    for member, days, status in (
        (analyst, 29, 201),
        (analyst, 31, 422),
        (admin, 365, 201),
        (admin, 367, 422),
        (admin, -1, 422),
    ):
        answer = member.post("/v1/allow-list", entry(until=in_days(days)))
        assert answer.status_code == status, (days, answer.text)


def test_an_analyst_answers_for_their_own_entries_and_an_admin_may_name_another(
    staff: Staff,
) -> None:
    analyst, admin = staff(Role.ANALYST), staff(Role.ADMIN)
    theirs = analyst.session["user_id"]

    named = done(admin.post("/v1/allow-list", entry(owner=theirs)), 201)
    other = done(admin.post("/v1/allow-list", entry()), 201)

    assert named["owner"] == theirs
    assert_forbidden(analyst.post("/v1/allow-list", entry(owner=admin.session["user_id"])))
    assert_forbidden(analyst.delete(f"/v1/allow-list/{other['id']}"))
    assert analyst.delete(f"/v1/allow-list/{named['id']}").status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        entry(network="0.0.0.0/0"),
        entry(network="an office"),
        entry(network=None),
        entry(asn=64_500),
        entry(network=None, user_id=str(uuid4())),
        entry(network=None, user_id="ada"),
        entry(owner=str(uuid4())),
        entry(reason=None),
        entry(reason=" "),
        entry(until=None),
        entry(until="tomorrow"),
        entry(until="2027-01-01T00:00:00"),
        entry(forever=True),
    ],
)
def test_an_entry_that_says_too_much_or_too_little_is_refused(staff: Staff, body: Json) -> None:
    answer = staff(Role.ADMIN).post("/v1/allow-list", body)

    assert answer.status_code == 422, answer.text


def test_an_entry_for_a_rule_that_there_is_not_is_refused(staff: Staff) -> None:
    answer = staff(Role.ADMIN).post("/v1/allow-list", entry(rule="unheard-of"))

    assert answer.status_code == 404, answer.text
