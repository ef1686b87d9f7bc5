"""Any interleaving of commands on several families: the rules and the fold keep their promises."""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionEnded,
    SessionExpired,
    SessionRenamed,
    SessionStarted,
    StepUpCompleted,
    StepUpRequired,
)
from domain.events.registry import Event
from domain.family_decisions import (
    CheckToken,
    CompleteStepUp,
    Decision,
    EndSession,
    ExpireSessions,
    Reauthenticate,
    RenameSession,
    RequireStepUp,
    RevokeFamily,
    decide,
)
from domain.ids import FamilyId
from domain.policy import SessionPolicy
from domain.refusals import Refusal
from projections.session_rows import family_of, rows_of
from tests.unit.domain.builders import DAY, HOUR, MICROSECOND, MINUTE, SECOND, only_session, refresh
from tests.unit.domain.family_model import CALLERS, Caller, FamilyModel, Outcome
from tests.unit.domain.family_world import FamilyWorld, folded

MAX_LIVING, MAX_FAMILIES = 3, 8
POLICIES = [
    SessionPolicy(),
    SessionPolicy(late_retry_budget=0),
    SessionPolicy(overlap_window=timedelta(0)),
    SessionPolicy(idle_timeout=2 * MINUTE, absolute_lifetime=5 * MINUTE),
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
    2 * MINUTE,
    HOUR,
    -SECOND,
    -HOUR,
    DAY,
    14 * DAY,
]
"""How the clock moves between two commands; now and then, back."""

LIVING_FIRST = st.integers(0, 11)
"""Picks a family: mostly one that lives."""
ANYBODY = st.sampled_from(CALLERS)
ENDS = {"SessionEnded", "SessionExpired", "FamilyRevoked"}

COMES_TO: dict[Outcome, tuple[list[type[Event]], Refusal | None]] = {
    Outcome.WRONG_CLIENT: ([], Refusal.WRONG_CLIENT),
    Outcome.ENDED: ([EndedSessionRefreshRefused], Refusal.SESSION_ENDED),
    Outcome.EXPIRED: ([SessionExpired], Refusal.SESSION_EXPIRED),
    Outcome.ROTATED: ([RefreshTokenRotated], None),
    Outcome.RETRIED: ([RefreshRetried], None),
    Outcome.RETRIED_LATE: ([RefreshRetried], None),
    Outcome.UNRECOGNISED: ([RefreshTokenUnrecognised], Refusal.TOKEN_UNRECOGNISED),
    Outcome.STEP_UP: ([], Refusal.STEP_UP_REQUIRED),
    Outcome.REUSED: ([RefreshTokenReused, FamilyRevoked], Refusal.TOKEN_REUSED),
}


def types_of(decision: Decision) -> list[type[Event]]:
    return [type(new.event) for new in decision.events]


class Families(RuleBasedStateMachine):
    """Every rule compares what a command comes to with what the model expects."""

    def __init__(self) -> None:
        super().__init__()
        self.world = FamilyWorld()
        self.models: dict[FamilyId, FamilyModel] = {}
        self.policies: dict[FamilyId, SessionPolicy] = {}

    # What the rules below are made of

    def living(self) -> list[FamilyId]:
        return [family_id for family_id, model in self.models.items() if not model.over]

    def pick(self, number: int) -> FamilyId:
        """One of the families; see ``LIVING_FIRST``. Where all are over, somebody signs in."""
        living = self.living()
        if not living and len(self.models) < MAX_FAMILIES:
            self.somebody_signs_in(CALLERS[number % 6], POLICIES[0], persistent=True)
            living = self.living()
        elif number >= 10:
            living = []
        candidates = living or list(self.models)
        return candidates[number % len(candidates)]

    def present(
        self,
        family_id: FamilyId,
        text: str,
        who: Caller,
        *,
        client_id: str | None = None,
        policy: SessionPolicy | None = None,
        proven: bool = False,
    ) -> None:
        """A client presents a token, and gets what the model says it ought to get.

        Where the user is ``proven``, they have just said their password as well.
        """
        world, model = self.world, self.models[family_id]
        policy = policy or self.policies[family_id]
        presented, at = world.read(text), world.time_at(family_id)
        unproven, model.unproven = model.unproven, model.unproven and not proven
        expected = model.expects(text, presented.generation, who, client_id, policy, at)
        types, refusal = COMES_TO[expected]
        if expected in {Outcome.ENDED, Outcome.UNRECOGNISED} and not model.goes_on_record(at):
            types = []
        command = refresh(
            presented,
            client=who.client,
            client_id=client_id,
            keys=world.keys,
            policy=policy,
            salt=world.fresh_salt(),
        )

        decision = world.carry_out(
            family_id, Reauthenticate(command, ["pwd"]) if proven else command
        )

        found = types_of(decision)
        if proven and refusal is None:
            assert found.pop(0) is StepUpCompleted
            assert world.states[family_id].signed_in_at == at
        else:
            model.unproven = unproven
        assert (found, decision.refusal) == (types, refusal)
        answer = None if refusal else world.answer(family_id, presented)
        if types == [RefreshRetried]:  # an honest retry forks nothing
            assert answer == model.tokens[-1]
            late = world.logs[family_id][-1].event() == RefreshRetried(
                generation=len(model.tokens), late=True
            )
            assert late == (expected is Outcome.RETRIED_LATE)
            assert not late or (
                world.late_retries(family_id, policy.late_retry_period) <= policy.late_retry_budget
            )
        model.happened(expected, at, who, answer)

    def ends(self, family_id: FamilyId, decision: Decision, event: type[Event]) -> None:
        """An end on purpose, unless it had ended or run out of time before."""
        model = self.models[family_id]
        comes_to: tuple[list[type[Event]], Refusal | None] = ([event], None)
        if model.over:
            comes_to = ([], Refusal.SESSION_ENDED)
        elif model.out_of_time(self.world.time_at(family_id)):
            comes_to = ([SessionExpired], Refusal.SESSION_EXPIRED)

        assert (types_of(decision), decision.refusal) == comes_to
        model.over = True

    # What can happen

    @initialize(
        start=st.lists(st.tuples(ANYBODY, st.sampled_from(POLICIES)), min_size=2, max_size=2)
    )
    def some_have_signed_in(self, start: list[tuple[Caller, SessionPolicy]]) -> None:
        for who, policy in start:
            self.somebody_signs_in(who, policy, persistent=True)

    @precondition(lambda self: len(self.living()) < MAX_LIVING and len(self.models) < MAX_FAMILIES)
    @rule(who=ANYBODY, policy=st.sampled_from(POLICIES), persistent=st.booleans())
    def a_family_is_opened(self, who: Caller, policy: SessionPolicy, *, persistent: bool) -> None:
        self.somebody_signs_in(who, policy, persistent=persistent)

    def somebody_signs_in(self, who: Caller, policy: SessionPolicy, *, persistent: bool) -> None:
        world = self.world
        family_id, command = world.new_family(who.client, policy, persistent=persistent)

        decision = world.carry_out(family_id, command)

        assert (types_of(decision), decision.refusal) == ([SessionStarted], None)
        self.policies[family_id] = policy
        self.models[family_id] = FamilyModel(
            client_id="web",
            idle=policy.idle_timeout if persistent else policy.shared_computer_idle_timeout,
            dies_at=world.clock + policy.absolute_lifetime,
            tokens=[world.first_text(family_id, command)],
            holder=who,
            handed_at=world.clock,
            seen_at=world.clock,
        )

    @rule(step=st.sampled_from(STEPS))
    def time_passes(self, step: timedelta) -> None:
        self.world.clock += step

    @rule(
        number=LIVING_FIRST,
        goes=st.lists(
            st.tuples(st.integers(0, 1), st.sampled_from(STEPS[:-4])), min_size=2, max_size=8
        ),
    )
    def its_client_refreshes(self, number: int, goes: list[tuple[int, timedelta]]) -> None:
        """Now and again, with its token or, where an answer was lost, the one before."""
        family_id = self.pick(number)
        for age, step in goes:
            self.world.clock += step
            model = self.models[family_id]
            self.present(
                family_id, model.tokens[-1 - min(age, len(model.tokens) - 1)], model.holder
            )

    @rule(
        number=LIVING_FIRST,
        age=st.integers(0, 3),
        who=ANYBODY,
        policy=st.sampled_from([None, *POLICIES]),
        client_id=st.sampled_from([None, None, None, "web", "other"]),
    )
    def anybody_refreshes(
        self,
        number: int,
        age: int,
        who: Caller,
        policy: SessionPolicy | None,
        client_id: str | None,
    ) -> None:
        """With the live token or one of those before it."""
        family_id = self.pick(number)
        text = self.models[family_id].token_of_age(age)
        self.present(family_id, text, who, client_id=client_id, policy=policy)

    @rule(number=LIVING_FIRST, ahead=st.integers(-2, 3), who=ANYBODY)
    def somebody_with_the_token_key_refreshes(self, number: int, ahead: int, who: Caller) -> None:
        """With a secret that was never issued, of a past, the current or a future generation."""
        family_id = self.pick(number)
        self.present(family_id, self.world.forged_text(family_id, ahead), who)

    @rule(number=LIVING_FIRST, age=st.integers(0, 3), who=ANYBODY)
    def somebody_who_knows_the_password_refreshes(self, number: int, age: int, who: Caller) -> None:
        """With the live token or one of those before it."""
        family_id = self.pick(number)
        text = self.models[family_id].token_of_age(age)
        self.present(family_id, text, who, proven=True)

    @rule(number=LIVING_FIRST, age=st.integers(0, 3), who=ANYBODY)
    def a_token_is_checked(self, number: int, age: int, who: Caller) -> None:
        """What would be exchanged stays as it is; the rest comes to what it always does."""
        family_id = self.pick(number)
        world, model = self.world, self.models[family_id]
        policy, at = self.policies[family_id], world.time_at(family_id)
        text = model.token_of_age(age)
        presented, unproven = world.read(text), model.unproven
        model.unproven = True
        expected = model.expects(text, presented.generation, who, None, policy, at)
        model.unproven = unproven
        types, refusal = COMES_TO[expected]
        if expected is Outcome.ENDED and not model.goes_on_record(at):
            types = []
        command = refresh(presented, client=who.client, keys=world.keys, policy=policy)

        decision = world.carry_out(family_id, CheckToken(command))

        passes = expected is Outcome.STEP_UP
        assert (types_of(decision), decision.refusal) == (types, None if passes else refusal)
        model.happened(expected, at, who, None)

    @rule(number=LIVING_FIRST)
    def a_step_up_is_required(self, number: int) -> None:
        family_id = self.pick(number)
        model, at = self.models[family_id], self.world.time_at(family_id)
        over, again = model.over or model.out_of_time(at), model.unproven

        decision = self.world.carry_out(family_id, RequireStepUp())

        if over:
            self.ends(family_id, decision, StepUpRequired)
            return
        comes_to = ([], Refusal.NOTHING_TO_DO) if again else ([StepUpRequired], None)
        assert (types_of(decision), decision.refusal) == comes_to
        model.unproven = True

    @rule(number=LIVING_FIRST, who=ANYBODY)
    def a_backend_says_that_the_user_proved_themself(self, number: int, who: Caller) -> None:
        family_id = self.pick(number)
        model, at = self.models[family_id], self.world.time_at(family_id)
        session_id = only_session(self.world.states[family_id]).session_id
        over = model.over or model.out_of_time(at)

        decision = self.world.carry_out(family_id, CompleteStepUp(session_id, ["hwk"], who.client))

        if over:
            self.ends(family_id, decision, StepUpCompleted)
            return
        assert (types_of(decision), decision.refusal) == ([StepUpCompleted], None)
        state = self.world.states[family_id]
        assert (state.auth_methods, state.signed_in_at) == (("hwk",), at)
        model.unproven = False

    @rule(one=LIVING_FIRST, other=LIVING_FIRST)
    def a_token_strays_into_another_family(self, one: int, other: int) -> None:
        own, foreign = self.pick(one), self.pick(other)
        if own == foreign:
            return
        token = self.world.read(self.models[own].tokens[-1])

        decision = self.world.carry_out(foreign, refresh(token, keys=self.world.keys))

        assert decision == Decision(refusal=Refusal.UNKNOWN_SESSION)

    @rule(number=LIVING_FIRST, reason=st.sampled_from(EndReason), whole=st.booleans())
    def it_is_ended(self, number: int, reason: EndReason, *, whole: bool) -> None:
        family_id = self.pick(number)
        session_id = only_session(self.world.states[family_id]).session_id
        command = RevokeFamily(reason) if whole else EndSession(session_id, reason)

        decision = self.world.carry_out(family_id, command)

        self.ends(family_id, decision, FamilyRevoked if whole else SessionEnded)

    @rule()
    def all_are_swept(self) -> None:
        for family_id, model in self.models.items():
            due = not model.over and model.out_of_time(self.world.time_at(family_id))

            decision = self.world.carry_out(family_id, ExpireSessions())

            assert types_of(decision) == ([SessionExpired] if due else [])
            model.over = model.over or due

    @rule(number=LIVING_FIRST, name=st.sampled_from(["phone", "laptop 💻"]))
    def its_device_is_named(self, number: int, name: str) -> None:
        family_id = self.pick(number)
        model, session = self.models[family_id], only_session(self.world.states[family_id])
        over = model.over or model.out_of_time(self.world.time_at(family_id))

        decision = self.world.carry_out(family_id, RenameSession(session.session_id, name))

        types = [] if over or session.device_name == name else [SessionRenamed]
        assert types_of(decision) == types
        assert decision.refusal == (Refusal.SESSION_ENDED if over else None)

    @precondition(lambda self: len(self.world.keys.keys) < 3)
    @rule()
    def the_token_key_rotates(self) -> None:
        self.world.rotate_token_key()

    # What always holds

    @invariant()
    def the_row_is_the_fold_of_the_stored_events(self) -> None:
        for family_id, log in self.world.logs.items():
            state, fold = self.world.states[family_id], folded(family_id, log)

            assert fold == state == family_of(rows_of(state))
            assert state.version == len(log)

    @invariant()
    def only_the_latest_token_would_rotate(self) -> None:
        """And none once the family is over, nor before its user has proved themself again."""
        for family_id, model in self.models.items():
            state, at = self.world.states[family_id], self.world.time_at(family_id)
            would_rotate = [
                text
                for text in model.tokens[-4:]
                if RefreshTokenRotated
                in types_of(decide(state, refresh(self.world.read(text), keys=self.world.keys), at))
            ]

            over = model.over or model.out_of_time(at)
            assert would_rotate == ([] if over or model.unproven else [model.tokens[-1]])
            assert (state.step_up_required_at is not None) == model.unproven

    @invariant()
    def nothing_is_accepted_after_the_end(self) -> None:
        for family_id, log in self.world.logs.items():
            types = [each.type for each in log]
            ends = [place for place, type_ in enumerate(types) if type_ in ENDS]

            assert len(ends) <= 1
            assert bool(ends) == self.models[family_id].over
            assert self.world.states[family_id].is_live == (not ends)
            assert not ends or set(types[ends[0] + 1 :]) <= {"EndedSessionRefreshRefused"}

    @invariant()
    def a_reuse_ends_its_family_at_once(self) -> None:
        for log in self.world.logs.values():
            types = [each.type for each in log]
            reuses = [place for place, type_ in enumerate(types) if type_ == "RefreshTokenReused"]

            assert len(reuses) <= 1
            assert all(types[place + 1] == "FamilyRevoked" for place in reuses)

    @invariant()
    def no_lifetime_is_negative(self) -> None:
        for state in self.world.states.values():
            session = only_session(state)

            assert session.started_at <= session.rotated_at <= session.last_seen_at
            assert session.last_seen_at < session.idle_expires_at
            assert session.ended_at is None or session.ended_at >= session.last_seen_at


TestFamilies = Families.TestCase
TestFamilies.settings = settings(max_examples=150, stateful_step_count=40)
