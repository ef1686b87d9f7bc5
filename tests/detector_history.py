"""A history for the detector to read: made by the domain's own rules, with thieves in it.

The database's clock decides when a command happens, so a history of hours cannot be lived through
in a test: its events are appended as they would have been, with the times that they would have had.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.client import ClientContext
from domain.events.canonical import microseconds
from domain.events.envelope import USER, Actor, ActorKind, Cause, NewEvent
from domain.events.families import EndReason, TokenDelivery
from domain.events.personal import Personal
from domain.events.sign_in_failures import AccountFailures, SignInFailuresCounted
from domain.events.users import UserOrigin
from domain.family import Family, fold_new
from domain.family_decisions import EndSession, FamilyCommand, Refresh, StartSession, decide
from domain.ids import (
    SYSTEM_SUBJECT,
    CorrelationId,
    FamilyId,
    SessionId,
    Stream,
    UserId,
    family_stream,
)
from domain.policy import SessionPolicy
from domain.refresh_token import (
    SALT_BYTES,
    SECRET_BYTES,
    RefreshToken,
    TokenKeys,
    encode_bytes,
    successor_of,
)
from infra.event_rows import (
    EVENT_COLUMNS,
    EVENT_RECORD,
    EVENT_VALUES,
    EventRow,
    document,
    event_row,
    insert,
)
from infra.event_store import rows_as_maps
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKey, DataKeys
from infra.subject_keys import system_key
from projections.session_rows import SESSION_COLUMNS, rows_of

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.3 Mobile/15E148 Safari/604.1"
)
_KEYS = TokenKeys(1, {1: bytes(range(32, 64))})
_POLICY = SessionPolicy()
_SPAN = timedelta(hours=6)
_REFRESHES = 23
_LEAVES = 0.2
"""How many sign out at the end."""
_INSERT = f"""
INSERT INTO events ({EVENT_COLUMNS})
SELECT {EVENT_VALUES} FROM jsonb_to_recordset(%b) AS e({EVENT_RECORD}) ORDER BY occurred_at, version
"""
_INSERT_SESSIONS = f"""
INSERT INTO sessions ({", ".join(SESSION_COLUMNS)})
SELECT {", ".join(SESSION_COLUMNS)} FROM jsonb_populate_recordset(NULL::sessions, %b)
"""
_INSERT_USERS = """
WITH u AS (
  INSERT INTO users (user_id, version, origin, roles, registered_at, credential_epoch)
  SELECT id, 1, %s, '{}', %s, 0 FROM unnest(%s::uuid[]) AS id
)
INSERT INTO data_keys (subject_id, wrapped_key) SELECT * FROM unnest(%s::uuid[], %s::bytea[])
"""


@dataclass(slots=True)
class Life:
    """One family, as it grows."""

    user_id: UserId
    data_key: DataKey
    client: ClientContext
    began: datetime
    rows: list[EventRow] = field(default_factory=list)
    family: Family | None = None
    token: RefreshToken | None = None
    previous: RefreshToken | None = None

    def sign_in(self) -> None:
        family_id, session_id = FamilyId(new_uuid()), SessionId(new_uuid())
        secret = os.urandom(SECRET_BYTES)
        command = StartSession(
            session_id=session_id,
            user_id=self.user_id,
            client_id="web",
            auth_methods=["pwd"],
            delivery=TokenDelivery.BODY,
            persistent=True,
            secret=secret,
            token_key=1,
            client=self.client,
            device_name=None,
            policy=_POLICY,
        )
        self.token = RefreshToken(1, family_id, session_id, 1, secret)
        self._append(family_id, command, self.began)

    def refresh(self, at: datetime, client: ClientContext | None = None) -> None:
        assert self.token is not None
        salt = encode_bytes(os.urandom(SALT_BYTES))
        self._append(self.token.family_id, self._presenting(self.token, salt, client), at)
        self.previous = self.token
        self.token = successor_of(self.token, salt=salt, key_id=1, keys=_KEYS)

    def reuse(self, at: datetime, client: ClientContext) -> None:
        """A thief presents the token before the current one: the family ends."""
        assert self.previous is not None
        salt = encode_bytes(os.urandom(SALT_BYTES))
        self._append(self.previous.family_id, self._presenting(self.previous, salt, client), at)

    def log_out(self, at: datetime) -> None:
        assert self.token is not None
        command = EndSession(self.token.session_id, EndReason.LOGOUT)
        self._append(self.token.family_id, command, at)

    def _presenting(self, token: RefreshToken, salt: str, client: ClientContext | None) -> Refresh:
        return Refresh(
            presented=token, client=client or self.client, salt=salt, keys=_KEYS, policy=_POLICY
        )

    def _append(self, family_id: FamilyId, command: FamilyCommand, at: datetime) -> None:
        events = decide(self.family, command, at).events
        cause = Cause(USER, CorrelationId(new_uuid()))
        version = len(self.rows)
        self.family = fold_new(self.family, family_id, events, at)
        self.rows.extend(
            event_row(family_stream(family_id), number, new, cause, at, self.user_id, self.data_key)
            for number, new in enumerate(events, version + 1)
        )


@dataclass(slots=True)
class History:
    """What happened, and to whom.

    Attributes:
        lives: One family of each user.
        failures: Counts of failed sign-ins.
        robbed: Families whose token is used from another device in another network.
        reused: Families that ended by reuse.
    """

    lives: list[Life]
    failures: list[EventRow]
    robbed: list[FamilyId]
    reused: list[FamilyId]

    @property
    def rows(self) -> list[EventRow]:
        """All events, in time order."""
        rows = [row for life in self.lives for row in life.rows] + self.failures
        return sorted(rows, key=lambda row: (row.occurred_at, row.stream, row.version))


async def write_history(
    engine: AsyncEngine,
    data_keys: DataKeys,
    until: datetime,
    *,
    events: int,
    thefts: int = 6,
    reuses: int = 6,
    bursts: int = 2,
    seed: int = 7,
) -> History:
    """Make a history and append it, some hundred events a transaction."""
    dice = Random(seed)
    wrapped: list[tuple[UserId, bytes]] = []
    lives = []
    began = until - _SPAN
    for number in range(max(events // (_REFRESHES + 1), thefts + reuses + 1)):
        user_id = UserId(new_uuid())
        wrapped.append((user_id, data_keys.new(user_id)))
        client = ClientContext(ip=f"10.{number >> 8}.{number & 255}.7", user_agent=FIREFOX)
        begins = began + timedelta(seconds=dice.uniform(0, 3600))
        lives.append(Life(user_id, data_keys.unwrap(wrapped[-1][1], user_id), client, begins))
    robbed, reused = lives[:thefts], lives[thefts : thefts + reuses]
    for number, life in enumerate(lives):
        thief = ClientContext(ip=f"198.51.{number & 255}.9", user_agent=IPHONE)
        _live(life, dice, "theft" if life in robbed else "reuse" if life in reused else "", thief)
    async with transaction(engine) as connection:
        key = await system_key(connection, data_keys)
        people = [user_id for user_id, _ in wrapped]
        failures = _bursts(people, key, until - timedelta(hours=1), bursts)
        await connection.execute(
            _INSERT_USERS,
            (UserOrigin.EXTERNAL.value, began, people, people, [each for _, each in wrapped]),
        )
    history = History(
        lives, failures, [_id_of(life) for life in robbed], [_id_of(life) for life in reused]
    )
    await _append(engine, history)
    return history


def _live(life: Life, dice: Random, fate: str, thief: ClientContext) -> None:
    life.sign_in()
    at = life.began
    turn = dice.randrange(5, _REFRESHES - 2)
    for number in range(_REFRESHES):
        at += timedelta(seconds=dice.uniform(300, 700))
        if number == turn and fate == "theft":
            life.refresh(at, thief)
            return  # or what comes next would depend on how soon the detector is
        if number == turn and fate == "reuse":
            life.reuse(at, thief)
            return
        if number == _REFRESHES - 1 and dice.random() < _LEAVES:
            life.log_out(at)
        else:
            life.refresh(at)


def _bursts(people: Sequence[UserId], key: DataKey, began: datetime, bursts: int) -> list[EventRow]:
    return [
        row
        for burst in range(bursts)
        for row in stuffing(began + timedelta(seconds=600 * burst), range(12), burst, people)(key)
    ]


def stuffing(
    began: datetime, windows: range, source: int = 0, people: Sequence[UserId] = ()
) -> Callable[[DataKey], list[EventRow]]:
    """Failures from one network, 200 in each window of ten seconds; rows once there is a key."""
    tried = people or [UserId(new_uuid()) for _ in range(100)]
    cause = Cause(Actor(ActorKind.SYSTEM, "sign-in-failures"), CorrelationId(new_uuid()))

    def row(window: int, key: DataKey) -> EventRow:
        at = began + timedelta(seconds=10 * window)
        accounts = dict.fromkeys(tried[(31 * window + each) % len(tried)] for each in range(30))
        counted = SignInFailuresCounted(
            window_start_us=microseconds(at - timedelta(seconds=10)),
            window_s=10,
            failures=200,
            unknown_accounts=140,
            accounts=[AccountFailures(user_id, 2) for user_id in accounts],
            accounts_omitted=0,
        )
        new = NewEvent(counted, Personal(networks=[f"192.0.{source + 2}.0/24"]))
        stream = Stream(f"source-{source}")
        return event_row(stream, window + 1, new, cause, at, SYSTEM_SUBJECT, key)

    return lambda key: [row(window, key) for window in windows]


async def insert_events(
    engine: AsyncEngine, data_keys: DataKeys, rows: Callable[[DataKey], list[EventRow]]
) -> None:
    """Append events that are sealed with the service's own key."""
    async with transaction(engine) as connection:
        made = rows(await system_key(connection, data_keys))
        await insert(connection, _INSERT, document(made))


def _id_of(life: Life) -> FamilyId:
    assert life.token is not None
    return life.token.family_id


async def _append(engine: AsyncEngine, history: History, chunk: int = 400) -> None:
    families = [life.family for life in history.lives if life.family is not None]
    sessions = [row for family in families for row in rows_of(family)]
    async with transaction(engine) as connection:
        await connection.execute(_INSERT_SESSIONS, (document(rows_as_maps(sessions)),))
    rows = history.rows
    for start in range(0, len(rows), chunk):
        async with transaction(engine) as connection:
            await insert(connection, _INSERT, document(rows[start : start + chunk]))


def _asked(conninfo: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode()).fetchall()


@dataclass(frozen=True, slots=True)
class Result:
    """All that a detector made of a history, without the times at which it did."""

    alerts: list[tuple[object, ...]]
    told: list[tuple[object, ...]]
    done: list[tuple[object, ...]]
    states: list[tuple[object, ...]]
    set_aside: list[tuple[object, ...]]


def result_of(conninfo: str) -> Result:
    """What is in a database; equal for two detectors that did the same."""
    return Result(
        alerts=_asked(
            conninfo,
            "SELECT alert_id::text, version, rule, subject_id::text, family_id::text,"
            " trigger_id::text, severity, response, status, count, first_at, last_at,"
            " answers::text, facts::text FROM alerts ORDER BY alert_id",
        ),
        told=_asked(
            conninfo,
            "SELECT stream, version, type, actor, causation_id::text, correlation_id::text,"
            " data::text FROM events WHERE stream LIKE 'alert-%' ORDER BY stream, version",
        ),
        done=_asked(
            conninfo,
            "SELECT stream, version, type, actor, causation_id::text, correlation_id::text,"
            " data::text FROM events WHERE actor LIKE 'rule:%' AND causation_id IS NOT NULL"
            " AND stream NOT LIKE 'alert-%' ORDER BY stream, version",
        ),
        states=_asked(
            conninfo,
            "SELECT scope, key, subject_id::text, encode(state, 'hex') FROM detector_states"
            " ORDER BY scope, key",
        ),
        set_aside=_asked(conninfo, "SELECT event_id::text, stage FROM detector_set_aside"),
    )
