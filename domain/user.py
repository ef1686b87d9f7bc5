"""A user: state, ``evolve_user`` and ``decide_user``.

The password hash is no part of it: credentials live in a table of their own, never in the log
(docs/decisions/003). ``credential_epoch`` counts password changes, so that a sign-in that verified
the old password while a change committed is refused.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never, cast

import msgspec
from msgspec.structs import replace

from domain.events.envelope import NewEvent
from domain.events.families import EndReason
from domain.events.personal import Personal, PersonalPart, Sealed
from domain.events.users import (
    PasswordChanged,
    Role,
    RolesChanged,
    UserDisabled,
    UserEnabled,
    UserErased,
    UserEvent,
    UserOrigin,
    UserRegistered,
    UserSessionsEnded,
)
from domain.family import ImpossibleEventError
from domain.ids import UserId
from domain.refusals import Refusal


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Someone who signs in.

    Attributes:
        user_id: Names the user's stream.
        version: Version of the last event folded in.
        origin: Who keeps the credentials.
        username: What a local user signs in with.
        external_subject: A backend's own name for an external user: the ``sub`` of its tokens.
        roles: Staff roles, sorted.
        registered_at: When the user came to be.
        disabled_at: Since when the user may not sign in, or None.
        credential_epoch: How many times the password was replaced.
        erased_at: When the person was forgotten, or None. Nothing happens to such a user any more.
    """

    user_id: UserId
    version: int
    origin: UserOrigin
    username: str | Sealed | None = None
    external_subject: str | Sealed | None = None
    roles: tuple[Role, ...] = ()
    registered_at: datetime
    disabled_at: datetime | None = None
    credential_epoch: int = 0
    erased_at: datetime | None = None

    @property
    def subject(self) -> str:
        """The ``sub`` claim: a backend's own subject, else the user id."""
        return self.external_subject if isinstance(self.external_subject, str) else self.user_id


class RegisterUser(msgspec.Struct, frozen=True, kw_only=True):
    """Create a user. ``username`` for a local one, ``external_subject`` for a backend's."""

    origin: UserOrigin
    username: str | None = None
    external_subject: str | None = None
    roles: tuple[Role, ...] = ()


class ChangePassword(msgspec.Struct, frozen=True):
    """Replace the password. ``expected_epoch`` is the epoch that the old one was verified at."""

    expected_epoch: int


class ChangeRoles(msgspec.Struct, frozen=True):
    """Set the roles."""

    roles: tuple[Role, ...]


class DisableUser(msgspec.Struct, frozen=True):
    """Forbid sign-in."""


class EnableUser(msgspec.Struct, frozen=True):
    """Allow sign-in again."""


class EndUserSessions(msgspec.Struct, frozen=True):
    """Note that several families ended in one act."""

    reason: EndReason
    families: int


class EraseUser(msgspec.Struct, frozen=True):
    """Forget the person. ``reason`` stays in the log, in clear."""

    reason: str | None = None


UserCommand = (
    RegisterUser
    | ChangePassword
    | ChangeRoles
    | DisableUser
    | EnableUser
    | EndUserSessions
    | EraseUser
)


class UserDecision(msgspec.Struct, frozen=True):
    """Events to append, and why the command was refused where it was."""

    events: tuple[NewEvent, ...] = ()
    refusal: Refusal | None = None


def decide_user(  # noqa: PLR0911 (a return for each rule reads best)
    user: User | None, command: UserCommand
) -> UserDecision:
    """The rules of a user.

    Args:
        user: The state, or None where there is no such user.
        command: What is asked for.
    """
    if isinstance(command, RegisterUser):
        return _register(command) if user is None else _refuse(Refusal.DUPLICATE_USER)
    if user is None:
        return _refuse(Refusal.UNKNOWN_USER)
    if isinstance(command, EraseUser):
        return _erase(user, command)
    if user.erased_at is not None:
        return _refuse(Refusal.SUBJECT_ERASED)
    match command:
        case ChangePassword():
            if user.disabled_at is not None:
                return _refuse(Refusal.USER_DISABLED)
            if user.credential_epoch != command.expected_epoch:
                return _refuse(Refusal.CREDENTIALS_CHANGED)
            return UserDecision((NewEvent(PasswordChanged()),))
        case ChangeRoles():
            roles = tuple(sorted(set(command.roles)))
            if roles == user.roles:
                return _refuse(Refusal.NOTHING_TO_DO)
            return UserDecision((NewEvent(RolesChanged(roles=list(roles))),))
        case DisableUser():
            if user.disabled_at is not None:
                return _refuse(Refusal.NOTHING_TO_DO)
            return UserDecision((NewEvent(UserDisabled()),))
        case EnableUser():
            if user.disabled_at is None:
                return _refuse(Refusal.NOTHING_TO_DO)
            return UserDecision((NewEvent(UserEnabled()),))
        case EndUserSessions():
            if not command.families:
                return _refuse(Refusal.NOTHING_TO_DO)
            ended = UserSessionsEnded(reason=command.reason, families=command.families)
            return UserDecision((NewEvent(ended),))
        case _:
            assert_never(command)


def refusal_to_sign_in(user: User | None, credential_epoch: int) -> Refusal | None:
    """Whether a sign-in whose password check took place at that epoch may open a session now."""
    if user is None:
        return Refusal.UNKNOWN_USER
    if user.erased_at is not None:
        return Refusal.SUBJECT_ERASED
    if user.disabled_at is not None:
        return Refusal.USER_DISABLED
    if user.credential_epoch != credential_epoch:
        return Refusal.CREDENTIALS_CHANGED
    return None


def _refuse(refusal: Refusal) -> UserDecision:
    return UserDecision(refusal=refusal)


def _erase(user: User, command: EraseUser) -> UserDecision:
    if user.erased_at is not None:
        return _refuse(Refusal.NOTHING_TO_DO)
    reason = command.reason
    names = [name for name in (user.username, user.external_subject) if isinstance(name, str)]
    if reason is not None and any(name.casefold() in reason.casefold() for name in names):
        return _refuse(Refusal.REASON_NAMES_USER)
    return UserDecision((NewEvent(UserErased(reason=reason)),))


def _register(command: RegisterUser) -> UserDecision:
    roles = sorted(set(command.roles))
    registered = UserRegistered(origin=command.origin, roles=roles)
    personal = Personal(username=command.username, external_subject=command.external_subject)
    return UserDecision((NewEvent(registered, personal),))


def evolve_user(
    user: User | None,
    user_id: UserId,
    event: UserEvent,
    personal: PersonalPart,
    at: datetime,
) -> User:
    """What one event does to a user.

    Raises:
        ImpossibleEventError: The event cannot follow that state.
    """
    if isinstance(event, UserRegistered):
        return _registered(user, user_id, event, personal, at)
    if user is None:
        msg = f"user {user_id} begins with {event.TYPE}"
        raise ImpossibleEventError(msg)
    user = replace(user, version=user.version + 1)
    match event:
        case PasswordChanged():
            return replace(user, credential_epoch=user.credential_epoch + 1)
        case RolesChanged():
            return replace(user, roles=tuple(event.roles))
        case UserDisabled():
            return replace(user, disabled_at=at)
        case UserEnabled():
            return replace(user, disabled_at=None)
        case UserSessionsEnded():
            return user
        case UserErased():
            return replace(user, username=None, external_subject=None, roles=(), erased_at=at)
        case _:
            assert_never(event)


def fold_new_user(
    user: User | None, user_id: UserId, events: Iterable[NewEvent], at: datetime
) -> User:
    """Fold decided events into the state that they were decided on.

    Raises:
        ImpossibleEventError: They cannot follow it, or there are none and there is no state.
    """
    for new in events:
        user = evolve_user(user, user_id, cast("UserEvent", new.event), new.personal, at)
    if user is None:
        msg = f"user {user_id} has no events"
        raise ImpossibleEventError(msg)
    return user


def _registered(
    user: User | None,
    user_id: UserId,
    event: UserRegistered,
    personal: PersonalPart,
    at: datetime,
) -> User:
    if user is not None:
        msg = f"user {user_id} is registered a second time"
        raise ImpossibleEventError(msg)
    opened = None if isinstance(personal, Sealed) else personal
    sealed = personal if isinstance(personal, Sealed) else None
    local = event.origin is UserOrigin.LOCAL
    return User(
        user_id=user_id,
        version=1,
        origin=event.origin,
        username=(sealed if local else None) or (opened.username if opened else None),
        external_subject=(
            (sealed if not local else None) or (opened.external_subject if opened else None)
        ),
        roles=tuple(event.roles),
        registered_at=at,
    )
