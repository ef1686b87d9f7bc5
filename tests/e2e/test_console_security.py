"""What the console refuses: forged forms, frames, other roles; and what stays text."""

import itertools
import re
from html import unescape

import httpx
import pytest

from domain.alert import Alert
from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import raised
from tests.e2e.accounts import add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.clients import (
    REFRESH_COOKIE,
    Device,
    assert_no_secret_in,
)
from tests.e2e.service import RunningService
from tests.e2e.visiting import Visitor, Visitors

SCRIPT = "<script>alert(1)</script>"
MARKUP = "\"'><img src=x onerror=alert(1)>"
_numbers = itertools.count(1)


@pytest.fixture
def victim(shared_service: RunningService, http: httpx.Client) -> Device:
    account = add_user(shared_service, username=f"victim {next(_numbers)} {MARKUP} {SCRIPT}")
    device = Device(shared_service.url, http, user_agent=f"Agent {SCRIPT}{MARKUP}")
    assert device.login(account.username, account.password).status_code == 200
    return device


@pytest.fixture
def alert(shared_service: RunningService, victim: Device) -> Alert:
    event = raised(
        user_id=UserId(victim.session["user_id"]), family_id=FamilyId(victim.session["family_id"])
    )
    return raise_alert(shared_service, event)


def test_a_page_may_load_nothing_but_our_own_and_nobody_may_frame_it(visitor: Visitors) -> None:
    answer = visitor(Role.ANALYST).get("/console/alerts")

    policy = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == policy["script-src"] == policy["style-src"] == "'self'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get_list("referrer-policy") == ["same-origin"]
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert re.search(r"<script(?![^>]* src=)", answer.text) is None
    assert re.search(r"\son[a-z]+=", answer.text) is None


def test_assets_are_named_by_their_content_and_kept_for_good(visitor: Visitors) -> None:
    one = visitor()
    paths = set(re.findall(r'"(/console/static/[^"]+)"', one.get("/account").text))

    answers = [one.get(path) for path in paths]

    assert len(answers) == 3
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    assert one.get("/console/static/console.css").status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null", "Sec-Fetch-Site": ""},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": ""},
        {"Origin": "", "Sec-Fetch-Site": ""},
    ],
    ids=["cross-site", "same-site", "sandboxed", "no-fetch-metadata", "says-nothing"],
)
def test_a_form_of_another_page_is_refused_even_with_a_good_token(
    visitor: Visitors, headers: dict[str, str]
) -> None:
    one = visitor()
    fields = {"form_token": one.token()}

    answer = one.send("/account/end-all", fields, **headers)

    assert answer.status_code == 403
    assert one.get("/account").status_code == 200


@pytest.mark.parametrize("token", ["", "x" * 43, "other"], ids=["none", "made-up", "another's"])
def test_a_form_without_its_own_token_is_refused(visitor: Visitors, token: str) -> None:
    one = visitor()
    given = visitor().token() if token == "other" else token

    answer = one.send("/account/end-all", {"form_token": given})

    assert answer.status_code == 403
    assert one.get("/account").status_code == 200


def test_nobody_is_signed_in_by_the_form_of_another_site(
    shared_service: RunningService, http: httpx.Client
) -> None:
    one = Visitor(shared_service.url, http)
    account = add_user(shared_service)
    fields = {"username": account.username, "password": account.password}

    answer = one.send("/console/sign-in", fields, Origin="https://evil.example", **{
        "Sec-Fetch-Site": "cross-site"
    })  # fmt: skip

    assert answer.status_code == 403
    assert one.cookies == {}


def test_a_link_from_elsewhere_leads_in_by_a_page_of_ours(visitor: Visitors) -> None:
    one = visitor(Role.ANALYST)

    answer = one.get("/console/alerts?view=all", **{"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 200
    assert 'content="0; url=/console/alerts?view=all"' in answer.text
    assert "Sign out" not in answer.text


@pytest.mark.parametrize(
    ("following", "location"),
    [
        ("/console/alerts?view=all", "/console/alerts?view=all"),
        ("https://evil.example/", "/account"),
        ("//evil.example/console", "/account"),
        ("/console//evil.example", "/account"),
        ("/\\evil.example", "/account"),
        ("/consoles", "/account"),
        ("/account\r\nSet-Cookie: a=b", "/account"),
    ],
    ids=["ours", "absolute", "no-scheme", "doubled", "backslash", "similar", "newline"],
)
def test_a_sign_in_leads_to_pages_of_ours_alone(
    shared_service: RunningService, http: httpx.Client, following: str, location: str
) -> None:
    account = add_user(shared_service)

    answer = Visitor(shared_service.url, http).send(
        "/console/sign-in",
        {"username": account.username, "password": account.password, "next": following},
    )

    assert answer.status_code == 303
    assert answer.headers["location"] == location


def test_a_wrong_password_says_no_more_than_that(
    shared_service: RunningService, http: httpx.Client
) -> None:
    one = Visitor(shared_service.url, http)

    answers = [
        one.send("/console/sign-in", {"username": name, "password": "wrong"})
        for name in (add_user(shared_service).username, "nobody@example.com")
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert all("User name or password is wrong." in answer.text for answer in answers)


@pytest.mark.parametrize("path", ["/console/alerts", "/console/people", "/console/overview"])
def test_a_plain_user_sees_nothing_of_the_staffs(visitor: Visitors, path: str) -> None:
    answer = visitor().get(path)

    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert "This is not yours to do" in answer.text


@pytest.mark.parametrize(
    "path", ["acknowledge", "take", "resolve", "comment", "reopen", "revoke", "allow", "assign"]
)
def test_an_auditor_reads_and_does_not_act(visitor: Visitors, alert: Alert, path: str) -> None:
    one = visitor(Role.AUDITOR)
    here = f"/console/alerts/{alert.alert_id}"
    page = one.get(here)
    fields = {"form_token": one.token(), "what": "all", "verdict": "benign", "comment": "x"}

    answer = one.send(f"{here}/{path}", fields)

    assert page.status_code == 200
    assert "Revoke …" not in page.text
    assert answer.status_code == 403


def test_an_analyst_does_not_set_rules(visitor: Visitors) -> None:
    one = visitor(Role.ANALYST)
    fields = {"form_token": one.token(), "enabled": "on"}

    answers = [one.send(f"/console/rules/device-change/{deed}", fields) for deed in ("try", "save")]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert one.get("/console/rules/device-change").status_code == 200


def test_whatever_people_write_stays_text(visitor: Visitors, victim: Device, alert: Alert) -> None:
    one = visitor(Role.ANALYST)
    here = f"/console/alerts/{alert.alert_id}"
    name = {"device_name": f"phone {MARKUP}"}
    assert victim.patch(f"/v1/sessions/{victim.session['session_id']}", name).status_code == 204
    comment = {"form_token": one.token(), "comment": f"{SCRIPT}{MARKUP}"}
    assert one.send(f"{here}/comment", comment).status_code == 303

    pages = [
        one.get(path).text
        for path in (
            here,
            f"{here}/revoke",
            f"{here}/allow",
            "/console/alerts?view=all",
            f"/console/people/{victim.session['user_id']}",
        )
    ]
    sought = {"form_token": one.token(), "name": f"{SCRIPT}{MARKUP}"}
    pages.append(one.send("/console/people", sought).text)

    for page in pages:
        assert SCRIPT not in page
        assert "<img" not in page
    assert SCRIPT in unescape(pages[0])


def test_another_users_session_is_as_unknown_as_none(visitor: Visitors, victim: Device) -> None:
    one = visitor()
    session_id = victim.session["session_id"]
    fields = {"form_token": one.token(), "session": session_id, "device_name": "mine"}

    answers = [
        one.send(path, fields)
        for path in ("/account/end", "/account/rename", f"/account/report/{session_id}")
    ]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert victim.refresh().status_code == 200


def test_the_cookie_of_another_client_is_exchanged_at_once(
    visitor: Visitors, shared_service: RunningService, http: httpx.Client
) -> None:
    """So the log says so, the detector sees it, and the owner's next request ends the session."""
    owner = visitor(Role.ANALYST)
    thief = Visitor(shared_service.url, http, {REFRESH_COOKIE: owner.cookies[REFRESH_COOKIE]})

    stolen = thief.get("/console/alerts", **{"User-Agent": "thief/1.0"})
    stolen_again = thief.get("/console/alerts", **{"User-Agent": "thief/1.0"})
    noticed = owner.get("/console/alerts")

    assert (stolen.status_code, stolen_again.status_code) == (200, 200)
    assert thief.cookies[REFRESH_COOKIE] != owner.cookies.get(REFRESH_COOKIE)
    assert noticed.status_code == 303
    assert thief.get("/console/alerts", **{"User-Agent": "thief/1.0"}).status_code == 303


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
