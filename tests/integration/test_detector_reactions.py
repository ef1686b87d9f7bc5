"""What rules ask for, carried out in one transaction: locks, causes and the circuit breaker."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from detector.breaker import Breaker
from domain.detection import Outcome, Response
from domain.detection_work import Reacted, Reaction
from domain.events.detection_policies import RuleHeldBack
from domain.events.envelope import RecordedEvent
from domain.events.families import EndReason
from domain.ids import (
    DETECTION_POLICY_STREAM,
    CorrelationId,
    EventId,
    FamilyId,
    family_stream,
)
from domain.policy import SessionPolicy
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_reactions import Reactions
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.tail import read_stream
from tests.integration.accounts import Accounts, SignedIn, cause

RULE = "device-change"
MANY = SessionPolicy(session_limit=100)


class World:
    """Accounts, and reactions on them."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        self.engine = engine
        self.accounts = Accounts(engine, data_keys)
        policies = DetectionPolicyStore(engine, data_keys)
        self.reactions = Reactions(
            data_keys, self.accounts.users, policies, {RULE: {}}, Breaker().allows
        )

    async def sessions(self, count: int) -> list[SignedIn]:
        """So many sessions of one user."""
        user = await self.accounts.user()
        return [await self.accounts.sign_in(user, policy=MANY) for _ in range(count)]

    async def react(self, *reactions: Reaction) -> list[Reacted]:
        async with transaction(self.engine) as connection:
            return await self.reactions.carry_out(connection, reactions)

    async def events(self, family_id: FamilyId) -> list[RecordedEvent]:
        async with transaction(self.engine) as connection:
            return await read_stream(connection, family_stream(family_id))

    async def types(self, sessions: Sequence[SignedIn]) -> list[list[str]]:
        """What happened to each after its sign-in."""
        return [
            [event.event.TYPE for event in (await self.events(each.family_id))[1:]]
            for each in sessions
        ]

    async def held_back(self) -> list[RuleHeldBack]:
        async with transaction(self.engine) as connection:
            events = await read_stream(connection, DETECTION_POLICY_STREAM)
        return [each.event for each in events if isinstance(each.event, RuleHeldBack)]


@pytest.fixture
def world(engine: AsyncEngine, data_keys: DataKeys) -> World:
    return World(engine, data_keys)


def asked(session: SignedIn, response: Response, rule: str = RULE) -> Reaction:
    return Reaction(
        rule=rule,
        response=response,
        user_id=session.user.user_id,
        family_id=session.family_id,
        causation_id=EventId(new_uuid()),
        correlation_id=CorrelationId(new_uuid()),
    )


@pytest.mark.parametrize(
    ("response", "happened"),
    [
        (Response.STEP_UP, "StepUpRequired"),
        (Response.REVOKE_SESSION, "SessionEnded"),
        (Response.REVOKE_FAMILY, "FamilyRevoked"),
    ],
)
async def test_a_family_is_dealt_with_in_the_rules_name(
    world: World, response: Response, happened: str
) -> None:
    session, untouched = await world.sessions(2)
    reaction = asked(session, response)

    outcomes = await world.react(reaction)

    assert outcomes == [Reacted(Outcome.DONE, 1)]
    _, event = await world.events(session.family_id)
    assert happened == event.event.TYPE
    assert str(event.cause.actor) == f"rule:{RULE}"
    assert event.cause.causation_id == reaction.causation_id
    assert event.cause.correlation_id == reaction.correlation_id
    assert await world.types([untouched]) == [[]]


async def test_revoking_all_ends_every_family_of_the_user_and_nobody_elses(world: World) -> None:
    sessions, others = await world.sessions(3), await world.sessions(2)

    outcomes = await world.react(asked(sessions[0], Response.REVOKE_ALL))

    assert outcomes == [Reacted(Outcome.DONE, 3)]
    assert await world.types(sessions) == [["FamilyRevoked"]] * 3
    assert await world.types(others) == [[]] * 2


async def test_of_several_reactions_in_one_batch_the_later_find_nothing_left(world: World) -> None:
    sessions = await world.sessions(2)

    outcomes = await world.react(
        asked(sessions[0], Response.STEP_UP),
        asked(sessions[0], Response.REVOKE_FAMILY),
        asked(sessions[0], Response.REVOKE_ALL),
        asked(sessions[1], Response.REVOKE_FAMILY),
        asked(sessions[1], Response.STEP_UP),
    )

    assert outcomes == [
        Reacted(Outcome.DONE, 1),
        Reacted(Outcome.DONE, 1),
        Reacted(Outcome.DONE, 1),
        Reacted(Outcome.NOTHING_LEFT, 0),
        Reacted(Outcome.NOTHING_LEFT, 0),
    ]
    assert await world.types(sessions) == [["StepUpRequired", "FamilyRevoked"], ["FamilyRevoked"]]


async def test_a_family_that_does_not_exist_is_nothing_left(world: World) -> None:
    (session,) = await world.sessions(1)
    stranger = SignedIn(FamilyId(new_uuid()), session.user, session.token)

    outcomes = await world.react(asked(stranger, Response.REVOKE_FAMILY))

    assert outcomes == [Reacted(Outcome.NOTHING_LEFT, 0)]


async def test_nothing_can_be_done_to_the_families_of_an_erased_user(world: World) -> None:
    sessions, others = await world.sessions(2), await world.sessions(1)
    await world.accounts.erase(sessions[0].user)

    outcomes = await world.react(
        asked(sessions[0], Response.REVOKE_FAMILY),
        asked(sessions[1], Response.REVOKE_ALL),
        asked(others[0], Response.REVOKE_FAMILY),
    )

    nothing = Reacted(Outcome.NOTHING_LEFT, 0)
    assert outcomes == [nothing, nothing, Reacted(Outcome.DONE, 1)]


async def test_a_rule_that_ends_too_many_families_is_held_back_and_says_so_once(
    world: World,
) -> None:
    sessions = await world.sessions(24)

    first = await world.react(*[asked(each, Response.REVOKE_FAMILY) for each in sessions[:15]])
    then = await world.react(*[asked(each, Response.REVOKE_FAMILY) for each in sessions[15:23]])
    other = await world.react(asked(sessions[23], Response.REVOKE_FAMILY, rule="another"))

    done = [each.outcome for each in [*first, *then]]
    assert done == [Outcome.DONE] * 20 + [Outcome.HELD_BACK] * 3
    assert [(each.rule, each.families) for each in await world.held_back()] == [(RULE, 20)]
    assert [each.outcome for each in other] == [Outcome.DONE]
    assert await world.types(sessions[20:23]) == [[]] * 3


async def test_step_up_is_never_held_back(world: World) -> None:
    sessions = await world.sessions(25)

    outcomes = await world.react(*[asked(each, Response.STEP_UP) for each in sessions])

    assert [each.outcome for each in outcomes] == [Outcome.DONE] * 25


async def test_what_a_user_would_lose_counts_whole(world: World) -> None:
    sessions = await world.sessions(21)

    outcomes = await world.react(asked(sessions[0], Response.REVOKE_ALL))

    assert outcomes == [Reacted(Outcome.HELD_BACK, 0)]
    assert await world.types(sessions[:1]) == [[]]


async def test_batches_that_act_on_the_same_people_do_not_wait_for_each_other_in_a_circle(
    world: World,
) -> None:
    ours, theirs = await world.sessions(3), await world.sessions(3)

    for one, other in ((ours, theirs), (theirs, ours)):
        async with asyncio.timeout(20):
            await asyncio.gather(
                world.react(asked(one[0], Response.REVOKE_ALL), asked(other[1], Response.STEP_UP)),
                world.react(asked(other[0], Response.REVOKE_ALL), asked(one[1], Response.STEP_UP)),
                world.accounts.users.end_families(
                    one[0].user.user_id, EndReason.LOGOUT_ALL, None, cause()
                ),
            )

    assert all(kinds[-1] == "FamilyRevoked" for kinds in await world.types([*ours, *theirs]))
