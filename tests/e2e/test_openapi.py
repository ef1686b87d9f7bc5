"""The OpenAPI document is true: Schemathesis runs it, and every success is as it says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import httpx
import pytest
import schemathesis
from schemathesis import AuthContext, BaseSchema, Case
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from domain.events.users import Role
from domain.ids import FamilyId, UserId
from domain.service_keys import ServiceScope
from infra.service_keys import NewServiceKey
from tests.alerts import raised, repeated
from tests.e2e.accounts import Account, add_service_key, add_user, conninfo_of
from tests.e2e.alerts import raise_alert
from tests.e2e.clients import Device, Json, assert_no_secret_in, set_cookies, used_secrets
from tests.e2e.service import RunningService
from tests.integration.tree_world import sequenced

CONFIGURATION = {
    "seed": 1,
    "generation": {"max-examples": 20, "deterministic": True, "database": "none"},
    "phases": {"stateful": {"enabled": False}},
    "checks": {
        # What a schema cannot say is refused too: a wrong password, an id that nobody has.
        "positive_data_acceptance": {"enabled": False},
        # A sign-out that is repeated is no error, and neither is what was asked of it.
        "use_after_free": {"enabled": False},
        "ensure_resource_availability": {"enabled": False},
    },
}
pytestmark = pytest.mark.timeout(400)
"""Some thousand requests each, on whatever machine."""
BY_SERVICE_KEY = {
    ("POST", "/v1/sessions"),
    ("POST", "/v1/sessions/{session_id}/reauthenticated"),
    ("POST", "/oauth/introspect"),
}
STREAM = "/v1/alerts/stream"
"""Never ends for a caller who may read it: Schemathesis would wait for ever."""
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}

AnyCase = Case[Any]
"""Any: Schemathesis calls the type of its operations by a name of its own."""
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
    return add_user(shared_service, roles=(Role.ADMIN, Role.AUDITOR))


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
            live = self._one.access_token and self._one.get("/v1/sessions?limit=1").is_success
            if not live:
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
    schema = loaded(shared_service).exclude(path=STREAM)

    @schema.auth(refresh_interval=None)
    class KnownCaller:
        def get(self, case: AnyCase, _context: AuthContext) -> str:
            by_key = (case.method.upper(), case.operation.path) in BY_SERVICE_KEY
            return service_key.text if by_key else live_access.token()

        def set(self, case: AnyCase, data: str, _context: AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {data}"

    tried, faults = faults_of(schema)

    assert faults == [], "\n\n".join(faults)
    assert tried == operations_of(schema) - {f"GET {STREAM}"}


def test_every_operation_succeeds_as_documented(
    api_schema: BaseSchema,
    shared_service: RunningService,
    http: httpx.Client,
    staff_member: Account,
    service_key: NewServiceKey,
) -> None:
    answers = Tour(shared_service, http, staff_member, service_key).whole()

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


@dataclass(frozen=True, slots=True)
class Tour:
    """Every operation at its best, in every way that it can be asked, and what was answered."""

    service: RunningService
    http: httpx.Client
    person: Account
    key: NewServiceKey
    answers: Answers = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.service.url

    def whole(self) -> Answers:
        self.tokens()
        self.own_sessions()
        self.sign_outs()
        self.staff()
        self.alerts()
        self.policy()
        self.past()
        self.tree()
        self.documents()
        return self.answers

    def note(self, method: str, path: str, *given: httpx.Response) -> None:
        self.answers.setdefault((method, path), []).extend(given)

    @property
    def by_key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key.text}"}

    def device(self) -> Device:
        one = Device(self.url, self.http)
        answer = one.login(self.person.username, self.person.password, device_name="büro")
        self.note("POST", "/v1/login", answer)
        return one

    def opened(self, subject: str) -> Json:
        """A session that a backend opened."""
        body = {"subject": subject}
        answer = self.http.post(f"{self.url}/v1/sessions", json=body, headers=self.by_key)
        self.note("POST", "/v1/sessions", answer)
        tokens: Json = answer.json()
        used_secrets.update({tokens["access_token"], tokens["refresh_token"]})
        session: Json = tokens["session"]
        return session

    def tokens(self) -> None:
        one = self.device()
        body = {"username": self.person.username, "password": self.person.password}
        by_cookie = self.http.post(f"{self.url}/v1/login", json=body | {"remember_me": False})
        cookies = {name: kept.value for name, kept in set_cookies(by_cookie).items()}
        used_secrets.update(cookies.values())
        jar = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        self.note("POST", "/v1/login", by_cookie)
        refreshed = self.http.post(f"{self.url}/v1/refresh", headers=jar)
        self.note("POST", "/v1/refresh", one.refresh(), refreshed)
        self.note("POST", "/v1/reauthenticate", one.reauthenticate(self.person.password))
        form = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}
        exchanged = self.http.post(f"{self.url}/oauth/token", data=form)
        used_secrets.add(exchanged.json()["refresh_token"])
        self.note("POST", "/oauth/token", exchanged)
        for token in (one.access_token, exchanged.json()["refresh_token"], "unknown"):
            asked = self.http.post(
                f"{self.url}/oauth/introspect", data={"token": token}, headers=self.by_key
            )
            self.note("POST", "/oauth/introspect", asked)

    def own_sessions(self) -> None:
        one, other = self.device(), self.device()
        path = f"/v1/sessions/{other.session['session_id']}"
        self.note("GET", "/v1/sessions", one.get("/v1/sessions"), one.get("/v1/sessions?limit=1"))
        renamed = one.patch(path, {"device_name": "📱"})
        self.note("PATCH", "/v1/sessions/{session_id}", renamed)
        self.note("DELETE", "/v1/sessions/{session_id}", one.delete(path), one.delete(path))
        old = self.person.password
        same = {"current_password": old, "new_password": old}
        self.note("POST", "/v1/password", one.post("/v1/password", same))

    def sign_outs(self) -> None:
        one = self.device()
        by_token = {"refresh_token": self.device().refresh_token}
        self.note("POST", "/v1/logout", self.device().post("/v1/logout"))
        self.note("POST", "/v1/logout", self.http.post(f"{self.url}/v1/logout", json=by_token))
        self.note("POST", "/v1/logout-others", one.post("/v1/logout-others"))
        self.note("POST", "/v1/logout-all", one.post("/v1/logout-all"))
        for token in (self.device().access_token, self.device().refresh_token, "unknown"):
            revoked = self.http.post(f"{self.url}/oauth/revoke", data={"token": token})
            self.note("POST", "/oauth/revoke", revoked)

    def staff(self) -> None:
        one, first, second = self.device(), self.opened("somebody"), self.opened("somebody")
        sessions = f"/v1/users/{first['user_id']}/sessions"
        self.note("GET", "/v1/users/{user_id}/sessions", one.get(sessions))
        ended = one.delete(f"{sessions}/{first['session_id']}")
        self.note("DELETE", "/v1/users/{user_id}/sessions/{session_id}", ended)
        family = f"/v1/families/{second['family_id']}"
        required = one.post(f"{family}/require-step-up")
        self.note("POST", "/v1/families/{family_id}/require-step-up", required)
        told = self.http.post(
            f"{self.url}/v1/sessions/{second['session_id']}/reauthenticated",
            json={"auth_methods": ["otp"], "client": {"ip": "203.0.113.7"}},
            headers=self.by_key,
        )
        self.note("POST", "/v1/sessions/{session_id}/reauthenticated", told)
        revoked = one.delete(family)
        self.note("DELETE", "/v1/families/{family_id}", revoked)
        self.note("DELETE", "/v1/users/{user_id}/sessions", one.delete(sessions))
        gone = f"/v1/users/{self.opened('somebody else')['user_id']}"
        self.note("DELETE", "/v1/users/{user_id}", one.delete(gone), one.delete(gone))

    def alerts(self) -> None:
        one, other = self.device(), self.opened("somebody")
        user_id, family_id = UserId(other["user_id"]), FamilyId(other["family_id"])
        about_a_family = raised(user_id=user_id, family_id=family_id)
        alert = raise_alert(self.service, about_a_family, repeated(facts={"new_city": "Oslo"}))
        raise_alert(self.service, raised())
        path = f"/v1/alerts/{alert.alert_id}"
        told = self.streamed(one)
        self.note("GET", STREAM, told)
        for deed, body in (
            ("acknowledge", None),
            ("assign", {"assignee": one.session["user_id"]}),
            ("comment", {"comment": "odd"}),
            ("revoke", {"what": "family"}),
            ("resolve", {"verdict": "true_positive", "comment": "a thief"}),
            ("reopen", None),
        ):
            answer = one.post(f"{path}/{deed}", body)
            self.note("POST", "/v1/alerts/{alert_id}/" + deed, answer)
        self.note("GET", "/v1/alerts/{alert_id}", one.get(path))
        self.note("GET", "/v1/alerts", one.get("/v1/alerts"), one.get("/v1/alerts?limit=1"))

    def streamed(self, one: Device) -> httpx.Response:
        """The beginning of the stream, as if it were all."""
        headers = {"Authorization": f"Bearer {one.access_token}"}
        with self.http.stream("GET", self.url + STREAM, headers=headers) as answer:
            first = next(answer.iter_bytes())
            kept = [pair for pair in answer.headers.multi_items() if "encoding" not in pair[0]]
            begun = httpx.Response(
                answer.status_code, headers=kept, content=first, request=answer.request
            )
            begun.elapsed = timedelta(0)
            return begun

    def policy(self) -> None:
        one = self.device()
        rules = one.get("/v1/rules")
        name = rules.json()["rules"][0]["name"]
        self.note("GET", "/v1/rules", rules)
        self.note("GET", "/v1/rules/{name}", one.get(f"/v1/rules/{name}"))
        settings = {"enabled": False, "severity": "low", "response": "record", "parameters": {}}
        configured = self.http.put(
            f"{self.url}/v1/rules/{name}",
            json=settings,
            headers={"Authorization": f"Bearer {one.access_token}"},
        )
        self.note("PUT", "/v1/rules/{name}", configured)
        until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        added = one.post("/v1/allow-list", {"asn": 64_500, "reason": "a test", "until": until})
        self.note("POST", "/v1/allow-list", added)
        self.note("GET", "/v1/allow-list", one.get("/v1/allow-list"))
        removed = one.delete(f"/v1/allow-list/{added.json()['id']}")
        self.note("DELETE", "/v1/allow-list/{entry_id}", removed)

    def past(self) -> None:
        one, other = self.device(), self.opened("somebody")
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        by_id = f"user={other['user_id']}"
        for query in (f"as_of={at}&limit=1", f"as_of={at}&{by_id}&status=live"):
            self.note("GET", "/v1/audit/sessions", one.get(f"/v1/audit/sessions?{query}"))
        span = f"since=2026-01-01T00:00:00Z&until={at}"
        for query in (f"{span}&limit=1", f"{span}&{by_id}"):
            self.note("GET", "/v1/audit/diff", one.get(f"/v1/audit/diff?{query}"))
        self.note("GET", "/v1/audit/history", one.get(f"/v1/audit/history?{by_id}&limit=1"))
        body = {"family": other["family_id"], "reason": "a test"}
        self.note("POST", "/v1/audit/reveals", one.post("/v1/audit/reveals", body))

    def tree(self) -> None:
        """With everything until here sequenced, as a sequencer beside the service does it."""
        folder = Path(self.service.environment["SESSIONTRAIL_DATA_DIR"], "tree")
        asyncio.run(sequenced(conninfo_of(self.service), folder))
        one = self.device()
        self.note("GET", "/tlog/checkpoint", self.http.get(f"{self.url}/tlog/checkpoint"))
        tile = self.http.get(f"{self.url}/tlog/tile/0/000.p/1")
        self.note("GET", "/tlog/tile/{level}/{name}", tile)
        self.note("GET", "/tlog/tile/entries/{name}", one.get("/tlog/tile/entries/000.p/1"))
        exported = one.post("/v1/audit/exports", {"format": "ocsf"})
        self.note("POST", "/v1/audit/exports", exported)
        proofs = "/v1/audit/proofs"
        self.note("GET", f"{proofs}/inclusion", one.get(f"{proofs}/inclusion?event=leaf:0"))
        self.note("GET", f"{proofs}/consistency", one.get(f"{proofs}/consistency?old=1"))

    def documents(self) -> None:
        for path in ("/.well-known/oauth-authorization-server", "/healthz", "/readyz", "/metrics"):
            self.note("GET", path, self.http.get(self.url + path))
        keys = self.http.get(f"{self.url}/.well-known/jwks.json")
        known = {"If-None-Match": keys.headers["ETag"]}
        unchanged = self.http.get(keys.url, headers=known)
        self.note("GET", "/.well-known/jwks.json", keys, unchanged)
        self.note("GET", "/problems/{slug}", self.http.get(f"{self.url}/problems/invalid-grant"))


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
