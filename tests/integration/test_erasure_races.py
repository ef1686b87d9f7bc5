"""Whoever is at work on a person while they are erased brings nothing of them back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from random import Random

import pytest

from domain.alert_decisions import Acknowledge, Comment
from domain.alert_lists import AlertChanges
from domain.detection_work import AlertChange, Stage, StoredState
from domain.events.alerts import AlertRaised
from domain.events.envelope import RecordedEvent
from domain.events.families import EndReason
from domain.events.sign_in_failures import SignInFailuresCounted
from domain.family_decisions import EndSession
from domain.ids import AlertId, CorrelationId, EventId, Stream, UserId, alert_stream
from domain.ports import ConcurrencyError, Executed, StoreUnavailableError
from domain.refresh_token import RefreshToken
from domain.refusals import Refusal
from infra.alert_commands import PostgresAlertCommands
from infra.alert_feed import AlertFeed
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_reactions import Reactions
from infra.detector_states import DetectorStates
from infra.detector_work import DetectorWork, Workbench
from infra.event_store import load_families, update_families
from infra.family_execution import carry_out as decided
from infra.ids import new_uuid
from infra.postgres import Connection, create_engine, transaction
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys, MasterKeys
from infra.sign_in_failures import SignInFailureCounter
from infra.tail import read_stream
from tests.alerts import by_staff, raise_alert, raised
from tests.integration.accounts import (
    LAPTOP,
    Accounts,
    SignedIn,
    at_work,
    carry_out,
    cause,
    present,
    refresh,
    start_session,
)
from tests.integration.detecting import all_judged, detecting, eventually
from tests.integration.erasures import half_erased, someone_waits
from tests.integration.projection_world import World, open_world
from tests.integration.test_erasure import left_of

PROFILE, STRANGE = 1, 99


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


async def with_an_alert(world: World) -> tuple[SignedIn, AlertId]:
    """Somebody who is signed in, and an alert about them."""
    session = await world.accounts.sign_in(device_name="my laptop")
    alert = await raise_alert(world.engine, world.data_keys, raised(user_id=session.user.user_id))
    return session, alert.alert_id


def work_in(world: World, connection: Connection) -> DetectorWork:
    """A batch of the detector."""
    policies = DetectionPolicyStore(world.engine, world.data_keys)
    reactions = Reactions(world.data_keys, world.accounts.users, policies, {}, lambda *_: True)
    return Workbench(policies, reactions, world.data_keys).begin(connection, Stage.USERS, [])


def change_about(session: SignedIn) -> AlertChange:
    """What a rule has to say about somebody."""
    new = raised(user_id=session.user.user_id)
    assert isinstance(new.event, AlertRaised)
    return AlertChange(
        alert_id=AlertId(new_uuid()),
        subject_id=session.user.user_id,
        actor=new.event.rule,
        events=[(new.event, new.personal)],
        causation_id=EventId(new_uuid()),
        correlation_id=CorrelationId(new_uuid()),
    )


async def events_of_alert(world: World, alert_id: AlertId) -> list[RecordedEvent]:
    async with transaction(world.engine) as connection:
        return await read_stream(connection, alert_stream(alert_id))


# --------------------------------------------------------------------------- sessions


async def test_a_sign_in_that_comes_second_is_refused(world: World) -> None:
    session, _ = await with_an_alert(world)
    users, user_id = world.accounts.users, session.user.user_id

    async with half_erased(world.accounts, session.user, world.owner_conninfo):
        signing_in = asyncio.ensure_future(users.open_session(0, *start_session(user_id)))
        await someone_waits(world.owner_conninfo, 2)

    assert await signing_in is Refusal.SUBJECT_ERASED
    assert left_of(world, session.user) == 0


async def test_a_refresh_that_was_decided_before_is_decided_again(world: World) -> None:
    session, _ = await with_an_alert(world)

    async with at_work(RefreshLanes(world.conninfo, world.data_keys)) as lanes:
        async with half_erased(world.accounts, session.user, world.owner_conninfo):
            refreshing = asyncio.ensure_future(present(lanes, session.token))
            answered, _ = await asyncio.wait([refreshing], timeout=0.2)
        answer = await refreshing

    assert answered == set()  # the rows are held: it passes them over, and tries again
    assert answer is Refusal.SESSION_ENDED
    assert left_of(world, session.user) == 0


async def test_what_was_decided_on_an_ended_session_is_not_written_over_it(world: World) -> None:
    """An erasure ends no ended family: its version stays, and would let an old decision pass."""
    session = await world.accounts.sign_in(device_name="my laptop")
    async with at_work(RefreshLanes(world.conninfo, world.data_keys)) as lanes:
        await carry_out(lanes, session.family_id, EndSession(session.session_id, EndReason.LOGOUT))
    async with transaction(world.engine) as connection:
        loaded, clock = await load_families(connection, [session.family_id])
        _, append = decided(
            loaded[session.family_id],
            [(refresh(session.token), cause())],
            clock,
            world.data_keys,
        )
    assert append is not None

    await world.accounts.erase(session.user)
    async with transaction(world.engine) as connection:
        accepted = await update_families(connection, [append])

    assert accepted == set()
    assert left_of(world, session.user) == 0
    assert await world.verify() == []


# ----------------------------------------------------------------------------- alerts


async def test_an_alert_that_is_raised_first_is_cleared(world: World) -> None:
    session, _ = await with_an_alert(world)
    change = change_about(session)

    async with transaction(world.engine) as connection:
        await work_in(world, connection).put_alerts([change])
        erasing = asyncio.ensure_future(world.accounts.erase(session.user))
        await someone_waits(world.owner_conninfo)
    erased = await erasing

    assert erased.rows["alerts"] == 2
    assert left_of(world, session.user) == 0
    assert await world.verify() == []


async def test_an_alert_that_is_raised_second_holds_nothing_personal(world: World) -> None:
    session, _ = await with_an_alert(world)
    change = change_about(session)

    async def put() -> None:
        async with transaction(world.engine) as connection:
            await work_in(world, connection).put_alerts([change])

    async with half_erased(world.accounts, session.user, world.owner_conninfo):
        putting = asyncio.ensure_future(put())
        await someone_waits(world.owner_conninfo, 2)
    await putting

    (event,) = await events_of_alert(world, change.alert_id)
    assert event.personal is None
    assert left_of(world, session.user) == 0
    assert await world.verify() == []


async def test_a_comment_that_comes_second_is_refused(world: World) -> None:
    session, alert_id = await with_an_alert(world)
    analysts = PostgresAlertCommands(world.engine, world.data_keys)
    by = by_staff(new_uuid())

    async with half_erased(world.accounts, session.user, world.owner_conninfo):
        commenting = asyncio.ensure_future(analysts.command(alert_id, Comment("she rang"), by))
        await someone_waits(world.owner_conninfo, 2)

    assert await commenting is Refusal.SUBJECT_ERASED
    assert not isinstance(await analysts.command(alert_id, Acknowledge(), by), Refusal)
    assert await world.verify() == []


async def moved_on(feed: AlertFeed, start: str, seen: str) -> AlertChanges | None:
    """What is told to who begins at a place, once the feed has read on."""
    changes = await feed.after(start, 0)
    return None if changes.cursor == seen else changes


async def test_a_stream_of_alerts_forgets_what_it_kept(world: World) -> None:
    session, alert_id = await with_an_alert(world)
    feed = AlertFeed(world.engine)
    running = asyncio.create_task(feed.run())
    try:
        with feed.listening():
            start, _ = await feed.place(None)
            await feed.after(start, 1)
            analysts = PostgresAlertCommands(world.engine, world.data_keys)
            await analysts.command(alert_id, Acknowledge(), by_staff(new_uuid()))
            before = await feed.after(start, 10)
            await world.accounts.erase(session.user)
            after = await eventually(lambda: moved_on(feed, start, before.cursor), "it is read")
    finally:
        running.cancel()

    assert after is not None
    assert [change.alert.client is None for change in before.changes] == [False]
    assert [change.alert.client for change in after.changes] == [None]
    assert [change.alert.fact_texts for change in after.changes] == [None]


# --------------------------------------------------------------------------- detector


@pytest.mark.parametrize("known", [False, True], ids=["new", "known before"])
async def test_what_the_detector_writes_back_goes_when_it_reads_of_the_erasure(
    world: World, masters: MasterKeys, *, known: bool
) -> None:
    session = await world.accounts.sign_in()
    state = StoredState((STRANGE, "its key"), session.user.user_id, b"where they were")
    profile = StoredState((PROFILE, session.user.user_id), session.user.user_id, b"their habits")
    if known:
        async with transaction(world.engine) as connection:
            await DetectorStates(connection).save([profile])

    async with transaction(world.engine) as connection:
        await DetectorStates(connection).save([profile, state])
        await world.accounts.erase(session.user)  # waits for no detector
    written = world.sql("SELECT key FROM detector_states WHERE subject_id IS NOT NULL")
    world.sql("DELETE FROM detector_states WHERE scope = %s", STRANGE)
    async with detecting(world.conninfo, masters):
        await all_judged(world.conninfo)

    assert len(written) == 2
    assert left_of(world, session.user) == 0


async def test_the_crowd_forgets_whom_it_counted(world: World, masters: MasterKeys) -> None:
    ada, bob = await world.accounts.sign_in(), await world.accounts.sign_in()
    counter = SignInFailureCounter(world.engine, world.data_keys, b"k" * 32)
    for session in (ada, bob):
        counter.note("192.0.2.0/24", session.user.user_id, limited=False)
    await counter.flush()
    naming = (
        "SELECT scope FROM detector_states"
        " WHERE position(convert_to(%s, 'UTF8') IN state) > 0 OR key = %s ORDER BY scope"
    )
    async with detecting(world.conninfo, masters):
        await all_judged(world.conninfo)
        before = world.sql(naming, ada.user.user_id, ada.user.user_id)
        of_bob = world.sql(naming, bob.user.user_id, bob.user.user_id)
        await world.accounts.erase(ada.user)
        await all_judged(world.conninfo)

    assert {row[0] for row in before} >= {1, 2, 3, 4, 5}
    assert world.sql(naming, ada.user.user_id, ada.user.user_id) == []
    assert world.sql(naming, bob.user.user_id, bob.user.user_id) == of_bob


async def test_the_detector_keeps_no_network_in_clear_but_under_a_user(
    world: World, masters: MasterKeys
) -> None:
    session = await world.accounts.sign_in()
    counter = SignInFailureCounter(world.engine, world.data_keys, b"k" * 32)
    counter.note("192.0.2.0/24", session.user.user_id, limited=False)
    await counter.flush()
    async with detecting(world.conninfo, masters):
        await all_judged(world.conninfo)

    shared = world.sql("SELECT key, state FROM detector_states WHERE subject_id IS NULL")
    assert len(shared) >= 10
    for key, state in shared:
        assert isinstance(state, bytes)
        assert "203.0.113" not in str(key)
        assert "192.0.2" not in str(key)
        assert b"203.0.113" not in state
        assert b"192.0.2" not in state


async def test_failures_are_counted_and_the_erased_not_named(world: World) -> None:
    ada, bob = await world.accounts.user(), await world.accounts.user()
    counter = SignInFailureCounter(world.engine, world.data_keys, b"k" * 32)
    for user in (ada, bob, ada):
        counter.note("192.0.2.0/24", user.user_id, limited=False)

    await world.accounts.erase(ada)
    await counter.flush()

    (stream,) = world.sql("SELECT stream FROM events WHERE type = 'SignInFailuresCounted'")
    async with transaction(world.engine) as connection:
        (event,) = await read_stream(connection, Stream(str(stream[0])))
    counted = event.event
    assert isinstance(counted, SignInFailuresCounted)
    assert (counted.failures, counted.accounts_omitted) == (3, 1)
    assert [account.user_id for account in counted.accounts] == [bob.user_id]


# ------------------------------------------------------------------- all of it at once


async def came_to(rounds: Counter[UserId], total: int) -> bool:
    return rounds.total() >= total


async def test_everything_at_once(world: World, masters: MasterKeys) -> None:
    """Sign-ins, refreshes, alerts, comments, failures, while one after another is erased."""
    dice = Random(4)
    doomed = [await with_an_alert(world) for _ in range(12)]
    spared, _ = await with_an_alert(world)
    spared_before = world.sql("SELECT u::text FROM users u WHERE user_id = %s", spared.user.user_id)
    faults: list[BaseException] = []
    rounds, over = Counter[UserId](), asyncio.Event()
    engine = create_engine(world.conninfo, max_connections=12, wait_s=20)
    accounts, data_keys = Accounts(engine, world.data_keys), world.data_keys
    analysts = PostgresAlertCommands(engine, data_keys)
    counter = SignInFailureCounter(engine, data_keys, b"k" * 32)

    async def going_on(lanes: RefreshLanes) -> None:
        tokens: dict[UserId, RefreshToken] = {}
        while not over.is_set():
            session, alert_id = dice.choice(doomed)
            user = session.user
            try:
                opened = await accounts.users.open_session(
                    0, *start_session(user.user_id, device_name="my laptop")
                )
                assert isinstance(opened, Executed) or opened is Refusal.SUBJECT_ERASED
                token = tokens.get(user.user_id, session.token)
                answer = await present(lanes, token, client=LAPTOP)
                if isinstance(answer, RefreshToken):
                    tokens[user.user_id] = answer
                await analysts.command(alert_id, Comment("she rang"), by_staff(new_uuid()))
                async with transaction(engine) as connection:
                    await work_in(world, connection).put_alerts([change_about(session)])
                counter.note("192.0.2.0/24", user.user_id, limited=False)
                await counter.flush()
                rounds[user.user_id] += 1
            except (ConcurrencyError, StoreUnavailableError, AssertionError) as fault:
                faults.append(fault)

    async with (
        detecting(world.conninfo, masters),
        at_work(RefreshLanes(world.conninfo, data_keys)) as lanes,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(5):
            tasks.create_task(going_on(lanes))
        for session, _ in doomed:
            seen = rounds.total()
            await eventually(partial(came_to, rounds, seen + 3), "they are at it")
            await world.accounts.erase(session.user)
        over.set()
    async with detecting(world.conninfo, masters):
        await all_judged(world.conninfo)
    await engine.dispose()

    assert faults == []
    assert [left_of(world, session.user) for session, _ in doomed] == [0] * len(doomed)
    assert await world.verify() == []
    assert left_of(world, spared.user) > 0
    assert spared_before == world.sql(
        "SELECT u::text FROM users u WHERE user_id = %s", spared.user.user_id
    )
