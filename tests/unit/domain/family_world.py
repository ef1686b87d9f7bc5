"""Several families side by side, as a store would keep them: a log, a state and a clock for all."""

from datetime import datetime, timedelta
from typing import cast

import msgspec

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import FamilyEvent, RefreshRetried
from domain.events.personal import Personal
from domain.events.registry import decode_event
from domain.family import Family, evolve
from domain.family_decisions import Decision, FamilyCommand, StartSession, decide
from domain.ids import FamilyId, SessionId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, TokenKeys, encode_bytes, mint, parse
from tests.unit.domain.builders import (
    NOW,
    answer_to,
    first_token,
    only_session,
    start_session,
    with_generation,
)


class Stored(msgspec.Struct, frozen=True):
    """One event as a log holds it: bytes and a time."""

    type: str
    schema_version: int
    data: bytes
    personal: bytes
    at: datetime

    def event(self) -> FamilyEvent:
        """The event, read back."""
        return cast("FamilyEvent", decode_event(self.type, self.schema_version, self.data))


def stored(new: NewEvent, at: datetime) -> Stored:
    """What a log keeps of a decided event."""
    return Stored(
        new.event.TYPE,
        new.event.SCHEMA_VERSION,
        msgspec.json.encode(new.event),
        msgspec.json.encode(new.personal),
        at,
    )


def folded(family_id: FamilyId, log: list[Stored]) -> Family | None:
    """The state that stored events come to, one after the other."""
    family = None
    for each in log:
        personal = msgspec.json.decode(each.personal, type=Personal | None)
        family = evolve(family, family_id, each.event(), personal, each.at)
    return family


class FamilyWorld:
    """Families by id. Its clock may step back; what it hands out is never the same twice."""

    def __init__(self) -> None:
        self.clock = NOW
        self.keys = TokenKeys(1, {1: bytes(range(32))})
        self.logs: dict[FamilyId, list[Stored]] = {}
        self.states: dict[FamilyId, Family] = {}
        self._drawn = 0

    def rotate_token_key(self) -> None:
        """Add a token key and make it the current one."""
        number = self.keys.current_id + 1
        self.keys = TokenKeys(number, {**self.keys.keys, number: bytes([number]) * 32})

    def time_at(self, family_id: FamilyId) -> datetime:
        """The clock, held where it stepped back behind the family's last event, as in infra."""
        return max(self.clock, self.states[family_id].last_event_at())

    def carry_out(self, family_id: FamilyId, command: FamilyCommand) -> Decision:
        """Decide, fold each event, append it; nothing but this family changes."""
        others = {each: state for each, state in self.states.items() if each != family_id}
        state = self.states.get(family_id)
        at = self.clock if state is None else self.time_at(family_id)

        decision = decide(state, command, at)

        log = self.logs.setdefault(family_id, [])
        for new in decision.events:
            state = evolve(state, family_id, cast("FamilyEvent", new.event), new.personal, at)
            log.append(stored(new, at))
            assert state.version == len(log)
        assert state is not None
        self.states[family_id] = state
        assert others == {each: self.states[each] for each in others}
        return decision

    def new_family(
        self, client: ClientContext, policy: SessionPolicy, *, persistent: bool
    ) -> tuple[FamilyId, StartSession]:
        """A fresh id, and the command that opens the family."""
        number = len(self.states)
        command = start_session(
            session_id=SessionId(f"0195513a-0000-7000-9000-{number:012d}"),
            client=client,
            client_id="web",
            persistent=persistent,
            policy=policy,
            secret=self._fresh_bytes(32),
            token_key=self.keys.current_id,
        )
        return FamilyId(f"0195513a-0000-7000-8000-{number:012d}"), command

    def first_text(self, family_id: FamilyId, command: StartSession) -> str:
        """The token that the client of a sign-in is given."""
        token = first_token(
            family_id=family_id,
            session_id=command.session_id,
            secret=command.secret,
            key_id=command.token_key,
        )
        return mint(token, self.keys)

    def forged_text(self, family_id: FamilyId, ahead: int) -> str:
        """A token whose MAC holds and whose secret was never issued."""
        session = only_session(self.states[family_id])
        token = first_token(
            family_id=family_id,
            session_id=session.session_id,
            secret=self._fresh_bytes(32),
            key_id=self.keys.current_id,
        )
        return mint(with_generation(token, max(session.generation + ahead, 0)), self.keys)

    def fresh_salt(self) -> str:
        """A salt that no rotation had before."""
        return encode_bytes(self._fresh_bytes(16))

    def read(self, text: str) -> RefreshToken:
        """The token that a text stands for."""
        token = parse(text, self.keys)
        assert token is not None
        return token

    def answer(self, family_id: FamilyId, presented: RefreshToken) -> str:
        """The token that an accepted refresh is answered with."""
        return mint(answer_to(self.states[family_id], presented, keys=self.keys), self.keys)

    def late_retries(self, family_id: FamilyId, within: timedelta) -> int:
        """How many late retries the log has in the period before its last event."""
        log = self.logs[family_id]
        return sum(
            isinstance(event := each.event(), RefreshRetried)
            and event.late
            and log[-1].at - each.at < within
            for each in log
        )

    def _fresh_bytes(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")
