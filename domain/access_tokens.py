"""What an access token says, and why one is refused, as values (RFC 9068)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from domain.ids import FamilyId, SessionId


class InvalidTokenReason(StrEnum):
    """Why an access token was refused: stable codes, for logs and metrics."""

    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    """Not three segments of base64url, or not JSON objects."""
    DUPLICATE_MEMBER = "duplicate_member"
    """A JSON object names a member twice, so two readers could see two tokens."""
    WRONG_TYPE = "wrong_type"
    """``typ`` is not ``at+jwt``: some other JWT of ours, or somebody's."""
    CRITICAL_HEADER = "critical_header"
    """``crit`` asks for an extension; we have none (RFC 7515 §4.1.11)."""
    UNKNOWN_KEY = "unknown_key"
    """``kid`` is missing, or names no key that verifies at this time."""
    WRONG_ALGORITHM = "wrong_algorithm"
    """``alg`` is not that of the key."""
    BAD_SIGNATURE = "bad_signature"
    INVALID_CLAIMS = "invalid_claims"
    """A required claim is missing or has another type."""
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    """``iat`` or ``nbf`` lies in the future."""


class InvalidAccessTokenError(Exception):
    """A refused access token; ``reason`` says why, and nothing here repeats the token."""

    def __init__(self, reason: InvalidTokenReason) -> None:
        """Name the reason."""
        super().__init__(f"the access token was refused: {reason.value}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token to hand out.

    Attributes:
        token: The JWT; not shown when printed.
        expires_in: Whole seconds until it expires.
    """

    token: str = field(repr=False)
    expires_in: int


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an access token says (RFC 9068 §2.2). Times are whole seconds since 1970 UTC.

    Attributes:
        iss: Issuer.
        sub: The user, as resource servers know them.
        aud: Audience.
        exp: Not valid from here on.
        iat: When it was issued.
        jti: 128 random bits.
        sid: Session.
        fid: Session family, which revocation goes by.
        client_id: OAuth client.
        auth_time: When the user signed in.
        amr: How (RFC 8176).
        roles: Staff roles.
        nbf: Not valid before; ours have none.
    """

    iss: str
    sub: str
    aud: str
    exp: int
    iat: int
    jti: str
    sid: SessionId
    fid: FamilyId
    client_id: str
    auth_time: int
    amr: Sequence[str]
    roles: Sequence[str]
    nbf: int | None = None
