"""Triage over HTTP: who sees alerts, what they see, and what they do about them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.alert import Alert
from domain.detection import Response, Severity
from domain.events.envelope import NewEvent
from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import NOW, RULE, TEXTS, THIEF, raised, repeated
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import append, raise_alert
from tests.e2e.clients import Device
from tests.e2e.database import EventLog
from tests.e2e.service import RunningService

Devices = Callable[..., Device]
Staff = Callable[..., Device]
Json = dict[str, Any]

READERS = [Role.ANALYST, Role.AUDITOR, Role.ADMIN]
ACTORS = [Role.ANALYST, Role.ADMIN]
DEEDS: dict[str, Json | None] = {
    "acknowledge": None,
    "assign": {"assignee": None},
    "comment": {"comment": "odd"},
    "resolve": {"verdict": "benign"},
    "reopen": None,
    "revoke": {"what": "all"},
}


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def staff(shared_service: RunningService, device: Devices) -> Staff:
    """Makes devices of members of staff with these roles, signed in."""

    def make(*roles: Role) -> Device:
        return signed_in(device(), add_user(shared_service, roles=roles))

    return make


@pytest.fixture
def target(shared_service: RunningService, device: Devices) -> Device:
    """The device of a plain user, signed in."""
    return signed_in(device(), add_user(shared_service))


@pytest.fixture
def alert(shared_service: RunningService, target: Device) -> Alert:
    """An alert about that user's session."""
    return raise_alert(shared_service, about(target))


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def about(target: Device, **attributes: Any) -> NewEvent:  # noqa: ANN401 (those of ``raised``)
    return raised(
        user_id=UserId(target.session["user_id"]),
        family_id=FamilyId(target.session["family_id"]),
        **attributes,
    )


def address_of(alert: Alert, deed: str = "") -> str:
    return f"/v1/alerts/{alert.alert_id}" + (f"/{deed}" if deed else "")


def done(answer: httpx.Response) -> Json:
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def ids_of(page: Json) -> list[str]:
    return [each["id"] for each in page["alerts"]]


# ---------------------------------------------------------------------------- who may


@pytest.mark.parametrize("role", READERS)
def test_staff_may_read_alerts_and_reading_leaves_no_trace(
    staff: Staff, alert: Alert, log: EventLog, role: Role
) -> None:
    member = staff(role)
    before = log.end()

    listed = done(member.get(f"/v1/alerts?family={alert.family_id}"))
    shown = done(member.get(address_of(alert)))

    assert ids_of(listed) == [alert.alert_id] == [shown["id"]]
    assert log.after(before) == []


def test_a_plain_user_sees_no_alerts(target: Device, alert: Alert) -> None:
    for path in ("/v1/alerts", address_of(alert), "/v1/alerts/stream"):
        assert_forbidden(target.get(path))


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("roles", [(Role.AUDITOR,), ()])
def test_an_auditor_and_a_plain_user_may_not_act(
    staff: Staff, alert: Alert, log: EventLog, deed: str, roles: tuple[Role, ...]
) -> None:
    member = staff(*roles)
    before = log.end()

    answer = member.post(address_of(alert, deed), DEEDS[deed])

    assert_forbidden(answer)
    assert log.after(before) == []


def assert_forbidden(answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert answer.json()["type"] == "/problems/forbidden"


def test_nobody_acts_without_an_access_token(
    http: httpx.Client, shared_service: RunningService, alert: Alert
) -> None:
    answer = http.post(shared_service.url + address_of(alert, "acknowledge"))

    assert answer.status_code == 401


# ---------------------------------------------------------------------------- what is seen


def test_an_alert_shows_its_evidence(staff: Staff, target: Device, alert: Alert) -> None:
    shown = done(staff(Role.ANALYST).get(address_of(alert)))

    assert shown["rule"] == RULE
    assert (shown["severity"], shown["response"], shown["status"]) == ("high", "alert", "open")
    assert shown["score"] == 1.234
    assert shown["facts"] == [
        {"code": "new_asn", "weight": 60, "text": TEXTS["new_asn"]},
        {"code": "new_device", "weight": 40, "text": TEXTS["new_device"]},
    ]
    assert shown["client"]["ip"] == THIEF.ip
    assert shown["client"]["network"] == "198.51.100.0/24"
    assert shown["user"]["id"] == target.session["user_id"]
    assert "@example.com" in shown["user"]["name"]


def test_an_alert_shows_its_own_history_and_its_familys(
    staff: Staff, target: Device, alert: Alert
) -> None:
    analyst = staff(Role.ANALYST)
    assert target.refresh().status_code == 200
    done(analyst.post(address_of(alert, "comment"), {"comment": "I called them\nnobody there"}))

    shown = done(analyst.get(address_of(alert)))

    raised_, commented = shown["history"]["events"]
    assert (raised_["type"], raised_["actor"]) == ("AlertRaised", f"rule:{RULE}")
    assert raised_["details"]["facts"][0]["text"] == TEXTS["new_asn"]
    assert commented["comment"] == "I called them\nnobody there"
    assert commented["actor"] == f"staff:{analyst.session['user_id']}"
    started, rotated = shown["family_history"]["events"]
    assert (started["type"], rotated["type"]) == ("SessionStarted", "RefreshTokenRotated")
    assert rotated["client"]["user_agent"] == target.user_agent
    assert "secret" not in str(shown)
    assert "salt" not in str(shown)


def test_a_long_history_is_shown_from_its_end(
    staff: Staff, shared_service: RunningService, target: Device
) -> None:
    alert = raise_alert(shared_service, about(target), *[repeated() for _ in range(204)])

    history = done(staff(Role.AUDITOR).get(address_of(alert)))["history"]

    assert history["earlier"] == 5
    assert [event["version"] for event in history["events"]] == list(range(6, 206))


def test_an_alert_about_no_user_has_no_user_and_no_family(
    staff: Staff, shared_service: RunningService
) -> None:
    alert = raise_alert(shared_service, raised(rule="credential-stuffing", count=10_000))

    shown = done(staff(Role.ANALYST).get(address_of(alert)))

    assert (shown["user_id"], shown["user"]) == (None, None)
    assert (shown["family_id"], shown["family_history"]) == (None, None)
    assert shown["count"] == 10_000
    assert shown["client"]["ip"] == THIEF.ip


@pytest.mark.parametrize("name", ["01a21473-17d6-7840-8441-fee5402f2aba", "nonsense"])
def test_an_alert_that_there_is_not_is_not_found(staff: Staff, name: str) -> None:
    analyst = staff(Role.ANALYST)

    assert analyst.get(f"/v1/alerts/{name}").status_code == 404
    assert analyst.post(f"/v1/alerts/{name}/acknowledge").status_code == 404


# ---------------------------------------------------------------------------- lists


def test_the_worst_alerts_come_first_and_of_those_the_latest(
    staff: Staff, shared_service: RunningService, target: Device
) -> None:
    late = NOW + timedelta(hours=1)
    low = raise_alert(shared_service, about(target, severity=Severity.LOW, at=late))
    old = raise_alert(shared_service, about(target, severity=Severity.CRITICAL))
    new = raise_alert(shared_service, about(target, severity=Severity.CRITICAL, at=late))

    listed = done(staff(Role.ANALYST).get(f"/v1/alerts?user={target.session['user_id']}"))

    assert ids_of(listed) == [new.alert_id, old.alert_id, low.alert_id]
    assert listed["next"] is None


def test_alerts_are_found_by_what_they_are(
    staff: Staff, shared_service: RunningService, target: Device
) -> None:
    analyst = staff(Role.ANALYST)
    one = raise_alert(shared_service, about(target, severity=Severity.CRITICAL, at=NOW))
    other = raise_alert(shared_service, about(target, response=Response.RECORD, rule="dormant"))
    mine = analyst.session["user_id"]
    done(analyst.post(address_of(one, "assign"), {"assignee": mine}))

    def found(**conditions: str) -> list[str]:
        query = {"user": target.session["user_id"]} | conditions
        return ids_of(done(analyst.get(f"/v1/alerts?{httpx.QueryParams(query)}")))

    assert found(status="open") == [one.alert_id]
    assert found(status="recorded") == [other.alert_id]
    assert found(severity="critical") == [one.alert_id]
    assert found(rule="dormant") == [other.alert_id]
    assert found(assignee=mine) == [one.alert_id]
    assert found(family=str(uuid4())) == []
    assert found(since=NOW.isoformat()) == [one.alert_id, other.alert_id]
    assert found(until=NOW.isoformat()) == []


def test_pages_are_stable_while_alerts_come_in(
    staff: Staff, shared_service: RunningService, target: Device
) -> None:
    analyst = staff(Role.ANALYST)
    alerts = [
        raise_alert(shared_service, about(target, at=NOW - timedelta(minutes=n))) for n in range(5)
    ]
    address = f"/v1/alerts?limit=2&user={target.session['user_id']}"

    first = done(analyst.get(address))
    raise_alert(shared_service, about(target, severity=Severity.CRITICAL))
    second = done(analyst.get(f"{address}&after={first['next']}"))
    third = done(analyst.get(f"{address}&after={second['next']}"))

    seen = [*ids_of(first), *ids_of(second), *ids_of(third)]
    assert seen == [alert.alert_id for alert in alerts]
    assert third["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "after=nonsense",
        "after=WzEsMl0",
        "after=WzksIjIwMjYtMDMtMDFUMTI6MDA6MDBaIiwiMSJd",
        "user=ada",
        "family=1",
        "status=gone",
        "severity=very",
        "since=yesterday",
        "since=2026-03-01T12:00:00",
        "rule=%00",
        "limit=0",
    ],
)
def test_a_condition_that_means_nothing_is_refused(staff: Staff, query: str) -> None:
    answer = staff(Role.ANALYST).get(f"/v1/alerts?{query}")

    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/invalid-input"


# ---------------------------------------------------------------------------- what is done


@pytest.mark.parametrize("role", ACTORS)
def test_an_alert_is_triaged_and_each_step_is_an_event_with_its_actor(
    staff: Staff, alert: Alert, log: EventLog, role: Role
) -> None:
    member = staff(role)
    me = member.session["user_id"]
    before = log.end()

    acknowledged = done(member.post(address_of(alert, "acknowledge")))
    assigned = done(member.post(address_of(alert, "assign"), {"assignee": me}))
    done(member.post(address_of(alert, "comment"), {"comment": "their phone was stolen"}))
    verdict = {"verdict": "true_positive", "comment": "confirmed by phone"}
    resolved = done(member.post(address_of(alert, "resolve"), verdict))
    reopened = done(member.post(address_of(alert, "reopen")))

    assert acknowledged["status"] == "acknowledged"
    assert assigned["assignee"] == me
    assert (resolved["status"], resolved["verdict"]) == ("resolved", "true_positive")
    assert resolved["resolved_at"] is not None
    assert (reopened["status"], reopened["verdict"], reopened["resolved_at"]) == (
        "open",
        None,
        None,
    )
    events = log.after(before)
    assert [event.type for event in events] == [
        "AlertAcknowledged",
        "AlertAssigned",
        "AlertCommented",
        "AlertResolved",
        "AlertReopened",
    ]
    assert {event.actor for event in events} == {f"staff:{me}"}
    assert "phone" not in str([event.data for event in events])


@pytest.mark.parametrize("deed", ["acknowledge", "assign", "reopen"])
def test_what_is_so_already_is_no_error_and_no_event(
    staff: Staff, alert: Alert, log: EventLog, deed: str
) -> None:
    analyst = staff(Role.ANALYST)
    if deed == "acknowledge":
        done(analyst.post(address_of(alert, deed)))
    before = log.end()

    done(analyst.post(address_of(alert, deed), DEEDS[deed]))

    assert log.after(before) == []


@pytest.mark.parametrize("deed", ["acknowledge", "assign", "resolve"])
def test_a_resolved_alert_is_to_be_reopened_first(staff: Staff, alert: Alert, deed: str) -> None:
    analyst = staff(Role.ANALYST)
    done(analyst.post(address_of(alert, "resolve"), {"verdict": "benign"}))
    body = {"assignee": analyst.session["user_id"]} if deed == "assign" else DEEDS[deed]

    answer = analyst.post(address_of(alert, deed), body)

    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/conflict"


def test_an_alert_is_assigned_to_analysts_only(
    staff: Staff, target: Device, alert: Alert, shared_service: RunningService
) -> None:
    analyst = staff(Role.ANALYST)
    auditor = add_user(shared_service, roles=(Role.AUDITOR,)).user_id

    for nobody in (target.session["user_id"], auditor, str(uuid4()), "ada"):
        answer = analyst.post(address_of(alert, "assign"), {"assignee": nobody})
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    ("deed", "body"),
    [
        ("comment", {"comment": ""}),
        ("comment", {"comment": " "}),
        ("comment", {"comment": "a\u0000b"}),
        ("comment", {"comment": "x" * 4_001}),
        ("resolve", {"verdict": "perhaps"}),
        ("resolve", {}),
        ("assign", {}),
        ("revoke", {"what": "everything"}),
    ],
)
def test_what_cannot_be_meant_is_refused(staff: Staff, alert: Alert, deed: str, body: Json) -> None:
    answer = staff(Role.ANALYST).post(address_of(alert, deed), body)

    assert answer.status_code == 422, answer.text


def test_an_alert_that_gets_worse_after_its_verdict_is_open_again(
    staff: Staff, shared_service: RunningService, alert: Alert
) -> None:
    analyst = staff(Role.ANALYST)
    done(analyst.post(address_of(alert, "resolve"), {"verdict": "benign"}))

    append(shared_service, alert.alert_id, repeated())
    still = done(analyst.get(address_of(alert)))
    append(shared_service, alert.alert_id, repeated(severity=Severity.CRITICAL))
    again = done(analyst.get(address_of(alert)))

    assert (still["status"], still["count"]) == ("resolved", 2)
    assert (again["status"], again["severity"], again["verdict"]) == ("open", "critical", None)


# ---------------------------------------------------------------------------- revoking


@pytest.mark.parametrize("what", ["session", "family", "all"])
def test_an_analyst_revokes_from_an_alert(
    staff: Staff, target: Device, alert: Alert, log: EventLog, what: str
) -> None:
    analyst = staff(Role.ANALYST)

    revoked = done(analyst.post(address_of(alert, "revoke"), {"what": what}))
    again = done(analyst.post(address_of(alert, "revoke"), {"what": what}))

    assert (revoked["ended"], again["ended"]) == (1, 0)
    assert target.refresh().status_code == 401
    ended = log.of_family(target.session["family_id"])[1]
    assert ended.data["reason"] == "staff"
    assert ended.actor == f"staff:{analyst.session['user_id']}"
    answer = revoked["alert"]["answers"][0]
    assert answer == {
        "response": "revoke_all" if what == "all" else f"revoke_{what}",
        "outcome": "done",
        "families": 1,
    }
    assert again["alert"]["answers"][0]["outcome"] == "nothing_left"


def test_every_session_of_the_user_is_revoked(
    staff: Staff, shared_service: RunningService, device: Devices
) -> None:
    account = add_user(shared_service)
    one, other = signed_in(device(), account), signed_in(device(), account)
    alert = raise_alert(shared_service, about(one))

    revoked = done(staff(Role.ADMIN).post(address_of(alert, "revoke"), {"what": "all"}))

    assert revoked["ended"] == 2
    assert one.refresh().status_code == other.refresh().status_code == 401


@pytest.mark.parametrize("what", ["session", "family", "all"])
def test_an_alert_about_nobody_revokes_nothing(
    staff: Staff, shared_service: RunningService, what: str
) -> None:
    alert = raise_alert(shared_service, raised())

    answer = staff(Role.ANALYST).post(address_of(alert, "revoke"), {"what": what})

    assert answer.status_code == 409, answer.text


def test_a_session_of_another_family_is_not_found(
    staff: Staff, target: Device, alert: Alert
) -> None:
    analyst = staff(Role.ANALYST)
    body = {"what": "session", "session_id": analyst.session["session_id"]}

    answer = analyst.post(address_of(alert, "revoke"), body)

    assert answer.status_code == 404
    assert target.refresh().status_code == 200
