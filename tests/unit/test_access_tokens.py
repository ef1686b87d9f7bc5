"""Access tokens: what is issued, and every confusion that is refused."""

import base64
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from domain.access_tokens import InvalidAccessTokenError, InvalidTokenReason, IssuedToken
from domain.ids import FamilyId, SessionId
from infra.access_tokens import (
    MAX_TOKEN_CHARS,
    AccessTokens,
)
from infra.signing_key_set import (
    NoSigningKeyError,
    SigningAlgorithm,
    SigningKey,
    SigningKeySet,
    new_private_key,
    signing_key,
)

ISSUER = "https://id.example.com"
AUDIENCE = "https://api.example.com"
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
LIFETIME = timedelta(minutes=10)
LEEWAY = timedelta(seconds=10)
LONG_AGO = NOW - timedelta(days=30)
SECOND = timedelta(seconds=1)

KEYS = {
    algorithm: signing_key(new_private_key(algorithm), LONG_AGO) for algorithm in SigningAlgorithm
}
KEY = KEYS[SigningAlgorithm.EDDSA]


def tokens_with(*keys: SigningKey, issuer: str = ISSUER, audience: str = AUDIENCE) -> AccessTokens:
    tokens = AccessTokens(issuer, audience, LIFETIME)
    tokens.use(SigningKeySet(keys))
    return tokens


def issue(
    tokens: AccessTokens,
    *,
    now: datetime = NOW,
    expires_at: datetime | None = None,
    roles: Sequence[str] = (),
) -> IssuedToken:
    return tokens.issue(
        sub="user-1",
        sid=SessionId("0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b12"),
        family_id=FamilyId("0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b13"),
        client_id="web",
        auth_time=NOW - timedelta(hours=1),
        auth_methods=["pwd", "otp"],
        roles=roles,
        now=now,
        expires_at=expires_at,
    )


def segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsegment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def good_header(key: SigningKey = KEY, **changes: object) -> dict[str, object]:
    return {"alg": key.algorithm.value, "typ": "at+jwt", "kid": key.kid} | changes


def good_claims(**changes: object) -> dict[str, object]:
    return {
        "iss": ISSUER,
        "sub": "user-1",
        "aud": AUDIENCE,
        "exp": NOW_S + 600,
        "iat": NOW_S,
        "jti": "jti",
        "sid": "0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b12",
        "fid": "0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b13",
        "client_id": "web",
        "auth_time": NOW_S,
        "amr": ["pwd"],
        "roles": [],
    } | changes


def sealed(
    header: dict[str, object] | str | None = None,
    claims: dict[str, object] | str | None = None,
    key: SigningKey = KEY,
) -> str:
    """A token that our key has really signed, whatever it says."""
    parts = [good_header(key) if header is None else header, claims or good_claims()]
    texts = [part if isinstance(part, str) else json.dumps(part) for part in parts]
    signed = ".".join(segment(text.encode()) for text in texts)
    return f"{signed}.{segment(key.sign(signed.encode()))}"


def with_another(members: dict[str, object], name: str, value: object) -> str:
    """JSON with one more member, even if there is one of that name."""
    return f"{json.dumps(members)[:-1]}, {json.dumps(name)}: {json.dumps(value)}}}"


def without(members: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in members.items() if key != name}


def refused(token: str, now: datetime = NOW, tokens: AccessTokens | None = None) -> str:
    with pytest.raises(InvalidAccessTokenError) as caught:
        (tokens or tokens_with(*KEYS.values())).verify(token, now)
    assert token not in str(caught.value) or not token
    return caught.value.reason.value


def as_pyjwt_reads_it(token: str, key: SigningKey) -> dict[str, Any]:  # Any: PyJWT's own type
    return jwt.decode(
        token,
        jwt.PyJWK(dict(key.public_jwk)),
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )


class TestIssue:
    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_another_implementation_verifies_it_with_the_published_key(
        self, key: SigningKey
    ) -> None:
        issued = issue(tokens_with(key), roles=["analyst"])

        claims = as_pyjwt_reads_it(issued.token, key)

        assert claims == good_claims(
            jti=claims["jti"], auth_time=NOW_S - 3600, amr=["pwd", "otp"], roles=["analyst"]
        )
        assert jwt.get_unverified_header(issued.token) == good_header(key)

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_it_verifies_and_says_what_was_put_in(self, key: SigningKey) -> None:
        tokens = tokens_with(key)

        claims = tokens.verify(issue(tokens).token, NOW)

        assert (claims.sub, claims.client_id, claims.amr) == ("user-1", "web", ["pwd", "otp"])
        assert claims.sid == "0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b12"
        assert claims.fid == "0190b6a2-7b7e-7c39-9d5f-2f8d8a5e2b13"

    def test_no_two_tokens_have_the_same_jti(self) -> None:
        tokens = tokens_with(KEY)

        jtis = {tokens.verify(issue(tokens).token, NOW).jti for _ in range(50)}

        assert len(jtis) == 50
        assert {len(unsegment(jti)) for jti in jtis} == {16}

    @pytest.mark.parametrize(
        ("expires_at", "seconds"),
        [
            (None, 600),
            (NOW + timedelta(days=1), 600),
            (NOW + timedelta(minutes=3), 180),
            (NOW, 0),
            (NOW - timedelta(hours=1), 0),
        ],
    )
    def test_it_outlives_neither_its_lifetime_nor_its_session(
        self, expires_at: datetime | None, seconds: int
    ) -> None:
        tokens = tokens_with(KEY)

        issued = issue(tokens, expires_at=expires_at)

        assert issued.expires_in == seconds
        assert tokens.verify(issued.token, NOW).exp == NOW_S + seconds

    def test_without_a_key_nothing_is_issued(self) -> None:
        with pytest.raises(NoSigningKeyError):
            issue(AccessTokens(ISSUER, AUDIENCE, LIFETIME))

    def test_neither_the_token_nor_the_private_key_shows_when_printed(self) -> None:
        issued = issue(tokens_with(KEY))

        assert repr(issued) == "IssuedToken(expires_in=600)"
        assert "private" not in repr(KEY)


class TestConfusions:
    """``jwt_confusions`` of the edge cases: RFC 8725 §2, one attack each."""

    def test_the_builder_of_these_attacks_makes_tokens_that_would_be_accepted(self) -> None:
        for key in KEYS.values():
            assert tokens_with(key).verify(sealed(key=key), NOW).sub == "user-1"

    @pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
    def test_alg_none_is_refused(self, alg: str) -> None:
        signed = sealed(good_header(alg=alg))
        unsigned = signed.rpartition(".")[0] + "."

        assert refused(signed) == "wrong_algorithm"
        assert refused(unsigned) == "malformed"

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    @pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
    def test_an_hmac_keyed_with_the_public_key_is_refused(self, key: SigningKey, alg: str) -> None:
        pem = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        jwk = json.dumps(dict(key.public_jwk)).encode()
        signed = sealed(good_header(key, alg=alg), key=key).rpartition(".")[0]

        for secret in (pem, jwk):
            mac = hmac.digest(secret, signed.encode(), "sha" + alg[2:])
            assert refused(f"{signed}.{segment(mac)}") == "wrong_algorithm"

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_an_hmac_under_the_name_of_the_keys_own_algorithm_is_refused(
        self, key: SigningKey
    ) -> None:
        pem = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = sealed(key=key).rpartition(".")[0]
        mac = hmac.digest(pem, signed.encode(), "sha256")

        assert refused(f"{signed}.{segment(mac)}") == "bad_signature"

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_the_algorithm_is_that_of_the_key_whatever_the_token_says(
        self, key: SigningKey
    ) -> None:
        others = {*SigningAlgorithm, "ES384", "PS256", "Ed25519", "eddsa", 1, None} - {
            key.algorithm
        }

        for alg in others:
            assert refused(sealed(good_header(key, alg=alg), key=key)) == "wrong_algorithm"

    @pytest.mark.parametrize(
        "typ", ["JWT", "at+jwt ", "at", "logout+jwt", "secevent+jwt", "", None, 1, ["at+jwt"]]
    )
    def test_another_type_of_jwt_is_refused(self, typ: object) -> None:
        assert refused(sealed(good_header(typ=typ))) == "wrong_type"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("typ", "wrong_type"), ("kid", "unknown_key"), ("alg", "wrong_algorithm")],
    )
    def test_a_header_without_one_of_its_members_is_refused(self, name: str, reason: str) -> None:
        assert refused(sealed(without(good_header(), name))) == reason

    @pytest.mark.parametrize(
        "typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+JWT"]
    )
    def test_the_type_may_be_spelled_as_any_media_type_may(self, typ: str) -> None:
        assert tokens_with(KEY).verify(sealed(good_header(typ=typ)), NOW).sub == "user-1"

    @pytest.mark.parametrize("aud", ["https://other.example.com", AUDIENCE + "/", ""])
    def test_a_token_for_another_audience_is_refused(self, aud: str) -> None:
        assert refused(sealed(claims=good_claims(aud=aud))) == "wrong_audience"

    def test_a_list_of_audiences_is_refused_even_with_ours_in_it(self) -> None:
        claims = good_claims(aud=["https://other.example.com", AUDIENCE])

        assert refused(sealed(claims=claims)) == "invalid_claims"

    @pytest.mark.parametrize("iss", ["https://evil.example.com", ISSUER + "/", ""])
    def test_a_token_of_another_issuer_is_refused(self, iss: str) -> None:
        assert refused(sealed(claims=good_claims(iss=iss))) == "wrong_issuer"

    def test_a_kid_is_looked_up_and_nothing_else(self) -> None:
        paths = ["../../../../dev/null", "/etc/passwd", "https://evil.example.com/jwks.json"]
        queries = ["' OR '1'='1", "x'; DROP TABLE signing_keys; --", "%", "*", ""]
        spellings = [KEY.kid + "\x00", KEY.kid.lower(), KEY.kid[:-1], [KEY.kid], {"kid": KEY.kid}]

        for kid in (*paths, *queries, *spellings, None, 0, True):
            assert refused(sealed(good_header(kid=kid))) == "unknown_key"

    @pytest.mark.parametrize("crit", [["exp"], ["b64"], ["http://example.com/x"], [], None, "exp"])
    def test_a_critical_extension_is_refused(self, crit: object) -> None:
        header = good_header(crit=crit, b64=True, exp=NOW_S + 600)

        assert refused(sealed(header)) == "critical_header"

    def test_an_unencoded_payload_is_refused(self) -> None:
        assert refused(sealed(good_header(b64=False))) == "malformed"

    def test_a_header_that_names_a_member_twice_is_refused(self) -> None:
        for again in (*good_header().items(), ("alg", "none"), ("kid", "other"), ("typ", "JWT")):
            assert refused(sealed(with_another(good_header(), *again))) == "duplicate_member"

    def test_claims_that_name_a_member_twice_are_refused(self) -> None:
        for again in good_claims(sub="admin", roles=["admin"]).items():
            twice = with_another(good_claims(), *again)

            assert refused(sealed(claims=twice)) == "duplicate_member"

    def test_a_member_named_twice_is_found_at_any_depth_and_under_any_escape(self) -> None:
        nested = with_another(good_claims(), "act", "DEEP").replace('"DEEP"', '[{"a": 1, "a": 1}]')
        escaped = with_another(good_claims(), "sUB", "admin").replace("sUB", "\\u0073ub")

        assert refused(sealed(claims=nested)) == "duplicate_member"
        assert refused(sealed(claims=escaped)) == "duplicate_member"

    def test_a_key_that_the_token_brings_along_is_not_used(self) -> None:
        thief = signing_key(ed25519.Ed25519PrivateKey.generate(), LONG_AGO)
        brought = {
            "jwk": dict(thief.public_jwk),
            "jku": "https://evil.example.com/jwks.json",
            "x5u": "https://evil.example.com/cert.pem",
        }

        assert refused(sealed(good_header(thief, **brought), key=thief)) == "unknown_key"
        assert refused(sealed(good_header(KEY, **brought), key=thief)) == "bad_signature"

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
    def test_no_altered_bit_goes_unnoticed(self, key: SigningKey) -> None:
        tokens = tokens_with(key)
        header, claims, signature = issue(tokens).token.split(".")

        for part in range(3):
            parts = [unsegment(header), unsegment(claims), unsegment(signature)]
            parts[part] = parts[part][:-1] + bytes([parts[part][-1] ^ 1])
            with pytest.raises(InvalidAccessTokenError):
                tokens.verify(".".join(map(segment, parts)), NOW)

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_one_token_has_one_spelling(self, part: int) -> None:
        tokens = tokens_with(KEY)
        parts = issue(tokens).token.split(".")

        for change in ("=", "==", " ", "\n", "\x00", "é", "A", "AAA"):
            respelled = [*parts]
            respelled[part] += change
            with pytest.raises(InvalidAccessTokenError):
                tokens.verify(".".join(respelled), NOW)

    @pytest.mark.parametrize("r_and_s", [b"\x00" * 64, b"\x00" * 63, b"", b"\x00" * 128])
    def test_a_zero_signature_is_refused(self, r_and_s: bytes) -> None:
        # CVE-2022-21449: r = s = 0 passed ECDSA in Java for two years.
        for key in KEYS.values():
            signed = sealed(key=key).rpartition(".")[0]
            with pytest.raises(InvalidAccessTokenError):
                tokens_with(key).verify(f"{signed}.{segment(r_and_s)}", NOW)


class TestShape:
    def test_what_is_no_jwt_is_refused_as_malformed(self) -> None:
        segments = ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "e30.e30.e30.e30.e30"]
        around = ["Bearer " + sealed(), sealed() + "\n", sealed() + ".", "." + sealed()]
        bytes_ = ["\ud800.\ud800.\ud800", f"{segment(bytes([0xFF, 0xFE]))}.e30.e30"]

        for token in (*segments, *around, *bytes_):
            assert refused(token) == "malformed"

    @pytest.mark.parametrize("header", ["[]", "1", "null", '"text"', "{", "{'alg': 'EdDSA'}"])
    def test_a_header_that_is_no_json_object_is_refused(self, header: str) -> None:
        assert refused(sealed(header)) == "malformed"

    def test_a_header_that_strains_the_parser_is_refused(self) -> None:
        for header in ("[" * 4000, '{"a":' * 1000, '{"n":' + "9" * 5000 + "}"):
            assert refused(sealed(header)) == "malformed"

    @pytest.mark.parametrize("claims", ["[]", "1", "null", '"text"', "{"])
    def test_claims_that_are_no_json_object_are_refused(self, claims: str) -> None:
        assert refused(sealed(claims=claims)) == "malformed"

    def test_a_token_of_8_kb_is_read_and_a_longer_one_is_not(self) -> None:
        room = MAX_TOKEN_CHARS - len(sealed(claims=good_claims(sub="")))
        longest = sealed(claims=good_claims(sub="x" * (room * 3 // 4)))
        too_long = sealed(claims=good_claims(sub="x" * (room * 3 // 4 + 3)))

        assert MAX_TOKEN_CHARS - 3 <= len(longest) <= MAX_TOKEN_CHARS
        assert tokens_with(KEY).verify(longest, NOW).iss == ISSUER
        assert refused(too_long) == "too_long"
        assert refused("." * 10_000_000) == "too_long"

    @pytest.mark.parametrize("name", good_claims())
    def test_every_claim_is_required(self, name: str) -> None:
        assert refused(sealed(claims=without(good_claims(), name))) == "invalid_claims"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[("exp", value) for value in ("1800000000", True, 1.5, None)],
            *[("sub", value) for value in (7, None)],
            *[("iat", "now"), ("nbf", "soon"), ("sid", {}), ("amr", "pwd")],
        ],
    )
    def test_a_claim_of_another_type_is_refused(self, name: str, value: object) -> None:
        assert refused(sealed(claims=good_claims(**{name: value}))) == "invalid_claims"

    def test_a_claim_that_a_newer_build_adds_does_no_harm(self) -> None:
        assert tokens_with(KEY).verify(sealed(claims=good_claims(acr="x")), NOW).sub == "user-1"

    @given(st.text() | st.from_regex(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"))
    def test_nothing_that_is_sent_raises_anything_else(self, token: str) -> None:
        with pytest.raises(InvalidAccessTokenError):
            tokens_with(*KEYS.values()).verify(token, NOW)

    @given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64"]), st.text()))
    def test_no_header_raises_anything_else(self, header: dict[str, object]) -> None:
        with pytest.raises(InvalidAccessTokenError):
            tokens_with(KEY).verify(sealed(header), NOW)

    def test_the_error_says_why_and_nothing_of_the_token(self) -> None:
        error = InvalidAccessTokenError(InvalidTokenReason.BAD_SIGNATURE)

        assert str(error) == "the access token was refused: bad_signature"


class TestTime:
    EXPIRES = datetime.fromtimestamp(NOW_S, UTC) + LIFETIME

    @pytest.mark.parametrize(
        ("now", "valid"),
        [
            (EXPIRES - SECOND, True),
            (EXPIRES, True),
            (EXPIRES + LEEWAY - timedelta(microseconds=1), True),
            (EXPIRES + LEEWAY, False),
            (EXPIRES + timedelta(days=365), False),
        ],
    )
    def test_it_expires_at_exp_plus_the_leeway_exactly(self, now: datetime, valid: bool) -> None:
        tokens = tokens_with(KEY)
        token = issue(tokens).token

        if valid:
            assert tokens.verify(token, now).sub == "user-1"
        else:
            assert refused(token, now) == "expired"

    @pytest.mark.parametrize("claim", ["iat", "nbf"])
    def test_a_token_from_the_future_is_refused_beyond_the_leeway(self, claim: str) -> None:
        start = datetime.fromtimestamp(NOW_S, UTC)
        token = sealed(claims=good_claims(**{claim: NOW_S}))

        assert tokens_with(KEY).verify(token, start - LEEWAY).sub == "user-1"
        assert refused(token, start - LEEWAY - timedelta(microseconds=1)) == "not_yet_valid"

    def test_the_time_is_what_the_caller_says_and_not_the_hosts(self) -> None:
        for then in (datetime(1999, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)):
            tokens = tokens_with(signing_key(new_private_key(SigningAlgorithm.EDDSA), then))

            assert tokens.verify(issue(tokens, now=then).token, then).sub == "user-1"

    @pytest.mark.parametrize("exp", [-1, 0, 10**400])
    def test_an_absurd_expiry_is_compared_like_any_other(self, exp: int) -> None:
        token = sealed(claims=good_claims(exp=exp))

        if exp > NOW_S:
            assert tokens_with(KEY).verify(token, NOW).exp == exp
        else:
            assert refused(token) == "expired"


class TestRotation:
    OLD_PRIVATE = new_private_key(SigningAlgorithm.EDDSA)
    OLD = signing_key(
        OLD_PRIVATE,
        LONG_AGO,
        retired_at=NOW,
        verifies_until=NOW + LIFETIME + timedelta(seconds=60),
    )
    NEW = signing_key(new_private_key(SigningAlgorithm.ES256), NOW)

    def test_the_new_key_signs_from_its_instant_on_and_not_before(self) -> None:
        tokens = tokens_with(self.NEW, self.OLD)

        before = issue(tokens, now=NOW - timedelta(microseconds=1)).token
        after = issue(tokens, now=NOW).token

        assert jwt.get_unverified_header(before)["kid"] == self.OLD.kid
        assert jwt.get_unverified_header(after)["kid"] == self.NEW.kid

    def test_a_token_of_the_retired_key_is_valid_until_it_expires(self) -> None:
        tokens = tokens_with(self.OLD, self.NEW)
        last = issue(tokens, now=NOW - timedelta(microseconds=1)).token

        assert tokens.verify(last, NOW + timedelta(minutes=9)).sub == "user-1"
        assert refused(last, NOW + LIFETIME + LEEWAY, tokens) == "expired"

    def test_what_a_retired_key_signs_after_its_end_is_refused(self) -> None:
        late = self.OLD.verifies_until
        assert late is not None
        stolen = issue(tokens_with(signing_key(self.OLD_PRIVATE, LONG_AGO)), now=late).token

        assert refused(stolen, late, tokens_with(self.OLD, self.NEW)) == "unknown_key"

    def test_a_replica_with_a_slower_clock_accepts_the_new_keys_first_token(self) -> None:
        tokens = tokens_with(self.OLD, self.NEW)
        first = issue(tokens, now=NOW).token

        assert tokens.verify(first, NOW - timedelta(seconds=5)).sub == "user-1"

    def test_a_key_taken_out_of_the_set_verifies_nothing(self) -> None:
        tokens = tokens_with(KEY)
        token = issue(tokens).token

        tokens.use(SigningKeySet([self.NEW]))

        assert refused(token, NOW, tokens) == "unknown_key"

    def test_a_clock_set_back_to_before_the_first_key_still_finds_it(self) -> None:
        tokens = tokens_with(self.NEW)
        earlier = NOW - timedelta(days=1)

        assert tokens.verify(issue(tokens, now=earlier).token, earlier).sub == "user-1"

    def test_a_set_whose_keys_are_all_retired_issues_nothing(self) -> None:
        with pytest.raises(NoSigningKeyError):
            issue(tokens_with(self.OLD), now=NOW)
