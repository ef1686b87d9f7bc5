"""Bad input: a 4xx problem with a stable type, and nothing half written."""

import json
import statistics
import time
import unicodedata
from collections.abc import Callable

import httpx
import pytest

from domain.service_keys import ServiceScope
from tests.e2e.accounts import Account, add_service_key, add_user
from tests.e2e.clients import (
    DEMO_PASSWORD,
    DEMO_USERNAME,
    Device,
    Json,
    assert_no_secret_in,
    used_secrets,
)
from tests.e2e.database import EventLog, LoggedEvent
from tests.e2e.service import RunningService, command

Devices = Callable[..., Device]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


def written_after(log: EventLog, position: int) -> list[LoggedEvent]:
    """What a test has led to: failures of tests before it are counted into an event at any time."""
    return [event for event in log.after(position) if event.type != "SignInFailuresCounted"]


@pytest.fixture(scope="module")
def owner(shared_service: RunningService) -> Account:
    """An account that the tests of this module share: none of them changes it."""
    return add_user(shared_service)


@pytest.fixture
def one(device: Devices, owner: Account) -> Device:
    """A device that is signed in."""
    made = device()
    answer = made.login(owner.username, owner.password)
    assert answer.status_code == 200, answer.text
    return made


@pytest.fixture(scope="module")
def service_key(shared_service: RunningService) -> str:
    return add_service_key(shared_service, ServiceScope.CREATE_SESSIONS).text


def assert_problem(answer: httpx.Response, status: int, slug: str) -> Json:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: Json = answer.json()
    assert problem["type"].endswith("/" + slug)
    assert problem["status"] == status
    assert problem["title"]
    return problem


# ---------------------------------------------------------------------------- bodies


MALFORMED = {
    "not JSON": b"{",
    "an empty body": b"",
    "two documents": b"{} {}",
    "a lone surrogate's bytes": b'{"username": "\xed\xa0\x80"}',
    "not UTF-8": b'{"username": "\xff\xfe"}',
    "a bare NUL": b"\x00",
    "nested too deeply": b"[" * 30_000,
    "a number beyond reason": b'{"username": ' + b"9" * 20_000 + b"}",
    "not a number": b"NaN",
}
OBJECTS: dict[str, object] = {
    "a list": [],
    "null": None,
    "a string": "username",
    "a number": 7,
    "an empty object": {},
    "wrong types": {"username": 7, "password": ["x"], "token_delivery": "body"},
    "a missing password": {"username": "ada@example.com"},
    "a null password": {"username": "ada@example.com", "password": None},
    "an unknown delivery": {"username": "a", "password": "b", "token_delivery": "carrier pigeon"},
    "an unknown member": {"username": "a", "password": "b", "admin": True},
    "a member with an odd name": {"username": "a", "password": "b", "\ud800\x00💥": 1},
    "a truth that is a string": {"username": "a", "password": "b", "remember_me": "yes"},
    "a client id with spaces": {"username": "a", "password": "b", "client_id": "a b"},
    "a client id with a line feed": {"username": "a", "password": "b", "client_id": "a\n"},
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("path", ["/v1/login", "/v1/refresh", "/v1/password"])
def test_a_body_that_cannot_be_read_is_refused(
    one: Device, log: EventLog, path: str, body: bytes
) -> None:
    before = log.end()

    answer = one.http.post(
        one.url + path,
        content=body,
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {one.access_token}",
        },
    )

    assert answer.status_code in ({401} if path == "/v1/refresh" and not body else {400, 422})
    assert answer.headers["content-type"] == "application/problem+json"
    assert written_after(log, before) == []
    assert one.refresh().status_code == 200


@pytest.mark.parametrize("body", OBJECTS.values(), ids=OBJECTS)
def test_a_body_of_the_wrong_shape_is_refused(one: Device, log: EventLog, body: object) -> None:
    before = log.end()

    answer = one.http.post(
        f"{one.url}/v1/login",
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )

    problem = assert_problem(answer, 422, "invalid-input")
    assert problem["errors"]
    assert all(set(each) == {"where", "what"} for each in problem["errors"])
    assert written_after(log, before) == []


def test_what_was_sent_is_not_sent_back(one: Device) -> None:
    secret = "hunter2 hunter2 hunter2"
    used_secrets.add(secret)

    for body in ({"username": 7, "password": secret}, {"username": "a", "password": secret * 100}):
        answer = one.http.post(f"{one.url}/v1/login", json=body)
        assert_problem(answer, 422, "invalid-input")
        assert secret not in answer.text


@pytest.mark.parametrize(
    "body",
    [{"refresh_token": 7}, {"refresh_token": None}, {"refresh_token": ["x"]}, [], "x", {"x": 1}],
)
def test_a_refresh_body_of_the_wrong_shape_is_refused(one: Device, body: object) -> None:
    answer = one.http.post(f"{one.url}/v1/refresh", json=body)

    assert_problem(answer, 400, "malformed-request")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_refresh_body_that_is_not_said_to_be_json_is_not_read(
    one: Device, content_type: str | None
) -> None:
    answer = one.http.post(
        f"{one.url}/v1/refresh",
        content=json.dumps({"refresh_token": one.refresh_token}).encode(),
        headers={} if content_type is None else {"Content-Type": content_type},
    )

    assert_problem(answer, 415, "unsupported-media-type")
    assert one.refresh().status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_sign_in_that_is_not_said_to_be_json_is_not_read(
    one: Device, content_type: str | None
) -> None:
    answer = one.http.post(
        f"{one.url}/v1/login",
        content=json.dumps({"username": DEMO_USERNAME, "password": DEMO_PASSWORD}).encode(),
        headers={} if content_type is None else {"Content-Type": content_type},
    )

    problem = assert_problem(answer, 415, "unsupported-media-type")
    assert problem["detail"] == "send application/json"


@pytest.mark.parametrize("path", ["/v1/login", "/v1/refresh", "/oauth/token", "/oauth/introspect"])
def test_a_huge_body_is_turned_away_unread(one: Device, log: EventLog, path: str) -> None:
    before = log.end()
    huge = b'{"username": "' + b"x" * 2**20 + b'"}'

    answer = one.http.post(
        one.url + path, content=huge, headers={"Content-Type": "application/json"}
    )

    assert_problem(answer, 413, "content-too-large")
    assert written_after(log, before) == []


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/v1/login", 405, "method-not-allowed"),
        ("GET", "/v1/refresh", 405, "method-not-allowed"),
        ("PUT", "/v1/sessions", 405, "method-not-allowed"),
        ("BREW", "/v1/sessions", 405, "method-not-allowed"),
        ("GET", "/nothing/here", 404, "not-found"),
        ("GET", "/v1/../etc/passwd", 404, "not-found"),
        ("GET", "/%00", 404, "not-found"),
        ("GET", "/problems/nonsense", 404, "not-found"),
    ],
)
def test_an_address_or_a_method_that_is_not_there(
    shared_service: RunningService,
    http: httpx.Client,
    method: str,
    path: str,
    status: int,
    slug: str,
) -> None:
    answer = http.request(method, shared_service.url + path)

    assert_problem(answer, status, slug)
    assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=", "before=x", "before="]
)
def test_a_query_that_makes_no_sense_is_refused(one: Device, query: str) -> None:
    assert_problem(one.get("/v1/sessions?" + query), 422, "invalid-input")


@pytest.mark.parametrize(
    "session_id",
    [
        "b30726e6-6e87-4194-b47f-b5fb768d8946",
        "nonsense",
        "0" * 36,
        "{" + "0" * 34 + "}",
        "' OR ''='",
        "%00",
        "%F0%9F%92%A5",
        "é" * 36,
    ],
)
def test_an_unknown_session_is_not_found(one: Device, log: EventLog, session_id: str) -> None:
    before = log.end()

    assert_problem(one.delete(f"/v1/sessions/{session_id}"), 404, "not-found")
    renamed = one.patch(f"/v1/sessions/{session_id}", {"device_name": "x"})
    assert_problem(renamed, 404, "not-found")

    assert written_after(log, before) == []


# ---------------------------------------------------------------------------- who is there


def test_user_enumeration(shared_service: RunningService, device: Devices, owner: Account) -> None:
    """The same status, body and headers; and argon2 runs either way, so about the same time."""
    disabled = add_user(shared_service)
    done = command(shared_service.environment, "users", "disable", disabled.username)
    assert done.returncode == 0, done.stderr
    attempts = {
        "unknown user": ("nobody-at-all@example.com", "wrong password"),
        "unknown user, right password": ("nobody-at-all@example.com", owner.password),
        "wrong password": (owner.username, "wrong password"),
        "disabled user, right password": (disabled.username, disabled.password),
        "disabled user, wrong password": (disabled.username, "wrong password"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in attempts}
    answers = set()
    for _ in range(11):  # in turn, so that whatever else the machine does slows all alike
        for name, (username, password) in attempts.items():
            began = time.perf_counter()
            answer = device().login(username, password)
            seconds[name].append(time.perf_counter() - began)
            headers = set(answer.headers) - {"date", "x-request-id"}
            answers.add((answer.status_code, answer.text, frozenset(headers)))

    assert len(answers) == 1
    assert answers.pop()[0] == 401
    medians = sorted(statistics.median(each) for each in seconds.values())
    unhashed = statistics.median(_malformed_login_seconds(device()) for _ in range(11))
    # What runs no argon2 answers in a fraction of the time; all of these take about as long.
    assert unhashed < medians[0] / 2
    assert medians[-1] < medians[0] * 1.75, seconds


def _malformed_login_seconds(device: Device) -> float:
    began = time.perf_counter()
    assert device.login("nobody-at-all@example.com", "").status_code == 422
    return time.perf_counter() - began


def test_a_refused_login_writes_nothing_about_the_user(
    device: Devices, owner: Account, log: EventLog
) -> None:
    before = log.of_user(owner.user_id)

    assert_problem(device().login(owner.username, "wrong password"), 401, "invalid-credentials")

    assert log.of_user(owner.user_id) == before


@pytest.mark.parametrize(
    "username", ["", " ", "\x00", "a\x00b", "a\nb", "x" * 255, "\ud800", "ada@example.com\u0007"]
)
def test_a_username_that_cannot_be_one_is_refused(
    one: Device, log: EventLog, username: str
) -> None:
    before = log.end()
    body = {"username": username, "password": "x" * 12, "token_delivery": "body"}

    answer = one.http.post(
        f"{one.url}/v1/login",
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )

    assert_problem(answer, 422, "invalid-input")
    assert written_after(log, before) == []


@pytest.mark.parametrize(
    ("registered", "typed"),
    [
        ("GRACE@example.com", "grace@EXAMPLE.com"),
        ("  linus@example.com ", "linus@example.com"),
        ("\uff26\uff4f\uff58", "fox"),
        ("مستخدم", "مستخدم"),
        ("José 🦊", "Jose\u0301 🦊"),
        ("straße", "STRASSE"),
    ],
)
def test_a_username_is_found_however_it_is_typed(
    shared_service: RunningService, device: Devices, registered: str, typed: str
) -> None:
    account = add_user(shared_service, registered)

    assert device().login(typed, account.password).status_code == 200


# ---------------------------------------------------------------------------- passwords


def test_password_oddities(
    shared_service: RunningService, device: Devices, one: Device, log: EventLog
) -> None:
    before = log.end()
    long = "p" * 1024
    too_long = one.http.post(
        f"{one.url}/v1/login", json={"username": "ada@example.com", "password": long + "p"}
    )
    problem = assert_problem(too_long, 422, "invalid-input")
    assert "1024" in json.dumps(problem["errors"])
    assert problem["errors"][0]["where"] == "body.password"
    megabyte = one.http.post(
        f"{one.url}/v1/login", json={"username": "ada@example.com", "password": "p" * 2**20}
    )
    assert_problem(megabyte, 413, "content-too-large")
    with_nul = device().login("ada@example.com", "before\x00after")
    assert "control characters" in assert_problem(with_nul, 422, "invalid-input")["detail"]
    assert written_after(log, before) == []

    account = add_user(shared_service, password=long)
    assert device().login(account.username, long).status_code == 200
    assert device().login(account.username, long[:-1]).status_code == 401


@pytest.mark.parametrize("tail", ["a", "é"])
def test_nothing_of_a_password_is_cut_off(
    shared_service: RunningService, device: Devices, tail: str
) -> None:
    """Not behind 72 bytes, where bcrypt stops."""
    password = "é" * 36 + tail
    account = add_user(shared_service, password=password)

    assert device().login(account.username, "é" * 36 + "b").status_code == 401
    assert device().login(account.username, "é" * 36).status_code == 401
    assert device().login(account.username, password + " ").status_code == 401
    assert device().login(account.username, password).status_code == 200


def test_a_password_is_the_same_however_its_characters_are_composed(
    shared_service: RunningService, device: Devices
) -> None:
    password = "crème brûlée à la carte"
    account = add_user(shared_service, password=unicodedata.normalize("NFD", password))

    assert device().login(account.username, password).status_code == 200
    assert device().login(account.username, password.upper()).status_code == 401


# ---------------------------------------------------------------------------- headers and names


@pytest.mark.parametrize("user_agent", ["A" * 65_536, "é" * 20_000, "💥" * 10_000], ids=len)
def test_huge_headers(
    shared_service: RunningService, http: httpx.Client, owner: Account, user_agent: str
) -> None:
    body = {"username": owner.username, "password": owner.password, "token_delivery": "body"}
    headers = [
        (b"User-Agent", user_agent.encode()),
        (b"Sec-CH-UA", b'"' + b"x" * 30_000),
        (b"X-Request-Id", b"x" * 1000),
        (b"Traceparent", b"0" * 1000),
    ]

    answer = http.post(f"{shared_service.url}/v1/login", json=body, headers=headers)

    assert answer.status_code == 200, answer.text
    used_secrets.update({answer.json()["access_token"], answer.json()["refresh_token"]})
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    listed = http.get(f"{shared_service.url}/v1/sessions", headers=bearer).json()["sessions"][0]
    assert listed["device"]["user_agent"] == user_agent[:512]
    refreshed = http.post(
        f"{shared_service.url}/v1/refresh",
        json={"refresh_token": answer.json()["refresh_token"]},
        headers=headers,
    )
    assert refreshed.status_code == 200
    used_secrets.update({refreshed.json()["access_token"], refreshed.json()["refresh_token"]})


@pytest.mark.parametrize("user_agent", [b"", b"\xff\xfe", b"a\tb", "RTL \u202eabc".encode()])
def test_a_user_agent_of_any_bytes_is_taken(
    shared_service: RunningService, http: httpx.Client, owner: Account, user_agent: bytes
) -> None:
    body = {"username": owner.username, "password": owner.password, "token_delivery": "body"}

    answer = http.post(
        f"{shared_service.url}/v1/login", json=body, headers=[(b"User-Agent", user_agent)]
    )

    assert answer.status_code == 200
    used_secrets.update({answer.json()["access_token"], answer.json()["refresh_token"]})


NAMES = {
    "right to left": "הטלפון של דנה",
    "overridden direction": "\u202egnp.exe",
    "emoji": "👩🏽‍💻 phone 🏳️‍🌈",
    "markup": "<script>alert(1)</script>",
    "quotes": "'; DROP TABLE sessions; --\"\\",
    "template": "{{7*7}} ${7*7} %s %n",
    "a hundred characters": "\U0001f9a9" * 100,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_unicode_device_name(device: Devices, owner: Account, name: str, log: EventLog) -> None:
    one = device()

    answer = one.login(owner.username, owner.password, device_name=name)

    assert answer.json()["session"]["device_name"] == name
    listed = one.get("/v1/sessions")
    assert listed.json()["sessions"][0]["device"]["name"] == name
    assert listed.headers["content-type"] == "application/json"
    assert listed.headers["x-content-type-options"] == "nosniff"
    renamed = one.patch(f"/v1/sessions/{one.session['session_id']}", {"device_name": name})
    assert renamed.status_code == 204
    assert one.refresh().json()["session"]["device_name"] == name
    assert log.session(one.session["session_id"])["device_name"] == name


def test_a_device_name_is_kept_composed_and_trimmed(device: Devices, owner: Account) -> None:
    one = device()

    answer = one.login(owner.username, owner.password, device_name="  Jose\u0301’s phone ")

    assert answer.json()["session"]["device_name"] == "José’s phone"


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "a\nb", "\x1b[31mred", "x" * 101, 7, None])
def test_a_device_name_that_cannot_be_one_is_refused(
    one: Device, log: EventLog, name: object
) -> None:
    before = log.end()

    answer = one.patch(f"/v1/sessions/{one.session['session_id']}", {"device_name": name})

    assert_problem(answer, 422, "invalid-input")
    assert written_after(log, before) == []


# ---------------------------------------------------------------------------- backends


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": ""},
        {"subject": "a\x00b"},
        {"subject": "x" * 255},
        {"subject": 7},
        {"subject": "s", "auth_methods": []},
        {"subject": "s", "auth_methods": ["PWD!"]},
        {"subject": "s", "auth_methods": ["pwd"] * 9},
        {"subject": "s", "client": {"ip": "not an address"}},
        {"subject": "s", "client": {"hints": {"cookie": "x"}}},
        {"subject": "s", "roles": ["admin"]},
        {"subject": "s", "client_id": "../.."},
    ],
)
def test_a_backends_bad_request_is_refused(
    shared_service: RunningService,
    http: httpx.Client,
    service_key: str,
    log: EventLog,
    body: Json,
) -> None:
    before = log.end()

    answer = http.post(
        f"{shared_service.url}/v1/sessions",
        json=body,
        headers={"Authorization": f"Bearer {service_key}"},
    )

    assert_problem(answer, 422, "invalid-input")
    assert written_after(log, before) == []


def test_a_backends_odd_client_is_kept_cut_and_storable(
    shared_service: RunningService, http: httpx.Client, service_key: str
) -> None:
    client = {
        "ip": "::ffff:203.0.113.9",
        "user_agent": "\x00" + "A" * 4000,
        "hints": {"sec-ch-ua-platform": "\x00"},
    }
    answer = http.post(
        f"{shared_service.url}/v1/sessions",
        json={"subject": "🦊" * 254, "client": client},
        headers={"Authorization": f"Bearer {service_key}"},
    )

    assert answer.status_code == 201, answer.text
    used_secrets.update({answer.json()["access_token"], answer.json()["refresh_token"]})
    assert answer.json()["session"]["subject"] == "🦊" * 254
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    listed = http.get(f"{shared_service.url}/v1/sessions", headers=bearer).json()["sessions"][0]
    assert listed["device"]["ip"] == "203.0.113.9"
    assert listed["device"]["user_agent"] == "\ufffd" + "A" * 511


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert '"logger":"access"' in shared_service.log()
    assert_no_secret_in(shared_service.log())
    assert '"level":"error"' not in shared_service.log()
