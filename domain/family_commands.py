"""What may be asked of a session family, and what that comes to."""

from collections.abc import Sequence

import msgspec

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import EndReason, TokenDelivery
from domain.ids import SessionId, UserId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, TokenKeys
from domain.refusals import Refusal


class StartSession(msgspec.Struct, frozen=True, kw_only=True):
    """Open a family with one session in it, for a user who has proved themself."""

    session_id: SessionId
    user_id: UserId
    client_id: str
    auth_methods: Sequence[str]
    delivery: TokenDelivery
    persistent: bool
    secret: bytes
    token_key: int
    client: ClientContext
    device_name: str | None
    policy: SessionPolicy

    def __repr__(self) -> str:
        """Without the secret, so that a traceback or a log line cannot leak it."""
        return f"StartSession(session_id={self.session_id!r}, user_id={self.user_id!r})"


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """Exchange a refresh token whose MAC held. ``salt`` is 16 fresh random bytes, base64url.

    ``client_id`` is what the caller says it is; None where it does not say.
    """

    presented: RefreshToken
    client: ClientContext
    salt: str
    keys: TokenKeys
    policy: SessionPolicy
    client_id: str | None = None


class EndSession(msgspec.Struct, frozen=True):
    """End one session."""

    session_id: SessionId
    reason: EndReason


class RevokeFamily(msgspec.Struct, frozen=True):
    """End every session of the family."""

    reason: EndReason


class ExpireSessions(msgspec.Struct, frozen=True):
    """End the sessions whose time has run out."""


class RenameSession(msgspec.Struct, frozen=True):
    """Give the device a name."""

    session_id: SessionId
    device_name: str


class RequireStepUp(msgspec.Struct, frozen=True):
    """Refuse refreshes until the user proves themself again."""


class CompleteStepUp(msgspec.Struct, frozen=True):
    """The user has proved themself again, to a backend that keeps them; needed or not.

    ``auth_methods`` says how, as RFC 8176 ``amr`` values; ``client`` with what.
    """

    session_id: SessionId
    auth_methods: Sequence[str]
    client: ClientContext


class CheckToken(msgspec.Struct, frozen=True):
    """Judge a refresh token as a refresh would, a reuse with all that follows, and exchange none.

    It is not refused where it would be exchanged, once the user has proved themself.
    """

    refresh: Refresh


class Reauthenticate(msgspec.Struct, frozen=True):
    """The user has proved themself again, and presents their refresh token: exchange it.

    One command, so that no copy of the token is exchanged between the proof and the refresh.
    """

    refresh: Refresh
    auth_methods: Sequence[str]


StepUpCommand = RequireStepUp | CompleteStepUp | CheckToken | Reauthenticate
FamilyCommand = (
    StartSession
    | Refresh
    | EndSession
    | RevokeFamily
    | ExpireSessions
    | RenameSession
    | StepUpCommand
)


class Decision(msgspec.Struct, frozen=True):
    """What a command comes to: events to append, and why it was refused where it was.

    A refusal may come with events: a reuse is refused *and* revokes.
    """

    events: tuple[NewEvent, ...] = ()
    refusal: Refusal | None = None
