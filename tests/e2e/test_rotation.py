"""Rotation and reuse, over HTTP: who gets a successor, who loses the family (design §5)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Barrier

import httpx
import jwt
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from domain.ids import FamilyId, SessionId
from domain.refresh_token import MAX_GENERATION, RefreshToken, TokenKeys, mint, parse
from infra.embedded_postgres import RunningPostgres
from infra.ids import new_uuid
from tests.e2e.accounts import Account, add_user, conninfo_of, key_ring_of
from tests.e2e.clients import CHROME, DEVICE_HEADER, Device, assert_no_secret_in
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, MovableClock, types
from tests.e2e.service import RunningService, service

PAST_THE_WINDOW = timedelta(seconds=11)
REUSE = ["RefreshTokenReused", "FamilyRevoked"]

Devices = Callable[..., Device]


@pytest.fixture(scope="module")
def owner_of_module(postgres: RunningPostgres, module_conninfo: str) -> str:
    return postgres.conninfo(dbname=str(conninfo_to_dict(module_conninfo)["dbname"]))


@pytest.fixture(scope="module")
def clock(owner_of_module: str) -> MovableClock:
    return MovableClock(owner_of_module)


@pytest.fixture(scope="module")
def shared_service(
    clock: MovableClock,
    module_conninfo: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningService]:
    with service(tmp_path_factory.mktemp("data"), module_conninfo, **GENEROUS) as running:
        yield running


@pytest.fixture(scope="module")
def strictest(shared_service: RunningService) -> Iterator[RunningService]:
    """A service on the same database and keys that allows no retry of any kind."""
    with beside(shared_service, SESSIONTRAIL_OVERLAP_WINDOW="0") as running:
        yield running


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def victim(device: Devices, account: Account) -> Device:
    """A device that is signed in."""
    return signed_in(device(), account)


def beside(running: RunningService, **settings: str) -> AbstractContextManager[RunningService]:
    folder = Path(running.environment["SESSIONTRAIL_DATA_DIR"])
    return service(folder, conninfo_of(running), **(GENEROUS | settings))


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def family_of(device: Device) -> str:
    family_id: str = device.session["family_id"]
    return family_id


def successor_in(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["refresh_token"]
    return token


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/invalid-grant")


# ---------------------------------------------------------------------------- honest retries


def test_lost_response(victim: Device, log: EventLog) -> None:
    sent = victim.refresh_token
    lost = successor_in(victim.present(sent))

    retried = victim.present(sent)

    assert successor_in(retried) == lost
    assert retried.json()["session"]["generation"] == 2
    events = log.of_family(family_of(victim))
    assert types(events) == ["SessionStarted", "RefreshTokenRotated", "RefreshRetried"]
    assert "late" not in events[-1].data
    assert successor_in(victim.present(lost)) != lost


def test_lost_response_late(victim: Device, clock: MovableClock, log: EventLog) -> None:
    sent = victim.refresh_token
    lost = successor_in(victim.present(sent))
    clock.advance(PAST_THE_WINDOW)

    retried = victim.present(sent)

    assert successor_in(retried) == lost
    event = log.of_family(family_of(victim))[-1]
    assert (event.type, event.data["late"]) == ("RefreshRetried", True)
    assert successor_in(victim.present(lost)) != lost


def test_late_retries_are_granted_again_a_day_later(victim: Device, clock: MovableClock) -> None:
    sent = victim.refresh_token
    lost = successor_in(victim.present(sent))
    clock.advance(PAST_THE_WINDOW)
    assert [successor_in(victim.present(sent)) for _ in range(2)] == [lost, lost]

    clock.advance(timedelta(hours=24, seconds=1))

    assert successor_in(victim.present(sent)) == lost


def test_a_third_late_retry_within_a_day_is_reuse(
    victim: Device, clock: MovableClock, log: EventLog
) -> None:
    sent = victim.refresh_token
    successor_in(victim.present(sent))
    clock.advance(PAST_THE_WINDOW)
    for _ in range(2):
        successor_in(victim.present(sent))

    assert_refused(victim.present(sent))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE


def test_a_late_retry_from_another_client_is_reuse(
    victim: Device, device: Devices, clock: MovableClock, log: EventLog
) -> None:
    sent = victim.refresh_token
    lost = successor_in(victim.present(sent))
    clock.advance(PAST_THE_WINDOW)

    assert_refused(device(user_agent=CHROME).present(sent))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE
    assert_refused(victim.present(lost))


def test_a_late_retry_after_the_successor_was_used_is_reuse(
    victim: Device, clock: MovableClock, log: EventLog
) -> None:
    sent = victim.refresh_token
    victim.refresh()
    victim.refresh()
    clock.advance(PAST_THE_WINDOW)

    assert_refused(victim.present(sent))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE


def test_retry_budget_zero(
    shared_service: RunningService, victim: Device, clock: MovableClock, log: EventLog
) -> None:
    sent = victim.refresh_token
    lost = successor_in(victim.present(sent))
    with beside(shared_service, SESSIONTRAIL_LATE_RETRY_BUDGET="0") as running:
        without_budget = replace(victim, url=running.url)
        assert successor_in(without_budget.present(sent)) == lost
        clock.advance(PAST_THE_WINDOW)

        assert_refused(without_budget.present(sent))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE


def test_window_zero(strictest: RunningService, victim: Device, log: EventLog) -> None:
    victim.url = strictest.url

    answers = at_once([victim, victim], victim.refresh_token)

    assert sorted(answer.status_code for answer in answers) == [200, 401]
    assert types(log.of_family(family_of(victim))) == [
        "SessionStarted",
        "RefreshTokenRotated",
        *REUSE,
    ]


# ---------------------------------------------------------------------------- at once


def at_once(devices: list[Device], token: str) -> list[httpx.Response]:
    """One token presented by all of them at the same moment.

    Over connections that are all kept: httpx closes a surplus one under another thread's hands.
    """
    barrier = Barrier(len(devices))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with (
        httpx.Client(timeout=30, limits=limits) as http,
        ThreadPoolExecutor(len(devices)) as pool,
    ):

        def present(device: Device) -> httpx.Response:
            barrier.wait(30)
            return replace(device, http=http).present(token)

        return list(pool.map(present, devices))


@pytest.mark.parametrize("tabs", [2, 50])
def test_two_tabs(victim: Device, log: EventLog, tabs: int) -> None:
    answers = at_once([victim] * tabs, victim.refresh_token)

    successors = {successor_in(answer) for answer in answers}
    assert len(successors) == 1
    happened = types(log.of_family(family_of(victim)))
    assert happened[:2] == ["SessionStarted", "RefreshTokenRotated"]
    assert happened[2:] == ["RefreshRetried"] * (tabs - 1)
    assert victim.present(successors.pop()).status_code == 200


def test_two_holders_race(victim: Device, device: Devices, log: EventLog) -> None:
    thief = device(user_agent=CHROME)

    answers = at_once([victim, thief], victim.refresh_token)

    assert sorted(answer.status_code for answer in answers) == [200, 401]
    assert types(log.of_family(family_of(victim)))[1:] == ["RefreshTokenRotated", *REUSE]
    won = next(answer for answer in answers if answer.status_code == 200)
    assert_refused(victim.present(successor_in(won)))


# ---------------------------------------------------------------------------- thieves


def test_lockstep_thief(device: Devices, account: Account, log: EventLog) -> None:
    victim, thief = device(), device()
    for each in (victim, thief):  # at the same address, with the same browser
        each.headers[DEVICE_HEADER] = each.login(account.username, account.password).json()[
            "device_token"
        ]
    sent = victim.refresh_token
    lost = successor_in(victim.refresh())

    assert_refused(thief.present(sent))

    assert types(log.of_family(family_of(victim)))[1:] == ["RefreshTokenRotated", *REUSE]
    assert log.of_family(family_of(victim))[-1].data["reason"] == "token_reuse"
    assert_refused(victim.present(lost))


def test_a_thief_without_a_device_key_is_not_the_client_that_has_one(
    device: Devices, account: Account, log: EventLog
) -> None:
    victim = device()
    answer = victim.login(account.username, account.password)
    victim.headers[DEVICE_HEADER] = answer.json()["device_token"]
    sent = victim.refresh_token
    victim.refresh()

    assert_refused(device().present(sent))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE


def test_lockstep_thief_late(
    victim: Device, device: Devices, clock: MovableClock, log: EventLog
) -> None:
    thief = device()  # from the same address, with the same browser
    stolen = []
    for _ in range(2):
        sent = victim.refresh_token
        victim.refresh()
        clock.advance(PAST_THE_WINDOW)
        stolen.append(successor_in(thief.present(sent)))
        assert stolen[-1] == victim.refresh_token
    sent = victim.refresh_token
    victim.refresh()
    clock.advance(PAST_THE_WINDOW)

    assert_refused(thief.present(sent))

    assert types(log.of_family(family_of(victim))) == [
        "SessionStarted",
        *["RefreshTokenRotated", "RefreshRetried"] * 2,
        "RefreshTokenRotated",
        *REUSE,
    ]
    for token in (victim.refresh_token, *stolen):
        assert_refused(victim.present(token))


def test_only_this_family(device: Devices, account: Account, log: EventLog) -> None:
    tabs = [signed_in(device(), account) for _ in range(3)]
    sent = tabs[1].refresh_token
    tabs[1].refresh()
    tabs[1].refresh()

    assert_refused(tabs[1].present(sent))

    assert_refused(tabs[1].refresh())
    assert [tabs[number].refresh().status_code for number in (0, 2)] == [200, 200]
    revoked = [event.stream for event in log.of_type("FamilyRevoked")]
    assert revoked.count("family-" + family_of(tabs[1])) == 1
    assert not {"family-" + family_of(tabs[number]) for number in (0, 2)} & set(revoked)


def test_grandparent(victim: Device, log: EventLog) -> None:
    grandparent = victim.refresh_token
    victim.refresh()
    victim.refresh()

    assert_refused(victim.present(grandparent))

    reused, revoked = log.of_family(family_of(victim))[-2:]
    assert (reused.data["presented_generation"], reused.data["current_generation"]) == (1, 3)
    assert reused.transaction_id == revoked.transaction_id
    assert (reused.actor, reused.subject_id) == ("user", victim.session["user_id"])
    assert_refused(victim.refresh())


def test_reuse_after_logout(victim: Device, log: EventLog) -> None:
    past = victim.refresh_token
    victim.refresh()
    assert logout(victim).status_code == 204

    for token in (past, victim.refresh_token, past):
        assert_refused(victim.present(token))

    events = log.of_family(family_of(victim))
    assert types(events)[2:] == ["SessionEnded", "EndedSessionRefreshRefused"]
    assert events[-1].data["presented_generation"] == 1
    assert log.session(victim.session["session_id"])["end_reason"] == "logout"


def logout(device: Device) -> httpx.Response:
    body = {"refresh_token": device.refresh_token}
    return device.http.post(f"{device.url}/v1/logout", json=body)


# ---------------------------------------------------------------------------- forgeries


def parsed(text: str, keys: TokenKeys) -> RefreshToken:
    token = parse(text, keys)
    assert token is not None
    return token


@pytest.mark.parametrize("ahead", [0, 1, 1000, MAX_GENERATION - 1])
def test_future_generation(
    shared_service: RunningService, victim: Device, log: EventLog, ahead: int
) -> None:
    """Ahead by nothing: the same generation with another secret, from a history that is gone."""
    keys = key_ring_of(shared_service).tokens
    current = parsed(victim.refresh_token, keys)
    unheard_of = replace(current, generation=current.generation + ahead, secret=bytes(32))

    for _ in range(2):
        assert_refused(victim.present(mint(unheard_of, keys)))

    events = log.of_family(family_of(victim))
    assert types(events) == ["SessionStarted", "RefreshTokenUnrecognised"]
    assert events[-1].data["presented_generation"] == 1 + ahead
    assert victim.refresh().status_code == 200


def test_the_predecessor_with_another_secret_gets_no_successor(
    shared_service: RunningService, victim: Device, log: EventLog
) -> None:
    """Of the right generation, in time, from the same client; but this history never issued it."""
    keys = key_ring_of(shared_service).tokens
    predecessor = parsed(victim.refresh_token, keys)
    victim.refresh()

    assert_refused(victim.present(mint(replace(predecessor, secret=bytes(32)), keys)))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE


def test_a_genuine_token_of_a_session_that_nobody_knows_is_refused(
    shared_service: RunningService, victim: Device, log: EventLog
) -> None:
    keys = key_ring_of(shared_service).tokens
    unknown = parsed(victim.refresh_token, keys)
    unknown = replace(unknown, family_id=FamilyId(new_uuid()), session_id=SessionId(new_uuid()))
    before = log.end()

    assert_refused(victim.present(mint(unknown, keys)))

    assert log.after(before) == []


def forgeries(token: str, keys: TokenKeys) -> dict[str, str]:
    genuine = parsed(token, keys)
    raw = urlsafe_b64decode(token.removeprefix("str_") + "==")

    def text(altered: bytes) -> str:
        return "str_" + urlsafe_b64encode(altered).rstrip(b"=").decode("ascii")

    def flipped(index: int) -> str:
        return text(bytes(byte ^ (at == index) for at, byte in enumerate(raw)))

    other_service = TokenKeys(1, {1: bytes(32)})
    return {
        "random": text(bytes(range(len(raw)))),
        "empty": "str_",
        "garbage": "not a token at all",
        "not base64": token[:-4] + "!!!!",
        "truncated": token[:-1],
        "lengthened": token + "A",
        "other prefix": "stk_" + token.removeprefix("str_"),
        "no prefix": token.removeprefix("str_"),
        "other alphabet": "str_" + token.removeprefix("str_")[:-4] + "++//",
        "not ASCII": token[:-1] + "é",
        "with NUL": token[:-1] + "\x00",
        "other service": mint(replace(genuine, key_id=1), other_service),
        "old format": flipped(0),
        "unknown key": flipped(2),
        "other family": flipped(10),
        "other session": flipped(30),
        "other generation": flipped(38),
        "other secret": flipped(60),
        "other MAC": flipped(len(raw) - 1),
    }


def test_forged_token(
    shared_service: RunningService,
    victim: Device,
    log: EventLog,
    owner_of_module: str,
) -> None:
    """With the table locked, whoever needs a query waits; a forged token is answered at once."""
    forged = forgeries(victim.refresh_token, key_ring_of(shared_service).tokens)
    before = log.end()
    with (
        psycopg.connect(owner_of_module) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute("LOCK TABLE sessions, users, events IN ACCESS EXCLUSIVE MODE")
        for name, token in forged.items():
            form = {"grant_type": "refresh_token", "refresh_token": token}
            answer = victim.http.post(f"{victim.url}/oauth/token", data=form, timeout=3)
            assert answer.status_code == 400, name
            assert answer.json() == {"error": "invalid_grant"}, name
            body = {"refresh_token": token}
            assert_refused(victim.http.post(f"{victim.url}/v1/refresh", json=body, timeout=3))

    assert log.after(before) == []
    assert victim.refresh().status_code == 200


# ---------------------------------------------------------------------------- primary, clock


def test_replica_lag(strictest: RunningService, victim: Device, log: EventLog) -> None:
    """Whichever process is asked, it answers from what the one before it committed."""
    here, there = victim, replace(victim, url=strictest.url)
    for _ in range(10):
        there.refresh_token = successor_in(here.refresh())
        here.refresh_token = successor_in(there.refresh())
    past = here.refresh_token
    there.refresh_token = successor_in(here.refresh())
    successor_in(there.refresh())

    assert_refused(here.present(past))

    assert types(log.of_family(family_of(victim)))[-2:] == REUSE
    assert_refused(there.refresh())


@pytest.mark.parametrize("ahead", [timedelta(seconds=-30), timedelta(seconds=30)])
def test_clock_skew(
    owner_conninfo: str,
    private_service: Callable[..., RunningService],
    http: httpx.Client,
    ahead: timedelta,
) -> None:
    """The host's clock is half a minute off the database's, and the client's a day off both."""
    clock = MovableClock(owner_conninfo)
    clock.advance(ahead)
    running = private_service(SESSIONTRAIL_IDLE_TIMEOUT="60")
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    victim = signed_in(Device(running.url, http, headers={"Date": tomorrow}), add_user(running))

    assert victim.refresh().status_code == 200
    assert victim.get("/v1/sessions").status_code == 200
    issued_at = claims_of(victim.access_token)["iat"]
    assert abs(issued_at - clock.now().timestamp()) < 15
    clock.advance(timedelta(seconds=61))
    assert_refused(victim.refresh())


def claims_of(access_token: str) -> dict[str, int]:
    claims: dict[str, int] = jwt.decode(access_token, options={"verify_signature": False})
    return claims


def test_clock_backwards(
    device: Devices, account: Account, clock: MovableClock, log: EventLog
) -> None:
    expired = signed_in(device(), account)
    clock.advance(timedelta(days=15))
    assert_refused(expired.refresh())
    living = signed_in(device(), account)
    living.refresh()
    step = timedelta(days=20)
    clock.advance(-step)
    try:
        answer = living.refresh()
        assert_refused(expired.refresh())
    finally:
        clock.advance(step)

    assert answer.status_code == 200
    assert answer.json()["expires_in"] > 0
    claims = claims_of(living.access_token)
    assert claims["auth_time"] <= claims["iat"] < claims["exp"]
    times = [event.occurred_at for event in log.of_family(family_of(living))]
    assert times == sorted(times)
    row = log.session(living.session["session_id"])
    assert row["started_at"] <= row["rotated_at"] < row["idle_expires_at"] <= row["expires_at"]
    assert types(log.of_family(family_of(expired)))[1] == "SessionExpired"
    assert living.refresh().status_code == 200


def test_no_secret_is_in_the_log(shared_service: RunningService, strictest: RunningService) -> None:
    for running in (shared_service, strictest):
        assert running.stop() == 0
        assert '"logger":"access"' in running.log()
        assert_no_secret_in(running.log())
