"""Other people's software against a running service: Authlib, PyJWT, and HTTP by hand."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from jwt import PyJWKClient

from domain.service_keys import ServiceScope
from tests.e2e.accounts import PASSWORD, Account, add_service_key, add_user
from tests.e2e.clients import Device, Json, assert_no_secret_in, used_secrets
from tests.e2e.database import MovableClock
from tests.e2e.service import RunningService, command

DEADLINE_S = 20.0
MAX_BODY_BYTES = 64 * 1024
PROBLEM_JSON = "application/problem+json"

Devices = Callable[..., Device]
Services = Callable[..., RunningService]


@pytest.fixture(scope="module")
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def signed_in(device: Devices, account: Account) -> Device:
    return sign_in(device(), account)


def sign_in(one: Device, account: Account) -> Device:
    assert one.login(account.username, account.password).status_code == 200
    return one


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; ask again and again, up to a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S} s: {what}"
        time.sleep(0.05)


# ---------------------------------------------------------------------------- Authlib


def discovered(url: str) -> AuthorizationServerMetadata:
    answer = requests.get(f"{url}/.well-known/oauth-authorization-server", timeout=10)
    assert answer.status_code == 200
    return AuthorizationServerMetadata(answer.json())


def authlib_client(one: Device, **more: object) -> OAuth2Session:
    """A public client that knows the metadata and holds the tokens of a signed-in device."""
    token = {
        "access_token": one.access_token,
        "refresh_token": one.refresh_token,
        "token_type": "Bearer",
        "expires_in": 600,
    }
    metadata = discovered(one.url)
    return OAuth2Session(
        client_id="first-party",
        token=token,
        token_endpoint=metadata["token_endpoint"],
        default_timeout=10,
        **more,
    )


def remember(token: Json) -> Json:
    used_secrets.update({token["access_token"], token["refresh_token"]})
    return token


def test_the_metadata_is_where_rfc_8414_looks_for_it_and_every_endpoint_answers(
    shared_service: RunningService,
) -> None:
    metadata = discovered(shared_service.url)

    assert metadata["issuer"] == shared_service.url
    # What else Authlib validates needs https, which the test's own loopback address has not.
    metadata.validate_response_types_supported()
    metadata.validate_grant_types_supported()
    metadata.validate_token_endpoint_auth_methods_supported()
    metadata.validate_introspection_endpoint_auth_methods_supported()
    metadata.validate_revocation_endpoint_auth_methods_supported()
    for name in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        assert requests.post(metadata[name], data={}, timeout=10).status_code in {400, 401}
    for name in ("jwks_uri", "service_documentation"):
        assert requests.get(metadata[name], timeout=10).status_code == 200


def test_authlib_refreshes_and_the_new_tokens_work(signed_in: Device) -> None:
    with authlib_client(signed_in) as client:
        first = remember(client.refresh_token())
        second = remember(client.refresh_token())

        assert len({signed_in.refresh_token, first["refresh_token"], second["refresh_token"]}) == 3
        assert client.get(f"{signed_in.url}/v1/sessions").status_code == 200


def test_authlib_refreshes_an_expired_access_token_by_itself(
    private_service: Services, http: httpx.Client
) -> None:
    running = private_service(SESSIONTRAIL_ACCESS_LIFETIME="1")
    one = sign_in(Device(running.url, http), add_user(running))
    until(lambda: one.get("/v1/sessions").status_code == 401, "the access token expires")
    updated: list[Json] = []

    def update_token(
        token: Json, refresh_token: str | None = None, access_token: str | None = None
    ) -> None:
        assert refresh_token == one.refresh_token
        assert access_token is None
        updated.append(remember(token))

    with authlib_client(one, update_token=update_token, leeway=0) as client:
        client.token = dict(client.token) | {"expires_at": int(time.time()) - 1}
        answer = client.get(f"{one.url}/v1/sessions")

    assert answer.status_code == 200
    assert len(updated) == 1
    assert updated[0]["refresh_token"] != one.refresh_token


def test_authlib_sees_a_refused_refresh_as_invalid_grant(
    signed_in: Device, device: Devices, account: Account
) -> None:
    signed_in.post("/v1/logout")
    with authlib_client(signed_in) as client, pytest.raises(OAuthError) as caught:
        client.refresh_token()
    assert caught.value.error == "invalid_grant"

    with authlib_client(sign_in(device(), account)) as client, pytest.raises(OAuthError) as caught:
        client.refresh_token(scope="everything")
    assert caught.value.error == "invalid_scope"


def test_a_client_with_a_secret_is_told_that_only_public_clients_are_served(
    signed_in: Device,
) -> None:
    with (
        authlib_client(signed_in, client_secret="not one that we gave out") as client,
        pytest.raises(OAuthError) as caught,
    ):
        client.refresh_token()

    assert caught.value.error == "invalid_client"
    assert signed_in.refresh().status_code == 200


@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
@pytest.mark.parametrize("hint", [None, "refresh_token", "access_token", "something_else"])
def test_authlib_revokes_by_either_token_whatever_the_hint(
    signed_in: Device, kind: str, hint: str | None
) -> None:
    with authlib_client(signed_in) as client:
        endpoint = discovered(signed_in.url)["revocation_endpoint"]

        for _ in range(2):
            revoked = client.revoke_token(endpoint, client.token[kind], token_type_hint=hint)
            assert revoked.status_code == 200

        assert client.get(f"{signed_in.url}/v1/sessions").status_code == 401
        with pytest.raises(OAuthError, match="invalid_grant"):
            client.refresh_token()


def test_authlib_introspects_with_a_service_key_as_client_secret_basic(
    shared_service: RunningService, signed_in: Device, account: Account
) -> None:
    key = add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS)
    endpoint = discovered(shared_service.url)["introspection_endpoint"]

    with OAuth2Session(
        client_id=key.key_id,
        client_secret=key.text,
        token_endpoint_auth_method="client_secret_basic",
        default_timeout=10,
    ) as client:
        of_access = client.introspect_token(endpoint, signed_in.access_token).json()
        of_refresh = client.introspect_token(
            endpoint, signed_in.refresh_token, token_type_hint="refresh_token"
        ).json()
        signed_in.post("/v1/logout")
        ended = [
            client.introspect_token(endpoint, token)
            for token in (signed_in.access_token, signed_in.refresh_token, "no token at all")
        ]

    assert of_access["active"] is of_refresh["active"] is True
    assert of_access["token_type"] == "Bearer"
    assert of_refresh["token_type"] == "refresh_token"
    assert of_access["sub"] == of_refresh["sub"] == signed_in.session["subject"]
    assert of_access["sid"] == of_refresh["sid"] == signed_in.session["session_id"]
    assert [answer.text for answer in ended] == ['{"active":false}'] * 3
    assert {answer.headers["Cache-Control"] for answer in ended} == {"no-store"}


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_authlib_is_refused_introspection_with_a_key_of_another_scope_or_none(
    shared_service: RunningService, signed_in: Device, way: str
) -> None:
    key = add_service_key(shared_service, ServiceScope.CREATE_SESSIONS)
    endpoint = discovered(shared_service.url)["introspection_endpoint"]

    for secret in (key.text, key.text[:-1], "ü:%&"):
        with OAuth2Session(
            client_id=key.key_id, client_secret=secret, token_endpoint_auth_method=way
        ) as client:
            refused = client.introspect_token(endpoint, signed_in.access_token)

        assert refused.status_code == 401
        assert refused.json() == {"error": "invalid_client"}
        assert refused.headers["WWW-Authenticate"].startswith("Basic")


# ---------------------------------------------------------------------------- PyJWT's JWKS client


class ResourceServer(PyJWKClient):
    """Verifies as a resource server does that knows nothing but the issuer; counts its fetches."""

    def __init__(self, issuer: str, cooldown_s: float = 0) -> None:
        super().__init__(discovered(issuer)["jwks_uri"], cooldown_duration=cooldown_s)
        self.issuer = issuer
        self.fetches = 0

    def fetch_data(self) -> Any:  # noqa: ANN401 (PyJWT's own signature)
        self.fetches += 1
        return super().fetch_data()

    def claims(self, token: str) -> Json:
        key = self.get_signing_key_from_jwt(token)
        assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
        claims: Json = jwt.decode(
            token,
            key,
            algorithms=["EdDSA", "ES256", "RS256"],
            audience=self.issuer,
            issuer=self.issuer,
            options={"require": ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"]},
        )
        return claims

    def kids(self) -> set[str]:
        return {str(key.key_id) for key in self.get_signing_keys(refresh=True)}


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def rotate(running: RunningService, *options: str) -> str:
    """The kid of the new key."""
    done = command(running.environment, "keys", "rotate", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0]


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_rotation_breaks_no_token_that_is_out_and_a_cached_client_recovers(
    signed_in: Device, shared_service: RunningService, algorithm: str
) -> None:
    server = ResourceServer(shared_service.url)
    before = signed_in.access_token
    server.claims(before)
    assert server.fetches == 1

    rotated = rotate(shared_service, "--algorithm", algorithm, "--publish-ahead", "0")
    until(lambda: signs_with(signed_in, rotated), "the service signs with the new key")

    after = signed_in.access_token
    assert server.claims(after)["sid"] == signed_in.session["session_id"]
    assert server.fetches == 2, "the unknown kid made the client look again, once"
    assert jwt.get_unverified_header(after)["alg"] == algorithm
    assert server.claims(before)["sid"] == signed_in.session["session_id"]
    assert {kid_of(before), rotated} <= ResourceServer(shared_service.url).kids()
    for token in (before, after):
        bearer = {"Authorization": f"Bearer {token}"}
        assert signed_in.http.get(f"{signed_in.url}/v1/sessions", headers=bearer).status_code == 200


def signs_with(one: Device, kid: str) -> bool:
    assert one.refresh().status_code == 200
    return kid_of(one.access_token) == kid


def test_a_key_published_ahead_is_in_every_cache_before_it_signs(
    owner_conninfo: str, private_service: Services, http: httpx.Client
) -> None:
    """With PyJWT's default cooldown of half a minute: it could not look again if it had to."""
    clock = MovableClock(owner_conninfo)
    clock.advance(timedelta(minutes=-5))  # the future that is waited for is still past for PyJWT
    running = private_service()
    one = sign_in(Device(running.url, http), add_user(running))

    rotated = rotate(running, "--publish-ahead", "120")
    until(lambda: rotated in ResourceServer(running.url).kids(), "the new key is published")
    server = ResourceServer(running.url, cooldown_s=30)
    assert one.refresh().status_code == 200
    before = one.access_token
    assert kid_of(before) != rotated
    server.claims(before)
    clock.advance(timedelta(seconds=121))
    assert one.refresh().status_code == 200
    after = one.access_token

    assert kid_of(after) == rotated
    server.claims(after)
    server.claims(before)
    assert server.fetches == 1


def test_a_token_of_a_retired_key_verifies_until_it_expires_and_no_longer(
    private_service: Services, http: httpx.Client
) -> None:
    running = private_service(SESSIONTRAIL_ACCESS_LIFETIME="8")
    one = sign_in(Device(running.url, http), add_user(running))
    server = ResourceServer(running.url)

    rotated = rotate(running, "--publish-ahead", "0")
    before = one.access_token
    while True:
        try:
            server.claims(before)
        except jwt.ExpiredSignatureError:
            break
        time.sleep(0.05)

    expires_at = jwt.decode(before, options={"verify_signature": False})["exp"]
    assert time.time() >= expires_at
    assert kid_of(before) in ResourceServer(running.url).kids(), "not gone before its last token"
    until(lambda: signs_with(one, rotated), "the service signs with the new key")
    server.claims(one.access_token)


def test_a_compromised_key_opens_no_door_from_then_on(
    signed_in: Device, shared_service: RunningService
) -> None:
    server = ResourceServer(shared_service.url)
    stolen_kid = kid_of(signed_in.access_token)
    server.claims(signed_in.access_token)
    token = signed_in.access_token
    bearer = {"Authorization": f"Bearer {token}"}

    done = command(shared_service.environment, "keys", "compromised", stolen_kid)

    assert done.returncode == 0, done.stderr
    until(lambda: stolen_kid not in server.kids(), "the key is withdrawn")
    with pytest.raises(jwt.PyJWKClientError, match="Unable to find"):
        server.claims(token)
    refused = signed_in.http.get(f"{signed_in.url}/v1/sessions", headers=bearer)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    assert signed_in.refresh().status_code == 200
    assert kid_of(signed_in.access_token) != stolen_kid
    assert server.claims(signed_in.access_token)["sid"] == signed_in.session["session_id"]


def test_the_key_set_is_cacheable_and_says_when_it_changed(
    http: httpx.Client, shared_service: RunningService
) -> None:
    url = f"{shared_service.url}/.well-known/jwks.json"
    first = http.get(url)

    assert first.headers["Content-Type"] == "application/jwk-set+json"
    assert "max-age=" in first.headers["Cache-Control"]
    etag = first.headers["ETag"]
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        unchanged = http.get(url, headers={"If-None-Match": tags})
        assert unchanged.status_code == 304, tags
        assert unchanged.content == b""
        assert unchanged.headers["ETag"] == etag
    assert http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    for key in first.json()["keys"]:
        assert {"kty", "kid", "use", "alg"} <= key.keys()
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}


# ---------------------------------------------------------------------------- HTTP


ADDRESSES = {
    "/v1/login": {"POST"},
    "/v1/refresh": {"POST"},
    "/v1/logout": {"POST"},
    "/v1/logout-others": {"POST"},
    "/v1/logout-all": {"POST"},
    "/v1/sessions": {"GET", "HEAD", "POST"},
    "/v1/sessions/019a0000-0000-7000-8000-000000000000": {"PATCH", "DELETE"},
    "/v1/password": {"POST"},
    "/v1/users/019a0000-0000-7000-8000-000000000000/sessions": {"GET", "HEAD", "DELETE"},
    "/v1/families/019a0000-0000-7000-8000-000000000000": {"DELETE"},
    "/oauth/token": {"POST"},
    "/oauth/revoke": {"POST"},
    "/oauth/introspect": {"POST"},
    "/.well-known/oauth-authorization-server": {"GET", "HEAD"},
    "/.well-known/jwks.json": {"GET", "HEAD"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
    "/problems/not-found": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW")


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM_JSON
    assert answer.headers["Cache-Control"] == "no-store"
    assert_marked(answer)
    if answer.request.method != "HEAD":
        assert answer.json()["type"] == f"/problems/{slug}"


def assert_marked(answer: httpx.Response) -> None:
    """What every answer carries, once."""
    assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.get_list("Referrer-Policy") == ["no-referrer"]
    assert len(answer.headers.get_list("X-Request-Id")) == 1
    assert len(answer.headers.get_list("Content-Length")) <= 1


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_method_is_answered_at_every_address(
    http: httpx.Client, shared_service: RunningService, address: str
) -> None:
    for method in METHODS:
        answer = http.request(method, shared_service.url + address)

        assert_marked(answer)
        if method in ADDRESSES[address]:
            assert answer.status_code not in {404, 405, 500, 501}, method
        else:
            assert_problem(answer, 405, "method-not-allowed")
            allowed = {name.strip() for name in answer.headers["Allow"].split(",")}
            assert allowed == ADDRESSES[address], method
        if method == "HEAD":
            assert answer.content == b""
        if method == "HEAD" and "HEAD" in ADDRESSES[address]:
            got = http.get(shared_service.url + address)
            assert answer.status_code == got.status_code
            assert answer.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/refresh/",
        "/v1/login/",
        "/v1//refresh",
        "/V1/refresh",
        "/oauth/token/",
        "/oauth/authorize",
        "/favicon.ico",
        "/v1/sessions/a/b",
        "/.well-known/openid-configuration",
        "/%00",
        "/%ff%fe",
        "/..%2f..%2fetc/passwd",
        "/problems/nothing",
        "/problems/%00",
    ],
)
def test_an_unknown_path_is_a_problem_that_says_so(
    http: httpx.Client, shared_service: RunningService, path: str
) -> None:
    for method in ("GET", "POST"):
        if path.startswith("/problems") and method == "POST":
            continue
        assert_problem(http.request(method, shared_service.url + path), 404, "not-found")


BODY_TAKERS = [
    ("/v1/login", "application/json"),
    ("/v1/refresh", "application/json"),
    ("/v1/logout", "application/json"),
    ("/v1/sessions", "application/json"),
    ("/oauth/token", "application/x-www-form-urlencoded"),
    ("/oauth/revoke", "application/x-www-form-urlencoded"),
    ("/oauth/introspect", "application/x-www-form-urlencoded"),
]


@pytest.mark.parametrize(("path", "content_type"), BODY_TAKERS)
def test_a_body_beyond_the_limit_is_refused_with_and_without_its_length(
    http: httpx.Client, shared_service: RunningService, path: str, content_type: str
) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        for _ in range(size // 1024):
            yield b"a" * 1024

    for size in (MAX_BODY_BYTES + 1024, 4 * 1024 * 1024):
        for content in (b"a" * size, chunks(size)):
            answer = http.post(
                shared_service.url + path, content=content, headers={"Content-Type": content_type}
            )
            assert_problem(answer, 413, "content-too-large")
    within = http.post(
        shared_service.url + path,
        content=b"a" * MAX_BODY_BYTES,
        headers={"Content-Type": content_type},
    )
    assert within.status_code in {400, 401, 422}
    assert http.get(f"{shared_service.url}/healthz").status_code == 200


@dataclass(slots=True)
class RawConnection:
    """A TCP connection that says exactly what it is told to."""

    socket: socket.socket

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode("latin-1") if isinstance(text, str) else text)

    def status(self) -> int:
        """The status code of the next answer, read to its end (by its Content-Length)."""
        return self.answer()[0]

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, body."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines[1:]]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        while len(body) < int(headers.get("content-length", "0")):
            body += self._more()
        return int(lines[0].split()[1]), headers, body

    def is_closed(self) -> bool:
        """Whether the other side closes, having said no more."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> bytes:
        received = self.socket.recv(65536)
        assert received, "the connection was closed in the middle of an answer"
        return received


@contextmanager
def connected(running: RunningService) -> Iterator[RawConnection]:
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as opened:
        yield RawConnection(opened)


def head_of(method: str, path: str, *lines: str) -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""])


def test_a_connection_is_kept_for_the_next_request(shared_service: RunningService) -> None:
    with connected(shared_service) as connection:
        for _ in range(3):
            connection.send(head_of("GET", "/healthz"))
            assert connection.status() == 200
            connection.send(head_of("POST", "/v1/refresh", "Content-Length: 0"))
            assert connection.status() == 401
            connection.send(head_of("POST", "/v1/login", "Content-Length: 2") + "{}")
            assert connection.status() == 415
            connection.send(head_of("GET", "/v1/refresh", "Content-Length: 2") + "{}")
            assert connection.status() == 405
            connection.send(head_of("GET", "/nothing"))
            assert connection.status() == 404
        connection.send(head_of("GET", "/healthz", "Connection: close"))
        assert connection.status() == 200
        assert connection.is_closed()


def test_pipelined_requests_are_answered_in_order(shared_service: RunningService) -> None:
    with connected(shared_service) as connection:
        ids = [str(uuid4()) for _ in range(3)]
        connection.send(
            head_of("GET", "/healthz", f"X-Request-Id: {ids[0]}")
            + head_of("POST", "/v1/refresh", f"X-Request-Id: {ids[1]}", "Content-Length: 2")
            + "{}"
            + head_of("GET", "/healthz", f"X-Request-Id: {ids[2]}", "Connection: close")
        )
        received = b""
        while more := connection.socket.recv(65536):
            received += more

    lines = received.decode("latin-1").lower().split("\r\n")
    assert [line.split()[1] for line in lines if line.startswith("x-request-id:")] == ids


@pytest.mark.parametrize("path", ["/v1/login", "/v1/refresh", "/oauth/token", "/oauth/revoke"])
def test_a_slow_or_aborted_body_holds_nobody_up_and_is_no_fault(
    http: httpx.Client, shared_service: RunningService, path: str
) -> None:
    kind = "application/json" if path.startswith("/v1") else "application/x-www-form-urlencoded"
    length, chunked = "Content-Length: 50", "Transfer-Encoding: chunked"
    ids: list[str] = []

    def head(framing: str) -> str:
        ids.append(str(uuid4()))
        return head_of("POST", path, framing, f"Content-Type: {kind}", f"X-Request-Id: {ids[-1]}")

    with connected(shared_service) as slow:
        slow.send(head(length) + "{")
        for framing, start in ((length, "{"), (chunked, "5\r\n{"), (chunked, "5\r\n{aaaa\r\n")):
            with connected(shared_service) as aborted:
                aborted.send(head(framing) + start)
        assert http.get(f"{shared_service.url}/healthz", timeout=3).status_code == 200
        for _ in range(49):
            slow.send("a")
        assert slow.status() == 400

    def logged() -> list[Json]:
        lines = shared_service.log().rpartition("\n")[0].splitlines()  # whole ones only
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line.get("correlation_id") in ids]

    until(lambda: len(logged()) >= len(ids), "the aborted requests are in the access log")
    assert {(line["logger"], line["status"]) for line in logged()} == {("access", 400)}


def test_a_flood_of_unfinished_requests_leaves_room_for_others(
    http: httpx.Client, shared_service: RunningService
) -> None:
    opened = [connected(shared_service) for _ in range(100)]
    connections = [each.__enter__() for each in opened]
    try:
        for connection in connections:
            connection.send(head_of("POST", "/v1/login", "Content-Length: 9"))
        assert http.get(f"{shared_service.url}/readyz", timeout=5).status_code == 200
    finally:
        for each in opened:
            each.__exit__(None, None, None)


@pytest.mark.parametrize(
    "sent",
    [
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        head_of("POST", "/v1/login", "Content-Length: 5", "Transfer-Encoding: chunked")
        + "0\r\n\r\n",
        head_of("POST", "/v1/login", "Content-Length: 5", "Content-Length: 6") + "aaaaaa",
        head_of("POST", "/v1/login", "Content-Length: -1"),
        head_of("POST", "/v1/login", "Transfer-Encoding: chunked") + "zz\r\n",
        head_of("GET", "/healthz", "X: " + "a" * 1_000_000),
        head_of("GET", "/" + "a" * 200_000),
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_ends_in_an_error_and_not_in_a_hang(
    http: httpx.Client, shared_service: RunningService, sent: str
) -> None:
    before = len(shared_service.log())
    with connected(shared_service) as connection:
        try:
            connection.send(sent)
            connection.socket.shutdown(socket.SHUT_WR)
            received = connection.socket.recv(65536)
        except OSError:  # the service has closed already
            received = b""

    assert received == b"" or received.split()[1][:1] == b"4", received
    assert http.get(f"{shared_service.url}/healthz").status_code == 200
    assert "Traceback" not in shared_service.log()[before:]


@pytest.mark.parametrize(
    ("lines", "status", "slug"),
    [
        (
            ["Cookie: __Host-sessiontrail=a", "Cookie: __Host-sessiontrail=b"],
            400,
            "ambiguous-token",
        ),
        (["Cookie: __Host-sessiontrail=a; __Host-sessiontrail=a"], 400, "ambiguous-token"),
        (["Cookie: __Host-sessiontrail=a", "Origin: http://a", "Origin: http://b"], 403, None),
        (["Cookie: __Host-sessiontrail=a", "Sec-Fetch-Site: same-site"], 403, None),
        (
            [
                "Cookie: __Host-sessiontrail=a",
                "Sec-Fetch-Site: same-origin",
                "Sec-Fetch-Site: cross-site",
            ],
            403,
            None,
        ),
        (["Cookie: __Host-sessiontrail=a"], 401, "invalid-grant"),
        (["Cookie: __host-sessiontrail=a"], 401, "invalid-grant"),
        (["Cookie: \xff\xfe;;;=;__Host-sessiontrail="], 401, "invalid-grant"),
    ],
)
def test_a_header_sent_twice_is_never_half_believed(
    shared_service: RunningService, lines: list[str], status: int, slug: str | None
) -> None:
    with connected(shared_service) as connection:
        connection.send(head_of("POST", "/v1/refresh", "Content-Length: 0", *lines))
        got, _, body = connection.answer()

    assert got == status
    assert json.loads(body)["type"] == f"/problems/{slug or 'cross-site-request'}"


def test_two_authorization_headers_are_no_authorization(
    shared_service: RunningService, signed_in: Device
) -> None:
    header = f"Authorization: Bearer {signed_in.access_token}"
    with connected(shared_service) as connection:
        connection.send(head_of("GET", "/v1/sessions", header, header))
        assert connection.status() == 401
        connection.send(head_of("GET", "/v1/sessions", header))
        assert connection.status() == 200


def test_the_host_header_is_never_believed(
    shared_service: RunningService, signed_in: Device
) -> None:
    """A page of evil.example cannot name itself as the service's own address."""
    head = [
        "POST /v1/refresh HTTP/1.1",
        "Host: evil.example",
        "Origin: http://evil.example",
        "X-Forwarded-Host: evil.example",
        f"Cookie: __Host-sessiontrail={signed_in.refresh_token}",
        "Content-Length: 0",
    ]
    with connected(shared_service) as connection:
        connection.send("\r\n".join([*head, "", ""]))
        assert connection.status() == 403
        connection.send(head_of("GET", "/.well-known/oauth-authorization-server"))
        metadata = json.loads(connection.answer()[2])

    assert metadata["issuer"] == shared_service.url
    assert signed_in.refresh().status_code == 200


def test_client_hints_are_asked_for_at_sign_in_and_nowhere_else(
    http: httpx.Client, device: Devices, account: Account
) -> None:
    one = device()
    assert "Sec-CH-UA-Platform" in one.login(account.username, PASSWORD).headers["Accept-CH"]

    others = [
        one.login(account.username, "not the password"),
        one.refresh(),
        one.get("/v1/sessions"),
        http.get(f"{one.url}/healthz"),
        http.get(f"{one.url}/.well-known/jwks.json"),
        one.post("/v1/logout"),
    ]

    assert ["Accept-CH" in answer.headers for answer in others] == [False] * len(others)


def test_no_answer_with_a_token_or_about_one_is_stored(
    shared_service: RunningService, device: Devices, account: Account
) -> None:
    one = device()
    backend = add_service_key(
        shared_service, ServiceScope.CREATE_SESSIONS, ServiceScope.INTROSPECT_TOKENS
    )
    key = {"Authorization": f"Bearer {backend.text}"}
    login = one.login(account.username, PASSWORD)
    refresh = one.refresh()
    opened = one.http.post(f"{one.url}/v1/sessions", json={"subject": "eve"}, headers=key)
    form = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}
    token = one.http.post(f"{one.url}/oauth/token", data=form)
    used_secrets.update({opened.json()["refresh_token"], token.json()["refresh_token"]})
    by_cookie = one.http.post(
        f"{one.url}/v1/login", json={"username": account.username, "password": PASSWORD}
    )
    asked = {"token": one.access_token}
    introspected = one.http.post(f"{one.url}/oauth/introspect", data=asked, headers=key)
    listed = one.get("/v1/sessions")
    revoked = one.http.post(f"{one.url}/oauth/revoke", data=asked)
    bad = one.http.post(f"{one.url}/oauth/token", data=form | {"refresh_token": "x"})

    answers = [login, refresh, opened, token, by_cookie, introspected, listed, revoked, bad]
    assert [answer.status_code for answer in answers] == [200, 200, 201, *[200] * 5, 400]
    for answer in answers:
        assert answer.headers.get_list("Cache-Control") == ["no-store"], answer.request.url
        assert_marked(answer)


@pytest.mark.parametrize("path", ["/healthz", "/v1/refresh", "/nothing", "/v1/sessions"])
def test_the_correlation_id_is_the_callers_where_it_is_one(
    http: httpx.Client, shared_service: RunningService, path: str
) -> None:
    url = shared_service.url + path
    given, trace = str(uuid4()), uuid4()
    parent = {"traceparent": f"00-{trace.hex}-00f067aa0ba902b7-01"}

    assert http.get(url, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given
    assert http.get(url, headers=parent).headers["X-Request-Id"] == str(trace)
    both = http.get(url, headers={"X-Request-Id": given, **parent})
    assert both.headers["X-Request-Id"] == given
    for bad in ({"X-Request-Id": "x" * 36}, {"traceparent": "00-zz-00-01"}, {"X-Request-Id": ""}):
        fresh = http.get(url, headers=bad).headers["X-Request-Id"]
        assert str(UUID(fresh)) == fresh
        assert fresh not in bad.values()


def test_a_trace_context_of_zeros_or_of_version_ff_is_none(
    http: httpx.Client, shared_service: RunningService
) -> None:
    """W3C Trace Context §3.2.2: all zeros are invalid, and so is version ff."""
    url = f"{shared_service.url}/healthz"
    trace = uuid4()
    for bad in (
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"ff-{trace.hex}-00f067aa0ba902b7-01",
        f"00-{trace.hex}-{'0' * 16}-01",
    ):
        got = http.get(url, headers={"traceparent": bad}).headers["X-Request-Id"]
        assert UUID(got) not in {UUID(int=0), trace}, bad


def test_basic_credentials_that_are_not_base64_are_a_client_that_is_not_known(
    http: httpx.Client, shared_service: RunningService
) -> None:
    not_utf8 = base64.b64encode(b"\xff\xfe:\xff").decode()
    for value in ("Basic", "Basic !!!", f"Basic {not_utf8}", "Digest x", "Bearer", "\xff"):
        answer = http.post(
            f"{shared_service.url}/oauth/introspect",
            data={"token": "x"},
            headers=[(b"Authorization", value.encode("latin-1"))],
        )
        assert answer.status_code == 401, value
        assert answer.json() == {"error": "invalid_client"}


def test_many_clients_at_once_are_each_answered_their_own(
    http: httpx.Client, shared_service: RunningService
) -> None:
    ids = [str(uuid4()) for _ in range(200)]

    def ask(own: str) -> str:
        answer = http.get(f"{shared_service.url}/healthz", headers={"X-Request-Id": own})
        return answer.headers["X-Request-Id"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, ids)) == ids


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
