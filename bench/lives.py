"""A log like that of months: many users, sessions among one another, time going on through it."""

import itertools
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from bench.environment import Bench, cause, start_command
from bench.load import USER_AGENT
from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import EndReason
from domain.events.users import UserOrigin
from domain.family import Family, fold_new
from domain.family_decisions import EndSession, Refresh, decide
from domain.ids import FamilyId, UserId, family_stream, user_stream
from domain.policy import SessionPolicy
from domain.refresh_token import SALT_BYTES, RefreshToken, encode_bytes, successor_of
from domain.user import RegisterUser, User, decide_user, fold_new_user
from infra.event_rows import EVENT_COLUMNS, EVENT_RECORD, EVENT_VALUES, EventRow, document
from infra.event_rows import event_row as row_of
from infra.event_store import database_clock
from infra.ids import new_uuid
from infra.postgres import create_engine, transaction
from infra.sealing import DataKey

_EVENTS_A_TRANSACTION = 2_000
_GENERATIONS = 50
_FAMILIES_A_USER = 4
_AT_ONCE = 2_000
_STEP = timedelta(seconds=2)
_CLIENT = ClientContext(ip="203.0.113.7", user_agent=USER_AGENT)
_APPEND = f"""
INSERT INTO events ({EVENT_COLUMNS})
SELECT {EVENT_VALUES} FROM jsonb_to_recordset(%b) AS e({EVENT_RECORD})
"""  # noqa: S608 (column names are ours)


@dataclass(slots=True)
class _Login:
    family: Family
    token: RefreshToken
    key: DataKey


class Lives:
    """Users who sign in, refresh fifty times, sign out, and so on."""

    def __init__(self, on: Bench, began: datetime) -> None:
        """Nobody yet."""
        self._on = on
        self._at = began
        self._keys = on.data_keys
        self._logins: deque[_Login] = deque()
        self._wrapped: list[tuple[UserId, bytes]] = []
        self._user: tuple[User, DataKey] | None = None
        self._families = itertools.count()
        self.user_ids: list[UserId] = []

    def new_keys(self) -> list[tuple[UserId, bytes]]:
        """The data keys of users who came since this was last asked."""
        made, self._wrapped = self._wrapped, []
        return made

    def events(self) -> Iterator[EventRow]:
        """Rows of the log, without end."""
        while True:
            if len(self._logins) < _AT_ONCE:
                yield from self._sign_in()
            login = self._logins.popleft()
            self._at += _STEP
            if login.family.sessions[0].generation < _GENERATIONS:
                yield from self._refresh(login)
                self._logins.append(login)
            else:
                end = EndSession(login.family.sessions[0].session_id, EndReason.LOGOUT)
                yield from self._rows(login, decide(login.family, end, self._at).events)

    def _sign_in(self) -> Iterator[EventRow]:
        if self._user is None or next(self._families) % _FAMILIES_A_USER == 0:
            yield from self._register()
        user, key = self._known_user()
        tokens = self._on.keys.tokens
        command, token = start_command(tokens, FamilyId(new_uuid()), user, _CLIENT)
        events = decide(None, command, self._at).events
        family = fold_new(None, token.family_id, events, self._at)
        self._logins.append(_Login(family, token, key))
        for version, new in enumerate(events, 1):
            yield self._row(family_stream(family.family_id), version, new, user.user_id, key)

    def _known_user(self) -> tuple[User, DataKey]:
        if self._user is None:
            msg = "nobody is registered yet"
            raise RuntimeError(msg)
        return self._user

    def _register(self) -> Iterator[EventRow]:
        user_id = UserId(new_uuid())
        command = RegisterUser(origin=UserOrigin.LOCAL, username=f"{user_id}@example.com")
        events = decide_user(None, command).events
        wrapped = self._keys.new(user_id)
        key = self._keys.unwrap(wrapped, user_id)
        self._wrapped.append((user_id, wrapped))
        self._user = fold_new_user(None, user_id, events, self._at), key
        self.user_ids.append(user_id)
        for version, new in enumerate(events, 1):
            yield self._row(user_stream(user_id), version, new, user_id, key)

    def _refresh(self, login: _Login) -> Iterator[EventRow]:
        keys = self._on.keys.tokens
        salt = encode_bytes(secrets.token_bytes(SALT_BYTES))
        refresh = Refresh(
            presented=login.token, client=_CLIENT, salt=salt, keys=keys, policy=SessionPolicy()
        )
        yield from self._rows(login, decide(login.family, refresh, self._at).events)
        login.token = successor_of(login.token, salt=salt, key_id=keys.current_id, keys=keys)

    def _rows(self, login: _Login, events: tuple[NewEvent, ...]) -> Iterator[EventRow]:
        before = login.family
        login.family = fold_new(before, before.family_id, events, self._at)
        stream = family_stream(before.family_id)
        for version, new in enumerate(events, before.version + 1):
            yield self._row(stream, version, new, before.user_id, login.key)

    def _row(
        self, stream: str, version: int, new: NewEvent, user_id: UserId, key: DataKey
    ) -> EventRow:
        return row_of(stream, version, new, cause(), self._at, user_id, key)  # type: ignore[arg-type]


async def make_lives(
    on: Bench,
    database: str,
    events: int,
    progress: Callable[[int], Awaitable[None]],
) -> list[UserId]:
    """Append so many events; the tables that are read from stay empty.

    Args:
        on: The benchmark.
        database: Which one.
        events: How many, more or less.
        progress: Awaited with how many there are, after each transaction.

    Returns:
        The users.
    """
    engine = create_engine(on.conninfo(database), max_connections=2, wait_s=10)
    try:
        async with transaction(engine) as connection:
            began = await database_clock(connection) - _STEP * (events + 1)
        lives = Lives(on, began)
        rows = lives.events()
        written = 0
        while written < events:
            batch = list(itertools.islice(rows, _EVENTS_A_TRANSACTION))
            async with transaction(engine) as connection:
                async with connection.cursor() as cursor:
                    await cursor.executemany(
                        "INSERT INTO data_keys (subject_id, wrapped_key) VALUES (%s, %s)",
                        lives.new_keys(),
                    )
                await connection.execute(_APPEND, (document(batch),), binary=True)
            written += len(batch)
            await progress(written)
        return lives.user_ids
    finally:
        await engine.dispose()
