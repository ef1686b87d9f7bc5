"""Rate limits slow an attacker, lock no owner out, and keep the log small under attack."""

import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.accounts import PASSWORD, Account, add_user, conninfo_of
from tests.e2e.clients import (
    DEVICE_HEADER,
    Device,
    Json,
    assert_no_secret_in,
)
from tests.e2e.database import EventLog, LoggedEvent, types
from tests.e2e.service import RunningService, service

WRONG = "not the password of anybody"

# By the hour, so that no test runs across the edge of a window; but one, to be waited for.
LIMITS = {
    "SESSIONTRAIL_TRUSTED_PROXIES": "127.0.0.1",  # so that a test chooses where it comes from
    "SESSIONTRAIL_LIMIT_LOGIN_PER_NETWORK": "12/hour",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_SITE": "15/hour",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT_AND_NETWORK": "3/hour",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT": "6/hour",
    "SESSIONTRAIL_LIMIT_LOGIN_PER_KNOWN_DEVICE": "4/2seconds",
    "SESSIONTRAIL_LIMIT_REFRESH_PER_SESSION": "5/hour",
    "SESSIONTRAIL_LIMIT_REFRESH_PER_NETWORK": "12/hour",
    "SESSIONTRAIL_LIMIT_PASSWORD_CHANGE_PER_USER": "3/hour",
}

_BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

_networks = iter(f"10.{high}.{low}.7" for high in range(256) for low in range(256))


@pytest.fixture(scope="module")
def limited(
    module_conninfo: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A service whose limits are soon met."""
    with service(tmp_path_factory.mktemp("data"), module_conninfo, **LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def account(limited: RunningService) -> Account:
    return add_user(limited)


@pytest.fixture
def from_somewhere(limited: RunningService, http: httpx.Client) -> Callable[[], Device]:
    """Makes devices, each in a network of its own."""
    return lambda: Device(limited.url, http, headers={"X-Forwarded-For": next(_networks)})


Somewhere = Callable[[], Device]


def assert_limited(answer: httpx.Response) -> int:
    """A 429 as it should be; the seconds that it says to wait."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/rate-limited")
    wait = int(answer.headers["retry-after"])
    assert 1 <= wait <= 2 * 3600
    return wait


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


# ---------------------------------------------------------------------------- signing in


def test_guessing_at_an_account_from_one_place_is_slowed(
    from_somewhere: Somewhere, account: Account
) -> None:
    attacker = from_somewhere()
    guesses = [attacker.login(account.username, WRONG) for _ in range(4)]

    assert [answer.status_code for answer in guesses] == [401, 401, 401, 429]
    assert_limited(guesses[-1])
    assert_limited(attacker.login(account.username, account.password))  # right or wrong
    assert from_somewhere().login(account.username, account.password).status_code == 200


def test_trying_many_accounts_from_one_place_is_slowed(
    limited: RunningService, from_somewhere: Somewhere, account: Account
) -> None:
    attacker = from_somewhere()
    answers = [attacker.login(f"victim-{number}@example.com", WRONG) for number in range(14)]

    assert [answer.status_code for answer in answers] == [401] * 12 + [429] * 2
    assert_limited(attacker.login(account.username, account.password))
    signed_in(from_somewhere(), account)
    assert limit_count(limited, "login_per_network") >= 3


def limit_count(running: RunningService, limit: str) -> float:
    for line in httpx.get(f"{running.url}/metrics").text.splitlines():
        if line.startswith(f'sessiontrail_rate_limited_total{{limit="{limit}"}}'):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_an_account_under_attack_from_everywhere_still_lets_its_owner_in(
    from_somewhere: Somewhere, account: Account
) -> None:
    owner = from_somewhere()
    answer = owner.login(account.username, account.password)
    known = {DEVICE_HEADER: answer.json()["device_token"]}
    for _ in range(6):
        assert from_somewhere().login(account.username, WRONG).status_code == 401

    stranger = from_somewhere()
    assert_limited(stranger.login(account.username, account.password))
    owner.headers |= known
    again = owner.login(account.username, account.password)

    assert again.status_code == 200
    assert "device_token" not in again.json()
    # Nor does it matter that the owner's network is the attacker's.
    owner.headers |= stranger.headers
    assert owner.login(account.username, account.password).status_code == 200


def test_a_known_device_may_not_guess_without_end_either(
    from_somewhere: Somewhere, account: Account
) -> None:
    """And whoever waits as long as was asked for may try again."""
    thief = from_somewhere()
    answer = thief.login(account.username, account.password)
    thief.headers[DEVICE_HEADER] = answer.json()["device_token"]

    guesses = (thief.login(account.username, WRONG) for _ in range(20))
    refused = next((answer for answer in guesses if answer.status_code != 401), None)

    assert refused is not None
    wait = assert_limited(refused)
    assert from_somewhere().login(account.username, account.password).status_code == 200
    time.sleep(wait)
    assert thief.login(account.username, account.password).status_code == 200


@pytest.mark.parametrize("token", ["A" * 43, "A" * 42 + "é", "", "x" * 5000])
def test_a_device_that_was_made_up_is_not_known(
    limited: RunningService, http: httpx.Client, account: Account, token: str
) -> None:
    device = Device(limited.url, http, headers={"X-Forwarded-For": next(_networks)})
    body = {"username": account.username, "password": WRONG}
    headers = [
        (b"X-Forwarded-For", device.headers["X-Forwarded-For"].encode()),
        (DEVICE_HEADER.encode(), token.encode()),
    ]

    answers = [http.post(f"{limited.url}/v1/login", json=body, headers=headers) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


def test_the_device_of_somebody_else_is_not_known(
    limited: RunningService, from_somewhere: Somewhere, account: Account
) -> None:
    other = add_user(limited)
    device = from_somewhere()
    device.headers[DEVICE_HEADER] = device.login(other.username, other.password).json()[
        "device_token"
    ]

    answers = [device.login(account.username, WRONG) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


def test_a_device_token_has_one_spelling(from_somewhere: Somewhere, account: Account) -> None:
    """Base64 has many for the same bytes: each would have a limit of its own."""
    thief = from_somewhere()
    token = thief.login(account.username, account.password).json()["device_token"]
    last = _BASE64URL.index(token[-1])
    thief.headers[DEVICE_HEADER] = token[:-1] + _BASE64URL[last ^ 1]  # a bit that is not used

    answers = [thief.login(account.username, WRONG) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


def test_many_guesses_at_once_are_no_more_than_the_limit(
    from_somewhere: Somewhere, account: Account
) -> None:
    """All are under way before the first one has failed."""
    attacker = from_somewhere()

    statuses = at_once(24, lambda: attacker.login(account.username, WRONG).status_code)

    assert Counter(statuses) == {401: 3, 429: 21}


def test_many_guesses_at_many_accounts_at_once_are_no_more_than_the_limit(
    from_somewhere: Somewhere,
) -> None:
    attacker = from_somewhere()
    names = iter([f"one-of-many-{number}@example.com" for number in range(24)])

    statuses = at_once(24, lambda: attacker.login(next(names), WRONG).status_code)

    assert Counter(statuses) == {401: 12, 429: 12}


def test_many_good_sign_ins_at_once_wait_for_each_other(
    from_somewhere: Somewhere, account: Account
) -> None:
    """They are more than the limit has room for, should they all fail; they do not."""
    office = from_somewhere()

    statuses = at_once(16, lambda: office.login(account.username, account.password).status_code)

    assert statuses == [200] * 16


def at_once(count: int, attempt: Callable[[], int]) -> list[int]:
    """What so many attempts at the same time come to."""
    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(attempt) for _ in range(count)]]


def test_signing_in_well_uses_nothing_up(from_somewhere: Somewhere, account: Account) -> None:
    device = from_somewhere()

    answers = [device.login(account.username, account.password) for _ in range(14)]

    assert {answer.status_code for answer in answers} == {200}


def test_nobodys_account_is_limited_like_anybodys(from_somewhere: Somewhere) -> None:
    """Else the limit would tell which accounts there are."""
    attacker = from_somewhere()

    answers = [attacker.login("nobody-here@example.com", WRONG) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


def test_two_spellings_of_a_name_are_one_account(
    from_somewhere: Somewhere, account: Account
) -> None:
    attacker = from_somewhere()
    names = [account.username, account.username.upper(), f" {account.username} "]
    for name in names:
        assert attacker.login(name, WRONG).status_code == 401

    assert_limited(attacker.login(account.username.title(), WRONG))


# ---------------------------------------------------------------------------- refreshing


def test_a_session_that_refreshes_too_often_is_slowed_and_not_ended(
    from_somewhere: Somewhere, account: Account, log: EventLog
) -> None:
    one, other = signed_in(from_somewhere(), account), signed_in(from_somewhere(), account)
    for _ in range(5):
        assert one.refresh().status_code == 200

    assert_limited(one.refresh())
    form = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}
    assert_limited(one.http.post(f"{one.url}/oauth/token", data=form))

    assert other.refresh().status_code == 200
    row = log.session(one.session["session_id"])
    assert (row["generation"], row["ended_at"]) == (6, None)


def test_naming_devices_without_end_does_not_fill_the_log(
    from_somewhere: Somewhere, account: Account, log: EventLog
) -> None:
    one = signed_in(from_somewhere(), account)
    path = f"/v1/sessions/{one.session['session_id']}"

    answers = [one.patch(path, {"device_name": f"phone {number}"}) for number in range(7)]

    assert [answer.status_code for answer in answers] == [204] * 5 + [429] * 2
    assert_limited(answers[-1])
    events = log.of_family(one.session["family_id"])
    assert types(events) == ["SessionStarted"] + ["SessionRenamed"] * 5
    assert signed_in(from_somewhere(), account).refresh().status_code == 200


def test_a_network_that_refreshes_too_often_is_slowed(
    from_somewhere: Somewhere, account: Account
) -> None:
    here = from_somewhere()
    devices = [signed_in(from_somewhere(), account) for _ in range(4)]
    for each in devices:
        each.headers = dict(here.headers)

    statuses = [each.refresh().status_code for _ in range(4) for each in devices]

    assert statuses == [200] * 12 + [429] * 4
    devices[0].headers = dict(from_somewhere().headers)
    assert devices[0].refresh().status_code == 200


def test_forged_tokens_use_no_limit_up(from_somewhere: Somewhere, account: Account) -> None:
    """They cost nothing, so nobody behind the same address waits for them."""
    one = signed_in(from_somewhere(), account)

    for _ in range(50):
        assert one.present(one.refresh_token[:-4] + "AAAA").status_code == 401

    assert one.refresh().status_code == 200


# ---------------------------------------------------------------------------- connections


def test_idle_connections_keep_nobody_out(limited: RunningService) -> None:
    """Browsers and gateways keep connections open; so does whoever wants to block the rest."""
    address = urlsplit(limited.url)
    with ExitStack() as kept:
        for _ in range(400):
            connection = HTTPConnection(str(address.hostname), address.port, timeout=5)
            kept.callback(connection.close)
            connection.request("GET", "/healthz")

            answer = connection.getresponse()

            assert answer.status == 200
            answer.read()


@pytest.mark.parametrize("path", ["/v1/refresh", "/v1/login"])
def test_a_body_that_never_comes_holds_no_connection(limited: RunningService, path: str) -> None:
    address = urlsplit(limited.url)
    with closing(HTTPConnection(str(address.hostname), address.port, timeout=20)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b'{"refresh_token":')

        answer = connection.getresponse()

        assert answer.status == 400
        assert b"did not arrive within 10 s" in answer.read()
        assert connection.sock is None or connection.sock.recv(1) == b""


# ---------------------------------------------------------------------------- password changes


def test_guessing_at_the_current_password_in_a_stolen_session_is_slowed(
    from_somewhere: Somewhere, account: Account, log: EventLog
) -> None:
    thief = signed_in(from_somewhere(), account)
    change = {"current_password": WRONG, "new_password": "a brand new passphrase"}
    for _ in range(3):
        assert thief.post("/v1/password", change).status_code == 403

    assert_limited(thief.post("/v1/password", change | {"current_password": PASSWORD}))

    assert types(log.of_user(account.user_id)) == ["UserRegistered"]


def test_many_guesses_at_once_at_the_current_password_are_no_more_than_the_limit(
    from_somewhere: Somewhere, account: Account
) -> None:
    thief = signed_in(from_somewhere(), account)
    change = {"current_password": WRONG, "new_password": "a brand new passphrase"}

    statuses = at_once(24, lambda: thief.post("/v1/password", change).status_code)

    assert Counter(statuses) == {403: 3, 429: 21}


# ---------------------------------------------------------------------------- the log


def test_an_attacker_with_many_ipv6_networks_is_limited_by_the_site_that_they_are_of(
    limited: RunningService, http: httpx.Client
) -> None:
    networks = (f"2001:db8:5:{number:x}::7" for number in range(30))

    answers = [
        Device(limited.url, http, headers={"X-Forwarded-For": network}).login(
            f"nobody-{network}@example.com", WRONG
        )
        for network in networks
    ]
    elsewhere = Device(limited.url, http, headers={"X-Forwarded-For": "2001:db8:6::7"})

    assert Counter(answer.status_code for answer in answers) == {401: 15, 429: 15}
    assert elsewhere.login("nobody@example.com", WRONG).status_code == 401


def test_stuffing(private_service: Callable[..., RunningService], http: httpx.Client) -> None:
    """Bad logins by the thousand, on many users from many networks: a handful of events a window.

    Few of them are hashed; the owner signs in all the while; none is lost from the count.
    """
    began = time.monotonic()
    running = private_service(**LIMITS)
    victim, owner = add_user(running), Device(running.url, http)
    owner.headers[DEVICE_HEADER] = owner.login(victim.username, victim.password).json()[
        "device_token"
    ]
    log = EventLog(conninfo_of(running))
    before = log.end()
    attempts = [
        *((victim.username, network) for network in range(300)),
        *((f"customer-{number % 400}@example.com", 300) for number in range(1500)),
    ]
    statuses = []
    for name, network in attempts:
        device = Device(running.url, http)
        device.headers = {"X-Forwarded-For": f"172.{16 + network // 256}.{network % 256}.9"}
        statuses.append(device.login(name, WRONG).status_code)
    assert owner.login(victim.username, victim.password).status_code == 200
    windows = int((time.monotonic() - began) / 10) + 2
    assert running.stop() == 0

    assert set(statuses) == {401, 429}
    assert statuses.count(401) == 6 + 12  # hashed: the account's limit and the network's
    counted = [event for event in log.after(before) if event.type == "SignInFailuresCounted"]
    assert len(counted) <= 101 * windows
    assert len(log.after(before)) == len(counted) + 1  # the owner's sign-in
    assert total(counted, "failures") == len(attempts)
    assert total(counted, "limited") == statuses.count(429)
    assert total(counted, "unknown_accounts") == 1500
    assert sum(accounts(event).get(victim.user_id, 0) for event in counted) == 300
    assert {event.actor for event in counted} == {"system:sign-in-failures"}
    assert all(event.personal for event in counted)  # the networks, sealed
    assert not [event for event in counted if "172." in str(event.data)]
    assert_no_secret_in(running.log())


def total(events: list[LoggedEvent], what: str) -> int:
    return sum(event.data.get(what, 0) for event in events)


def accounts(event: LoggedEvent) -> dict[str, int]:
    tried: list[Json] = event.data.get("accounts", [])
    return {each["user_id"]: each["count"] for each in tried}


def test_no_secret_is_in_the_log(limited: RunningService) -> None:
    assert limited.stop() == 0
    assert '"logger":"access"' in limited.log()
    assert_no_secret_in(limited.log())
