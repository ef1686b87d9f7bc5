"""Random interleavings of every command, through the lanes and pools, on a real PostgreSQL.

The rules have their own property tests, without I/O. This one is about what only the store can get
wrong: after each step every row is the fold of the events beside it, read back and opened.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from domain.client import ClientContext
from domain.events.families import EndReason
from domain.family import Family, Session
from domain.family_decisions import (
    CompleteStepUp,
    EndSession,
    ExpireSessions,
    RenameSession,
    RequireStepUp,
    RevokeFamily,
)
from domain.ids import FamilyId, UserId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, hash_secret
from domain.refusals import Refusal
from domain.user import EnableUser
from infra.event_store import load_families
from infra.postgres import connect, create_engine
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from infra.sweep import sweep_once
from tests.equivalence import assert_rows_are_folds, read_family
from tests.integration.accounts import LAPTOP, PHONE, Accounts, carry_out, cause, present

EXAMPLES = 15
STEPS = 20
USERS = 2

_ResultT = TypeVar("_ResultT")

POLICIES = st.sampled_from(
    [
        SessionPolicy(),
        SessionPolicy(overlap_window=timedelta(0)),
        SessionPolicy(overlap_window=timedelta(microseconds=1)),  # so every retry is late
        SessionPolicy(overlap_window=timedelta(microseconds=1), late_retry_budget=0),
        SessionPolicy(session_limit=2),
        SessionPolicy(idle_timeout=timedelta(seconds=1)),
    ]
)
CLIENTS = st.sampled_from([LAPTOP, LAPTOP, PHONE])
TABS = st.integers(1, 4)


@dataclass(slots=True)
class Person:
    """A user, with what a sign-in would know of them."""

    user_id: UserId
    epoch: int = 0
    disabled: bool = False
    families: list[FamilyId] = field(default_factory=list)


class Store(RuleBasedStateMachine):
    """Two API processes and a sweeper on one database, and the clients that they have."""

    tokens = Bundle[RefreshToken]("tokens")

    def __init__(self, conninfo: str, data_keys: DataKeys) -> None:
        super().__init__()
        self.conninfo = conninfo
        self.data_keys = data_keys
        self.loop = asyncio.Runner()
        self.stack = contextlib.AsyncExitStack()
        self.people: list[Person] = []
        self.families: dict[FamilyId, Family] = {}
        self.chains: dict[FamilyId, list[RefreshToken]] = {}

    @initialize()
    def open(self) -> None:
        self.do(self._open())

    async def _open(self) -> None:
        self.engine = create_engine(self.conninfo, max_connections=4, wait_s=10)
        self.stack.push_async_callback(self.engine.dispose)
        self.lanes = [RefreshLanes(self.conninfo, self.data_keys) for _ in range(2)]
        for lanes in self.lanes:
            work = asyncio.create_task(lanes.run())
            self.stack.callback(work.cancel)
        self.accounts = Accounts(self.engine, self.data_keys)
        for _ in range(USERS):
            user = await self.accounts.user()
            self.people.append(Person(user.user_id))

    def teardown(self) -> None:
        self.loop.run(self.stack.aclose())
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, _ResultT]) -> _ResultT:
        """Run to its end. Any: what coroutines yield and are sent is the loop's own business."""
        return self.loop.run(work)

    # ------------------------------------------------------------------------- one at a time

    @rule(
        target=tokens,
        who=st.integers(0, USERS - 1),
        client=CLIENTS,
        policy=POLICIES,
        name=st.none() | st.sampled_from(["laptop", "Τηλέφωνο", "📱"]),
    )
    def sign_in(
        self, who: int, client: ClientContext, policy: SessionPolicy, name: str | None
    ) -> RefreshToken | MultipleResults[RefreshToken]:
        person = self.people[who]
        if person.disabled:
            return multiple()
        found = self.do(self.accounts.users.find(person.user_id))
        assert found is not None
        assert found.user.credential_epoch == person.epoch
        session = self.do(
            self.accounts.sign_in(found.user, client=client, device_name=name, policy=policy)
        )
        person.families.append(session.family_id)
        self.families[session.family_id] = self.stored()[session.family_id]
        self.chains[session.family_id] = [session.token]
        return session.token

    @rule(
        target=tokens,
        token=tokens,
        client=CLIENTS,
        policy=POLICIES,
        process=st.integers(0, 1),
        tabs=TABS,
    )
    def refresh(
        self,
        token: RefreshToken,
        client: ClientContext,
        policy: SessionPolicy,
        process: int,
        tabs: int,
    ) -> MultipleResults[RefreshToken]:
        before = self.stored()
        answers = self.do(
            together(
                present(self.lanes[(process + tab) % 2], token, client=client, policy=policy)
                for tab in range(tabs)
            )
        )
        after = self.stored()

        accepted = [answer for answer in answers if isinstance(answer, RefreshToken)]
        assert len(set(accepted)) <= 1, "two successors of one token"
        if accepted:
            assert is_live(before[token.family_id]), "accepted after the end"
        if Refusal.TOKEN_REUSED in answers:
            self.assert_revoked_for_reuse(token.family_id)
        elif accepted:
            assert is_at(after[token.family_id], accepted[0])
            if accepted[0] not in self.chains[token.family_id]:
                self.chains[token.family_id].append(accepted[0])
        elsewhere = before.keys() - {token.family_id}
        assert {each: after[each] for each in elsewhere} == {
            each: before[each] for each in elsewhere
        }
        return multiple(*set(accepted))

    @rule(
        target=tokens,
        which=st.integers(0, 9),
        age=st.sampled_from([0, 0, 0, 1, 1, 2]),
        policy=POLICIES,
        process=st.integers(0, 1),
        tabs=TABS,
    )
    def go_on(
        self, which: int, age: int, policy: SessionPolicy, process: int, tabs: int
    ) -> RefreshToken | MultipleResults[RefreshToken]:
        """A session that lives goes on, with its current token or one of those before it."""
        stored = self.stored()
        living = [each for each, family in stored.items() if is_live(family)]
        if not living:
            return multiple()
        chain = self.chains[living[which % len(living)]]
        token = chain[max(0, len(chain) - 1 - age)]
        client = only_session(stored[token.family_id]).client
        assert isinstance(client, ClientContext)
        return self.refresh(token, client, policy, process, tabs)

    @rule(
        token=tokens,
        process=st.integers(0, 1),
        how=st.sampled_from([EndReason.LOGOUT, EndReason.STAFF, EndReason.TOKEN_REVOKED]),
        times=st.integers(1, 2),
    )
    def end_one(self, token: RefreshToken, process: int, how: EndReason, times: int) -> None:
        end = EndSession(token.session_id, how) if how is EndReason.LOGOUT else RevokeFamily(how)
        for _ in range(times):
            self.do(carry_out(self.lanes[process], token.family_id, end))
        assert not is_live(self.stored()[token.family_id])

    @rule(
        token=tokens,
        process=st.integers(0, 1),
        task=st.sampled_from(["rename", "rename", "expire", "sweep", "require", "prove", "prove"]),
        name=st.sampled_from(["a", "b", "🗝️"]),
    )
    def keep_house(self, token: RefreshToken, process: int, task: str, name: str) -> None:
        lanes = self.lanes[process]
        if task == "sweep":
            self.do(sweep_once(self.engine, self.data_keys))
        elif task == "expire":
            self.do(carry_out(lanes, token.family_id, ExpireSessions()))
        elif task == "require":
            self.do(carry_out(lanes, token.family_id, RequireStepUp()))
            family = self.stored()[token.family_id]
            assert not is_live(family) or family.step_up_required_at is not None
        elif task == "prove":
            proof = CompleteStepUp(token.session_id, ["otp"], LAPTOP)
            if self.do(carry_out(lanes, token.family_id, proof)) is None:
                assert self.stored()[token.family_id].step_up_required_at is None
        else:
            renamed = RenameSession(token.session_id, name)
            if self.do(carry_out(lanes, token.family_id, renamed)) is None:
                assert only_session(self.stored()[token.family_id]).device_name == name

    @rule(
        who=st.integers(0, USERS - 1),
        keep=st.none() | tokens,
        how=st.sampled_from(["log out", "change password", "disable"]),
    )
    def end_many(self, who: int, keep: RefreshToken | None, how: str) -> None:
        person, users = self.people[who], self.accounts.users
        kept = keep.family_id if keep is not None else None
        if how == "disable":
            done = self.do(
                users.command(person.user_id, EnableUser(), cause())
                if person.disabled
                else users.disable(person.user_id, cause())
            )
            person.disabled, kept = not person.disabled, None
        elif how == "change password":
            done = self.do(
                users.change_password(person.user_id, person.epoch, "a new hash", kept, cause())
            )
            if person.disabled:
                assert done is Refusal.USER_DISABLED
                return
            person.epoch += 1
        else:
            reason = EndReason.LOGOUT_OTHERS if kept else EndReason.LOGOUT_ALL
            done = self.do(users.end_families(person.user_id, reason, kept, cause()))
        assert not isinstance(done, Refusal)
        self.assert_only_lives(person, kept)

    # ------------------------------------------------------------------------- all at once

    @rule(
        presented=st.lists(st.tuples(tokens, CLIENTS, POLICIES), min_size=2, max_size=8),
        who=st.integers(0, USERS - 1),
        ending=st.sampled_from(["logout", "revoke", "end all", "sweep", "rename", "nothing"]),
        place=st.integers(0, 8),
    )
    def everything_at_once(
        self,
        presented: list[tuple[RefreshToken, ClientContext, SessionPolicy]],
        who: int,
        ending: str,
        place: int,
    ) -> None:
        """Tokens of all ages, from all clients, at both processes, around an ending."""
        token = presented[0][0]
        one, other = self.lanes
        endings: dict[str, Callable[[], Awaitable[object]]] = {
            "logout": lambda: carry_out(
                one, token.family_id, EndSession(token.session_id, EndReason.LOGOUT)
            ),
            "revoke": lambda: carry_out(other, token.family_id, RevokeFamily(EndReason.STAFF)),
            "end all": lambda: self.accounts.users.end_families(
                self.people[who].user_id, EndReason.LOGOUT_ALL, None, cause()
            ),
            "sweep": lambda: sweep_once(self.engine, self.data_keys),
            "rename": lambda: carry_out(
                one, token.family_id, RenameSession(token.session_id, "at once")
            ),
            "nothing": lambda: asyncio.sleep(0),
        }
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda each=each, lanes=lanes: present(  # type: ignore[misc]
                lanes, each[0], client=each[1], policy=each[2]
            )
            for number, each in enumerate(presented)
            for lanes in [self.lanes[number % 2]]
        ]
        calls.insert(place, endings[ending])
        before = self.stored()
        answers = self.do(together(call() for call in calls))
        after = self.stored()

        accepted = [answer for answer in answers if isinstance(answer, RefreshToken)]
        for answer in accepted:
            assert is_live(before[answer.family_id])
            if is_live(after[answer.family_id]):
                assert answer.generation <= only_session(after[answer.family_id]).generation
        if ending in {"logout", "revoke"}:
            assert not is_live(after[token.family_id])
        if ending == "end all":
            self.assert_only_lives(self.people[who], None)

    # ------------------------------------------------------------------------- what always holds

    @invariant()
    def every_row_is_the_fold_of_its_events(self) -> None:
        self.do(assert_rows_are_folds(self.conninfo, self.data_keys, list(self.families)))

    @invariant()
    def what_ended_stays_ended_and_generations_only_rise(self) -> None:
        for family_id, now in self.stored().items():
            was = self.families[family_id]
            assert now.version >= was.version
            assert only_session(now).generation >= only_session(was).generation
            if not is_live(was):
                assert only_session(now).ended_at == only_session(was).ended_at
                assert only_session(now).secret_hash == only_session(was).secret_hash
            self.families[family_id] = now

    def stored(self) -> dict[FamilyId, Family]:
        """The rows of every family so far, as commands would load them."""
        return self.do(self._stored())

    async def _stored(self) -> dict[FamilyId, Family]:
        chosen = [family_id for person in self.people for family_id in person.families]
        async with await connect(self.conninfo) as connection:
            loaded, _ = await load_families(connection, chosen)
        return {family_id: each.family for family_id, each in loaded.items()}

    def assert_only_lives(self, person: Person, kept: FamilyId | None) -> None:
        stored = self.stored()
        alive = {each for each in person.families if is_live(stored[each])}
        assert alive <= {kept}

    def assert_revoked_for_reuse(self, family_id: FamilyId) -> None:
        assert not is_live(self.stored()[family_id])
        log = [recorded.event.TYPE for recorded in self.do(read_family(self.conninfo, family_id))]
        assert log.count("RefreshTokenReused") == 1
        reuse = log.index("RefreshTokenReused")
        assert log[reuse + 1] == "FamilyRevoked"
        assert set(log[reuse + 2 :]) <= {"EndedSessionRefreshRefused"}


async def together(calls: Iterable[Awaitable[_ResultT]]) -> list[_ResultT]:
    return list(await asyncio.gather(*calls))


def only_session(family: Family) -> Session:
    (session,) = family.sessions
    return session


def is_live(family: Family) -> bool:
    return family.is_live


def is_at(family: Family, token: RefreshToken) -> bool:
    """Whether that token is the family's current one."""
    session = only_session(family)
    return (session.generation, session.secret_hash) == (
        token.generation,
        hash_secret(token.secret),
    )


def test_whatever_is_commanded_every_row_is_the_fold_of_its_events(
    conninfo: str, data_keys: DataKeys
) -> None:
    class OnThisDatabase(Store):
        def __init__(self) -> None:
            super().__init__(conninfo, data_keys)

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
        ),
    )
