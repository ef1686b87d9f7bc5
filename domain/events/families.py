"""Events of a session family's stream.

After ``SessionStarted``, an event names its session by ``session``: its ordinal in the family. The
login's own is 0, and then left out of the stored data, which is written at every refresh.
"""

from enum import StrEnum
from typing import ClassVar

from domain.events.registry import Event, register
from domain.ids import SessionId, UserId


class TokenDelivery(StrEnum):
    """Where the client keeps its refresh token."""

    COOKIE = "cookie"
    BODY = "body"


class EndReason(StrEnum):
    """Why a session or a family ended otherwise than by expiring."""

    LOGOUT = "logout"
    LOGOUT_OTHERS = "logout_others"
    LOGOUT_ALL = "logout_all"
    SESSION_LIMIT = "session_limit"
    PASSWORD_CHANGED = "password_changed"
    USER_DISABLED = "user_disabled"
    USER_ERASED = "user_erased"
    TOKEN_REUSE = "token_reuse"
    TOKEN_REVOKED = "token_revoked"
    REPORTED = "reported"
    STAFF = "staff"
    RULE = "rule"


class ExpiryKind(StrEnum):
    """Which limit a session ran into."""

    IDLE = "idle"
    ABSOLUTE = "absolute"


@register
class SessionStarted(Event, frozen=True, kw_only=True):
    """A user signed in on a device: the family's first event.

    Attributes:
        session_id: The session's id (``sid`` in access tokens).
        user_id: Whose it is.
        client_id: The OAuth client that it was opened for.
        auth_methods: How the user proved themself, as RFC 8176 ``amr`` values.
        delivery: Where the refresh token goes.
        persistent: Whether the cookie outlives the browser ("remember me").
        secret_hash: base64url SHA-256 of the refresh token's secret.
        token_key: Id of the token key that it was minted with.
        idle_timeout_s: Seconds without a refresh after which it ends.
        absolute_lifetime_s: Seconds after sign-in at which it ends.

    Personal: ``client`` and, where given, ``device_name``.
    """

    TYPE: ClassVar[str] = "SessionStarted"

    session_id: SessionId
    user_id: UserId
    client_id: str
    auth_methods: list[str]
    delivery: TokenDelivery
    persistent: bool
    secret_hash: str
    token_key: int
    idle_timeout_s: int
    absolute_lifetime_s: int


@register
class RefreshTokenRotated(Event, frozen=True, kw_only=True):
    """The current refresh token was presented and replaced. Personal: ``client``.

    Attributes:
        session: Ordinal of the session in its family.
        generation: The new token's generation.
        secret_hash: base64url SHA-256 of the new token's secret.
        salt: What the new secret was derived with (base64url, 16 bytes).
        token_key: Id of the token key that it was derived and minted with.
    """

    TYPE: ClassVar[str] = "RefreshTokenRotated"

    session: int = 0
    generation: int
    secret_hash: str
    salt: str
    token_key: int


@register
class RefreshRetried(Event, frozen=True, kw_only=True):
    """The immediate predecessor came again from the same client: answered with the same successor.

    Personal: ``client``.

    Attributes:
        session: Ordinal of the session in its family.
        generation: The successor's generation, which stays current.
        late: Whether the overlap window had passed, so that it came out of the budget.
    """

    TYPE: ClassVar[str] = "RefreshRetried"

    session: int = 0
    generation: int
    late: bool = False


@register
class RefreshTokenReused(Event, frozen=True, kw_only=True):
    """A token that had been replaced was presented, and it was no honest retry.

    Personal: ``client`` (of the one who presented it).

    Attributes:
        session: Ordinal of the session in its family.
        presented_generation: The generation of the token presented.
        current_generation: The generation that was current.
    """

    TYPE: ClassVar[str] = "RefreshTokenReused"

    session: int = 0
    presented_generation: int
    current_generation: int


@register
class RefreshTokenUnrecognised(Event, frozen=True, kw_only=True):
    """A genuine token that this history never issued was refused; nothing was revoked.

    Its generation lies ahead of the current one, or its secret is not the one on record: the
    database was restored from a backup, or the token key leaked. Personal: ``client``.
    """

    TYPE: ClassVar[str] = "RefreshTokenUnrecognised"

    session: int = 0
    presented_generation: int
    current_generation: int


@register
class EndedSessionRefreshRefused(Event, frozen=True, kw_only=True):
    """A token of a session that had already ended was presented. Personal: ``client``.

    Recorded at most once a minute for each session, so that the log stays bounded.
    """

    TYPE: ClassVar[str] = "EndedSessionRefreshRefused"

    session: int = 0
    presented_generation: int


@register
class SessionRenamed(Event, frozen=True, kw_only=True):
    """The user named the device. Personal: ``device_name``."""

    TYPE: ClassVar[str] = "SessionRenamed"

    session: int = 0


@register
class SessionEnded(Event, frozen=True, kw_only=True):
    """One session was ended on purpose."""

    TYPE: ClassVar[str] = "SessionEnded"

    session: int = 0
    reason: EndReason


@register
class SessionExpired(Event, frozen=True, kw_only=True):
    """One session ran into its idle timeout or its absolute lifetime."""

    TYPE: ClassVar[str] = "SessionExpired"

    session: int = 0
    kind: ExpiryKind


@register
class FamilyRevoked(Event, frozen=True, kw_only=True):
    """The whole family was ended: every session in it, for good."""

    TYPE: ClassVar[str] = "FamilyRevoked"

    reason: EndReason


@register
class StepUpRequired(Event, frozen=True, kw_only=True):
    """No refresh until the user proves themself again (RFC 9470)."""

    TYPE: ClassVar[str] = "StepUpRequired"


@register
class StepUpCompleted(Event, frozen=True, kw_only=True):
    """The user proved themself again, in a session of the family. Personal: ``client``.

    Attributes:
        session: Ordinal of the session in its family.
        auth_methods: How, as RFC 8176 ``amr`` values.
    """

    TYPE: ClassVar[str] = "StepUpCompleted"

    session: int = 0
    auth_methods: list[str]


FamilyEvent = (
    SessionStarted
    | RefreshTokenRotated
    | RefreshRetried
    | RefreshTokenReused
    | RefreshTokenUnrecognised
    | EndedSessionRefreshRefused
    | SessionRenamed
    | SessionEnded
    | SessionExpired
    | FamilyRevoked
    | StepUpRequired
    | StepUpCompleted
)
