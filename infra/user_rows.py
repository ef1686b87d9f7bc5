"""How a user lies in the ``users`` table."""

from typing import Any

from domain.events.users import Role, UserOrigin
from domain.user import User

USER_COLUMNS = (
    "user_id",
    "version",
    "origin",
    "username",
    "external_subject",
    "roles",
    "registered_at",
    "disabled_at",
    "credential_epoch",
    "erased_at",
)


def user_of(record: tuple[Any, ...]) -> User:
    """The user that a row stands for; ``record`` has the columns above, in that order.

    Any: a row as it came.
    """
    (
        user_id, version, origin, username, subject, roles, registered_at, disabled_at, epoch,
        erased_at,
    ) = record  # fmt: skip
    return User(
        user_id=user_id,
        version=version,
        origin=UserOrigin(origin),
        username=username,
        external_subject=subject,
        roles=tuple(Role(role) for role in roles),
        registered_at=registered_at,
        disabled_at=disabled_at,
        credential_epoch=epoch,
        erased_at=erased_at,
    )
