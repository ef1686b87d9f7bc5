"""A long history, made by the service's own rules and appended through its own append."""

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from bench.environment import Bench, bench_user, cause, start_command
from bench.load import HEADERS, USER_AGENT
from domain.client import ClientContext
from domain.events.envelope import Cause, NewEvent
from domain.family import Family, fold_new
from domain.family_decisions import Refresh, decide
from domain.ids import FamilyId
from domain.policy import SessionPolicy
from domain.refresh_token import SALT_BYTES, RefreshToken, encode_bytes, mint, successor_of
from domain.user import User
from infra.event_store import FamilyAppend, database_clock, insert_families, update_families
from infra.ids import new_uuid
from infra.postgres import Connection, create_engine, transaction
from infra.sealing import DataKey
from infra.user_commands import PostgresUserCommands

_EVENTS_A_STATEMENT = 5_000
_CLIENT = ClientContext(
    ip="203.0.113.7",
    user_agent=USER_AGENT,
    hints={name.lower(): HEADERS[name] for name in HEADERS if name.startswith("Sec-CH")},
)


async def make_history(
    on: Bench,
    database: str,
    lengths: list[int],
    progress: Callable[[int], None],
) -> list[str]:
    """Families of these many generations each, all of one user.

    Returns:
        Their current refresh tokens, in the same order.
    """
    engine = create_engine(on.conninfo(database), max_connections=2, wait_s=10)
    try:
        user = await bench_user(PostgresUserCommands(engine, on.data_keys))
        tokens = []
        for length in lengths:
            async with transaction(engine) as connection:
                tokens.append(await make_family(on, connection, user, length))
            progress(length)
        return tokens
    finally:
        await engine.dispose()


async def make_family(on: Bench, connection: Connection, user: User, length: int) -> str:
    """Append a family of so many generations; returns its current refresh token."""
    # Long ago enough for the last refresh to lie in the past, lately enough for it to be live.
    began = await database_clock(connection) - timedelta(days=1)
    data_key = await _data_key(on, connection, user)
    before: Family | None = None
    last = ""
    for after, token, events, at in _chunks(on, user, began, length):
        append = FamilyAppend(before=before, after=after, events=events, data_key=data_key, at=at)
        if before is None:
            await insert_families(connection, [append])
        else:
            await update_families(connection, [append])
        before, last = after, mint(token, on.keys.tokens)
    return last


async def _data_key(on: Bench, connection: Connection, user: User) -> DataKey:
    cursor = await connection.execute(
        "SELECT wrapped_key FROM data_keys WHERE subject_id = %s", (user.user_id,), binary=True
    )
    record = await cursor.fetchone()
    if record is None:
        msg = "the benchmark's user has no data key"
        raise RuntimeError(msg)
    return on.data_keys.unwrap(record[0], user.user_id)


def _chunks(
    on: Bench, user: User, began: datetime, length: int
) -> Iterator[tuple[Family, RefreshToken, list[tuple[NewEvent, Cause]], datetime]]:
    """A family's history in pieces: the state after each, its token, its events, their time."""
    keys = on.keys.tokens
    command, token = start_command(keys, FamilyId(new_uuid()), user, _CLIENT)
    why = cause()
    at = began
    started = decide(None, command, at).events
    family = fold_new(None, token.family_id, started, at)
    events = [(new, why) for new in started]
    while True:
        while family.sessions[0].generation < length and len(events) < _EVENTS_A_STATEMENT:
            salt = encode_bytes(secrets.token_bytes(SALT_BYTES))
            refresh = Refresh(
                presented=token, client=_CLIENT, salt=salt, keys=keys, policy=SessionPolicy()
            )
            decided = decide(family, refresh, at).events
            family = fold_new(family, family.family_id, decided, at)
            events.extend((new, why) for new in decided)
            token = successor_of(token, salt=salt, key_id=keys.current_id, keys=keys)
        yield family, token, events, at
        if family.sessions[0].generation >= length:
            return
        events = []
        at += timedelta(minutes=1)
