"""The refresh cookie in browsers and curl, requests from other sites, addresses behind proxies."""

import http.server
import subprocess
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.accounts import Account, add_user, conninfo_of
from tests.e2e.clients import (
    DEVICE_COOKIE,
    REFRESH_COOKIE,
    Browser,
    Device,
    Json,
    assert_no_secret_in,
    set_cookies,
    used_secrets,
)
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, types
from tests.e2e.service import RunningService, json_of, service

FRIEND = "https://app.example"


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def proxied(shared_service: RunningService) -> Iterator[RunningService]:
    """Another service on the same database: behind proxies, with a friendly origin."""
    settings = {
        "SESSIONTRAIL_TRUSTED_PROXIES": "127.0.0.0/8, 10.0.0.0/8, fd00::/8",
        "SESSIONTRAIL_ALLOWED_ORIGINS": FRIEND,
    }
    folder = Path(shared_service.environment["SESSIONTRAIL_DATA_DIR"])
    with service(folder, conninfo_of(shared_service), **(GENEROUS | settings)) as running:
        yield running


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def browser(shared_service: RunningService, http: httpx.Client, account: Account) -> Browser:
    """A browser that is signed in."""
    made = Browser(shared_service.url, http)
    answer = made.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return made


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/" + slug)


# ---------------------------------------------------------------------------- the cookies


def test_the_refresh_cookie_has_every_protection(browser: Browser, account: Account) -> None:
    answer = browser.login(account.username, account.password)

    assert "refresh_token" not in answer.json()
    assert "device_token" not in answer.json()
    assert answer.headers["cache-control"] == "no-store"
    cookies = set_cookies(answer)
    assert REFRESH_COOKIE in cookies
    for morsel in (cookies[REFRESH_COOKIE], *set_cookies(browser.post("/v1/refresh")).values()):
        assert morsel["path"] == "/"
        assert morsel["secure"]
        assert morsel["httponly"]
        assert morsel["samesite"] == "Strict"
        assert not morsel["domain"]
        assert int(morsel["max-age"]) > 13 * 86400


def test_a_refresh_by_cookie_answers_by_cookie(browser: Browser) -> None:
    before = browser.cookies[REFRESH_COOKIE]

    answer = browser.post("/v1/refresh")

    assert "refresh_token" not in json_of(answer)
    assert browser.cookies[REFRESH_COOKIE] != before
    assert browser.post("/v1/refresh").status_code == 200


def test_a_known_device_is_not_given_another_device_cookie(
    browser: Browser, account: Account
) -> None:
    known = browser.cookies[DEVICE_COOKIE]

    again = browser.login(account.username, account.password)

    assert DEVICE_COOKIE not in set_cookies(again)
    assert browser.cookies[DEVICE_COOKIE] == known


def test_client_hints_are_asked_for_and_kept_sealed_with_every_event(
    shared_service: RunningService, http: httpx.Client, account: Account, log: EventLog
) -> None:
    hints = {"Sec-CH-UA-Platform": '"Chrome OS"', "Sec-CH-UA-Model": '"Particular Model"'}
    one = Device(shared_service.url, http, headers=hints)

    answer = one.login(account.username, account.password)
    one.refresh()

    asked = {name.strip() for name in answer.headers["accept-ch"].split(",")}
    assert set(hints) <= asked
    assert "on Chrome OS" in one.get("/v1/sessions").json()["sessions"][0]["device"]["description"]
    kept = log.session(one.session["session_id"])["client"]["hints"]
    assert kept == {name.lower(): value for name, value in hints.items()}
    for event in log.of_family(one.session["family_id"]):
        assert event.personal is not None
        assert b"Particular" not in event.personal
        assert "Particular" not in str(event.data)


# ---------------------------------------------------------------------------- other sites


OTHER_SITES: list[Mapping[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "none"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything else"},
]


@pytest.mark.parametrize("headers", OTHER_SITES)
def test_csrf_refresh(
    browser: Browser, account: Account, log: EventLog, headers: Mapping[str, str]
) -> None:
    before = log.end()
    credentials = {"username": account.username, "password": account.password}

    for path, body in (("/v1/refresh", None), ("/v1/logout", None), ("/v1/login", credentials)):
        answer = browser.post(path, body, headers)
        assert_problem(answer, 403, "cross-site-request")
        assert not set_cookies(answer)

    assert log.after(before) == []
    assert browser.post("/v1/refresh").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {},
    ],
)
def test_our_own_page_and_no_page_at_all_may_refresh(
    browser: Browser, headers: Mapping[str, str]
) -> None:
    """Also a page that calls the service by another name than its issuer, such as localhost."""
    assert browser.post("/v1/refresh", None, headers).status_code == 200


def test_a_token_in_the_body_needs_no_origin(
    shared_service: RunningService, http: httpx.Client, account: Account
) -> None:
    """It is no cookie: no other site's page can send it."""
    native = Device(shared_service.url, http, headers={"Origin": "https://evil.example"})

    assert native.login(account.username, account.password).status_code == 200
    assert native.refresh().status_code == 200


def test_a_friendly_origin_may_refresh_and_read(
    proxied: RunningService, http: httpx.Client, account: Account
) -> None:
    browser = Browser(proxied.url, http)
    page = {"Origin": FRIEND, "Sec-Fetch-Site": "same-site"}
    browser.login(account.username, account.password)

    answer = browser.post("/v1/refresh", None, page)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert answer.headers["access-control-allow-credentials"] == "true"
    preflight = http.options(
        f"{proxied.url}/v1/refresh",
        headers={**page, "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 204
    methods = preflight.headers["access-control-allow-methods"].split(", ")
    assert methods == ["GET", "POST", "PUT", "PATCH", "DELETE"]


def test_other_origins_are_allowed_nothing(proxied: RunningService, http: httpx.Client) -> None:
    for path in ("/v1/refresh", "/v1/sessions"):
        answer = http.options(
            proxied.url + path,
            headers={
                "Origin": "https://evil.example",
                "Access-Control-Request-Method": "POST",
            },
        )
        assert not [name for name in answer.headers if name.startswith("access-control")]


# ---------------------------------------------------------------------------- several cookies


def raw_post(url: str, path: str, headers: list[tuple[str, str]]) -> tuple[int, str]:
    """A POST with exactly these header lines, repeated ones included."""
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=30)
    connection.putrequest("POST", path)
    for name, value in [*headers, ("Content-Length", "0")]:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("planted_first", [True, False])
@pytest.mark.parametrize("in_one_line", [True, False])
@pytest.mark.parametrize("path", ["/v1/refresh", "/v1/logout"])
def test_two_cookies(
    browser: Browser, log: EventLog, path: str, in_one_line: bool, planted_first: bool
) -> None:
    own = f"{REFRESH_COOKIE}={browser.cookies[REFRESH_COOKIE]}"
    pair = [own, f"{REFRESH_COOKIE}=planted"]
    if planted_first:
        pair.reverse()
    lines = ["; ".join(pair)] if in_one_line else pair
    before = log.end()

    status, body = raw_post(browser.url, path, [("Cookie", line) for line in lines])

    assert status == 400
    assert '"/problems/ambiguous-token"' in body
    assert log.after(before) == []
    assert browser.post("/v1/refresh").status_code == 200


def test_a_cookie_and_a_token_in_the_body_are_not_chosen_between(browser: Browser) -> None:
    body = {"refresh_token": browser.cookies[REFRESH_COOKIE]}

    assert_problem(browser.post("/v1/refresh", body), 400, "ambiguous-token")

    assert browser.post("/v1/refresh").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["sessiontrail", "__host-sessiontrail", "__Secure-sessiontrail", " __Host-sessiontrail2"],
)
def test_a_cookie_that_a_sibling_domain_could_plant_is_not_read(
    browser: Browser, name: str
) -> None:
    token = browser.cookies[REFRESH_COOKIE]

    status, body = raw_post(browser.url, "/v1/refresh", [("Cookie", f"{name}={token}")])

    assert status == 401
    assert "no refresh token was sent" in body


# ---------------------------------------------------------------------------- curl


def curl(*arguments: str) -> str:
    """What curl prints."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "30", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_curl_keeps_and_sends_the_cookie_over_plain_http_on_this_machine(
    shared_service: RunningService, account: Account, tmp_path: Path
) -> None:
    jar = str(tmp_path / "jar")
    url = shared_service.url
    cookies = ("-b", jar, "-c", jar)
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    login = f'{{"username": "{account.username}", "password": "{account.password}"}}'

    curl(f"{url}/v1/login", "-H", "Content-Type: application/json", "-d", login, "-c", jar)
    kept = Path(jar).read_text()
    used_secrets.update(cookie_in(kept, name) for name in (REFRESH_COOKIE, DEVICE_COOKIE))
    assert curl("-X", "POST", f"{url}/v1/refresh", *cookies, *status) == "200"
    rotated = Path(jar).read_text()
    used_secrets.add(cookie_in(rotated, REFRESH_COOKIE))
    assert cookie_in(rotated, REFRESH_COOKIE) != cookie_in(kept, REFRESH_COOKIE)
    assert cookie_in(rotated, DEVICE_COOKIE) == cookie_in(kept, DEVICE_COOKIE)
    assert curl("-X", "POST", f"{url}/v1/refresh", *cookies, *status) == "200"
    used_secrets.add(cookie_in(Path(jar).read_text(), REFRESH_COOKIE))
    assert curl("-X", "POST", f"{url}/v1/logout", *cookies, *status) == "204"
    assert f"\t{REFRESH_COOKIE}\t" not in Path(jar).read_text()
    assert curl("-X", "POST", f"{url}/v1/refresh", *cookies, *status) == "401"


def cookie_in(jar: str, name: str) -> str:
    values = [line.split("\t")[6] for line in jar.splitlines() if f"\t{name}\t" in line]
    assert len(values) == 1, f"{name} is {len(values)} times in the jar"
    return values[0]


class _Sibling(http.server.BaseHTTPRequestHandler):
    """A host beside the service's, in the hands of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name in (REFRESH_COOKIE, "plain"):
            self.send_header("Set-Cookie", f"{name}=planted; Domain=example.test; Path=/")
            self.send_header("Set-Cookie", f"{name}=planted; Domain=example.test; Path=/v1; Secure")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Say nothing."""


@pytest.fixture
def sibling_port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Sibling) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_cookie_tossing(shared_service: RunningService, sibling_port: int, tmp_path: Path) -> None:
    """A client that keeps the rules of cookie prefixes takes the plain cookie, not ours."""
    jar = str(tmp_path / "jar")
    port = urlsplit(shared_service.url).port
    hosts = (
        *("--resolve", f"evil.example.test:{sibling_port}:127.0.0.1"),
        *("--resolve", f"app.example.test:{port}:127.0.0.1"),
    )

    curl(f"http://evil.example.test:{sibling_port}/", *hosts, "-c", jar)
    assert "\tplain\tplanted" in Path(jar).read_text()
    answer = curl("-X", "POST", f"http://app.example.test:{port}/v1/refresh", *hosts, "-b", jar)

    assert REFRESH_COOKIE not in Path(jar).read_text()
    assert "no refresh token was sent" in answer


# ---------------------------------------------------------------------------- addresses


def device_of(
    running: RunningService, http: httpx.Client, account: Account, **headers: str
) -> Json:
    """How a device that sends these headers is listed."""
    device = Device(running.url, http, headers=headers)
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    newest: Json = device.get("/v1/sessions").json()["sessions"][0]["device"]
    return newest


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"},
        {"Forwarded": "for=203.0.113.9"},
        {"X-Real-IP": "203.0.113.9"},
        {"CF-Connecting-IP": "203.0.113.9", "True-Client-IP": "203.0.113.9"},
    ],
)
def test_spoofed_forwarded_for(
    shared_service: RunningService, http: httpx.Client, account: Account, headers: dict[str, str]
) -> None:
    assert device_of(shared_service, http, account, **headers)["ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.3", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.3, 10.0.0.4", "203.0.113.9"),  # the first is made up
        ("10.0.0.9, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, nonsense", "127.0.0.1"),
        ("<script>alert(1)</script>", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("10.0.0.3", "10.0.0.3"),
    ],
)
def test_behind_proxies_the_nearest_stranger_is_the_client(
    proxied: RunningService, http: httpx.Client, account: Account, forwarded: str, ip: str
) -> None:
    assert device_of(proxied, http, account, **{"X-Forwarded-For": forwarded})["ip"] == ip


def test_repeated_forwarded_for_lines_are_one_list(
    proxied: RunningService, http: httpx.Client, account: Account
) -> None:
    body = {"username": account.username, "password": account.password, "token_delivery": "body"}
    lines = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "10.0.0.3")]
    answer = http.post(f"{proxied.url}/v1/login", json=body, headers=lines)
    token = json_of(answer)["access_token"]
    used_secrets.update({str(token), str(answer.json()["refresh_token"])})

    listed = http.get(f"{proxied.url}/v1/sessions", headers={"Authorization": f"Bearer {token}"})

    assert listed.json()["sessions"][0]["device"]["ip"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("spelled", "ip", "network"),
    [
        ("::ffff:203.0.113.9", "203.0.113.9", "203.0.113.0/24"),
        ("::FFFF:CB00:7109", "203.0.113.9", "203.0.113.0/24"),
        ("[::ffff:203.0.113.9]:443", "203.0.113.9", "203.0.113.0/24"),
        ("203.0.113.9:51234", "203.0.113.9", "203.0.113.0/24"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]:51234", "2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("2001:db8::1, ::ffff:10.0.0.3", "2001:db8::1", "2001:db8::/64"),
        ("2001:db8::1, fd00::7", "2001:db8::1", "2001:db8::/64"),
    ],
)
def test_ipv6_and_mapped(
    proxied: RunningService,
    http: httpx.Client,
    account: Account,
    spelled: str,
    ip: str,
    network: str,
) -> None:
    device = device_of(proxied, http, account, **{"X-Forwarded-For": spelled})

    assert (device["ip"], device["network"]) == (ip, network)


def test_one_address_in_two_spellings_is_one_client(
    proxied: RunningService, http: httpx.Client, account: Account, log: EventLog
) -> None:
    device = Device(proxied.url, http, headers={"X-Forwarded-For": "::ffff:203.0.113.9"})
    device.login(account.username, account.password)
    sent = device.refresh_token
    lost = device.present(sent).json()["refresh_token"]

    device.headers = {"X-Forwarded-For": "203.0.113.200:8080"}  # the same network, too

    assert device.present(sent).json()["refresh_token"] == lost
    assert types(log.of_family(device.session["family_id"]))[-1] == "RefreshRetried"


def test_no_secret_is_in_the_log(shared_service: RunningService, proxied: RunningService) -> None:
    for running in (shared_service, proxied):
        assert running.stop() == 0
        assert '"logger":"access"' in running.log()
        assert_no_secret_in(running.log())
