"""Signing out and the ways that sessions end, over HTTP."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import httpx
import psycopg
import pytest

from domain.client import ClientContext
from domain.events.envelope import USER, Cause
from domain.events.families import TokenDelivery
from domain.family import fold_new
from domain.family_decisions import StartSession, decide
from domain.ids import CorrelationId, FamilyId, SessionId, UserId
from domain.policy import SessionPolicy
from domain.service_keys import ServiceScope
from infra.embedded_postgres import RunningPostgres
from infra.event_store import FamilyAppend, database_clock, insert_families
from infra.ids import new_uuid
from infra.postgres import create_engine, transaction
from infra.sealing import DataKeys
from tests.e2e.accounts import (
    PASSWORD,
    Account,
    add_service_key,
    add_user,
    conninfo_of,
    key_ring_of,
)
from tests.e2e.clients import (
    CHROME,
    REFRESH_COOKIE,
    Browser,
    Device,
    assert_no_secret_in,
    set_cookies,
)
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, MovableClock, types, wait_for
from tests.e2e.service import RunningService, command, service

MICROSECOND = timedelta(microseconds=1)

Devices = Callable[..., Device]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def service_key(shared_service: RunningService) -> str:
    scopes = (ServiceScope.CREATE_SESSIONS, ServiceScope.INTROSPECT_TOKENS)
    return add_service_key(shared_service, *scopes).text


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def sign_in(device: Devices, account: Account) -> Callable[[], Device]:
    """Makes devices that are signed in to the test's account."""
    return lambda: signed_in(device(), account)


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def family_of(device: Device) -> str:
    family_id: str = device.session["family_id"]
    return family_id


def logout(device: Device, **body: str) -> httpx.Response:
    return device.http.post(f"{device.url}/v1/logout", json=body)


def ended_of(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["ended"]
    return count


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.json()["type"].endswith("/invalid-grant")


# ---------------------------------------------------------------------------- sign-out


def test_logout_is_idempotent(sign_in: Callable[[], Device], log: EventLog) -> None:
    one = sign_in()

    answers = [logout(one, refresh_token=one.refresh_token) for _ in range(2)]
    answers += [one.post("/v1/logout") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204] * 4
    assert all(not answer.content for answer in answers)
    assert types(log.of_family(family_of(one))) == ["SessionStarted", "SessionEnded"]
    assert_refused(one.refresh())
    assert one.get("/v1/sessions").status_code == 401


def test_logout_by_access_token_ends_the_session(
    sign_in: Callable[[], Device], log: EventLog
) -> None:
    one = sign_in()

    assert [one.post("/v1/logout").status_code for _ in range(2)] == [204, 204]

    ended = log.of_family(family_of(one))[-1]
    assert (ended.type, ended.actor, ended.data["reason"]) == ("SessionEnded", "user", "logout")
    assert_refused(one.refresh())


def test_logout_with_an_access_token_that_is_no_good_but_a_live_refresh_token(
    sign_in: Callable[[], Device],
) -> None:
    one = sign_in()
    one.access_token = one.access_token[:-8] + "AAAAAAAA"

    answer = one.post("/v1/logout", {"refresh_token": one.refresh_token})

    assert answer.status_code == 204
    assert_refused(one.refresh())


def test_logout_by_cookie_takes_the_cookie_away(
    shared_service: RunningService, http: httpx.Client, account: Account
) -> None:
    browser = Browser(shared_service.url, http)
    browser.login(account.username, account.password)
    token = browser.cookies[REFRESH_COOKIE]

    answer = browser.post("/v1/logout")

    assert answer.status_code == 204
    cleared = set_cookies(answer)[REFRESH_COOKIE]
    assert (cleared.value, cleared["max-age"]) == ("", "0")
    assert cleared["path"] == "/"
    assert cleared["secure"]
    assert cleared["httponly"]
    assert cleared["samesite"] == "Strict"
    assert not cleared["domain"]
    browser.cookies[REFRESH_COOKIE] = token
    assert_refused(browser.post("/v1/refresh"))


def test_logout_without_any_token_is_refused(
    shared_service: RunningService, http: httpx.Client
) -> None:
    answer = http.post(f"{shared_service.url}/v1/logout")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_logout_one_leaves_others(sign_in: Callable[[], Device], log: EventLog) -> None:
    one, other, another = sign_in(), sign_in(), sign_in()

    assert logout(one, refresh_token=one.refresh_token).status_code == 204
    assert another.delete(f"/v1/sessions/{other.session['session_id']}").status_code == 204

    assert_refused(one.refresh())
    assert_refused(other.refresh())
    assert another.refresh().status_code == 200
    listed = another.get("/v1/sessions").json()["sessions"]
    assert [each["session_id"] for each in listed] == [another.session["session_id"]]
    assert types(log.of_family(family_of(another))) == ["SessionStarted", "RefreshTokenRotated"]


def test_logout_others_leaves_this_one(sign_in: Callable[[], Device], log: EventLog) -> None:
    one, other = sign_in(), sign_in()

    assert ended_of(one.post("/v1/logout-others")) == 1

    assert one.refresh().status_code == 200
    assert_refused(other.refresh())
    assert log.of_family(family_of(other))[1].data["reason"] == "logout_others"
    noted = log.of_user(one.session["user_id"])[-1]
    assert (noted.type, noted.data["families"]) == ("UserSessionsEnded", 1)


def test_a_device_of_somebody_else_is_as_unknown_as_none(
    shared_service: RunningService, device: Devices, sign_in: Callable[[], Device], log: EventLog
) -> None:
    mine = sign_in()
    other = signed_in(device(), add_user(shared_service))
    before = log.end()

    theirs = f"/v1/sessions/{other.session['session_id']}"
    answers = [
        mine.delete(theirs),
        mine.patch(theirs, {"device_name": "mine now"}),
        mine.delete(f"/v1/sessions/{new_uuid()}"),
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert log.after(before) == []
    assert other.refresh().status_code == 200


def test_logout_all_10000(
    shared_service: RunningService, sign_in: Callable[[], Device], log: EventLog
) -> None:
    one = sign_in()
    open_sessions(shared_service, UserId(one.session["user_id"]), 10_000)
    before, resident = log.end(), resident_bytes(shared_service)

    assert ended_of(one.post("/v1/logout-all")) == 10_001

    events = log.after(before)
    assert len({event.transaction_id for event in events}) == 1
    assert types(events).count("FamilyRevoked") == 10_001
    assert {event.data["reason"] for event in events} == {"logout_all"}
    assert log.of_user(one.session["user_id"])[-1].data["families"] == 10_001
    assert_refused(one.refresh())
    if resident:
        assert resident_bytes(shared_service) - resident < 48 * 2**20


def open_sessions(running: RunningService, user_id: UserId, count: int) -> None:
    """Many sessions of one user, decided and appended as each sign-in is, in few transactions."""
    data_keys = DataKeys(key_ring_of(running).masters)

    async def work() -> None:
        engine = create_engine(conninfo_of(running), max_connections=1, wait_s=5)
        for _ in range(0, count, 1000):
            async with transaction(engine) as connection:
                cursor = await connection.execute(
                    "SELECT wrapped_key FROM data_keys WHERE subject_id = %s", (user_id,)
                )
                record = await cursor.fetchone()
                assert record is not None
                data_key = data_keys.unwrap(record[0], user_id)
                at = await database_clock(connection)
                appends = []
                for _ in range(1000):
                    decision = decide(None, _start_for(user_id), at)
                    family = fold_new(None, FamilyId(new_uuid()), decision.events, at)
                    events = [
                        (new, Cause(USER, CorrelationId(new_uuid()))) for new in decision.events
                    ]
                    appends.append(
                        FamilyAppend(
                            before=None, after=family, events=events, data_key=data_key, at=at
                        )
                    )
                await insert_families(connection, appends)
        await engine.dispose()

    asyncio.run(work())


def _start_for(user_id: UserId) -> StartSession:
    return StartSession(
        session_id=SessionId(new_uuid()),
        user_id=user_id,
        client_id="batch",
        auth_methods=["user"],
        delivery=TokenDelivery.BODY,
        persistent=True,
        secret=bytes(32),
        token_key=1,
        client=ClientContext(),
        device_name=None,
        policy=SessionPolicy(),
    )


def resident_bytes(running: RunningService) -> float:
    """The process's resident memory as it says itself; 0 where the platform does not tell."""
    for line in httpx.get(f"{running.url}/metrics").text.splitlines():
        if line.startswith("process_resident_memory_bytes "):
            return float(line.split()[1])
    return 0.0


# ---------------------------------------------------------------------------- credentials


def test_password_change_ends_others(
    device: Devices, account: Account, sign_in: Callable[[], Device], log: EventLog
) -> None:
    one, other = sign_in(), sign_in()
    change = {"current_password": account.password, "new_password": "a brand new passphrase"}

    assert one.post("/v1/password", change).status_code == 204

    assert one.refresh().status_code == 200
    assert_refused(other.refresh())
    assert log.of_family(family_of(other))[1].data["reason"] == "password_changed"
    assert types(log.of_user(account.user_id)) == [
        "UserRegistered",
        "PasswordChanged",
        "UserSessionsEnded",
    ]
    assert device().login(account.username, account.password).status_code == 401
    assert device().login(account.username, change["new_password"]).status_code == 200


@pytest.mark.parametrize(
    ("current", "new", "status"),
    [
        ("not the password", "a brand new passphrase", 403),
        (PASSWORD, "short", 422),
        (PASSWORD, "password1", 422),
        (PASSWORD, "new\x00password", 422),
        (PASSWORD, "x" * 1025, 422),
    ],
)
def test_a_password_change_that_is_refused_changes_nothing(
    device: Devices,
    account: Account,
    sign_in: Callable[[], Device],
    log: EventLog,
    current: str,
    new: str,
    status: int,
) -> None:
    one, other = sign_in(), sign_in()

    answer = one.post("/v1/password", {"current_password": current, "new_password": new})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert new not in answer.text
    assert types(log.of_user(account.user_id)) == ["UserRegistered"]
    assert other.refresh().status_code == 200
    assert device().login(account.username, account.password).status_code == 200


def test_disabled_user(
    shared_service: RunningService,
    device: Devices,
    http: httpx.Client,
    account: Account,
    sign_in: Callable[[], Device],
    service_key: str,
    log: EventLog,
) -> None:
    one, other = sign_in(), sign_in()

    done = command(shared_service.environment, "users", "disable", account.username)

    assert done.returncode == 0, done.stderr
    for each in (one, other):
        assert_refused(each.present(each.refresh_token))
        assert each.get("/v1/sessions").status_code == 401
        for token in (each.access_token, each.refresh_token):
            assert introspected(shared_service, http, service_key, token) == {"active": False}
        assert log.of_family(family_of(each))[1].data["reason"] == "user_disabled"
    refused = device().login(account.username, account.password)
    assert refused.status_code == 401
    assert refused.json() == device().login(account.username, "not the password").json()
    assert types(log.of_user(account.user_id)) == [
        "UserRegistered",
        "UserDisabled",
        "UserSessionsEnded",
    ]
    assert log.of_user(account.user_id)[1].actor.startswith("operator:")


def introspected(
    running: RunningService, http: httpx.Client, service_key: str, token: str
) -> dict[str, object]:
    answer = http.post(
        f"{running.url}/oauth/introspect",
        data={"token": token},
        headers={"Authorization": f"Bearer {service_key}"},
    )
    assert answer.status_code == 200, answer.text
    facts: dict[str, object] = answer.json()
    return facts


def test_access_token_after_revoke(
    shared_service: RunningService,
    http: httpx.Client,
    sign_in: Callable[[], Device],
    service_key: str,
) -> None:
    one = sign_in()
    assert introspected(shared_service, http, service_key, one.access_token)["active"] is True

    logout(one, refresh_token=one.refresh_token)

    assert introspected(shared_service, http, service_key, one.access_token) == {"active": False}
    refused = one.get("/v1/sessions")
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


# ---------------------------------------------------------------------------- limits and expiry


def test_session_limit(
    shared_service: RunningService, http: httpx.Client, service_key: str, log: EventLog
) -> None:
    def open_one() -> Device:
        opened = http.post(
            f"{shared_service.url}/v1/sessions",
            json={"subject": "service-account-7"},
            headers={"Authorization": f"Bearer {service_key}"},
        )
        assert opened.status_code == 201, opened.text
        made = Device(shared_service.url, http, refresh_token=opened.json()["refresh_token"])
        made.session = opened.json()["session"]
        return made

    sessions = [open_one() for _ in range(100)]
    assert sessions[0].refresh().status_code == 200  # so that the second is the least recent

    newest = open_one()

    assert_refused(sessions[1].refresh())
    ended = log.of_family(family_of(sessions[1]))[1]
    assert (ended.type, ended.data["reason"]) == ("FamilyRevoked", "session_limit")
    assert log.of_family(family_of(newest))[0].transaction_id == ended.transaction_id
    for kept in (sessions[0], *sessions[2:], newest):
        assert log.session(kept.session["session_id"])["ended_at"] is None


@pytest.fixture(scope="module")
def moved_database(postgres: RunningPostgres) -> Iterator[str]:
    """The name of a database of the module's own, whose clock the tests move."""
    name = "sign_out_clock"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy")
    yield name
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def clock(postgres: RunningPostgres, moved_database: str) -> MovableClock:
    return MovableClock(postgres.conninfo(dbname=moved_database))


@pytest.fixture(scope="module")
def short_lives(
    postgres: RunningPostgres,
    moved_database: str,
    clock: MovableClock,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningService]:
    """A service with short lives, on that database."""
    settings = GENEROUS | {
        "SESSIONTRAIL_IDLE_TIMEOUT": "600",
        "SESSIONTRAIL_SHARED_COMPUTER_IDLE_TIMEOUT": "60",
        "SESSIONTRAIL_ABSOLUTE_LIFETIME": "1500",
        "SESSIONTRAIL_SWEEP_INTERVAL": "1",
    }
    conninfo = postgres.conninfo(user="sessiontrail", dbname=moved_database)
    with service(tmp_path_factory.mktemp("data"), conninfo, **settings) as running:
        yield running


@pytest.fixture
def short_lived(short_lives: RunningService, http: httpx.Client) -> Device:
    """A device on it, not signed in yet."""
    return Device(short_lives.url, http)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_idle_and_absolute(
    short_lives: RunningService, short_lived: Device, clock: MovableClock
) -> None:
    log = EventLog(conninfo_of(short_lives))
    sliding, idle = short_lived, Device(short_lived.url, short_lived.http)
    for each in (sliding, idle):
        assert each.login().status_code == 200
    started = instant(sliding.session["created_at"])
    absolute = instant(sliding.session["expires_at"])
    assert absolute - started == timedelta(seconds=1500)
    assert instant(sliding.session["idle_expires_at"]) - started == timedelta(seconds=600)

    for _ in range(3):  # each time at the last instant: idle slides
        last = instant(sliding.session["idle_expires_at"])
        with clock.standing_at(min(last, absolute) - MICROSECOND):
            assert sliding.refresh().status_code == 200
    assert instant(sliding.session["expires_at"]) == absolute
    assert instant(sliding.session["idle_expires_at"]) == absolute
    with clock.standing_at(absolute):
        assert_refused(sliding.refresh())
    with clock.standing_at(instant(idle.session["idle_expires_at"])):
        assert_refused(idle.refresh())

    # The sweep may come before the refresh, which then finds the session ended: so by type.
    kinds = [
        event.data["kind"]
        for each in (sliding, idle)
        for event in log.of_family(family_of(each))
        if event.type == "SessionExpired"
    ]
    assert kinds == ["absolute", "idle"]
    assert types(log.of_family(family_of(idle)))[:2] == ["SessionStarted", "SessionExpired"]


def test_remember_me_shared_computer(short_lived: Device) -> None:
    browser = Browser(short_lived.url, short_lived.http)

    forgotten = browser.login(remember_me=False)
    remembered = browser.login(remember_me=True)

    assert not set_cookies(forgotten)[REFRESH_COOKIE]["max-age"]
    assert 590 <= int(set_cookies(remembered)[REFRESH_COOKIE]["max-age"]) <= 600
    session = forgotten.json()["session"]
    idle = instant(session["idle_expires_at"]) - instant(session["created_at"])
    assert idle == timedelta(seconds=60)


def test_what_expired_unused_is_swept_into_an_event(
    short_lives: RunningService, short_lived: Device, clock: MovableClock
) -> None:
    log = EventLog(conninfo_of(short_lives))
    assert short_lived.login().status_code == 200
    clock.advance(timedelta(seconds=601))

    events = wait_for(lambda: log.of_family(family_of(short_lived))[1:])

    assert types(events) == ["SessionExpired"]
    assert (events[0].data["kind"], events[0].actor) == ("idle", "system:expiry")
    assert_refused(short_lived.refresh())


# ---------------------------------------------------------------------------- the list


def test_a_device_list_says_what_each_is(
    shared_service: RunningService, device: Devices, account: Account, log: EventLog
) -> None:
    laptop, phone = device(), device(user_agent=CHROME)
    laptop.login(account.username, account.password, device_name="laptop")
    phone.login(account.username, account.password)
    renamed = laptop.patch(f"/v1/sessions/{phone.session['session_id']}", {"device_name": "phone"})
    assert renamed.status_code == 204

    listed = laptop.get("/v1/sessions").json()

    assert listed["next"] is None
    newest, oldest = listed["sessions"]
    assert (newest["current"], oldest["current"]) == (False, True)
    assert newest["session_id"] == phone.session["session_id"]
    assert newest["device"] == {
        "name": "phone",
        "description": "Chrome on Windows",
        "user_agent": CHROME,
        "ip": "127.0.0.1",
        "network": "127.0.0.0/24",
    }
    assert oldest["device"]["name"] == "laptop"
    assert instant(newest["created_at"]) <= instant(newest["last_seen_at"])
    named = log.of_family(family_of(phone))[-1]
    assert named.type == "SessionRenamed"
    assert named.personal is not None
    assert b"phone" not in named.personal


def test_a_long_list_comes_in_pages(sign_in: Callable[[], Device]) -> None:
    devices = [sign_in() for _ in range(5)]

    seen: list[str] = []
    page = devices[0].get("/v1/sessions?limit=2").json()
    while page["next"] is not None:
        seen += [each["session_id"] for each in page["sessions"]]
        page = devices[0].get(f"/v1/sessions?limit=2&before={page['next']}").json()
    seen += [each["session_id"] for each in page["sessions"]]

    assert seen == [each.session["session_id"] for each in reversed(devices)]


def test_no_secret_is_in_the_log(
    shared_service: RunningService, short_lives: RunningService
) -> None:
    for running in (shared_service, short_lives):
        assert running.stop() == 0
        assert '"logger":"access"' in running.log()
        assert_no_secret_in(running.log())
