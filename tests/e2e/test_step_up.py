"""Step-up over HTTP: nothing is refreshed until the user has proved themself again."""

from collections.abc import Callable

import httpx
import jwt
import pytest

from domain.events.users import Role
from domain.service_keys import ServiceScope
from tests.e2e.accounts import Account, add_service_key, add_user, conninfo_of
from tests.e2e.clients import (
    CHROME,
    DEVICE_HEADER,
    REFRESH_COOKIE,
    Browser,
    Device,
    Json,
    assert_no_secret_in,
    set_cookies,
    used_secrets,
)
from tests.e2e.database import EventLog, types
from tests.e2e.service import RunningService, json_of

Devices = Callable[..., Device]
Post = Callable[..., httpx.Response]

WRONG = "not the password of anybody"


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def one(device: Devices, account: Account) -> Device:
    """A device that is signed in and has refreshed once."""
    made = signed_in(device(), account)
    assert made.refresh().status_code == 200
    return made


@pytest.fixture
def analyst(shared_service: RunningService, device: Devices) -> Device:
    return signed_in(device(), add_user(shared_service, roles=(Role.ANALYST,)))


@pytest.fixture(scope="module")
def backend(shared_service: RunningService) -> Post:
    """POSTs as a trusted backend."""
    scopes = (ServiceScope.CREATE_SESSIONS, ServiceScope.INTROSPECT_TOKENS)
    bearer = {"Authorization": f"Bearer {add_service_key(shared_service, *scopes).text}"}

    def post(path: str, **content: object) -> httpx.Response:
        return httpx.post(shared_service.url + path, headers=bearer, timeout=30, **content)  # type: ignore[arg-type]  # json or data

    return post


def signed_in(device: Device, account: Account) -> Device:
    answer = device.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return device


def require_step_up(analyst: Device, target: Json) -> httpx.Response:
    return analyst.post(f"/v1/families/{target['family_id']}/require-step-up")


def under_step_up(analyst: Device, target: Json) -> None:
    assert require_step_up(analyst, target).status_code == 204


def assert_step_up_required(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.json()["type"] == "/problems/step-up-required"
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="sessiontrail", error="insufficient_user_authentication", max_age="0"'
    )
    assert "set-cookie" not in answer.headers


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"/problems/{slug}"


def claims_of(access_token: str) -> Json:
    claims: Json = jwt.decode(access_token, options={"verify_signature": False})
    return claims


def history(log: EventLog, session: Json) -> list[str]:
    return types(log.of_family(session["family_id"]))


# ---------------------------------------------------------------------------- the user's own


def test_nothing_is_refreshed_until_the_user_reauthenticates(
    one: Device, analyst: Device, account: Account, log: EventLog
) -> None:
    under_step_up(analyst, one.session)

    refused = [one.refresh(), one.refresh()]
    proved = one.reauthenticate(account.password)

    for answer in refused:
        assert_step_up_required(answer)
    assert proved.status_code == 200
    assert proved.json()["session"]["generation"] == 3
    assert one.refresh().status_code == 200
    events = log.of_family(one.session["family_id"])
    assert types(events) == [
        "SessionStarted",
        "RefreshTokenRotated",
        "StepUpRequired",
        "StepUpCompleted",
        "RefreshTokenRotated",
        "RefreshTokenRotated",
    ]
    required, completed, rotated = events[2:5]
    assert required.actor == f"staff:{analyst.session['user_id']}"
    assert (completed.actor, completed.data) == ("user", {"auth_methods": ["pwd"]})
    assert completed.personal is not None
    assert completed.correlation_id == rotated.correlation_id == proved.headers["x-request-id"]


def test_reauthentication_renews_when_and_how_the_user_proved_themself(
    one: Device, account: Account, log: EventLog
) -> None:
    before = claims_of(one.access_token)

    answer = one.reauthenticate(account.password)

    assert answer.status_code == 200
    after = claims_of(one.access_token)
    row = log.session(one.session["session_id"])
    assert before["auth_time"] <= after["auth_time"] == int(row["signed_in_at"].timestamp())
    assert row["signed_in_at"] > row["started_at"]
    assert after["amr"] == ["pwd"]
    assert history(log, one.session)[-2:] == ["StepUpCompleted", "RefreshTokenRotated"]


def test_a_lost_answer_is_asked_for_again(one: Device, analyst: Device, account: Account) -> None:
    under_step_up(analyst, one.session)
    presented = one.refresh_token
    assert one.reauthenticate(account.password).status_code == 200
    successor, one.refresh_token = one.refresh_token, presented

    again = one.reauthenticate(account.password)

    assert again.json()["refresh_token"] == successor


def test_a_browser_reauthenticates_with_its_cookie(
    shared_service: RunningService, analyst: Device, account: Account, http: httpx.Client
) -> None:
    browser = Browser(shared_service.url, http)
    session = browser.login(account.username, account.password).json()["session"]
    under_step_up(analyst, session)
    kept = dict(browser.cookies)

    refused = browser.post("/v1/refresh")
    proved = browser.post("/v1/reauthenticate", {"password": account.password})

    assert_step_up_required(refused)
    assert proved.status_code == 200
    assert "refresh_token" not in proved.json()
    morsel = set_cookies(proved)[REFRESH_COOKIE]
    assert morsel.value != kept[REFRESH_COOKIE]
    assert (morsel["secure"], morsel["httponly"], morsel["samesite"]) == (True, True, "Strict")
    assert browser.post("/v1/refresh").status_code == 200


@pytest.mark.parametrize(
    "foreign", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_site_cannot_reauthenticate_with_the_cookie(
    shared_service: RunningService,
    account: Account,
    http: httpx.Client,
    log: EventLog,
    foreign: dict[str, str],
) -> None:
    browser = Browser(shared_service.url, http)
    session = browser.login(account.username, account.password).json()["session"]

    answer = browser.post("/v1/reauthenticate", {"password": account.password}, foreign)

    assert_problem(answer, 403, "cross-site-request")
    assert history(log, session) == ["SessionStarted"]


def test_the_cookie_and_a_token_in_the_body_are_one_too_many(
    shared_service: RunningService, one: Device, account: Account, http: httpx.Client
) -> None:
    browser = Browser(shared_service.url, http)
    browser.login(account.username, account.password)
    body = {"password": account.password, "refresh_token": one.refresh_token}

    answer = browser.post("/v1/reauthenticate", body)

    assert_problem(answer, 400, "ambiguous-token")


@pytest.mark.parametrize("token", [None, "", "str_nonsense"])
def test_reauthentication_needs_a_token_of_ours(
    shared_service: RunningService, http: httpx.Client, account: Account, token: str | None
) -> None:
    body = {"password": account.password, "refresh_token": token}

    answer = http.post(f"{shared_service.url}/v1/reauthenticate", json=body)

    assert_problem(answer, 401, "invalid-grant")


# ---------------------------------------------------------------------------- thieves


def test_a_thief_with_the_current_token_gets_nowhere_and_is_caught_afterwards(
    one: Device, analyst: Device, account: Account, device: Devices, log: EventLog
) -> None:
    under_step_up(analyst, one.session)
    thief = device(user_agent=CHROME)
    thief.refresh_token = one.refresh_token

    before = [thief.refresh(), thief.reauthenticate(WRONG)]
    proved = one.reauthenticate(account.password)
    after = thief.refresh()

    assert_step_up_required(before[0])
    assert_problem(before[1], 401, "invalid-credentials")
    assert proved.status_code == 200
    assert_problem(after, 401, "invalid-grant")
    assert history(log, one.session)[-2:] == ["RefreshTokenReused", "FamilyRevoked"]


@pytest.mark.parametrize("knows_the_password", [True, False])
@pytest.mark.parametrize("way", ["refresh", "reauthenticate"])
def test_a_reuse_revokes_whether_or_not_a_step_up_is_pending(
    one: Device,
    analyst: Device,
    account: Account,
    device: Devices,
    log: EventLog,
    way: str,
    *,
    knows_the_password: bool,
) -> None:
    thief = device(user_agent=CHROME)
    thief.refresh_token = one.refresh_token
    assert one.refresh().status_code == 200
    under_step_up(analyst, one.session)
    password = account.password if knows_the_password else WRONG

    answer = thief.refresh() if way == "refresh" else thief.reauthenticate(password)

    assert_problem(answer, 401, "invalid-grant")
    assert history(log, one.session)[-2:] == ["RefreshTokenReused", "FamilyRevoked"]
    assert_problem(one.reauthenticate(account.password), 401, "invalid-grant")


def test_an_access_token_opens_no_door_until_its_user_has_proved_themself(
    one: Device, analyst: Device, account: Account, backend: Post
) -> None:
    under_step_up(analyst, one.session)

    doors = [one.get("/v1/sessions"), one.post("/v1/logout-others")]
    told = [
        json_of(backend("/oauth/introspect", data={"token": token}))
        for token in (one.access_token, one.refresh_token)
    ]
    one.reauthenticate(account.password)

    for answer in doors:
        assert_step_up_required(answer)
    assert told == [{"active": False}] * 2
    assert one.get("/v1/sessions").status_code == 200
    for token in (one.access_token, one.refresh_token):
        assert json_of(backend("/oauth/introspect", data={"token": token}))["active"] is True


def test_a_device_signs_out_whether_or_not_a_step_up_is_pending(
    one: Device, analyst: Device, log: EventLog
) -> None:
    under_step_up(analyst, one.session)

    answer = one.post("/v1/logout")

    assert answer.status_code == 204
    assert history(log, one.session)[-1] == "SessionEnded"


# ---------------------------------------------------------------------------- limits


def test_a_wrong_password_counts_as_a_failed_sign_in(
    private_service: Callable[..., RunningService], http: httpx.Client
) -> None:
    running = private_service(
        SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT="3/hour",
        SESSIONTRAIL_LIMIT_LOGIN_PER_KNOWN_DEVICE="2/hour",
    )
    account = add_user(running)
    log = EventLog(conninfo_of(running))
    one = Device(running.url, http)
    told = one.login(account.username, account.password).json()
    known = Device(running.url, http, headers={DEVICE_HEADER: told["device_token"]})
    known.refresh_token = one.refresh_token

    strange = [one.reauthenticate(WRONG) for _ in range(4)]
    right = one.reauthenticate(account.password)
    elsewhere = Device(running.url, http).login(account.username, account.password)
    own = [known.reauthenticate(WRONG), known.reauthenticate(account.password)]

    assert [answer.status_code for answer in strange] == [401, 401, 401, 429]
    assert_problem(strange[0], 401, "invalid-credentials")
    assert (right.status_code, elsewhere.status_code) == (429, 429)
    assert int(right.headers["retry-after"]) > 0
    assert [answer.status_code for answer in own] == [401, 200]
    running.stop()
    counted = log.of_type("SignInFailuresCounted")
    assert sum(event.data["failures"] for event in counted) == 7
    assert sum(event.data.get("limited", 0) for event in counted) == 3
    assert_no_secret_in(running.log())


def test_reauthentication_counts_as_a_refresh(
    private_service: Callable[..., RunningService], http: httpx.Client
) -> None:
    running = private_service(SESSIONTRAIL_LIMIT_REFRESH_PER_SESSION="2/hour")
    account = add_user(running)
    one = signed_in(Device(running.url, http), account)

    answers = [one.reauthenticate(account.password) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


# ---------------------------------------------------------------------------- backends, OAuth


def opened_by(backend: Post, device: Device, subject: str) -> Device:
    """A device with the tokens of a session that a backend opened."""
    answer = backend("/v1/sessions", json={"subject": subject, "auth_methods": ["otp"]})
    tokens = json_of(answer, 201)
    device.access_token, device.refresh_token = (
        str(tokens["access_token"]),
        str(tokens["refresh_token"]),
    )
    used_secrets.update({device.access_token, device.refresh_token})
    session = tokens["session"]
    assert isinstance(session, dict)
    device.session = session
    return device


def told_of(backend: Post, session: Json, **body: object) -> httpx.Response:
    path = f"/v1/sessions/{session['session_id']}/reauthenticated"
    return backend(path, json={"auth_methods": ["hwk", "user"], **body})


def test_a_backend_tells_that_its_user_proved_themself_and_the_same_token_is_good(
    analyst: Device, device: Devices, backend: Post, log: EventLog
) -> None:
    one = opened_by(backend, device(), "customer-42")
    under_step_up(analyst, one.session)
    assert_step_up_required(one.refresh())
    client = {"ip": "203.0.113.9", "user_agent": CHROME}

    told = told_of(backend, one.session, client=client)

    assert (told.status_code, told.content) == (204, b"")
    assert one.refresh().status_code == 200
    assert claims_of(one.access_token)["amr"] == ["hwk", "user"]
    completed = log.of_family(one.session["family_id"])[2]
    assert completed.type == "StepUpCompleted"
    assert completed.actor.startswith("service:")
    assert completed.data == {"auth_methods": ["hwk", "user"]}
    assert "203.0.113.9" not in str(completed)


def test_a_backend_cannot_stand_in_for_a_password_that_is_kept_here(
    one: Device, analyst: Device, backend: Post, log: EventLog
) -> None:
    under_step_up(analyst, one.session)

    answer = told_of(backend, one.session)

    assert_problem(answer, 409, "conflict")
    assert_step_up_required(one.refresh())
    assert history(log, one.session)[-1] == "StepUpRequired"


def test_a_password_cannot_stand_in_for_a_backend(
    analyst: Device, device: Devices, backend: Post
) -> None:
    one = opened_by(backend, device(), "customer-43")
    under_step_up(analyst, one.session)

    answer = one.reauthenticate(WRONG)

    assert_problem(answer, 401, "invalid-credentials")
    assert_step_up_required(one.refresh())


def test_a_backend_is_told_what_is_wrong_with_what_it_tells(
    analyst: Device, device: Devices, backend: Post
) -> None:
    one = opened_by(backend, device(), "customer-44")
    nobody = {"session_id": one.session["family_id"]}

    unknown = [told_of(backend, nobody), told_of(backend, {"session_id": "nonsense"})]
    unreadable = [
        told_of(backend, one.session, auth_methods=[]),
        told_of(backend, one.session, client={"ip": "not an address"}),
        told_of(backend, one.session, more=1),
    ]
    analyst.delete(f"/v1/families/{one.session['family_id']}")
    over = told_of(backend, one.session)

    for answer in unknown:
        assert_problem(answer, 404, "not-found")
    for answer in unreadable:
        assert_problem(answer, 422, "invalid-input")
    assert_problem(over, 409, "conflict")


def test_only_a_backend_that_opens_sessions_may_tell(
    shared_service: RunningService, device: Devices, backend: Post, http: httpx.Client
) -> None:
    one = opened_by(backend, device(), "customer-45")
    url = f"{shared_service.url}/v1/sessions/{one.session['session_id']}/reauthenticated"
    other = add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS).text
    body = {"auth_methods": ["pwd"]}

    def as_bearer_of(token: str) -> httpx.Response:
        return http.post(url, json=body, headers={"Authorization": f"Bearer {token}"})

    assert_problem(http.post(url, json=body), 401, "invalid-service-key")
    assert_problem(as_bearer_of(one.access_token), 401, "invalid-service-key")
    assert_problem(as_bearer_of(other), 403, "forbidden")


def test_the_token_endpoint_says_so_in_the_way_of_oauth(
    one: Device, analyst: Device, account: Account, http: httpx.Client
) -> None:
    under_step_up(analyst, one.session)

    def exchange() -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}
        return http.post(f"{one.url}/oauth/token", data=form)

    refused = exchange()
    one.reauthenticate(account.password)
    accepted = exchange()

    assert json_of(refused, 400)["error"] == "insufficient_user_authentication"
    assert refused.headers["cache-control"] == "no-store"
    used_secrets.update({accepted.json()["access_token"], accepted.json()["refresh_token"]})
    assert accepted.status_code == 200


# ---------------------------------------------------------------------------- staff


def test_to_require_it_twice_is_no_error_and_one_event(
    one: Device, analyst: Device, log: EventLog
) -> None:
    answers = [require_step_up(analyst, one.session) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert history(log, one.session).count("StepUpRequired") == 1


def test_nothing_is_required_of_a_family_that_is_over_or_unknown(
    one: Device, analyst: Device
) -> None:
    one.post("/v1/logout")

    over = require_step_up(analyst, one.session)
    unknown = [
        require_step_up(analyst, {"family_id": one.session["session_id"]}),
        require_step_up(analyst, {"family_id": "nonsense"}),
    ]

    assert_problem(over, 409, "conflict")
    for answer in unknown:
        assert_problem(answer, 404, "not-found")


@pytest.mark.parametrize("roles", [(), (Role.AUDITOR,)])
def test_who_may_not_act_may_not_require_it(
    shared_service: RunningService,
    one: Device,
    device: Devices,
    log: EventLog,
    roles: tuple[Role, ...],
) -> None:
    somebody = signed_in(device(), add_user(shared_service, roles=roles))

    answer = require_step_up(somebody, one.session)

    assert_problem(answer, 403, "forbidden")
    assert "StepUpRequired" not in history(log, one.session)


def test_an_analyst_under_step_up_acts_no_more(
    shared_service: RunningService, one: Device, analyst: Device, device: Devices
) -> None:
    admin = signed_in(device(), add_user(shared_service, roles=(Role.ADMIN,)))
    under_step_up(admin, analyst.session)

    answer = require_step_up(analyst, one.session)

    assert_step_up_required(answer)


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
