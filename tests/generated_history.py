"""A log of many lives among one another, decided by the domain's own rules from a seed.

Events lie in the log as they would after months: streams interleaved, several to a transaction,
times that step back a little from one stream to the next, and now and then a version before its
predecessor, as when a transaction waits for another one and then appends behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert import Alert, evolve_alert
from domain.detection import Verdict
from domain.events.alerts import AlertAcknowledged, AlertReopened, AlertResolved
from domain.events.envelope import USER, Cause, NewEvent
from domain.events.families import EndReason
from domain.events.users import Role, UserOrigin
from domain.family import Family
from domain.family_decisions import (
    CompleteStepUp,
    EndSession,
    FamilyCommand,
    RenameSession,
    RequireStepUp,
    RevokeFamily,
)
from domain.ids import (
    AlertId,
    CorrelationId,
    FamilyId,
    SessionId,
    Stream,
    UserId,
    alert_stream,
    family_stream,
    user_stream,
)
from domain.refresh_token import RefreshToken
from domain.user import (
    ChangePassword,
    ChangeRoles,
    DisableUser,
    EnableUser,
    RegisterUser,
    User,
    UserCommand,
    decide_user,
    fold_new_user,
)
from infra.event_store import append_stream
from infra.postgres import Connection, transaction
from infra.sealing import DataKey, DataKeys
from tests.alerts import raised, repeated
from tests.unit.domain.builders import (
    LAPTOP,
    NOW,
    PHONE,
    SALT,
    answer_to,
    carried_out,
    first_token,
    refresh,
    start_session,
)

_BEGAN = NOW
_ROLES = ((Role.ANALYST,), (Role.AUDITOR, Role.ADMIN), ())


@dataclass(frozen=True, slots=True)
class Act:
    """Events that one stream gets at once."""

    stream: Stream
    first_version: int
    subject_id: UserId
    events: Sequence[NewEvent]
    at: datetime


@dataclass(slots=True)
class _Login:
    family: Family
    token: RefreshToken


@dataclass(slots=True)
class Lives:
    """Makes acts, one after the other, from a seed."""

    random: Random
    at: datetime = _BEGAN
    users: list[User] = field(default_factory=list)
    logins: list[_Login] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)

    def act(self) -> Act | None:
        """The next act; None where the rules had nothing to do."""
        self.at += timedelta(milliseconds=self.random.randrange(60_000))
        if not self.users or self.random.random() < 0.02:
            return self._register()
        choice = self.random.random()
        if not self.logins or choice < 0.05:
            return self._sign_in()
        if choice < 0.10:
            return self._of_user()
        if choice < 0.20:
            return self._of_alert()
        return self._of_family()

    def new_id(self) -> str:
        bits = self.random.getrandbits(74)
        text = f"{0x0195513A00007000 | bits >> 62:016x}{0x8 << 60 | bits & (1 << 60) - 1:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _when(self, earliest: datetime) -> datetime:
        """Clocks of several servers differ a little; within a stream time stands still at worst."""
        return max(earliest, self.at - timedelta(milliseconds=self.random.randrange(2_000)))

    def _register(self) -> Act:
        user_id = UserId(self.new_id())
        command = RegisterUser(origin=UserOrigin.LOCAL, username=f"{user_id[-6:]}@example.com")
        events = decide_user(None, command).events
        self.users.append(fold_new_user(None, user_id, events, self.at))
        return Act(user_stream(user_id), 1, user_id, events, self.at)

    def _of_user(self) -> Act | None:
        index = self.random.randrange(len(self.users))
        user = self.users[index]
        commands: list[UserCommand] = [
            ChangePassword(user.credential_epoch),
            ChangeRoles(self.random.choice(_ROLES)),
            DisableUser(),
            EnableUser(),
        ]
        events = decide_user(user, self.random.choice(commands)).events
        if not events:
            return None
        at = self._when(user.disabled_at or user.registered_at)
        self.users[index] = fold_new_user(user, user.user_id, events, at)
        stream = user_stream(user.user_id)
        return Act(stream, user.version + 1, user.user_id, events, at)

    def _sign_in(self) -> Act:
        user = self.random.choice(self.users)
        family_id, session_id = FamilyId(self.new_id()), SessionId(self.new_id())
        name = self.random.choice([None, "my laptop"])
        command = replace(
            start_session(session_id=session_id, device_name=name), user_id=user.user_id
        )
        at = self._when(_BEGAN)
        decision, family = carried_out(None, command, at, family_id=family_id)
        token = first_token(family_id=family_id, session_id=session_id)
        self.logins.append(_Login(family, token))
        return Act(family_stream(family_id), 1, user.user_id, decision.events, at)

    def _of_family(self) -> Act | None:
        login = self.random.choice(self.logins[-40:])
        family, token = login.family, login.token
        session_id = token.session_id
        commands: list[FamilyCommand] = [
            RenameSession(session_id, "kitchen"),
            RequireStepUp(),
            CompleteStepUp(session_id, ["otp"], PHONE),
            EndSession(session_id, EndReason.LOGOUT),
            RevokeFamily(EndReason.STAFF),
        ]
        command: FamilyCommand = refresh(token, client=LAPTOP, salt=SALT)
        if self.random.random() < 0.15:
            command = self.random.choice(commands)
        at = self._when(family.last_event_at())
        decision, after = carried_out(family, command, at, family_id=family.family_id)
        if not decision.events:
            return None
        if after.sessions[0].generation == token.generation + 1:
            login.token = answer_to(after, token)
        login.family = after
        stream = family_stream(family.family_id)
        return Act(stream, family.version + 1, family.user_id, decision.events, at)

    def _of_alert(self) -> Act:
        if not self.alerts or self.random.random() < 0.3:
            user, alert_id = self.random.choice(self.users), AlertId(self.new_id())
            event = raised(user_id=user.user_id, at=self.at)
            self.alerts.append(self._evolved(None, alert_id, event, self.at))
            return Act(alert_stream(alert_id), 1, user.user_id, [event], self.at)
        index = self.random.randrange(len(self.alerts))
        alert = self.alerts[index]
        at = self._when(max(alert.raised_at, alert.resolved_at or alert.raised_at))
        event = self.random.choice([
            repeated(at=at),
            NewEvent(AlertAcknowledged()),
            NewEvent(AlertResolved(verdict=Verdict.BENIGN)),
            NewEvent(AlertReopened()),
        ])  # fmt: skip
        self.alerts[index] = self._evolved(alert, alert.alert_id, event, at)
        stream = alert_stream(alert.alert_id)
        return Act(stream, alert.version + 1, alert.subject_id, [event], at)

    def _evolved(
        self, alert: Alert | None, alert_id: AlertId, new: NewEvent, at: datetime
    ) -> Alert:
        return evolve_alert(alert, alert_id, new.event, new.personal, at)  # type: ignore[arg-type]


class GeneratedHistory:
    """Puts lives into a database's log; the tables that are read from stay empty."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys, seed: int) -> None:
        self._engine = engine
        self._data_keys = data_keys
        self._random = Random(seed)
        self.lives = Lives(self._random)
        self._keys: dict[UserId, DataKey] = {}

    async def write(self, events: int) -> None:
        """At least so many more events."""
        written = 0
        while written < events:
            acts = [self._next() for _ in range(self._random.randrange(1, 12))]
            async with transaction(self._engine) as connection:
                for act in acts:
                    await self._append(connection, act)
            written += sum(len(act.events) for act in acts)

    async def write_out_of_turn(self) -> None:
        """A version that lies before its predecessor: its transaction began earlier."""
        before, after = self._next(), self._next()
        while before.stream != after.stream:
            await self._write_alone([before])
            before, after = after, self._next()
        async with transaction(self._engine) as early:
            await early.execute("SELECT pg_current_xact_id()")
            await self._write_alone([before])
            await self._append(early, after)

    async def _write_alone(self, acts: Sequence[Act]) -> None:
        async with transaction(self._engine) as connection:
            for act in acts:
                await self._append(connection, act)

    def _next(self) -> Act:
        while (act := self.lives.act()) is None:
            pass
        return act

    async def _append(self, connection: Connection, act: Act) -> None:
        if act.subject_id not in self._keys:
            wrapped = self._data_keys.new(act.subject_id)
            await connection.execute(
                "INSERT INTO data_keys (subject_id, wrapped_key) VALUES (%s, %s)",
                (act.subject_id, wrapped),
            )
            self._keys[act.subject_id] = self._data_keys.unwrap(wrapped, act.subject_id)
        await append_stream(
            connection,
            act.stream,
            act.first_version - 1,
            act.events,
            Cause(USER, CorrelationId(self.lives.new_id())),
            act.at,
            subject_id=act.subject_id,
            data_key=self._keys[act.subject_id],
        )
