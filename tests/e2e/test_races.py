"""Races over HTTP between two API processes on one database: there is always exactly one order."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from threading import Barrier, Event
from typing import TypeVar

import httpx
import pytest

from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.users import Role
from domain.ids import CorrelationId, UserId
from infra.ids import new_uuid
from infra.postgres import create_engine
from infra.sealing import DataKeys
from infra.user_commands import PostgresUserCommands
from tests.e2e.accounts import Account, add_user, conninfo_of, key_ring_of
from tests.e2e.clients import CHROME, FIREFOX, Device, assert_no_secret_in, used_secrets
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, LoggedEvent, types
from tests.e2e.service import RunningService, command, start
from tests.equivalence import assert_rows_are_folds

ROUNDS = 5
TABS = 50
PATIENCE_S = 30
ISSUER = "https://sessions.example.com"
"""One for both, as behind a balancer: each takes the access tokens that the other gave."""

NEW_PASSWORD = "nine herons under the bridge"
ACCEPTED = {"RefreshTokenRotated", "RefreshRetried"}
ENDINGS = {"FamilyRevoked", "SessionEnded"}

_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two API processes on one database, with one key file."""

    services: Sequence[RunningService]
    clients: Sequence[httpx.Client]

    def device(self, number: int, user_agent: str = FIREFOX) -> Device:
        """A device, not signed in, that talks to one of the processes: by turns."""
        which = number % len(self.services)
        return Device(self.services[which].url, self.clients[which], user_agent)

    def at(self, number: int, device: Device) -> Device:
        """The same device, as it talks to one of the processes."""
        which = number % len(self.services)
        return replace(device, url=self.services[which].url, http=self.clients[which])

    def signed_in(self, account: Account, number: int = 0, user_agent: str = FIREFOX) -> Device:
        """A device that is signed in."""
        device = self.device(number, user_agent)
        answer = device.login(account.username, account.password)
        assert answer.status_code == 200, answer.text
        return device

    def add_user(self, *roles: Role) -> Account:
        """A new user."""
        return add_user(self.services[0], roles=roles)


@pytest.fixture(scope="module")
def replicas(module_conninfo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("data")
    with ExitStack() as stack:
        services, clients = [], []
        for _ in range(2):
            running = start(folder, module_conninfo, **GENEROUS, SESSIONTRAIL_ISSUER=ISSUER)
            stack.callback(running.stop)
            services.append(running)
            limits = httpx.Limits(max_connections=TABS, max_keepalive_connections=TABS)
            clients.append(stack.enter_context(httpx.Client(timeout=PATIENCE_S, limits=limits)))
        both = Replicas(services, clients)
        device = both.signed_in(both.add_user())
        for number in range(2):  # or a refusal would say nothing about the session
            assert both.at(number, device).get("/v1/sessions").status_code == 200
        yield both


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def admin(replicas: Replicas) -> Device:
    return replicas.signed_in(replicas.add_user(Role.ADMIN))


@pytest.fixture(autouse=True)
def _every_row_is_its_fold(replicas: Replicas, module_conninfo: str) -> Iterator[None]:
    """Whatever raced, the whole database is in one mind afterwards."""
    yield
    data_keys = DataKeys(key_ring_of(replicas.services[0]).masters)
    assert asyncio.run(assert_rows_are_folds(module_conninfo, data_keys)) > 0


def simultaneously(calls: Sequence[Callable[[], _ResultT]]) -> list[_ResultT]:
    """Make calls, each in a thread, none before all threads are there."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], _ResultT]) -> _ResultT:
        barrier.wait(PATIENCE_S)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def family_of(device: Device) -> str:
    family_id: str = device.session["family_id"]
    return family_id


def tokens_in(answers: Sequence[httpx.Response]) -> set[str]:
    """The refresh tokens that accepted refreshes gave; the others were refused, and not failed."""
    for answer in answers:
        assert answer.status_code in {200, 401}, answer.text
        if answer.status_code == 401:
            assert answer.json()["type"].endswith("/invalid-grant"), answer.text
    tokens = {answer.json()["refresh_token"] for answer in answers if answer.status_code == 200}
    used_secrets.update(tokens)
    return tokens


def access_tokens_in(answers: Sequence[httpx.Response]) -> set[str]:
    tokens = {answer.json()["access_token"] for answer in answers if answer.status_code == 200}
    used_secrets.update(tokens)
    return tokens


def refreshed(device: Device) -> str:
    """The next refresh token of a device that is alive; the device keeps it."""
    answer = device.refresh()
    assert answer.status_code == 200, answer.text
    return device.refresh_token


def assert_dead(
    replicas: Replicas, device: Device, tokens: set[str], access_tokens: set[str]
) -> None:
    """Assert that neither process accepts any of the tokens, whoever presents them."""
    for user_agent in (FIREFOX, CHROME):
        for number, token in enumerate(sorted(tokens)):
            asking = replace(replicas.at(number, device), user_agent=user_agent)
            answer = asking.present(token)
            assert answer.status_code == 401, answer.text
    for number, token in enumerate(sorted(access_tokens)):
        asking = replace(replicas.at(number, device), access_token=token)
        assert asking.get("/v1/sessions").status_code == 401


def of_type(events: Sequence[LoggedEvent], event_type: str) -> list[LoggedEvent]:
    return [event for event in events if event.type == event_type]


def assert_nothing_accepted_after_the_end(events: Sequence[LoggedEvent]) -> None:
    end = next(index for index, event in enumerate(events) if event.type in ENDINGS)
    assert not ACCEPTED & set(types(list(events[end:])))
    assert len([event for event in events if event.type in ENDINGS]) == 1


# ---------------------------------------------------------------------------- refresh and refresh


def test_two_tabs(replicas: Replicas, log: EventLog) -> None:
    device = replicas.signed_in(replicas.add_user())
    token = device.refresh_token

    for generation in range(2, 2 + ROUNDS):
        answers = simultaneously(
            [partial(replicas.at(tab, device).present, token) for tab in range(TABS)]
        )

        assert [answer.status_code for answer in answers] == [200] * TABS
        (successor,) = tokens_in(answers)
        rotations = of_type(log.of_family(family_of(device)), "RefreshTokenRotated")
        assert [event.data["generation"] for event in rotations] == list(range(2, generation + 1))
        token = successor

    assert set(types(log.of_family(family_of(device)))) == {"SessionStarted"} | ACCEPTED


@pytest.mark.parametrize("each", [1, 10])
def test_two_holders_race(replicas: Replicas, log: EventLog, each: int) -> None:
    account = replicas.add_user()
    bystander = replicas.signed_in(account)
    for number in range(ROUNDS):
        device = replicas.signed_in(account, number)
        stolen = device.refresh_token
        holders = [
            replace(replicas.at(number + i // 2, device), user_agent=(FIREFOX, CHROME)[i % 2])
            for i in range(2 * each)
        ]

        answers = simultaneously([partial(holder.present, stolen) for holder in holders])

        (successor,) = tokens_in(answers)
        served = {
            holder.user_agent
            for holder, answer in zip(holders, answers, strict=True)
            if answer.status_code == 200
        }
        assert len(served) == 1, "one holder was served, and the other never"
        events = log.of_family(family_of(device))
        assert len(of_type(events, "RefreshTokenRotated")) == 1
        assert len(of_type(events, "RefreshTokenReused")) == 1
        assert_nothing_accepted_after_the_end(events)
        access_tokens = {device.access_token} | access_tokens_in(answers)
        assert_dead(replicas, device, {stolen, successor}, access_tokens)
        assert len(of_type(log.of_family(family_of(device)), "RefreshTokenReused")) == 1
        refreshed(bystander)  # only_this_family


def test_only_this_family(replicas: Replicas, log: EventLog) -> None:
    account = replicas.add_user()
    devices = [replicas.signed_in(account, number) for number in range(4)]
    robbed = devices[0]
    stolen = robbed.refresh_token
    thief = replace(replicas.at(1, robbed), user_agent=CHROME)
    used_up = [refreshed(device) for device in devices]

    answers = simultaneously(
        [
            partial(thief.present, stolen),
            *(partial(each.present, t) for each, t in zip(devices[1:], used_up[1:], strict=True)),
        ]
    )

    assert [answer.status_code for answer in answers] == [401, 200, 200, 200]
    assert types(log.of_family(family_of(robbed)))[-2:] == ["RefreshTokenReused", "FamilyRevoked"]
    assert_dead(replicas, robbed, {stolen, used_up[0]}, {robbed.access_token})
    for device in devices[1:]:
        refreshed(device)
        assert device.get("/v1/sessions").status_code == 200


@pytest.mark.parametrize("thief_agent", [FIREFOX, CHROME], ids=["same_agent", "other_agent"])
def test_no_toctou(replicas: Replicas, log: EventLog, thief_agent: str) -> None:
    account = replicas.add_user()
    for number in range(2 * ROUNDS):
        device = replicas.signed_in(account, number)
        past = device.refresh_token
        parent = refreshed(device)
        current = refreshed(device)
        thief = replace(device, user_agent=thief_agent)
        owners = [partial(replicas.at(i, device).present, current) for i in range(4)]
        thieves = [partial(replicas.at(i, thief).present, past) for i in range(4)]
        racing = [call for pair in zip(owners, thieves, strict=True) for call in pair]

        answers = simultaneously(racing if number % 2 else racing[::-1])

        stolen = answers[1::2] if number % 2 else answers[0::2]
        assert [answer.status_code for answer in stolen] == [401] * 4
        successors = tokens_in(answers)
        assert len(successors) <= 1
        events = log.of_family(family_of(device))
        rotations = [e.data["generation"] for e in of_type(events, "RefreshTokenRotated")]
        assert rotations == [2, 3, 4][: 2 + len(successors)]
        assert len(of_type(events, "RefreshTokenReused")) == 1
        assert_nothing_accepted_after_the_end(events)
        tokens = {past, parent, current} | successors
        assert_dead(replicas, device, tokens, {device.access_token} | access_tokens_in(answers))
        assert len(of_type(log.of_family(family_of(device)), "RefreshTokenReused")) == 1


def test_a_parent_races_the_rotation_of_its_successor(replicas: Replicas, log: EventLog) -> None:
    """The parent is a retry as long as its successor is current, and reuse from then on."""
    account = replicas.add_user()
    for number in range(2 * ROUNDS):
        device = replicas.signed_in(account, number)
        parent = device.refresh_token
        refreshed(device)
        current = refreshed(replace(device, refresh_token=parent))  # a retry: the same successor
        assert current == device.refresh_token
        calls = [
            partial(replicas.at(i // 2, device).present, (current, parent)[i % 2]) for i in range(8)
        ]

        answers = simultaneously(calls)

        successors = tokens_in(answers[0::2])
        assert len(successors) <= 1
        assert tokens_in(answers[1::2]) <= {current}
        events = log.of_family(family_of(device))
        assert len(of_type(events, "RefreshTokenRotated")) == 1 + len(successors)
        reuses = of_type(events, "RefreshTokenReused")
        assert len(reuses) == (1 if any(a.status_code == 401 for a in answers) else 0)
        if reuses:
            assert_nothing_accepted_after_the_end(events)
            tokens = {parent, current} | successors
            assert_dead(replicas, device, tokens, {device.access_token} | access_tokens_in(answers))
        else:
            (live,) = successors
            assert device.present(live).status_code == 200


# ---------------------------------------------------------------------------- refresh and the end


@dataclass(slots=True)
class Storm:
    """A device that presents its token to both processes at once, again and again, till refused.

    ``give_up`` is set where nothing will refuse it any more, because the test failed.
    """

    replicas: Replicas
    device: Device
    refresh_tokens: set[str] = field(default_factory=set)
    access_tokens: set[str] = field(default_factory=set)
    under_way: Event = field(default_factory=Event)
    give_up: Event = field(default_factory=Event)
    last_accepted_sent_at: float = 0.0

    def run(self) -> None:
        """Refresh until refused."""
        self.refresh_tokens.add(self.device.refresh_token)
        self.access_tokens.add(self.device.access_token)
        token = self.device.refresh_token
        deadline = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < deadline and not self.give_up.is_set():
                sent_at = time.monotonic()
                answers = simultaneously(
                    [partial(self.replicas.at(i, self.device).present, token) for i in range(2)]
                )
                successors = tokens_in(answers)
                assert len(successors) <= 1, "two successors of one token"
                self.refresh_tokens |= successors
                self.access_tokens |= access_tokens_in(answers)
                if successors:
                    self.last_accepted_sent_at = sent_at
                if any(answer.status_code == 401 for answer in answers):
                    return
                (token,) = successors
                if len(self.refresh_tokens) > 2:
                    self.under_way.set()
        finally:
            self.under_way.set()
        raise AssertionError("it was never refused")


@dataclass(frozen=True, slots=True)
class Scene:
    """Who takes part in the race of a revocation."""

    replicas: Replicas
    account: Account
    racing: Sequence[Device]
    bystander: Device
    admin: Device

    def revoker(self) -> Device:
        """The first racing device, as it talks to the other process."""
        return self.replicas.at(1, self.racing[0])


class Fate(StrEnum):
    """What becomes of the bystander: another session of the same user, not refreshing."""

    LIVES = "lives"
    ENDS = "ends"


def logout(scene: Scene) -> None:
    one = scene.revoker()
    answer = one.http.post(f"{one.url}/v1/logout", json={"refresh_token": one.refresh_token})
    assert answer.status_code == 204, answer.text


def logout_by_access_token(scene: Scene) -> None:
    answer = scene.revoker().post("/v1/logout")
    assert answer.status_code == 204, answer.text


def logout_all(scene: Scene) -> None:
    answer = scene.revoker().post("/v1/logout-all")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"ended": len(scene.racing) + 1}


def logout_others(scene: Scene) -> None:
    answer = scene.bystander.post("/v1/logout-others")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"ended": len(scene.racing)}


def end_from_another_device(scene: Scene) -> None:
    answer = scene.bystander.delete(f"/v1/sessions/{scene.racing[0].session['session_id']}")
    assert answer.status_code == 204, answer.text


def staff_revokes_family(scene: Scene) -> None:
    answer = scene.admin.delete(f"/v1/families/{family_of(scene.racing[0])}")
    assert answer.is_success, answer.text


def staff_revokes_all(scene: Scene) -> None:
    answer = scene.admin.delete(f"/v1/users/{scene.account.user_id}/sessions")
    assert answer.is_success, answer.text


def change_password(scene: Scene) -> None:
    assert_password_changed(scene.bystander, scene.account)


def disable(scene: Scene) -> None:
    disable_user(scene.replicas, scene.account)


def assert_password_changed(device: Device, account: Account) -> None:
    used_secrets.add(NEW_PASSWORD)
    body = {"current_password": account.password, "new_password": NEW_PASSWORD}
    answer = device.post("/v1/password", body)
    assert answer.status_code == 204, answer.text


def disable_user(replicas: Replicas, account: Account) -> None:
    """As ``sessiontrail users disable`` does, without the second that its start takes."""
    running = replicas.services[0]

    async def work() -> None:
        engine = create_engine(conninfo_of(running), max_connections=1, wait_s=5)
        try:
            users = PostgresUserCommands(engine, DataKeys(key_ring_of(running).masters))
            cause = Cause(Actor(ActorKind.OPERATOR, "tests"), CorrelationId(new_uuid()))
            ended = await users.disable(UserId(account.user_id), cause)
            assert isinstance(ended, int), ended
        finally:
            await engine.dispose()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("revoke", "devices", "fate"),
    [
        (logout, 1, Fate.LIVES),
        (logout_by_access_token, 1, Fate.LIVES),
        (logout_all, 2, Fate.ENDS),
        (logout_others, 2, Fate.LIVES),
        (end_from_another_device, 1, Fate.LIVES),
        (staff_revokes_family, 1, Fate.LIVES),
        (staff_revokes_all, 2, Fate.ENDS),
        (change_password, 2, Fate.LIVES),
        (disable, 2, Fate.ENDS),
    ],
)
def test_refresh_vs_revoke(
    replicas: Replicas,
    log: EventLog,
    admin: Device,
    revoke: Callable[[Scene], None],
    devices: int,
    fate: Fate,
) -> None:
    for number in range(ROUNDS):
        account = replicas.add_user()
        racing = [replicas.signed_in(account, number + i) for i in range(devices)]
        bystander = replicas.signed_in(account, number)
        scene = Scene(replicas, account, racing, bystander, admin)
        storms = [Storm(replicas, device) for device in racing]

        with ThreadPoolExecutor(devices) as pool:
            running = [pool.submit(storm.run) for storm in storms]
            try:
                assert all(storm.under_way.wait(PATIENCE_S) for storm in storms)
                revoke(scene)
            except BaseException:
                for storm in storms:
                    storm.give_up.set()
                raise
            revoked_at = time.monotonic()
        results_of(running)

        for storm in storms:
            assert storm.last_accepted_sent_at < revoked_at
            assert_dead(replicas, storm.device, storm.refresh_tokens, storm.access_tokens)
            events = log.of_family(family_of(storm.device))
            assert not of_type(events, "RefreshTokenReused")
            assert_nothing_accepted_after_the_end(events)
        if fate is Fate.LIVES:
            refreshed(bystander)
            assert bystander.get("/v1/sessions").status_code == 200
        else:
            assert_dead(replicas, bystander, {bystander.refresh_token}, {bystander.access_token})


def results_of(running: Sequence[Future[_ResultT]]) -> list[_ResultT]:
    return [each.result(PATIENCE_S) for each in running]


# ---------------------------------------------------------------------------- sign-in and the end


@dataclass(slots=True)
class SignIns:
    """Somebody who signs in again and again, on both processes by turns."""

    replicas: Replicas
    account: Account
    number: int
    over: Event
    """Set when the other event was answered: after one more sign-in, it is enough."""
    under_way: Event = field(default_factory=Event)
    accepted: list[Device] = field(default_factory=list)
    last_status: int = 0

    def run(self) -> None:
        """Sign in until it was refused, or was begun after the other event."""
        deadline = time.monotonic() + PATIENCE_S
        turn = self.number
        last = False
        try:
            while not last:
                assert time.monotonic() < deadline
                last = self.over.is_set()
                device = self.replicas.device(turn)
                answer = device.login(self.account.username, self.account.password)
                self.last_status = answer.status_code
                if answer.status_code == 200:
                    self.accepted.append(device)
                else:
                    assert answer.status_code == 401, answer.text
                    assert answer.json()["type"].endswith("/invalid-credentials"), answer.text
                    last = True
                turn += 1
                self.under_way.set()
        finally:
            self.under_way.set()


def race_sign_ins(
    replicas: Replicas, account: Account, other: Callable[[], None]
) -> tuple[list[Device], list[int]]:
    """Sign in around something else.

    Returns:
        The devices that were let in, and the answers to the last attempts, which were begun after
        the other thing was answered, or refused.
    """
    over = Event()
    people = [SignIns(replicas, account, number, over) for number in range(3)]
    with ThreadPoolExecutor(len(people)) as pool:
        running = [pool.submit(each.run) for each in people]
        try:
            for each in people:
                assert each.under_way.wait(PATIENCE_S)
            other()
        finally:
            over.set()
    results_of(running)
    devices = [device for each in people for device in each.accepted]
    assert len(devices) >= len(people)
    return devices, [each.last_status for each in people]


def assert_all_ended(
    replicas: Replicas, log: EventLog, devices: Sequence[Device], account: Account, by: str
) -> None:
    """Assert that sessions are dead, and that none of them began after the event that ended all."""
    (event,) = of_type(log.of_user(account.user_id), by)
    for device in devices:
        assert log.of_family(family_of(device))[0].position < event.position
        assert_dead(replicas, device, {device.refresh_token}, {device.access_token})


def test_login_vs_logout_all(replicas: Replicas, log: EventLog) -> None:
    for number in range(ROUNDS):
        account = replicas.add_user()
        caller = replicas.signed_in(account, number)

        def end_all(caller: Device = caller) -> None:
            answer = caller.post("/v1/logout-all")
            assert answer.status_code == 200, answer.text

        devices, last = race_sign_ins(replicas, account, end_all)

        assert last == [200] * 3
        (ended,) = of_type(log.of_user(account.user_id), "UserSessionsEnded")
        before: list[Device] = []
        after: list[Device] = []
        for device in devices:
            started = log.of_family(family_of(device))[0]
            (before if started.position < ended.position else after).append(device)
        assert len(before) >= 3, "each was let in once before it"
        assert len(after) >= 3, "and once after it"
        assert ended.data["families"] == len(before) + 1
        assert_all_ended(replicas, log, [caller, *before], account, "UserSessionsEnded")
        for device in after:
            assert device.get("/v1/sessions").status_code == 200
            refreshed(device)


def test_login_vs_password_change(replicas: Replicas, log: EventLog) -> None:
    for number in range(ROUNDS):
        account = replicas.add_user()
        caller = replicas.signed_in(account, number)

        devices, last = race_sign_ins(
            replicas, account, partial(assert_password_changed, caller, account)
        )

        assert last == [401] * 3
        assert_all_ended(replicas, log, devices, account, "PasswordChanged")
        refreshed(caller)
        replicas.signed_in(replace(account, password=NEW_PASSWORD))
        assert replicas.device(1).login(account.username, account.password).status_code == 401


def test_login_vs_disable(replicas: Replicas, log: EventLog) -> None:
    for number in range(ROUNDS):
        account = replicas.add_user()
        caller = replicas.signed_in(account, number)

        devices, last = race_sign_ins(replicas, account, partial(disable_user, replicas, account))

        assert last == [401] * 3
        assert_all_ended(replicas, log, [caller, *devices], account, "UserDisabled")
        assert replicas.device(1).login(account.username, account.password).status_code == 401


# ---------------------------------------------------------------------------- after all of it


def test_the_service_itself_finds_every_row_to_be_its_fold(replicas: Replicas) -> None:
    replicas.signed_in(replicas.add_user())

    verified = command(replicas.services[0].environment, "projections", "verify")

    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_no_race_was_an_error_to_the_service(replicas: Replicas) -> None:
    replicas.signed_in(replicas.add_user())

    for running in replicas.services:
        assert running.process.poll() is None
        assert '"error"' not in running.log()
        assert_no_secret_in(running.log())
