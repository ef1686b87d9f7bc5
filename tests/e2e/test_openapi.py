"""The OpenAPI document is true: Schemathesis runs it, and every success is as it says."""

from collections.abc import Callable
from threading import Lock

import httpx
import pytest
import schemathesis
from schemathesis import AuthContext, BaseSchema, Case
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from domain.events.users import Role
from domain.service_keys import ServiceScope
from infra.service_keys import NewServiceKey
from tests.e2e.accounts import Account, add_service_key, add_user
from tests.e2e.clients import Device, assert_no_secret_in, set_cookies, used_secrets
from tests.e2e.service import RunningService

CONFIGURATION = {
    "seed": 1,
    "generation": {"max-examples": 8, "deterministic": True, "database": "none"},
    "phases": {"stateful": {"enabled": False}},
    "checks": {
        # What a schema cannot say is refused too: a wrong password, an id that nobody has.
        "positive_data_acceptance": {"enabled": False},
        # A sign-out that is repeated is no error, and neither is what was asked of it.
        "use_after_free": {"enabled": False},
        "ensure_resource_availability": {"enabled": False},
    },
}
BY_SERVICE_KEY = {("POST", "/v1/sessions"), ("POST", "/oauth/introspect")}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}

Answers = dict[tuple[str, str], list[httpx.Response]]


@pytest.fixture(scope="module")
def api_schema(shared_service: RunningService) -> BaseSchema:
    """As the running service serves it."""
    return loaded(shared_service)


def loaded(running: RunningService) -> BaseSchema:
    config = schemathesis.Config.from_dict(CONFIGURATION)
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json", config=config)


@pytest.fixture(scope="module")
def staff_member(shared_service: RunningService) -> Account:
    return add_user(shared_service, roles=(Role.ADMIN,))


@pytest.fixture(scope="module")
def service_key(shared_service: RunningService) -> NewServiceKey:
    return add_service_key(
        shared_service, ServiceScope.CREATE_SESSIONS, ServiceScope.INTROSPECT_TOKENS
    )


class LiveAccess:
    """An access token that is always good: signs in again when a request has ended the session."""

    def __init__(self, url: str, account: Account) -> None:
        self._one = Device(url, httpx.Client(timeout=30))
        self._account = account
        self._lock = Lock()

    def token(self) -> str:
        with self._lock:
            if self._one.get("/v1/sessions?limit=1").status_code != 200:
                answer = self._one.login(self._account.username, self._account.password)
                assert answer.status_code == 200
            return self._one.access_token

    def close(self) -> None:
        self._one.http.close()


@pytest.fixture(scope="module")
def live_access(shared_service: RunningService, staff_member: Account) -> LiveAccess:
    return LiveAccess(shared_service.url, staff_member)


def faults_of(schema: BaseSchema) -> tuple[set[str], list[str]]:
    """Run a document; the operations that were tried, and all that Schemathesis has to say."""
    tried: set[str] = set()
    faults: list[str] = []
    for event in from_schema(schema).execute():
        match event:
            case ScenarioFinished(label=str(label), recorder=recorder):
                tried.add(label)
                for case_id, checks in recorder.checks.items():
                    failed = [check.failure_info for check in checks if check.failure_info]
                    if failed:
                        sent = recorder.cases[case_id].value
                        faults += [
                            f"{label}: {info.failure.title}: {info.failure.message}\n"
                            f"{sent.formatted_path} {sent.query} {sent.body!r}"
                            for info in failed
                        ]
            case NonFatalError(value=error, label=label):
                faults.append(f"{label}: {error!r}")
            case FatalError(exception=error):
                raise error
            case _:
                pass
    return tried, faults


def operations_of(schema: BaseSchema) -> set[str]:
    return {
        f"{method.upper()} {path}"
        for path, operations in schema.raw_schema["paths"].items()
        for method in operations.keys() & METHODS
    }


def test_whatever_a_stranger_sends_is_answered_as_documented(
    shared_service: RunningService,
) -> None:
    schema = loaded(shared_service)

    tried, faults = faults_of(schema)

    assert faults == [], "\n\n".join(faults)
    assert tried == operations_of(schema)


def test_whatever_a_known_caller_sends_is_answered_as_documented(
    shared_service: RunningService, live_access: LiveAccess, service_key: NewServiceKey
) -> None:
    schema = loaded(shared_service)

    @schema.auth(refresh_interval=None)
    class KnownCaller:
        def get(self, case: Case, _context: AuthContext) -> str:
            by_key = (case.method.upper(), case.operation.path) in BY_SERVICE_KEY
            return service_key.text if by_key else live_access.token()

        def set(self, case: Case, data: str, _context: AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {data}"

    tried, faults = faults_of(schema)

    assert faults == [], "\n\n".join(faults)
    assert tried == operations_of(schema)


def test_every_operation_succeeds_as_documented(
    api_schema: BaseSchema,
    shared_service: RunningService,
    http: httpx.Client,
    staff_member: Account,
    service_key: NewServiceKey,
) -> None:
    answers = successes(shared_service, http, staff_member, service_key)

    document = api_schema.raw_schema
    assert {f"{method} {path}" for method, path in answers} == operations_of(api_schema)
    for (method, path), given in answers.items():
        for answer in given:
            assert answer.is_success or answer.status_code == 304, (method, path, answer.text)
            described = document["paths"][path][method.lower()]["responses"]
            assert str(answer.status_code) in described, (method, path)
            content = described[str(answer.status_code)].get("content", {})
            sent = answer.headers.get("Content-Type", "").partition(";")[0]
            assert sent in content if answer.content else not content, (method, path, sent)
            api_schema[path][method].validate_response(answer)


def successes(
    running: RunningService, http: httpx.Client, person: Account, key: NewServiceKey
) -> Answers:
    """Every operation at its best, in every way that it can be asked."""
    by_key = {"Authorization": f"Bearer {key.text}"}
    answers: Answers = {}

    def note(method: str, path: str, *given: httpx.Response) -> None:
        answers.setdefault((method, path), []).extend(given)

    def device() -> Device:
        one = Device(running.url, http)
        note("POST", "/v1/login", one.login(person.username, person.password, device_name="büro"))
        return one

    def opened(subject: str) -> Device:
        one = Device(running.url, http)
        answer = http.post(f"{one.url}/v1/sessions", json={"subject": subject}, headers=by_key)
        note("POST", "/v1/sessions", answer)
        one.access_token = answer.json()["access_token"]
        one.refresh_token = answer.json()["refresh_token"]
        one.session = answer.json()["session"]
        used_secrets.update({one.access_token, one.refresh_token})
        return one

    one = device()
    url = one.url
    browser = {"username": person.username, "password": person.password, "remember_me": False}
    by_cookie = http.post(f"{url}/v1/login", json=browser, headers={"User-Agent": "x"})
    jar = "; ".join(f"{name}={kept.value}" for name, kept in set_cookies(by_cookie).items())
    note("POST", "/v1/login", by_cookie)
    refreshed_by_cookie = http.post(f"{url}/v1/refresh", headers={"Cookie": jar})
    note("POST", "/v1/refresh", one.refresh(), refreshed_by_cookie)
    form = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}
    exchanged = http.post(f"{url}/oauth/token", data=form)
    one.refresh_token = exchanged.json()["refresh_token"]
    used_secrets.update(
        {exchanged.json()["access_token"], one.refresh_token}
        | {kept.value for kept in set_cookies(by_cookie).values()}
    )
    note("POST", "/oauth/token", exchanged)
    for token in (one.access_token, one.refresh_token, "unknown"):
        asked = http.post(f"{url}/oauth/introspect", data={"token": token}, headers=by_key)
        note("POST", "/oauth/introspect", asked)

    note("GET", "/v1/sessions", one.get("/v1/sessions"), one.get("/v1/sessions?limit=1"))
    stranger = opened("somebody else")
    other, another = device(), device()
    sid = other.session["session_id"]
    renamed = one.patch(f"/v1/sessions/{sid}", {"device_name": "📱"})
    note("PATCH", "/v1/sessions/{session_id}", renamed)
    for _ in range(2):
        note("DELETE", "/v1/sessions/{session_id}", one.delete(f"/v1/sessions/{sid}"))
    note("POST", "/v1/logout", another.post("/v1/logout"))
    by_token = {"refresh_token": device().refresh_token}
    note("POST", "/v1/logout", http.post(f"{url}/v1/logout", json=by_token))
    note("POST", "/v1/logout-others", one.post("/v1/logout-others"))
    for token in (device().access_token, device().refresh_token, "unknown"):
        note("POST", "/oauth/revoke", http.post(f"{url}/oauth/revoke", data={"token": token}))

    of_user = f"/v1/users/{stranger.session['user_id']}/sessions"
    note("GET", "/v1/users/{user_id}/sessions", one.get(of_user))
    ended = one.delete(f"{of_user}/{stranger.session['session_id']}")
    note("DELETE", "/v1/users/{user_id}/sessions/{session_id}", ended)
    family = opened("somebody else").session["family_id"]
    note("DELETE", "/v1/families/{family_id}", one.delete(f"/v1/families/{family}"))
    note("DELETE", "/v1/users/{user_id}/sessions", one.delete(of_user))

    same = {"current_password": person.password, "new_password": person.password}
    note("POST", "/v1/password", one.post("/v1/password", same))
    note("POST", "/v1/logout-all", one.post("/v1/logout-all"))
    for path in ("/.well-known/oauth-authorization-server", "/healthz", "/readyz", "/metrics"):
        note("GET", path, http.get(url + path))
    keys = http.get(f"{url}/.well-known/jwks.json")
    unchanged = http.get(keys.url, headers={"If-None-Match": keys.headers["ETag"]})
    note("GET", "/.well-known/jwks.json", keys, unchanged)
    note("GET", "/problems/{slug}", http.get(f"{url}/problems/invalid-grant"))
    return answers


def test_what_needs_authentication_says_so_and_nothing_else_does(
    api_schema: BaseSchema, http: httpx.Client, shared_service: RunningService
) -> None:
    document = api_schema.raw_schema
    known = document["components"]["securitySchemes"].keys()
    for path, operations in document["paths"].items():
        for method in operations.keys() & METHODS:
            security = operations[method].get("security", [])
            assert {name for way in security for name in way} <= known
            address = shared_service.url + path.replace("{", "").replace("}", "")
            answer = http.request(method, address)
            if security and {} not in security:
                assert answer.status_code in {401, 422}, (method, path)
                assert "401" in operations[method]["responses"]
            elif not security:
                assert answer.status_code != 401, (method, path)


def test_every_problem_kind_has_a_page_that_its_type_leads_to(
    device: Callable[..., Device], http: httpx.Client, shared_service: RunningService
) -> None:
    refused = device().login("nobody@example.com", "not the password").json()

    page = http.get(shared_service.url + refused["type"]).json()

    assert page == {name: refused[name] for name in ("type", "title", "status")}


def test_no_secret_is_in_the_log_and_no_fault(
    shared_service: RunningService, live_access: LiveAccess
) -> None:
    live_access.close()
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
