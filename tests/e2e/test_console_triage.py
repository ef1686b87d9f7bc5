"""What analysts do about an alert by form: the allow-list, and whose alert it is."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from domain.alert import Alert
from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import THIEF, raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.clients import Device, Json
from tests.e2e.service import RunningService
from tests.e2e.visiting import Visitor

RULE = "impossible-travel"
PREFIX = "198.51.100.0/24"
"""What the thief of ``tests.alerts`` comes from."""


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service, roles=(Role.ANALYST,))


@pytest.fixture
def analyst(shared_service: RunningService, http: httpx.Client, account: Account) -> Visitor:
    one = Visitor(shared_service.url, http)
    assert one.sign_in(account).status_code == 303
    return one


@pytest.fixture
def reader(shared_service: RunningService, device: Callable[..., Device]) -> Device:
    """Asks the API what came of it."""
    signed_in, account = device(), add_user(shared_service, roles=(Role.AUDITOR,))
    assert signed_in.login(account.username, account.password).status_code == 200
    return signed_in


@pytest.fixture
def alert(shared_service: RunningService, victim: Device) -> Alert:
    event = raised(
        user_id=UserId(victim.session["user_id"]),
        family_id=FamilyId(victim.session["family_id"]),
        rule=RULE,
    )
    return raise_alert(shared_service, event)


def allow(analyst: Visitor, alert: Alert, **fields: str) -> httpx.Response:
    filled = {"kind": "network", "only_this_rule": "on", "days": "7", "reason": "the new office"}
    sent = {"form_token": analyst.token()} | filled | fields
    return analyst.send(f"/console/alerts/{alert.alert_id}/allow", sent)


def entries_of(reader: Device, account: Account) -> list[Json]:
    """What the allow-list has of somebody."""
    found = reader.get("/v1/allow-list").json()["entries"]
    return [each for each in found if each["owner"] == account.user_id]


def test_what_an_alert_is_about_is_allowed_for_a_while_in_the_analysts_name(
    analyst: Visitor, account: Account, reader: Device, alert: Alert
) -> None:
    assert THIEF.ip is not None
    asked = analyst.get(f"/console/alerts/{alert.alert_id}/allow")

    answer = allow(analyst, alert)

    assert f"The network {PREFIX}" in asked.text
    assert answer.status_code == 303
    led = analyst.get(answer.headers["location"], **{"Sec-Fetch-Site": "same-origin"})
    assert "On the allow-list until" in led.text
    (entry,) = entries_of(reader, account)
    assert (entry["network"], entry["rule"], entry["reason"]) == (PREFIX, RULE, "the new office")
    lasts = datetime.fromisoformat(entry["until"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < lasts <= timedelta(days=7)


def test_whatever_somebody_does_can_be_allowed_for_every_rule(
    analyst: Visitor, account: Account, reader: Device, alert: Alert
) -> None:
    filled = {"form_token": analyst.token(), "kind": "user", "days": "1", "reason": "a red team"}

    answer = analyst.send(f"/console/alerts/{alert.alert_id}/allow", filled)

    assert answer.status_code == 303
    (entry,) = entries_of(reader, account)
    assert (entry["user_id"], entry["rule"]) == (alert.user_id, None)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reason": "  "}, "Say why, in some words."),
        ({"reason": "x" * 5_000}, "Say why, in some words."),
        ({"kind": "asn"}, "Choose what to allow, and for how long."),
        ({"kind": ""}, "Choose what to allow, and for how long."),
        ({"days": "365"}, "Choose what to allow, and for how long."),
        ({"days": "-1"}, "Choose what to allow, and for how long."),
    ],
    ids=["no-reason", "long-reason", "not-on-offer", "nothing", "too-long", "ended"],
)
def test_a_form_that_does_not_say_what_or_why_is_asked_again_and_allows_nothing(
    analyst: Visitor,
    account: Account,
    reader: Device,
    alert: Alert,
    fields: dict[str, str],
    told: str,
) -> None:
    answer = allow(analyst, alert, **fields)

    assert answer.status_code == 422
    assert told in answer.text
    assert "Put on the allow-list" in answer.text
    assert entries_of(reader, account) == []


def test_an_entry_is_taken_off_by_its_owner_and_not_by_another_analyst(
    shared_service: RunningService,
    http: httpx.Client,
    analyst: Visitor,
    account: Account,
    reader: Device,
    alert: Alert,
) -> None:
    allow(analyst, alert)
    (entry,) = entries_of(reader, account)
    path = f"/console/rules/allow-list/{entry['id']}/remove"
    other = Visitor(shared_service.url, http)
    other.sign_in(add_user(shared_service, roles=(Role.ANALYST,)))

    refused = other.send(path, {"form_token": other.token()})
    still_there = entries_of(reader, account)
    answer = analyst.send(path, {"form_token": analyst.token()})

    assert path not in other.get("/console/rules").text
    assert refused.status_code == 403
    assert still_there == [entry]
    assert answer.status_code == 303
    assert entries_of(reader, account) == []


def test_an_alert_is_passed_on_and_given_up(
    shared_service: RunningService, analyst: Visitor, account: Account, reader: Device, alert: Alert
) -> None:
    colleague = add_user(shared_service, roles=(Role.ADMIN,))
    here = f"/console/alerts/{alert.alert_id}"

    def assign(assignee: str) -> tuple[int, str | None]:
        sent = {"form_token": analyst.token(), "assignee": assignee}
        answer = analyst.send(f"{here}/assign", sent)
        return answer.status_code, reader.get(f"/v1/alerts/{alert.alert_id}").json()["assignee"]

    taken = analyst.send(f"{here}/take", {"form_token": analyst.token()})
    passed_on = assign(colleague.user_id)
    page = analyst.get(here).text
    given_up = assign("")

    assert taken.status_code == 303
    assert passed_on == (303, colleague.user_id)
    assert colleague.username in page.partition("<dt>Assigned to</dt>")[2].partition("</dd>")[0]
    assert f'<option value="{colleague.user_id}" selected>' in page
    assert f'<option value="{account.user_id}">' in page
    assert given_up == (303, None)


def test_an_alert_is_not_passed_on_to_who_could_not_act_on_it(
    shared_service: RunningService, analyst: Visitor, account: Account, reader: Device, alert: Alert
) -> None:
    auditor = add_user(shared_service, roles=(Role.AUDITOR,))
    here = f"/console/alerts/{alert.alert_id}"
    analyst.send(f"{here}/take", {"form_token": analyst.token()})

    answers = [
        analyst.send(f"{here}/assign", {"form_token": analyst.token(), "assignee": assignee})
        for assignee in (auditor.user_id, "nobody", str(alert.user_id))
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert auditor.user_id not in analyst.get(here).text
    assert reader.get(f"/v1/alerts/{alert.alert_id}").json()["assignee"] == account.user_id
