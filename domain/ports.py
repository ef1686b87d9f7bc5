"""What the rules need from outside, as Protocols; ``infra`` implements them."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from domain.events.envelope import Cause
from domain.events.families import EndReason
from domain.family import Family
from domain.family_decisions import Decision, FamilyCommand, StartSession
from domain.ids import FamilyId, SessionId, UserId
from domain.refusals import Refusal
from domain.user import RegisterUser, User, UserCommand

ResultT = TypeVar("ResultT")


class StoreUnavailableError(Exception):
    """The store cannot be reached, cannot write, or does not answer in time; try again later."""


class ConcurrencyError(Exception):
    """A stream kept moving under a command for longer than it may be decided again."""


class Subject(msgspec.Struct, frozen=True):
    """What access tokens say of a family's user.

    Attributes:
        subject: The ``sub`` claim.
        roles: Staff roles.
    """

    subject: str
    roles: list[str]


class Executed(msgspec.Struct, frozen=True):
    """A command on a family, carried out.

    Attributes:
        family: The state after it; None where the family does not exist.
        subject: The family's user; None where the family does not exist.
        decision: What the rules said.
        at: The database's clock at the decision.
    """

    family: Family | None
    subject: Subject | None
    decision: Decision
    at: datetime


class SessionPage(msgspec.Struct, frozen=True):
    """Some of a user's live families, newest first, and where to go on.

    Attributes:
        families: Families with a usable session.
        next_before: Pass as ``before`` for the next page; None on the last.
        at: The database's clock at the read.
    """

    families: list[Family]
    next_before: FamilyId | None
    at: datetime


class SessionQueries(Protocol):
    """Reads for lists, staff and introspection; commands do not go through here."""

    async def live_families(
        self, user_id: UserId, *, limit: int, before: FamilyId | None
    ) -> SessionPage:
        """A page of the user's families that have a usable session."""
        ...

    async def family_of_session(
        self, session_id: SessionId
    ) -> tuple[Family, User, datetime] | None:
        """The family that a session belongs to, its user, and the database's clock."""
        ...

    async def family(self, family_id: FamilyId) -> tuple[Family, User, datetime] | None:
        """A family, its user, and the database's clock."""
        ...


class FamilyCommands(Protocol):
    """Carries out commands on session families, each on the state that the one before left."""

    async def execute(
        self,
        family_id: FamilyId,
        command: FamilyCommand,
        cause: Cause,
        finish: Callable[[Executed], ResultT],
    ) -> ResultT:
        """Load, decide, append; decide again where another writer was faster.

        Args:
            family_id: The family.
            command: What is asked for; not ``StartSession``.
            cause: By whom and in which request.
            finish: Makes the result from what was decided. It runs while the append is under way
                and may run again if the append has to be repeated; its result is handed out only
                once the append has committed. Must not block.

        Raises:
            StoreUnavailableError: Nothing is known to be appended; a retry is safe.
            ConcurrencyError: The family kept moving.
        """
        ...


class SignIn(msgspec.Struct, frozen=True):
    """What a sign-in check needs to know of a user name.

    Attributes:
        user: Whose name it is.
        password_hash: Of their password; None where it is not kept here. Empty, so that no
            password fits, where what is stored is not what this service stored for them.
    """

    user: User
    password_hash: str | None


class UserCommands(Protocol):
    """Commands that span a user and their families, each in one transaction.

    All raise ``StoreUnavailableError`` where the store cannot serve; then nothing happened.
    """

    async def register(
        self, user_id: UserId, command: RegisterUser, password_hash: str | None, cause: Cause
    ) -> User | Refusal:
        """Create a user with their data key and credentials. Refuses a name that is taken."""
        ...

    async def find(self, user_id: UserId) -> SignIn | None:
        """The user of that id and their password hash."""
        ...

    async def find_for_sign_in(self, username: str) -> SignIn | None:
        """The user of that (normalised) name and their password hash."""
        ...

    async def open_session(
        self, credential_epoch: int, family_id: FamilyId, command: StartSession, cause: Cause
    ) -> Executed | Refusal:
        """Start a session, unless the user was disabled or changed password meanwhile.

        Ends the least recently used families above the session limit.

        Args:
            credential_epoch: The epoch at which the password was verified.
            family_id: A fresh id.
            command: The session to start.
            cause: By whom and in which request.
        """
        ...

    async def open_external_session(
        self, subject: str, family_id: FamilyId, command: StartSession, cause: Cause
    ) -> Executed | Refusal:
        """Start a session for a backend's own subject.

        A subject that was never seen is registered, with the command's ``user_id``. One that is
        the id of a user is refused: both would have one ``sub``.
        """
        ...

    async def change_password(
        self,
        user_id: UserId,
        expected_epoch: int,
        password_hash: str,
        keep: FamilyId | None,
        cause: Cause,
    ) -> int | Refusal:
        """Replace the password and end every family but ``keep``; returns how many ended."""
        ...

    async def rehash_password(self, user_id: UserId, old_hash: str, new_hash: str) -> None:
        """Put a hash of the same password with newer parameters in the place of ``old_hash``."""
        ...

    async def command(self, user_id: UserId, command: UserCommand, cause: Cause) -> User | Refusal:
        """Carry out a command that concerns the user alone."""
        ...

    async def disable(self, user_id: UserId, cause: Cause) -> int | Refusal:
        """Forbid sign-in and end every family; returns how many ended."""
        ...

    async def end_families(
        self, user_id: UserId, reason: EndReason, keep: FamilyId | None, cause: Cause
    ) -> int | Refusal:
        """End every live family but ``keep``; returns how many ended."""
        ...
