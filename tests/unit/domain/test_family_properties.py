"""Any interleaving of commands on several families: the rules and the fold keep their promises."""

import os
from datetime import datetime, timedelta
from typing import cast

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from domain.events.envelope import NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    FamilyEvent,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionEnded,
    SessionExpired,
    SessionRenamed,
    SessionStarted,
)
from domain.events.personal import Personal
from domain.events.registry import Event, decode_event
from domain.family import Family, evolve
from domain.family_decisions import (
    Decision,
    EndSession,
    ExpireSessions,
    FamilyCommand,
    RenameSession,
    RevokeFamily,
    decide,
)
from domain.ids import FamilyId, SessionId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, TokenKeys, encode_bytes, mint, parse
from domain.refusals import Refusal
from projections.session_rows import family_of, rows_of
from tests.unit.domain.builders import (
    DAY,
    HOUR,
    MICROSECOND,
    MINUTE,
    NOW,
    SECOND,
    answer_to,
    first_token,
    only_session,
    refresh,
    start_session,
    with_generation,
)
from tests.unit.domain.family_model import WHO, FamilyModel, Outcome

MAX_FAMILIES = 4
POLICIES = [
    SessionPolicy(),
    SessionPolicy(late_retry_budget=0),
    SessionPolicy(overlap_window=timedelta(0)),
    SessionPolicy(idle_timeout=MINUTE, absolute_lifetime=5 * MINUTE),
    SessionPolicy(late_retry_budget=8, late_retry_period=HOUR),
]
STEPS = [
    timedelta(0),
    MICROSECOND,
    SECOND,
    10 * SECOND - MICROSECOND,
    10 * SECOND,
    10 * SECOND + MICROSECOND,
    30 * SECOND,
    MINUTE,
    HOUR,
    DAY,
    14 * DAY,
    -SECOND,
    -HOUR,
]
"""How a clock moves between two commands; now and then, back."""

EVENTS_OF: dict[Outcome, tuple[list[type[Event]], Refusal | None]] = {
    Outcome.WRONG_CLIENT: ([], Refusal.WRONG_CLIENT),
    Outcome.ENDED: ([EndedSessionRefreshRefused], Refusal.SESSION_ENDED),
    Outcome.EXPIRED: ([SessionExpired], Refusal.SESSION_EXPIRED),
    Outcome.ROTATED: ([RefreshTokenRotated], None),
    Outcome.RETRIED: ([RefreshRetried], None),
    Outcome.RETRIED_LATE: ([RefreshRetried], None),
    Outcome.UNRECOGNISED: ([RefreshTokenUnrecognised], Refusal.TOKEN_UNRECOGNISED),
    Outcome.REUSED: ([RefreshTokenReused, FamilyRevoked], Refusal.TOKEN_REUSED),
}


class Stored(msgspec.Struct, frozen=True):
    """One event as a log would hold it: bytes and a time."""

    type: str
    schema_version: int
    data: bytes
    personal: bytes | None
    at: datetime


def stored(new: NewEvent, at: datetime) -> Stored:
    personal = None if new.personal is None else msgspec.json.encode(new.personal)
    return Stored(
        new.event.TYPE, new.event.SCHEMA_VERSION, msgspec.json.encode(new.event), personal, at
    )


def folded(family_id: FamilyId, log: list[Stored]) -> Family | None:
    """The state that the stored events come to, one after the other."""
    family = None
    for each in log:
        event = cast("FamilyEvent", decode_event(each.type, each.schema_version, each.data))
        personal = (
            None if each.personal is None else msgspec.json.decode(each.personal, type=Personal)
        )
        family = evolve(family, family_id, event, personal, each.at)
    return family


class Families(RuleBasedStateMachine):
    """Families and what is known of each; every rule compares what happens with the model."""

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.clock = NOW
        self.keys = TokenKeys(1, {1: bytes(range(32))})
        self.logs: dict[FamilyId, list[Stored]] = {}
        self.states: dict[FamilyId, Family] = {}
        self.models: dict[FamilyId, FamilyModel] = {}
        self.drawn = 0

    # What the rules below are made of

    def fresh_bytes(self, count: int) -> bytes:
        """Bytes that nobody has seen before."""
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")

    def time_at(self, family_id: FamilyId) -> datetime:
        """The clock, held where it stepped back behind the family's last event, as in infra."""
        return max(self.clock, self.states[family_id].last_event_at())

    def carry_out(self, family_id: FamilyId, command: FamilyCommand) -> Decision:
        """Decide, append, fold; nothing but this family changes."""
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

    def present(
        self, family_id: FamilyId, text: str, client: int, client_id: str | None, policy: int
    ) -> None:
        """A client presents a token, and gets what the model says it ought to get."""
        who, context = WHO[client]
        model, at = self.models[family_id], self.time_at(family_id)
        presented = parse(text, self.keys)
        assert presented is not None
        expected = model.expects(text, presented.generation, who, client_id, POLICIES[policy], at)
        recorded = expected not in {Outcome.ENDED, Outcome.UNRECOGNISED} or model.goes_on_record(at)
        command = refresh(
            presented,
            client=context,
            client_id=client_id,
            keys=self.keys,
            policy=POLICIES[policy],
            salt=encode_bytes(self.fresh_bytes(16)),
        )

        decision = self.carry_out(family_id, command)

        types, refusal = EVENTS_OF[expected]
        events = [new.event for new in decision.events]
        assert [type(event) for event in events] == (types if recorded else [])
        assert decision.refusal == refusal
        answer = None
        if refusal is None:
            answer = self.answer(family_id, presented)
            if expected is not Outcome.ROTATED:  # a retry forks nothing
                assert answer == model.tokens[-1]
            if expected is Outcome.RETRIED_LATE:
                period = POLICIES[policy].late_retry_period
                assert model.late_within(period, at) < POLICIES[policy].late_retry_budget
        for event in events:
            if isinstance(event, RefreshRetried):
                assert event.late == (expected is Outcome.RETRIED_LATE)
        model.happened(expected, at, who, answer)

    def answer(self, family_id: FamilyId, presented: RefreshToken) -> str:
        """The token that an accepted refresh is answered with."""
        return mint(answer_to(self.states[family_id], presented, keys=self.keys), self.keys)

    def expect_end(self, family_id: FamilyId, decision: Decision, event: type[Event]) -> None:
        """An end on purpose, unless it had ended or run out of time before."""
        model, at = self.models[family_id], self.states[family_id].last_event_at()
        types = [type(new.event) for new in decision.events]
        if model.over:
            assert (types, decision.refusal) == ([], Refusal.SESSION_ENDED)
        elif model.out_of_time(at):
            assert (types, decision.refusal) == ([SessionExpired], Refusal.SESSION_EXPIRED)
        else:
            assert (types, decision.refusal) == ([event], None)
        model.over = True

    # What can happen

    @initialize(target=opened, who=st.integers(0, len(WHO) - 1))
    def first_sign_in(self, who: int) -> FamilyId:
        return self.sign_in(who=who, policy=0, persistent=True)

    @precondition(lambda self: len(self.states) < MAX_FAMILIES)
    @rule(
        target=opened,
        who=st.integers(0, len(WHO) - 1),
        policy=st.integers(0, len(POLICIES) - 1),
        persistent=st.booleans(),
    )
    def later_sign_in(self, who: int, policy: int, persistent: bool) -> FamilyId:
        return self.sign_in(who=who, policy=policy, persistent=persistent)

    def sign_in(self, *, who: int, policy: int, persistent: bool) -> FamilyId:
        number = len(self.states)
        family_id = FamilyId(f"0195513a-0000-7000-8000-{number:012d}")
        session_id = SessionId(f"0195513a-0000-7000-9000-{number:012d}")
        label, client = WHO[who]
        lifetimes = POLICIES[policy]
        secret = self.fresh_bytes(32)
        command = start_session(
            session_id=session_id,
            client=client,
            client_id="web",
            persistent=persistent,
            policy=lifetimes,
            secret=secret,
            token_key=self.keys.current_id,
        )

        decision = self.carry_out(family_id, command)

        assert [type(new.event) for new in decision.events] == [SessionStarted]
        token = first_token(
            family_id=family_id,
            session_id=session_id,
            secret=secret,
            key_id=self.keys.current_id,
        )
        self.models[family_id] = FamilyModel(
            client_id="web",
            idle=lifetimes.idle_timeout if persistent else lifetimes.shared_computer_idle_timeout,
            dies_at=self.clock + lifetimes.absolute_lifetime,
            tokens=[mint(token, self.keys)],
            user=label,
            handed_at=self.clock,
            seen_at=self.clock,
        )
        return family_id

    @rule(step=st.sampled_from(STEPS))
    def time_passes(self, step: timedelta) -> None:
        self.clock += step

    @rule(
        family_id=opened,
        age=st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3]),
        who=st.integers(0, len(WHO) - 1),
        policy=st.integers(0, len(POLICIES) - 1),
        client_id=st.sampled_from([None, None, None, "web", "other"]),
    )
    def anybody_refreshes(
        self, family_id: FamilyId, age: int, who: int, policy: int, client_id: str | None
    ) -> None:
        """With the live token or one of those before it."""
        tokens = self.models[family_id].tokens
        self.present(family_id, tokens[max(len(tokens) - 1 - age, 0)], who, client_id, policy)

    @rule(family_id=opened, age=st.integers(0, 1), step=st.sampled_from(STEPS))
    def its_client_refreshes(self, family_id: FamilyId, age: int, step: timedelta) -> None:
        """The device that holds the live token, a while later, with it or with the one before."""
        self.clock += step
        model = self.models[family_id]
        labels = [label for label, _ in WHO]
        token = model.tokens[max(len(model.tokens) - 1 - age, 0)]
        self.present(family_id, token, labels.index(model.user), None, 0)

    @rule(
        family_id=opened,
        ahead=st.integers(-2, 3),
        who=st.integers(0, len(WHO) - 1),
    )
    def somebody_with_the_token_key_refreshes(
        self, family_id: FamilyId, ahead: int, who: int
    ) -> None:
        """With a secret that was never issued, of a past, the current or a future generation."""
        session = only_session(self.states[family_id])
        token = first_token(
            family_id=family_id,
            session_id=session.session_id,
            secret=self.fresh_bytes(32),
            key_id=self.keys.current_id,
        )
        forged = with_generation(token, max(session.generation + ahead, 0))
        self.present(family_id, mint(forged, self.keys), who, None, 0)

    @rule(one=opened, other=opened)
    def a_token_strays_into_another_family(self, one: FamilyId, other: FamilyId) -> None:
        token = parse(self.models[one].tokens[-1], self.keys)
        assert token is not None
        if one != other:
            decision = self.carry_out(other, refresh(token, keys=self.keys))

            assert decision == Decision(refusal=Refusal.UNKNOWN_SESSION)

    @rule(family_id=opened, reason=st.sampled_from(EndReason))
    def its_session_is_ended(self, family_id: FamilyId, reason: EndReason) -> None:
        session = only_session(self.states[family_id])

        decision = self.carry_out(family_id, EndSession(session.session_id, reason))

        self.expect_end(family_id, decision, SessionEnded)

    @rule(family_id=opened, reason=st.sampled_from(EndReason))
    def it_is_revoked(self, family_id: FamilyId, reason: EndReason) -> None:
        decision = self.carry_out(family_id, RevokeFamily(reason))

        self.expect_end(family_id, decision, FamilyRevoked)

    @rule()
    def all_are_swept(self) -> None:
        for family_id, model in self.models.items():
            due = not model.over and model.out_of_time(self.time_at(family_id))

            decision = self.carry_out(family_id, ExpireSessions())

            types = [type(new.event) for new in decision.events]
            assert types == ([SessionExpired] if due else [])
            model.over = model.over or due

    @rule(family_id=opened, name=st.sampled_from(["phone", "laptop 💻"]))
    def its_device_is_named(self, family_id: FamilyId, name: str) -> None:
        model, session = self.models[family_id], only_session(self.states[family_id])
        over = model.over or model.out_of_time(self.time_at(family_id))

        decision = self.carry_out(family_id, RenameSession(session.session_id, name))

        types = [type(new.event) for new in decision.events]
        assert types == ([] if over or session.device_name == name else [SessionRenamed])
        assert decision.refusal == (Refusal.SESSION_ENDED if over else None)

    @precondition(lambda self: len(self.keys.keys) < 3)
    @rule()
    def the_token_key_rotates(self) -> None:
        number = self.keys.current_id + 1
        self.keys = TokenKeys(number, {**self.keys.keys, number: bytes([number]) * 32})

    # What always holds

    @invariant()
    def the_row_is_the_fold_of_the_stored_events(self) -> None:
        for family_id, log in self.logs.items():
            state = self.states[family_id]
            fold = folded(family_id, log)

            assert fold == state == family_of(rows_of(state))
            assert rows_of(fold) == rows_of(state)
            assert state.version == len(log)

    @invariant()
    def only_the_latest_token_would_rotate(self) -> None:
        """And none, once the family is over: whoever presents it."""
        for family_id, model in self.models.items():
            at = self.time_at(family_id)
            over = model.over or model.out_of_time(at)
            live = [
                text
                for text in model.tokens[-4:]
                for token in [parse(text, self.keys)]
                if token is not None
                and any(
                    isinstance(new.event, RefreshTokenRotated)
                    for new in decide(
                        self.states[family_id], refresh(token, keys=self.keys), at
                    ).events
                )
            ]

            assert live == ([] if over else [model.tokens[-1]])

    @invariant()
    def nothing_is_accepted_after_the_end(self) -> None:
        for family_id, log in self.logs.items():
            ends = [
                place
                for place, each in enumerate(log)
                if each.type in {"SessionEnded", "SessionExpired", "FamilyRevoked"}
            ]
            after = {each.type for each in log[ends[0] + 1 :]} if ends else set()

            assert len(ends) <= 1
            assert after <= {"EndedSessionRefreshRefused"}
            assert bool(ends) == self.models[family_id].over
            assert bool(ends) == (not self.states[family_id].is_live)

    @invariant()
    def no_lifetime_is_negative(self) -> None:
        for state in self.states.values():
            session = only_session(state)

            assert session.started_at <= session.rotated_at <= session.last_seen_at
            assert session.last_seen_at < session.idle_expires_at
            assert session.ended_at is None or session.ended_at >= session.last_seen_at

    @invariant()
    def a_reuse_revokes_its_family_at_once_and_once(self) -> None:
        for log in self.logs.values():
            types = [each.type for each in log]
            reuses = [place for place, type_ in enumerate(types) if type_ == "RefreshTokenReused"]

            assert len(reuses) <= 1
            assert all(types[place + 1] == "FamilyRevoked" for place in reuses)


TestFamilies = Families.TestCase
TestFamilies.settings = settings(
    max_examples=100 if os.environ.get("CI") else 60, stateful_step_count=40
)
