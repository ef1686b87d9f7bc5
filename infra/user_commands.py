"""Commands that span a user and their session families, each in one transaction.

Everyone locks in one order, so nobody waits in a circle: the user's row, then families by id. The
user's row lock is what puts a sign-in wholly before or wholly after a password change, a disabling
or a logout of all devices.
"""

from datetime import datetime

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Cause
from domain.events.families import EndReason
from domain.events.users import UserOrigin
from domain.family import fold_new
from domain.family_decisions import RevokeFamily, StartSession, decide
from domain.ids import FamilyId, UserId, parse_uuid
from domain.ports import Executed, SignIn, Subject
from domain.refusals import Refusal
from domain.user import (
    ChangePassword,
    DisableUser,
    EndUserSessions,
    EraseUser,
    RegisterUser,
    User,
    UserCommand,
    decide_user,
    fold_new_user,
    refusal_to_sign_in,
)
from infra.credential_rows import CredentialRows
from infra.event_store import (
    FamilyAppend,
    append_user,
    database_clock,
    insert_families,
)
from infra.family_execution import command_held_families, hold_families
from infra.postgres import Connection, fetch_one, transaction
from infra.sealing import DataKey, DataKeys
from infra.user_rows import USER_COLUMNS, user_of

_CHUNK = 500
_SMALLEST_UUID = "00000000-0000-0000-0000-000000000000"

_USER_COLUMNS = ", ".join("u." + column for column in USER_COLUMNS)

# The clock stands outside, and what is inside is never folded into it: so it is read for the row
# that was locked, after any wait for the lock.
_LOCK = f"""
WITH locked AS MATERIALIZED (
  SELECT {_USER_COLUMNS}, k.wrapped_key
    FROM users u LEFT JOIN data_keys k ON k.subject_id = u.user_id
   WHERE u.user_id = %s
     FOR NO KEY UPDATE OF u
)
SELECT *, clock_timestamp() FROM locked
"""  # noqa: S608 (column names are ours)

_HOLD_SESSIONS = (
    "SELECT 1 FROM sessions WHERE user_id = %s ORDER BY family_id, session_id FOR UPDATE"
)


class _LockedUser(msgspec.Struct, frozen=True):
    """A user whose row this transaction holds, their data key and the database's clock.

    A key that was read while the lock was waited for may be gone by now: the user tells.
    """

    user: User
    wrapped_key: bytes | None
    clock: datetime


class PostgresUserCommands:
    """``domain.ports.UserCommands`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        """Work through this pool, sealing with these data keys."""
        self._engine = engine
        self._data_keys = data_keys
        self._credentials = CredentialRows(data_keys.masters)

    async def register(
        self,
        user_id: UserId,
        command: RegisterUser,
        password_hash: str | None,
        cause: Cause,
    ) -> User | Refusal:
        """See ``domain.ports.UserCommands.register``."""
        try:
            async with transaction(self._engine) as connection:
                at = await database_clock(connection)
                return await self._register(connection, user_id, command, password_hash, cause, at)
        except psycopg.errors.UniqueViolation:
            return Refusal.DUPLICATE_USER

    async def find_for_sign_in(self, username: str) -> SignIn | None:
        """See ``domain.ports.UserCommands.find_for_sign_in``."""
        return await self._find("u.username", username)

    async def find(self, user_id: UserId) -> SignIn | None:
        """See ``domain.ports.UserCommands.find``."""
        return await self._find("u.user_id", user_id)

    async def open_session(
        self, credential_epoch: int, family_id: FamilyId, command: StartSession, cause: Cause
    ) -> Executed | Refusal:
        """See ``domain.ports.UserCommands.open_session``."""
        async with transaction(self._engine) as connection:
            locked = await _lock_user(connection, command.user_id)
            refusal = refusal_to_sign_in(locked.user if locked else None, credential_epoch)
            if refusal is not None or locked is None or locked.wrapped_key is None:
                return refusal or Refusal.UNKNOWN_USER
            data_key = self._data_keys.unwrap(locked.wrapped_key, locked.user.user_id)
            return await self._start(connection, locked, data_key, family_id, command, cause)

    async def open_external_session(
        self, subject: str, family_id: FamilyId, command: StartSession, cause: Cause
    ) -> Executed | Refusal:
        """See ``domain.ports.UserCommands.open_external_session``."""
        if await self._is_user_id(subject):
            return Refusal.DUPLICATE_USER  # or a backend's token would pass for a local user's
        while True:
            user_id = await self._external_user(subject, command.user_id, cause)
            opened = await self.open_session(
                0, family_id, msgspec.structs.replace(command, user_id=user_id), cause
            )
            if opened is not Refusal.SUBJECT_ERASED:
                return opened
            # Erased between the two: whoever comes with that subject now is a stranger.

    async def change_password(
        self,
        user_id: UserId,
        expected_epoch: int,
        password_hash: str,
        keep: FamilyId | None,
        cause: Cause,
    ) -> int | Refusal:
        """See ``domain.ports.UserCommands.change_password``."""
        async with transaction(self._engine) as connection:
            locked = await _lock_user(connection, user_id)
            changed = await self._command(connection, locked, ChangePassword(expected_epoch), cause)
            if isinstance(changed, Refusal):
                return changed
            await self._credentials.replace(connection, changed.user, password_hash)
            return await self._end_families(
                connection, changed, EndReason.PASSWORD_CHANGED, keep, cause
            )

    async def rehash_password(self, user_id: UserId, old_hash: str, new_hash: str) -> None:
        """See ``domain.ports.UserCommands.rehash_password``."""
        async with transaction(self._engine) as connection:
            locked = await _lock_user(connection, user_id)
            if locked is None or await self._credentials.read(connection, locked.user) != old_hash:
                return  # replaced meanwhile
            await self._credentials.replace(connection, locked.user, new_hash)

    async def command(self, user_id: UserId, command: UserCommand, cause: Cause) -> User | Refusal:
        """See ``domain.ports.UserCommands.command``."""
        async with transaction(self._engine) as connection:
            locked = await _lock_user(connection, user_id)
            changed = await self._command(connection, locked, command, cause)
            return changed if isinstance(changed, Refusal) else changed.user

    async def disable(self, user_id: UserId, cause: Cause) -> int | Refusal:
        """See ``domain.ports.UserCommands.disable``."""
        async with transaction(self._engine) as connection:
            locked = await _lock_user(connection, user_id)
            changed = await self._command(connection, locked, DisableUser(), cause)
            if isinstance(changed, Refusal):
                return changed
            return await self._end_families(
                connection, changed, EndReason.USER_DISABLED, None, cause
            )

    async def end_families(
        self, user_id: UserId, reason: EndReason, keep: FamilyId | None, cause: Cause
    ) -> int | Refusal:
        """See ``domain.ports.UserCommands.end_families``."""
        async with transaction(self._engine) as connection:
            return await self.end_families_within(connection, user_id, reason, keep, cause)

    # ------------------------------------------------------------------ inside a transaction

    async def end_families_within(
        self,
        connection: Connection,
        user_id: UserId,
        reason: EndReason,
        keep: FamilyId | None,
        cause: Cause,
    ) -> int | Refusal:
        """The same as ``end_families``, within a transaction of the caller's.

        It holds the user's row and then the families', by id, until that ends.
        """
        locked = await _lock_user(connection, user_id)
        if locked is None:
            return Refusal.UNKNOWN_USER
        return await self._end_families(connection, locked, reason, keep, cause)

    async def erase_within(
        self, connection: Connection, user_id: UserId, command: EraseUser, cause: Cause
    ) -> int | Refusal:
        """Put on record that a user is forgotten and end all their families; how many ended.

        Within a transaction of the caller's (``infra.erasure``), which holds the user's row and all
        their sessions' until it ends, those of ended families too: nobody writes to them meanwhile.
        """
        locked = await _lock_user(connection, user_id)
        refusal = decide_user(locked.user if locked else None, command).refusal
        if refusal is not None or locked is None:
            return refusal or Refusal.UNKNOWN_USER
        await connection.execute(_HOLD_SESSIONS, (user_id,))
        ended = await self._end_families(connection, locked, EndReason.USER_ERASED, None, cause)
        locked = await _lock_user(connection, user_id)  # it was noted there what ended
        erased = await self._command(connection, locked, command, cause)
        return erased if isinstance(erased, Refusal) else ended

    async def _register(
        self,
        connection: Connection,
        user_id: UserId,
        command: RegisterUser,
        password_hash: str | None,
        cause: Cause,
        at: datetime,
    ) -> User | Refusal:
        decision = decide_user(None, command)
        wrapped = self._data_keys.new(user_id)
        user = fold_new_user(None, user_id, decision.events, at)
        await connection.execute(
            "INSERT INTO data_keys (subject_id, wrapped_key) VALUES (%s, %s)", (user_id, wrapped)
        )
        if password_hash is not None:
            await self._credentials.add(connection, user, password_hash)
        data_key = self._data_keys.unwrap(wrapped, user_id)
        await append_user(connection, None, user, decision.events, cause, data_key, at)
        return user

    async def _is_user_id(self, subject: str) -> bool:
        parsed = parse_uuid(subject)
        return parsed is not None and await self.find(UserId(parsed)) is not None

    async def _external_user(self, subject: str, new_id: UserId, cause: Cause) -> UserId:
        """The user behind a backend's subject, registered now if it was never seen."""
        command = RegisterUser(origin=UserOrigin.EXTERNAL, external_subject=subject)
        while True:
            found = await self._find("u.external_subject", subject)
            if found is not None:
                return found.user.user_id
            registered = await self.register(new_id, command, None, cause)
            if isinstance(registered, User):
                return new_id
            # Somebody else registered it between the two: look again.

    async def _start(
        self,
        connection: Connection,
        locked: _LockedUser,
        data_key: DataKey,
        family_id: FamilyId,
        command: StartSession,
        cause: Cause,
    ) -> Executed:
        await self._make_room(connection, locked, command, cause)
        decision = decide(None, command, locked.clock)
        family = fold_new(None, family_id, decision.events, locked.clock)
        append = FamilyAppend(
            before=None,
            after=family,
            events=[(new, cause) for new in decision.events],
            data_key=data_key,
            at=locked.clock,
        )
        await insert_families(connection, [append])
        subject = Subject(locked.user.subject, [role.value for role in locked.user.roles])
        return Executed(family, subject, decision, locked.clock)

    async def _make_room(
        self, connection: Connection, locked: _LockedUser, command: StartSession, cause: Cause
    ) -> None:
        """End the least recently used families, so that one more stays within the limit."""
        cursor = await connection.execute(
            "SELECT family_id FROM sessions WHERE user_id = %s AND ended_at IS NULL"
            " AND idle_expires_at > %s AND expires_at > %s"
            " ORDER BY last_seen_at DESC, family_id DESC OFFSET %s",
            (command.user_id, locked.clock, locked.clock, command.policy.session_limit - 1),
            binary=True,
        )
        surplus = sorted({FamilyId(record[0]) for record in await cursor.fetchall()})
        if surplus:
            await hold_families(connection, surplus)
            await command_held_families(
                connection, surplus, RevokeFamily(EndReason.SESSION_LIMIT), cause, self._data_keys
            )

    async def _command(
        self,
        connection: Connection,
        locked: _LockedUser | None,
        command: UserCommand,
        cause: Cause,
    ) -> _LockedUser | Refusal:
        decision = decide_user(locked.user if locked else None, command)
        if decision.refusal is not None or locked is None:
            return decision.refusal or Refusal.UNKNOWN_USER
        after = fold_new_user(locked.user, locked.user.user_id, decision.events, locked.clock)
        await append_user(
            connection, locked.user, after, decision.events, cause, None, locked.clock
        )
        return msgspec.structs.replace(locked, user=after)

    async def _end_families(
        self,
        connection: Connection,
        locked: _LockedUser,
        reason: EndReason,
        keep: FamilyId | None,
        cause: Cause,
    ) -> int:
        """End the user's live families, some hundreds at a time, and note it on the user."""
        ended = 0
        last = _SMALLEST_UUID
        while True:
            cursor = await connection.execute(
                "SELECT family_id FROM sessions WHERE user_id = %s AND ended_at IS NULL"
                " AND family_id > %s ORDER BY family_id LIMIT %s FOR UPDATE",
                (locked.user.user_id, last, _CHUNK),
                binary=True,
            )
            found = [FamilyId(record[0]) for record in await cursor.fetchall()]
            if not found:
                break
            last = found[-1]
            doomed = [family_id for family_id in dict.fromkeys(found) if family_id != keep]
            ended += await command_held_families(
                connection, doomed, RevokeFamily(reason), cause, self._data_keys
            )
        await self._command(connection, locked, EndUserSessions(reason, ended), cause)
        return ended

    async def _find(self, column: str, value: str) -> SignIn | None:
        record = await fetch_one(
            self._engine,
            f"SELECT {_USER_COLUMNS}, c.sealed_hash"  # noqa: S608 (names are ours)
            f" FROM users u LEFT JOIN credentials c USING (user_id) WHERE {column} = %s",
            value,
        )
        if record is None:
            return None
        user = user_of(record[:-1])
        return SignIn(user, self._credentials.opened(user, record[-1]))


async def _lock_user(connection: Connection, user_id: UserId) -> _LockedUser | None:
    """Hold the user's row until the transaction ends; the clock is read once it is held."""
    cursor = await connection.execute(_LOCK, (user_id,), binary=True)
    record = await cursor.fetchone()
    return _LockedUser(user_of(record[:-2]), *record[-2:]) if record else None
