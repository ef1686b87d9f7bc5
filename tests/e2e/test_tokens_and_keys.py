"""Access tokens, the keys that sign them, the keys of backends, and what lies in the database."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.events.users import Role
from domain.refresh_token import hash_secret, parse
from domain.service_keys import ServiceScope
from infra.service_keys import NewServiceKey
from infra.signing_key_set import SigningKey
from tests.e2e.accounts import (
    Account,
    add_service_key,
    add_user,
    conninfo_of,
    key_ring_of,
    signing_keys_of,
)
from tests.e2e.clients import Device, Json, assert_no_secret_in, used_secrets
from tests.e2e.database import EventLog, types, wait_for
from tests.e2e.service import RunningService, command, json_of

Devices = Callable[..., Device]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture
def account(shared_service: RunningService) -> Account:
    return add_user(shared_service)


@pytest.fixture
def one(device: Devices, account: Account) -> Device:
    """A device that is signed in."""
    made = device()
    answer = made.login(account.username, account.password)
    assert answer.status_code == 200, answer.text
    return made


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def header_of(token: str) -> Json:
    header: Json = jwt.get_unverified_header(token)
    return header


def claims_in(token: str) -> Json:
    claims: Json = jwt.decode(token, options={"verify_signature": False})
    return claims


# ---------------------------------------------------------------------------- RFC 9068


def test_an_access_token_says_what_rfc_9068_asks_for(
    shared_service: RunningService, device: Devices
) -> None:
    one = device()
    member = add_user(shared_service, roles=(Role.AUDITOR,))
    one.login(member.username, member.password, client_id="mobile")

    header, claims = header_of(one.access_token), claims_in(one.access_token)

    assert header["typ"] == "at+jwt"
    assert set(header) == {"alg", "typ", "kid"}
    assert claims["iss"] == claims["aud"] == one.url
    assert claims["sub"] == one.session["user_id"]
    assert claims["sid"] == one.session["session_id"]
    assert claims["client_id"] == "mobile"
    assert claims["exp"] - claims["iat"] == 600
    assert claims["auth_time"] <= claims["iat"]
    assert (claims["amr"], claims["roles"]) == (["pwd"], ["auditor"])
    assert len(claims["jti"]) >= 22
    one.refresh()
    again = claims_in(one.access_token)
    assert again["jti"] != claims["jti"]
    assert again["auth_time"] == claims["auth_time"]


def key_client(url: str) -> jwt.PyJWKClient:
    """A resource server's cache of our keys; it looks again whenever it meets an unknown one.

    PyJWT waits 30 s between two looks; keys are published longer than that before they sign, but
    not in these tests.
    """
    return jwt.PyJWKClient(f"{url}/.well-known/jwks.json", cooldown_duration=0)


def verified(client: jwt.PyJWKClient, token: str, issuer: str, audience: str | None = None) -> Json:
    """What a resource server that knows nothing of us makes of a token."""
    key = client.get_signing_key_from_jwt(token)
    claims: Json = jwt.decode(
        token,
        key,
        algorithms=["EdDSA", "ES256"],
        issuer=issuer,
        audience=audience or issuer,
        leeway=5,
    )
    return claims


def test_a_resource_server_verifies_with_the_published_keys(one: Device) -> None:
    client = key_client(one.url)

    assert verified(client, one.access_token, one.url)["sid"] == one.session["session_id"]
    with pytest.raises(jwt.InvalidAudienceError):
        verified(client, one.access_token, one.url, "https://other.example")


# ---------------------------------------------------------------------------- RFC 8725


class Forger:
    """Signs whatever it is told, with the service's own key unless told otherwise."""

    def __init__(self, key: SigningKey, token: str) -> None:
        self.key = key
        self.header = header_of(token)
        self.claims = claims_in(token)

    def token(self, **changes: object) -> str:
        """A token whose claims differ in this; None leaves one out."""
        return self.signed(json.dumps(self.header), json.dumps(_changed(self.claims, changes)))

    def headed(self, **changes: object) -> str:
        """A token whose header differs in this."""
        return self.signed(json.dumps(_changed(self.header, changes)), json.dumps(self.claims))

    def signed(
        self, header: str, payload: str, sign: Callable[[bytes], bytes] | None = None
    ) -> str:
        """A token of this text."""
        message = f"{encoded(header.encode())}.{encoded(payload.encode())}"
        return f"{message}.{encoded((sign or self.key.sign)(message.encode()))}"


def _changed(members: Json, changes: dict[str, object]) -> Json:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def confusions(forger: Forger, one: Device) -> dict[str, str]:
    """Tokens that a verifier must refuse, by what is wrong with them."""
    header, claims = json.dumps(forger.header), json.dumps(forger.claims)
    public = forger.key.public_key
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = json.dumps(dict(forger.key.public_jwk)).encode()
    hs256 = json.dumps(forger.header | {"alg": "HS256"})
    head, payload, signature = one.access_token.split(".")
    mine = ed25519.Ed25519PrivateKey.generate()
    my_jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(_raw_public(mine))}
    now = forger.claims["iat"]

    def with_mac(secret: bytes) -> Callable[[bytes], bytes]:
        return lambda message: hmac.digest(secret, message, "sha256")

    return {
        "alg none, unsigned": forger.signed(
            json.dumps(forger.header | {"alg": "none"}), claims, lambda _: b""
        ),
        "alg None, unsigned": forger.signed(
            json.dumps(forger.header | {"alg": "None"}), claims, lambda _: b""
        ),
        "alg none, signed": forger.headed(alg="none"),
        "no alg": forger.headed(alg=None),
        "HS256 with the public key as PEM": forger.signed(hs256, claims, with_mac(pem)),
        "HS256 with the public key raw": forger.signed(hs256, claims, with_mac(raw)),
        "HS256 with the public JWK": forger.signed(hs256, claims, with_mac(jwk)),
        "HS256 with nothing": forger.signed(hs256, claims, with_mac(b"")),
        "another alg than the key's": forger.headed(alg="ES256"),
        "typ JWT": forger.headed(typ="JWT"),
        "typ of a logout token": forger.headed(typ="logout+jwt"),
        "typ of an id token": forger.headed(typ="id_token+jwt"),
        "typ that is no text": forger.headed(typ=7),
        "no typ": forger.headed(typ=None),
        "other aud": forger.token(aud="https://other.example"),
        "a list of auds": forger.token(aud=[forger.claims["aud"], "https://other.example"]),
        "no aud": forger.token(aud=None),
        "other iss": forger.token(iss="https://other.example"),
        "iss with a slash": forger.token(iss=forger.claims["iss"] + "/"),
        "no sub": forger.token(sub=None),
        "no exp": forger.token(exp=None),
        "exp that is text": forger.token(exp=str(forger.claims["exp"])),
        "exp that is a truth": forger.token(exp=True),
        "exp long ago": forger.token(exp=now - 60, iat=now - 120),
        "iat in the future": forger.token(iat=now + 60),
        "nbf in the future": forger.token(nbf=now + 60),
        "kid traversal": forger.headed(kid="../../../../dev/null"),
        "kid with SQL": forger.headed(kid="x' UNION SELECT 'AAAA' --"),
        "kid with an address": forger.headed(kid="https://evil.example/key"),
        "kid of another key": forger.headed(kid="A" * 43),
        "kid with NUL": forger.headed(kid=forger.header["kid"] + "\x00"),
        "kid that is no text": forger.headed(kid=["x"]),
        "no kid": forger.headed(kid=None),
        "crit": forger.headed(crit=["exp"]),
        "crit of an extension": forger.headed(crit=["b64"], b64=False),
        "a duplicate claim": forger.signed(header, claims[:-1] + ', "sub": "somebody"}'),
        "a duplicate claim, escaped": forger.signed(
            header, claims[:-1] + ', "\\u0073ub": "somebody"}'
        ),
        "a duplicate header member": forger.signed(header[:-1] + ', "alg": "EdDSA"}', claims),
        "claims that are a list": forger.signed(header, "[]"),
        "claims that are no JSON": forger.signed(header, "{"),
        "claims that nest too deeply": forger.signed(header, "[" * 4000),
        "a header that is no JSON": forger.signed("{", claims),
        "the attacker's key in the header": forger.signed(
            json.dumps(forger.header | {"jwk": my_jwk}), claims, mine.sign
        ),
        "the attacker's key by address": forger.signed(
            json.dumps(forger.header | {"jku": "https://evil.example/jwks.json"}), claims, mine.sign
        ),
        "the attacker's key under our kid": forger.signed(header, claims, mine.sign),
        "no signature": f"{head}.{payload}.",
        "two segments": f"{head}.{payload}",
        "four segments": f"{one.access_token}.{signature}",
        "another payload": f"{head}.{encoded(claims.encode() + b' ')}.{signature}",
        "another signature": f"{head}.{payload}.{encoded(bytes(64))}",
        "padding": one.access_token + "==",
        "the other base64": one.access_token + "+/",
        "white space": f"{head}. {payload}.{signature}",
        "a refresh token": one.refresh_token,
        "a very long token": forger.token(padding="x" * 20_000),
    }


def _raw_public(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def test_jwt_confusions(shared_service: RunningService, one: Device) -> None:
    key = next(iter(signing_keys_of(shared_service).keys))
    forger = Forger(key, one.access_token)
    introspection = add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS)

    def asked(token: str) -> tuple[int, object]:
        direct = one.http.get(
            f"{one.url}/v1/sessions", headers=[(b"Authorization", b"Bearer " + token.encode())]
        )
        told = one.http.post(
            f"{one.url}/oauth/introspect",
            data={"token": token},
            headers={"Authorization": f"Bearer {introspection.text}"},
        )
        if direct.status_code == 401:
            assert 'error="invalid_token"' in direct.headers["www-authenticate"]
        return direct.status_code, told.json()["active"]

    assert asked(forger.token()) == (200, True)  # what is changed below is all that is wrong
    assert asked(forger.headed(typ="application/at+jwt")) == (200, True)
    wrong = confusions(forger, one)
    wrong.pop("a refresh token")
    for what, token in wrong.items():
        assert asked(token) == (401, False), what
    assert asked(one.refresh_token) == (401, True)  # live, and no access token


# ---------------------------------------------------------------------------- key rotation


def published(url: str) -> set[str]:
    keys = httpx.get(f"{url}/.well-known/jwks.json").json()["keys"]
    return {key["kid"] for key in keys}


def signing_kid(device: Device) -> str:
    """The key that a token issued now is signed with."""
    answer = device.refresh()
    assert answer.status_code == 200, answer.text
    kid: str = header_of(device.access_token)["kid"]
    return kid


def test_key_rotation(shared_service: RunningService, one: Device, log: EventLog) -> None:
    url, environment = one.url, shared_service.environment
    resource_server = key_client(url)  # caches what it saw
    old, old_kid = one.access_token, header_of(one.access_token)["kid"]
    assert verified(resource_server, old, url)

    rotated = command(environment, "keys", "rotate", "--publish-ahead", "8", "--algorithm", "ES256")
    assert rotated.returncode == 0, rotated.stderr
    new_kid = rotated.stdout.split()[0]

    # Published before it signs ...
    wait_for(lambda: new_kid in published(url))
    assert signing_kid(one) == old_kid
    # ... then it signs, and what the old one signed verifies on.
    wait_for(lambda: signing_kid(one) == new_kid)
    new = one.access_token
    assert header_of(new)["alg"] == "ES256"
    assert {old_kid, new_kid} <= published(url)
    for token in (new, old):
        assert verified(resource_server, token, url)
        assert accepted(one, token)
    # A compromised key is withdrawn: its tokens die, those of the other do not.
    withdrawn = command(environment, "keys", "compromised", "--", new_kid)
    assert withdrawn.returncode == 0, withdrawn.stderr
    wait_for(lambda: new_kid not in published(url))
    assert not accepted(one, new)
    assert accepted(one, old)
    assert signing_kid(one) not in {old_kid, new_kid}
    assert accepted(one, one.access_token)
    assert verified(resource_server, one.access_token, url)
    with pytest.raises(jwt.PyJWKClientError):
        verified(key_client(url), new, url)

    listed = command(environment, "keys", "list")
    assert {old_kid, new_kid} <= set(listed.stdout.split())
    assert types(log.of_key(old_kid)) == ["SigningKeyCreated", "SigningKeyRetired"]
    events = log.of_key(new_kid)
    assert types(events) == ["SigningKeyCreated", "SigningKeyRetired"]
    assert events[1].data["compromised"] is True
    assert all(event.actor.startswith("operator:") for event in events)


def accepted(device: Device, token: str) -> bool:
    answer = device.http.get(
        f"{device.url}/v1/sessions", headers={"Authorization": f"Bearer {token}"}
    )
    return answer.status_code == 200


def test_a_token_key_rotates_without_losing_a_session(
    shared_service: RunningService, one: Device
) -> None:
    def current_key() -> int:
        answer = one.refresh()
        assert answer.status_code == 200, answer.text
        parsed = parse(one.refresh_token, key_ring_of(shared_service).tokens)
        assert parsed is not None
        return parsed.key_id

    before = current_key()

    done = command(shared_service.environment, "keys", "rotate", "--kind", "token")

    assert done.returncode == 0, done.stderr
    assert key_ring_of(shared_service).tokens.current_id == before + 1
    assert wait_for(lambda: current_key() == before + 1)


# ---------------------------------------------------------------------------- backends


@pytest.fixture(scope="module")
def service_key(shared_service: RunningService) -> NewServiceKey:
    return add_service_key(shared_service, ServiceScope.CREATE_SESSIONS)


def open_session(
    running: RunningService, http: httpx.Client, key: str | None, **body: object
) -> httpx.Response:
    """What a backend does once it has authenticated a user itself."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = http.post(f"{running.url}/v1/sessions", json=body, headers=headers)
    if answer.status_code == 201:
        used_secrets.update({answer.json()["access_token"], answer.json()["refresh_token"]})
    return answer


def test_a_backend_opens_sessions_for_its_own_users(
    shared_service: RunningService,
    http: httpx.Client,
    service_key: NewServiceKey,
    log: EventLog,
) -> None:
    def opened() -> Json:
        answer = open_session(
            shared_service,
            http,
            service_key.text,
            subject="customer/4711",
            device_name="kiosk",
            client_id="shop",
            auth_methods=["hwk", "pin"],
            client={"ip": "203.0.113.9", "user_agent": "Kiosk/1.0"},
        )
        return dict(json_of(answer, 201))

    first, second = opened(), opened()

    claims = claims_in(first["access_token"])
    assert claims["sub"] == first["session"]["subject"] == "customer/4711"
    assert (claims["amr"], claims["client_id"]) == (["hwk", "pin"], "shop")
    assert claims["roles"] == []
    user_id = first["session"]["user_id"]
    assert second["session"]["user_id"] == user_id != "customer/4711"
    device = Device(shared_service.url, http, access_token=first["access_token"])
    listed = device.get("/v1/sessions").json()["sessions"]
    assert len(listed) == 2
    assert listed[0]["device"]["ip"] == "203.0.113.9"
    assert listed[0]["device"]["user_agent"] == "Kiosk/1.0"
    device.refresh_token = first["refresh_token"]
    assert device.refresh().json()["session"]["generation"] == 2
    assert types(log.of_user(user_id)) == ["UserRegistered"]
    started = log.of_family(first["session"]["family_id"])[0]
    assert started.actor == f"service:{service_key.key_id}"
    assert log.of_user(user_id)[0].actor == f"service:{service_key.key_id}"


def test_many_first_sessions_at_once_register_one_user(
    shared_service: RunningService,
    http: httpx.Client,
    service_key: NewServiceKey,
    log: EventLog,
) -> None:
    def opened(_: int) -> httpx.Response:
        return open_session(shared_service, http, service_key.text, subject="seen by many at once")

    before = log.end()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(opened, range(8)))

    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.json()["session"]["user_id"] for answer in answers}) == 1
    happened = types(log.after(before))
    assert (happened.count("UserRegistered"), happened.count("SessionStarted")) == (1, 8)


def test_a_backends_user_has_no_password_here(
    shared_service: RunningService, http: httpx.Client, service_key: NewServiceKey
) -> None:
    opened = open_session(shared_service, http, service_key.text, subject="ext@example.com")
    device = Device(shared_service.url, http, access_token=opened.json()["access_token"])

    assert device.login("ext@example.com", "").status_code == 422
    assert device.login("ext@example.com", "any password").status_code == 401
    change = {"current_password": "any password", "new_password": "a brand new passphrase"}
    assert device.post("/v1/password", change).status_code == 409


def test_a_disabled_user_of_a_backend_gets_no_session(
    shared_service: RunningService, http: httpx.Client, service_key: NewServiceKey
) -> None:
    opened = open_session(shared_service, http, service_key.text, subject="to be disabled")
    user_id = opened.json()["session"]["user_id"]
    done = command(shared_service.environment, "users", "disable", user_id)
    assert done.returncode == 0, done.stderr

    answer = open_session(shared_service, http, service_key.text, subject="to be disabled")

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/conflict")


def test_a_key_opens_sessions_only_where_its_scope_says_so(
    shared_service: RunningService, http: httpx.Client, log: EventLog
) -> None:
    other = add_service_key(shared_service, ServiceScope.INTROSPECT_TOKENS)
    before = log.end()

    answer = open_session(shared_service, http, other.text, subject="somebody")

    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert log.after(before) == []


def test_a_key_that_is_none_or_no_longer_one_opens_nothing(
    shared_service: RunningService,
    http: httpx.Client,
    one: Device,
    service_key: NewServiceKey,
    log: EventLog,
) -> None:
    revoked = add_service_key(shared_service, ServiceScope.CREATE_SESSIONS)
    done = command(shared_service.environment, "service-keys", "revoke", revoked.key_id)
    assert done.returncode == 0, done.stderr
    before = log.end()

    for key in (
        None,
        "nonsense",
        revoked.text,
        service_key.text[:-1] + ("A" if service_key.text[-1] != "A" else "B"),
        f"stk_0123456789abcdef_{'A' * 43}",
        service_key.text + "A",
        service_key.key_id,
        one.access_token,
    ):
        answer = open_session(shared_service, http, key, subject="somebody")
        assert answer.status_code == 401, key
        assert answer.json()["type"].endswith("/invalid-service-key")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    assert log.after(before) == []


# ---------------------------------------------------------------------------- at rest


def test_the_database_holds_no_secret_and_the_log_nobodys_name(
    shared_service: RunningService, http: httpx.Client, device: Devices, service_key: NewServiceKey
) -> None:
    account = add_user(shared_service, "a.very.particular.name@example.com")
    one = device(user_agent="AVeryParticularAgent/7.0")
    device_token = one.login(account.username, account.password, device_name="my own phone").json()[
        "device_token"
    ]
    one.refresh()
    tables = contents(conninfo_of(shared_service))
    token = parse(one.refresh_token, key_ring_of(shared_service).tokens)
    assert token is not None

    assert hash_secret(token.secret) in tables["sessions"]  # the search does find what is there
    for name, text in tables.items():
        for secret in (
            one.refresh_token,
            one.access_token,
            device_token,
            account.password,
            service_key.text,
            service_key.text.rsplit("_", 1)[1],
            token.secret.hex(),
            encoded(token.secret),
        ):
            assert secret not in text, name
    for personal in (account.username, "AVeryParticularAgent", "my own phone", "127.0.0.1"):
        assert personal not in tables["events"]
        assert personal.encode().hex() not in tables["events"]


def contents(conninfo: str) -> dict[str, str]:
    """Every table as text; bytes as hexadecimal."""
    names = ("events", "sessions", "users", "credentials", "data_keys", "service_keys")
    with psycopg.connect(conninfo) as connection:
        return {
            name: "\n".join(
                str(row[0]) for row in connection.execute(f"SELECT t::text FROM {name} t")
            )
            for name in (*names, "signing_keys")
        }


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert '"logger":"access"' in shared_service.log()
    assert_no_secret_in(shared_service.log())
    assert '"level":"error"' not in shared_service.log()
