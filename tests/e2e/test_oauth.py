"""The OAuth endpoints as the RFCs have them, so that ordinary clients work unchanged."""

import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote_plus, urlsplit

import httpx
import pytest
from authlib.integrations.requests_client import OAuth2Session

from domain.service_keys import ServiceScope
from infra.service_keys import NewServiceKey
from tests.e2e.accounts import Account, add_service_key, add_user
from tests.e2e.clients import Device, Json, assert_no_secret_in, used_secrets
from tests.e2e.database import EventLog, types
from tests.e2e.service import RunningService, command, json_of

INACTIVE = {"active": False}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def service_key(shared_service: RunningService) -> NewServiceKey:
    return add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS)


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def one(device: Callable[..., Device], account: Account) -> Device:
    """A device that is signed in, for the OAuth client ``mobile``."""
    made = device()
    answer = made.login(account.username, account.password, client_id="mobile")
    assert answer.status_code == 200, answer.text
    return made


Exchange = Callable[..., httpx.Response]


@pytest.fixture
def exchange(shared_service: RunningService, http: httpx.Client) -> Exchange:
    """POSTs a form to the token endpoint."""

    def post(**fields: str) -> httpx.Response:
        answer = http.post(f"{shared_service.url}/oauth/token", data=fields)
        if answer.status_code == 200:
            used_secrets.update({answer.json()["access_token"], answer.json()["refresh_token"]})
        return answer

    return post


def assert_oauth_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["error"] == code


# ---------------------------------------------------------------------------- RFC 6749


def test_a_refresh_token_grant_rotates(one: Device, exchange: Exchange, log: EventLog) -> None:
    answer = exchange(grant_type="refresh_token", refresh_token=one.refresh_token)

    body = json_of(answer)
    assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 600)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert types(log.of_family(one.session["family_id"])) == [
        "SessionStarted",
        "RefreshTokenRotated",
    ]
    one.refresh_token = str(body["refresh_token"])
    assert one.refresh().status_code == 200


def test_unknown_parameters_are_ignored(one: Device, exchange: Exchange) -> None:
    more = {"client_id": "mobile", "resource": "https://api.example", "foo": "", "scope": ""}

    answer = exchange(grant_type="refresh_token", refresh_token=one.refresh_token, **more)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
        ({"refresh_token": "TOKEN"}, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "b"}, "unsupported_grant_type"),
        ({"grant_type": "", "refresh_token": "TOKEN"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "nonsense"}, "invalid_grant"),
        (
            {"grant_type": "refresh_token", "refresh_token": "TOKEN", "client_id": "other"},
            "invalid_grant",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "TOKEN", "scope": "everything"},
            "invalid_scope",
        ),
    ],
)
def test_a_bad_token_request_is_refused_and_uses_nothing_up(
    one: Device, exchange: Exchange, log: EventLog, fields: dict[str, str], code: str
) -> None:
    sent = {name: value.replace("TOKEN", one.refresh_token) for name, value in fields.items()}

    assert_oauth_error(exchange(**sent), 400, code)

    assert types(log.of_family(one.session["family_id"])) == ["SessionStarted"]
    assert one.refresh().status_code == 200


def test_a_reused_token_is_an_invalid_grant(one: Device, exchange: Exchange, log: EventLog) -> None:
    past = one.refresh_token
    one.refresh()
    one.refresh()

    answer = exchange(grant_type="refresh_token", refresh_token=past)

    assert_oauth_error(answer, 400, "invalid_grant")
    assert types(log.of_family(one.session["family_id"]))[-1] == "FamilyRevoked"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, "grant_type=refresh_token&grant_type=refresh_token&refresh_token=TOKEN"),
        (FORM, "grant_type=refresh_token&refresh_token=TOKEN&refresh_token=TOKEN"),
        (FORM, "grant_type=refresh_token&refresh_token=TOKEN&foo=1&foo=2"),
        (FORM, "grant_type=%ff&refresh_token=TOKEN"),
        (FORM, "&".join(f"f{number}=1" for number in range(200))),
        (FORM, ""),
        ("application/json", '{"grant_type": "refresh_token", "refresh_token": "TOKEN"}'),
        ("multipart/form-data; boundary=x", "--x--"),
        (None, "grant_type=refresh_token&refresh_token=TOKEN"),
    ],
)
def test_a_body_that_is_no_plain_form_is_an_invalid_request(
    one: Device, log: EventLog, content_type: str | None, body: str
) -> None:
    answer = one.http.post(
        f"{one.url}/oauth/token",
        content=body.replace("TOKEN", one.refresh_token).encode(),
        headers={} if content_type is None else {"Content-Type": content_type},
    )

    assert_oauth_error(answer, 400, "invalid_request")
    assert types(log.of_family(one.session["family_id"])) == ["SessionStarted"]


def test_a_client_that_tries_to_authenticate_is_challenged(one: Device) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}

    answer = one.http.post(f"{one.url}/oauth/token", data=form, auth=("mobile", "secret"))

    assert_oauth_error(answer, 401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert one.refresh().status_code == 200


def test_a_token_in_the_address_is_not_read(one: Device, log: EventLog) -> None:
    query = {"grant_type": "refresh_token", "refresh_token": one.refresh_token}

    answer = one.http.post(f"{one.url}/oauth/token", params=query, data={})
    got = one.http.get(f"{one.url}/oauth/token", params=query)

    assert_oauth_error(answer, 400, "invalid_request")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert one.http.get(f"{one.url}/v1/sessions?access_token={one.access_token}").status_code == 401
    assert types(log.of_family(one.session["family_id"])) == ["SessionStarted"]


def test_authlib_refreshes_and_revokes(one: Device, log: EventLog) -> None:
    client = OAuth2Session(
        client_id="mobile",
        token_endpoint=f"{one.url}/oauth/token",
        token_endpoint_auth_method="none",
        revocation_endpoint_auth_method="none",
        token={
            "access_token": one.access_token,
            "refresh_token": one.refresh_token,
            "token_type": "Bearer",
            "expires_in": -10,
        },
    )
    with client:
        listed = client.get(f"{one.url}/v1/sessions")  # refreshes first: the token has expired
        fresh = client.token
        used_secrets.update({fresh["access_token"], fresh["refresh_token"]})
        revoked = client.revoke_token(
            f"{one.url}/oauth/revoke",
            token=fresh["refresh_token"],
            token_type_hint="refresh_token",
        )

    assert listed.json()["sessions"][0]["session_id"] == one.session["session_id"]
    assert fresh["refresh_token"] != one.refresh_token
    assert revoked.status_code == 200
    assert types(log.of_family(one.session["family_id"])) == [
        "SessionStarted",
        "RefreshTokenRotated",
        "SessionEnded",
    ]


# ---------------------------------------------------------------------------- RFC 7009


def revoke(device: Device, token: str, **fields: str) -> httpx.Response:
    return device.http.post(f"{device.url}/oauth/revoke", data={"token": token, **fields})


@pytest.mark.parametrize("hint", [None, "refresh_token", "access_token", "nonsense"])
@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
def test_a_revoked_token_ends_its_session_whatever_the_hint(
    one: Device,
    service_key: NewServiceKey,
    log: EventLog,
    kind: str,
    hint: str | None,
) -> None:
    token = one.refresh_token if kind == "refresh_token" else one.access_token
    fields = {} if hint is None else {"token_type_hint": hint}

    answers = [revoke(one, token, client_id="mobile", **fields) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert not answers[0].content
    for ended in (one.access_token, one.refresh_token):
        assert introspect(one, service_key, ended) == INACTIVE
    assert one.refresh().status_code == 401
    event = log.of_family(one.session["family_id"])[1]
    assert (event.type, event.data["reason"]) == ("SessionEnded", "token_revoked")


@pytest.mark.parametrize("token", ["nonsense", "str_" + "A" * 138, "eyJhbGciOiJub25lIn0.e30.", "é"])
def test_revoking_what_is_no_token_is_no_error(one: Device, log: EventLog, token: str) -> None:
    before = log.end()

    assert revoke(one, token).status_code == 200

    assert log.after(before) == []


def test_only_the_tokens_own_client_may_revoke_it(one: Device, log: EventLog) -> None:
    answer = revoke(one, one.refresh_token, client_id="other")

    assert_oauth_error(answer, 400, "invalid_grant")
    assert types(log.of_family(one.session["family_id"])) == ["SessionStarted"]
    assert one.refresh().status_code == 200


def test_revoking_nothing_is_an_invalid_request(one: Device) -> None:
    assert_oauth_error(revoke(one, ""), 400, "invalid_request")
    answer = one.http.post(f"{one.url}/oauth/revoke", json={"token": one.refresh_token})
    assert_oauth_error(answer, 400, "invalid_request")


# ---------------------------------------------------------------------------- RFC 7662


def introspect(device: Device, key: NewServiceKey, token: str) -> Json:
    answer = device.http.post(
        f"{device.url}/oauth/introspect",
        data={"token": token},
        headers={"Authorization": f"Bearer {key.text}"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    facts: Json = answer.json()
    return facts


def test_introspection_tells_what_a_live_token_says(
    one: Device, service_key: NewServiceKey
) -> None:
    of_access = introspect(one, service_key, one.access_token)
    of_refresh = introspect(one, service_key, one.refresh_token)

    common = {
        "active": True,
        "sub": one.session["user_id"],
        "sid": one.session["session_id"],
        "client_id": "mobile",
        "iss": one.url,
        "amr": ["pwd"],
    }
    assert common.items() <= of_access.items()
    assert common.items() <= of_refresh.items()
    assert (of_access["token_type"], of_refresh["token_type"]) == ("Bearer", "refresh_token")
    now = datetime.now(UTC).timestamp()
    assert now + 500 < of_access["exp"] <= now + 600
    assert of_access["auth_time"] <= of_access["iat"] <= now
    assert of_refresh["exp"] > now + 13 * 86400


def test_what_is_not_live_is_inactive_and_nothing_else(
    one: Device, service_key: NewServiceKey
) -> None:
    past = one.refresh_token
    one.refresh()
    head, payload, _ = one.access_token.split(".")

    for token in (
        past,
        "nonsense",
        one.refresh_token[:-1],
        one.access_token[:-8] + "AAAAAAAA",
        f"{head}.{payload}.",
        service_key.text,
        "é\x00",
        "x" * 20_000,
    ):
        assert introspect(one, service_key, token) == INACTIVE


def test_introspection_takes_a_key_in_each_way_but_one_at_a_time(
    one: Device, service_key: NewServiceKey
) -> None:
    basic = b64encode(f"{service_key.key_id}:{quote_plus(service_key.text)}".encode()).decode()
    in_body = {"client_id": service_key.key_id, "client_secret": service_key.text}

    def ask(headers: dict[str, str], **fields: str) -> httpx.Response:
        form = {"token": one.access_token, **fields}
        return one.http.post(f"{one.url}/oauth/introspect", data=form, headers=headers)

    for accepted in (
        ask({"Authorization": f"Bearer {service_key.text}"}),
        ask({"Authorization": f"Basic {basic}"}),
        ask({}, **in_body),
    ):
        assert json_of(accepted)["active"] is True
    for refused in (
        ask({}),
        ask({"Authorization": f"Basic {basic}"}, **in_body),
        ask({"Authorization": f"Bearer {service_key.text}"}, **in_body),
        ask({"Authorization": "Basic !!!"}),
        ask({"Authorization": "Bearer stk_0123456789abcdef_" + "A" * 43}),
        ask({"Authorization": f"Bearer {one.access_token}"}),
        ask({"Authorization": f"Digest {service_key.text}"}),
    ):
        assert_oauth_error(refused, 401, "invalid_client")
        assert refused.headers["www-authenticate"]


def test_a_key_for_something_else_may_not_introspect(
    shared_service: RunningService, one: Device
) -> None:
    key = add_service_key(shared_service, ServiceScope.CREATE_SESSIONS)

    answer = one.http.post(
        f"{one.url}/oauth/introspect",
        data={"token": one.access_token},
        headers={"Authorization": f"Bearer {key.text}"},
    )

    assert_oauth_error(answer, 401, "invalid_client")
    assert "active" not in answer.text


def test_a_revoked_service_key_may_not_introspect(
    shared_service: RunningService, one: Device, log: EventLog
) -> None:
    key = add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS)
    assert introspect(one, key, one.access_token)["active"] is True

    done = command(shared_service.environment, "service-keys", "revoke", key.key_id)

    assert done.returncode == 0, done.stderr
    answer = one.http.post(
        f"{one.url}/oauth/introspect",
        data={"token": one.access_token},
        headers={"Authorization": f"Bearer {key.text}"},
    )
    assert_oauth_error(answer, 401, "invalid_client")
    assert types(log.of_key(key.key_id)) == ["ServiceKeyAdded", "ServiceKeyRevoked"]


# ---------------------------------------------------------------------------- RFC 8414, 7517, 7638


def test_the_metadata_is_true(shared_service: RunningService, http: httpx.Client) -> None:
    url = shared_service.url

    document = json_of(http.get(f"{url}/.well-known/oauth-authorization-server"))

    assert document["issuer"] == url
    assert document["grant_types_supported"] == ["refresh_token"]
    for name in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        answer = http.post(str(document[name]), data={})
        assert answer.status_code in {400, 401}, name
        assert "error" in answer.json(), name
    for name in ("jwks_uri", "service_documentation"):
        assert http.get(str(document[name])).status_code == 200, name


def test_the_issuer_is_the_url_that_it_is_served_under(one: Device) -> None:
    """RFC 8414 §3.3: a client that builds the address from a token's issuer finds it there."""
    payload = one.access_token.split(".")[1]
    issuer = json.loads(_decoded(payload))["iss"]

    document = one.http.get(f"{issuer}/.well-known/oauth-authorization-server").json()

    assert document["issuer"] == issuer
    assert urlsplit(document["jwks_uri"]).netloc == urlsplit(issuer).netloc


def _decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def test_the_key_set_holds_public_keys_under_their_thumbprints(
    shared_service: RunningService, http: httpx.Client
) -> None:
    answer = http.get(f"{shared_service.url}/.well-known/jwks.json")

    keys = json_of(answer)["keys"]
    assert isinstance(keys, list)
    assert keys
    for key in keys:
        assert set(key) <= {"kty", "crv", "x", "y", "n", "e", "use", "alg", "kid"}
        assert (key["use"], key["alg"]) == ("sig", "EdDSA")
        assert key["kid"] == thumbprint_of(key)
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert "max-age=" in answer.headers["cache-control"]


def thumbprint_of(key: Json) -> str:
    """RFC 7638 §3: SHA-256 of the required members in order, without white space."""
    required = json.dumps({name: key[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
    return urlsafe_b64encode(sha256(required.encode()).digest()).rstrip(b"=").decode()


def test_an_unchanged_key_set_is_not_sent_again(
    shared_service: RunningService, http: httpx.Client
) -> None:
    url = f"{shared_service.url}/.well-known/jwks.json"
    tag = http.get(url).headers["etag"]

    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = http.get(url, headers={"If-None-Match": condition})
        assert (again.status_code, again.content) == (304, b""), condition
        assert again.headers["etag"] == tag
    assert http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


# ---------------------------------------------------------------------------- RFC 6750, 9457


@pytest.mark.parametrize(
    ("authorization", "says_why"),
    [
        (None, False),
        ("Basic YTpi", False),
        ("Bearer", False),
        ("Bearer nonsense", True),
        ("bearer nonsense", True),
        ("Bearer a b", True),
        ("Bearer \xff", True),
    ],
)
def test_a_missing_or_bad_access_token_is_challenged(
    shared_service: RunningService,
    http: httpx.Client,
    authorization: str | None,
    says_why: bool,
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]

    answer = http.get(f"{shared_service.url}/v1/sessions", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    assert ('error="invalid_token"' in answer.headers["www-authenticate"]) is says_why


def test_a_problem_is_a_document_and_its_type_a_page(
    shared_service: RunningService, http: httpx.Client
) -> None:
    answer = http.get(f"{shared_service.url}/v1/sessions")

    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == answer.status_code == 401
    assert problem["title"]
    page = http.get(str(answer.url.join(problem["type"])))
    assert json_of(page)["title"] == problem["title"]


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert '"logger":"access"' in shared_service.log()
    assert_no_secret_in(shared_service.log())
