"""Access tokens: JWTs of type ``at+jwt`` (RFC 9068), issued and verified.

Issuing is on the path of every refresh, so it goes straight to ``cryptography`` and costs little
more than the signature. Verifying leaves the signature to PyJWT, under the algorithm of the key
that we hold (RFC 8725 §3.1), and checks the rest here: PyJWT would compare with the host's clock.
"""

import asyncio
import json
import logging
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta

import jwt
import msgspec

from domain.access_tokens import (
    AccessClaims,
    InvalidAccessTokenError,
    InvalidTokenReason,
    IssuedToken,
)
from domain.ids import FamilyId, SessionId
from domain.ports import StoreUnavailableError
from infra.sealing import UnsealError
from infra.signing_key_set import Jwks, SigningAlgorithm, SigningKey, SigningKeySet
from infra.signing_keys import SigningKeyStore

MAX_TOKEN_CHARS = 8192

_JTI_BYTES = 16
_TYPES = {"at+jwt", "application/at+jwt"}
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_log = logging.getLogger(__name__)


class AccessTokens:
    """Issues and verifies the access tokens of one issuer for one audience."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        lifetime: timedelta,
        leeway: timedelta = timedelta(seconds=10),
    ) -> None:
        """Start without keys: ``use`` gives some.

        Args:
            issuer: The ``iss`` claim.
            audience: The ``aud`` claim.
            lifetime: How long a token is valid at most.
            leeway: By how much the clocks of who issues and who verifies may differ.
        """
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime
        self._leeway_s = leeway.total_seconds()
        self._encoder = msgspec.json.Encoder()
        self._jws = jwt.PyJWS(algorithms=[algorithm.value for algorithm in SigningAlgorithm])
        self.use(SigningKeySet(()))

    @property
    def keys(self) -> SigningKeySet:
        """The snapshot in use."""
        return self._keys

    def jwks(self, now: datetime) -> Jwks:
        """What the snapshot in use publishes; see ``SigningKeySet.jwks``."""
        return self._keys.jwks(now)

    def use(self, keys: SigningKeySet) -> None:
        """Sign and verify with these keys from now on."""
        self._headers = {key.kid: _encoded_header(key) for key in keys.keys}
        self._keys = keys

    async def keep_fresh(
        self, store: SigningKeyStore, every: timedelta = timedelta(seconds=5)
    ) -> None:
        """Follow the store until cancelled; while it cannot serve, go on with the keys at hand.

        Args:
            store: Where the keys are.
            every: How often to look: how late a rotation without notice arrives here.
        """
        failing = False
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                self.use(await store.load())
            except (StoreUnavailableError, UnsealError) as error:
                if not failing:
                    _log.warning("signing keys not reloaded, the old ones stay in use: %s", error)
                failing = True
                continue
            if failing:
                _log.info("signing keys reloaded again")
            failing = False

    def issue(  # noqa: PLR0913 (a token says this much)
        self,
        *,
        sub: str,
        sid: SessionId,
        family_id: FamilyId,
        client_id: str,
        auth_time: datetime,
        auth_methods: Sequence[str],
        roles: Sequence[str],
        now: datetime,
        expires_at: datetime | None,
    ) -> IssuedToken:
        """Sign a token.

        Args:
            sub: The user, as resource servers know them.
            sid: The session.
            family_id: Its family.
            client_id: The OAuth client.
            auth_time: When the user signed in.
            auth_methods: How (``amr``).
            roles: Staff roles.
            now: The database's clock.
            expires_at: When the session ends whatever happens: no token outlives it.

        Raises:
            NoSigningKeyError: No key signs at ``now``.
        """
        key = self._keys.signing_at(now)
        issued_at = int(now.timestamp())
        expires = now + self._lifetime
        if expires_at is not None and expires_at < expires:
            expires = expires_at
        expires_s = max(int(expires.timestamp()), issued_at)
        claims = AccessClaims(
            iss=self._issuer,
            sub=sub,
            aud=self._audience,
            exp=expires_s,
            iat=issued_at,
            jti=_base64url(os.urandom(_JTI_BYTES)).decode("ascii"),
            sid=sid,
            fid=family_id,
            client_id=client_id,
            auth_time=int(auth_time.timestamp()),
            amr=auth_methods,
            roles=roles,
        )
        signed = self._headers[key.kid] + b"." + _base64url(self._encoder.encode(claims))
        token = signed + b"." + _base64url(key.sign(signed))
        return IssuedToken(token.decode("ascii"), expires_s - issued_at)

    def verify(self, token: str, now: datetime) -> AccessClaims:
        """Check a presented token (RFC 9068 §4, RFC 8725 §3).

        Args:
            token: What the caller sent.
            now: The time to check against.

        Raises:
            InvalidAccessTokenError: It is not a valid access token of ours for this audience.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidAccessTokenError(InvalidTokenReason.TOO_LONG)
        compact = _COMPACT.fullmatch(token)
        if compact is None:
            raise InvalidAccessTokenError(InvalidTokenReason.MALFORMED)
        key = self._key_for(_header(compact[1]), now)
        try:
            payload = self._jws.decode_complete(
                token, key.public_key, algorithms=[key.algorithm.value]
            )["payload"]
        except jwt.InvalidSignatureError:
            raise InvalidAccessTokenError(InvalidTokenReason.BAD_SIGNATURE) from None
        except jwt.PyJWTError:  # not chained: its text quotes what was sent
            raise InvalidAccessTokenError(InvalidTokenReason.MALFORMED) from None
        return self._checked_claims(_json_object(payload), now)

    def _key_for(self, header: dict[str, object], now: datetime) -> SigningKey:
        """The key that a header names, if the header is one of ours in everything else."""
        type_ = header.get("typ")
        if not isinstance(type_, str) or type_.lower() not in _TYPES:
            raise InvalidAccessTokenError(InvalidTokenReason.WRONG_TYPE)
        if "crit" in header:
            raise InvalidAccessTokenError(InvalidTokenReason.CRITICAL_HEADER)
        kid = header.get("kid")
        key = self._keys.verifying_at(kid, now) if isinstance(kid, str) else None
        if key is None:
            raise InvalidAccessTokenError(InvalidTokenReason.UNKNOWN_KEY)
        if header.get("alg") != key.algorithm.value:
            raise InvalidAccessTokenError(InvalidTokenReason.WRONG_ALGORITHM)
        return key

    def _checked_claims(self, members: dict[str, object], now: datetime) -> AccessClaims:
        try:
            claims = msgspec.convert(members, AccessClaims)
        except msgspec.ValidationError:
            raise InvalidAccessTokenError(InvalidTokenReason.INVALID_CLAIMS) from None
        if claims.iss != self._issuer:
            raise InvalidAccessTokenError(InvalidTokenReason.WRONG_ISSUER)
        if claims.aud != self._audience:
            raise InvalidAccessTokenError(InvalidTokenReason.WRONG_AUDIENCE)
        seconds = now.timestamp()
        if seconds - self._leeway_s >= claims.exp:
            raise InvalidAccessTokenError(InvalidTokenReason.EXPIRED)
        starts = claims.iat if claims.nbf is None else max(claims.iat, claims.nbf)
        if seconds + self._leeway_s < starts:
            raise InvalidAccessTokenError(InvalidTokenReason.NOT_YET_VALID)
        return claims


class _DuplicateMemberError(ValueError):
    pass


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateMemberError
    return members


def _json_object(raw: bytes) -> dict[str, object]:
    """Read a JSON object in which no object, at any depth, names a member twice."""
    try:
        value: object = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_members)
    except _DuplicateMemberError:
        raise InvalidAccessTokenError(InvalidTokenReason.DUPLICATE_MEMBER) from None
    except (ValueError, RecursionError):  # 8 KB can nest deeper than Python's stack
        raise InvalidAccessTokenError(InvalidTokenReason.MALFORMED) from None
    if not isinstance(value, dict):
        raise InvalidAccessTokenError(InvalidTokenReason.MALFORMED)
    return value


def _header(segment: str) -> dict[str, object]:
    try:
        raw = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise InvalidAccessTokenError(InvalidTokenReason.MALFORMED) from None
    return _json_object(raw)


def _encoded_header(key: SigningKey) -> bytes:
    header = {"alg": key.algorithm.value, "typ": "at+jwt", "kid": key.kid}
    return _base64url(msgspec.json.encode(header))


def _base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
