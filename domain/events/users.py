"""Events of a user's stream."""

from enum import StrEnum
from typing import ClassVar

import msgspec

from domain.events.families import EndReason
from domain.events.registry import Event, register


class UserOrigin(StrEnum):
    """Who keeps the user's credentials."""

    LOCAL = "local"
    """We do: the user signs in here with a password."""
    EXTERNAL = "external"
    """A trusted backend does; it opens sessions for its own subjects."""


class Role(StrEnum):
    """What a member of staff may do. A user without roles is a plain user."""

    ANALYST = "analyst"
    AUDITOR = "auditor"
    ADMIN = "admin"


@register
class UserRegistered(Event, frozen=True, kw_only=True):
    """A user came to be. Personal: ``username`` (local) or ``external_subject`` (external)."""

    TYPE: ClassVar[str] = "UserRegistered"

    origin: UserOrigin
    roles: list[Role] = msgspec.field(default_factory=list)


@register
class PasswordChanged(Event, frozen=True, kw_only=True):
    """The password was replaced. The hash is not in the log: see docs/decisions."""

    TYPE: ClassVar[str] = "PasswordChanged"


@register
class RolesChanged(Event, frozen=True, kw_only=True):
    """The user's roles are now these."""

    TYPE: ClassVar[str] = "RolesChanged"

    roles: list[Role]


@register
class UserDisabled(Event, frozen=True, kw_only=True):
    """The user may no longer sign in; all their sessions ended with this."""

    TYPE: ClassVar[str] = "UserDisabled"


@register
class UserEnabled(Event, frozen=True, kw_only=True):
    """The user may sign in again."""

    TYPE: ClassVar[str] = "UserEnabled"


@register
class UserSessionsEnded(Event, frozen=True, kw_only=True):
    """Several of the user's families were ended in one act, in the same transaction.

    Attributes:
        reason: Why.
        families: How many ended.
    """

    TYPE: ClassVar[str] = "UserSessionsEnded"

    reason: EndReason
    families: int


@register
class UserErased(Event, frozen=True, kw_only=True):
    """The person was forgotten: their data key is gone, and with it every personal part.

    In the same transaction all their families were revoked.

    Attributes:
        reason: Why, in the words of whoever did it: a ticket's number, nothing that names anybody.
    """

    TYPE: ClassVar[str] = "UserErased"

    reason: str | None = None


UserEvent = (
    UserRegistered
    | PasswordChanged
    | RolesChanged
    | UserDisabled
    | UserEnabled
    | UserSessionsEnded
    | UserErased
)
