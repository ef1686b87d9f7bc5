"""The refresh lanes: many commands a commit, each answered for itself, on a real PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.families import EndReason
from domain.family_decisions import (
    EndSession,
    Reauthenticate,
    RenameSession,
    RequireStepUp,
    RevokeFamily,
)
from domain.ids import FamilyId, SessionId
from domain.ports import Executed, StoreUnavailableError
from domain.refresh_token import RefreshToken, hash_secret
from domain.refusals import Refusal
from infra.family_execution import command_held_families, hold_families
from infra.ids import new_uuid
from infra.postgres import connect
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from tests.equivalence import assert_rows_are_folds, read_family
from tests.integration.accounts import (
    PHONE,
    Accounts,
    at_work,
    carry_out,
    cause,
    itself,
    present,
    refresh,
)


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


@pytest.fixture
async def lanes(conninfo: str, data_keys: DataKeys) -> AsyncIterator[RefreshLanes]:
    async with at_work(RefreshLanes(conninfo, data_keys)) as working:
        yield working


async def happened(conninfo: str, family_id: FamilyId) -> list[str]:
    return [recorded.event.TYPE for recorded in await read_family(conninfo, family_id)]


def rotated(answer: RefreshToken | Refusal) -> RefreshToken:
    assert isinstance(answer, RefreshToken), answer
    return answer


# ----------------------------------------------------------------------------- batches


async def test_tabs_that_refresh_at_once_get_one_successor(
    accounts: Accounts, lanes: RefreshLanes, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    answers = await asyncio.gather(*(present(lanes, session.token) for _ in range(50)))

    assert {rotated(answer) for answer in answers} == {rotated(answers[0])}
    log = await happened(conninfo, session.family_id)
    assert log == ["SessionStarted", "RefreshTokenRotated"] + ["RefreshRetried"] * 49
    await assert_rows_are_folds(conninfo, data_keys)


async def test_commands_on_one_family_are_decided_one_after_the_other(
    accounts: Accounts, lanes: RefreshLanes, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()
    end = EndSession(session.session_id, EndReason.LOGOUT)
    name = RenameSession(session.session_id, "kitchen tablet")

    first, named, ended, again, late = await asyncio.gather(
        present(lanes, session.token),
        carry_out(lanes, session.family_id, name),
        carry_out(lanes, session.family_id, end),
        carry_out(lanes, session.family_id, end),
        present(lanes, session.token),
    )

    assert isinstance(first, RefreshToken)
    assert (named, ended) == (None, None)
    assert (again, late) == (Refusal.SESSION_ENDED, Refusal.SESSION_ENDED)
    assert await happened(conninfo, session.family_id) == [
        "SessionStarted",
        "RefreshTokenRotated",
        "SessionRenamed",
        "SessionEnded",
        "EndedSessionRefreshRefused",
    ]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_families_that_refresh_at_once_share_commits(
    accounts: Accounts, lanes: RefreshLanes, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    sessions = [await accounts.sign_in(user) for _ in range(60)]

    answers = await asyncio.gather(*(present(lanes, session.token) for session in sessions))

    assert all(isinstance(answer, RefreshToken) for answer in answers)
    commits: set[int] = set()
    for session in sessions:
        _, rotation = await read_family(conninfo, session.family_id)
        commits.add(rotation.transaction_id)
    assert len(commits) <= 10
    await assert_rows_are_folds(conninfo, data_keys)


async def test_families_that_went_together_are_waited_for(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    user = await accounts.user()
    sessions = [await accounts.sign_in(user) for _ in range(8)]
    async with at_work(RefreshLanes(conninfo, data_keys, gather_for_s=60)) as lanes:
        first = await asyncio.gather(*(present(lanes, session.token) for session in sessions))
        again = []

        for token in first:
            again.append(asyncio.create_task(present(lanes, rotated(token))))
            await asyncio.sleep(0)  # one comes after the other, not all in one turn of the loop
        await asyncio.gather(*again)

    commits = {
        (await read_family(conninfo, session.family_id))[-1].transaction_id for session in sessions
    }
    assert len(commits) == 1


async def test_a_batch_that_stays_small_is_not_held_back_for_long(
    accounts: Accounts, lanes: RefreshLanes
) -> None:
    user = await accounts.user()
    crowd = [await accounts.sign_in(user) for _ in range(30)]
    await asyncio.gather(*(present(lanes, session.token) for session in crowd))
    alone = await accounts.sign_in(user)

    async with asyncio.timeout(10):
        answer = await present(lanes, alone.token)

    assert isinstance(answer, RefreshToken)


async def test_each_of_a_batch_is_accepted_or_refused_by_itself(
    accounts: Accounts, lanes: RefreshLanes, conninfo: str, data_keys: DataKeys
) -> None:
    honest, stolen, ended = [await accounts.sign_in() for _ in range(3)]
    await present(lanes, stolen.token)
    await carry_out(lanes, ended.family_id, EndSession(ended.session_id, EndReason.LOGOUT))
    unknown = RefreshToken(1, FamilyId(new_uuid()), honest.token.session_id, 1, honest.token.secret)

    accepted, *refused = await asyncio.gather(
        present(lanes, honest.token),
        present(lanes, stolen.token, client=PHONE),
        present(lanes, ended.token),
        present(lanes, unknown),
    )

    assert isinstance(accepted, RefreshToken)
    assert refused == [Refusal.TOKEN_REUSED, Refusal.SESSION_ENDED, Refusal.UNKNOWN_SESSION]
    assert (await happened(conninfo, stolen.family_id))[-2:] == [
        "RefreshTokenReused",
        "FamilyRevoked",
    ]
    assert await happened(conninfo, unknown.family_id) == []
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_command_that_cannot_be_written_takes_no_other_with_it(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    sessions = [await accounts.sign_in() for _ in range(6)]
    unwritable = RenameSession(sessions[3].session_id, "PostgreSQL has no \x00 in its text")

    async with at_work(RefreshLanes(conninfo, data_keys, lanes=1)) as lanes:
        *answers, refused = await asyncio.gather(
            *(present(lanes, session.token) for session in sessions),
            carry_out(lanes, sessions[3].family_id, unwritable),
            return_exceptions=True,
        )

    assert isinstance(refused, psycopg.DataError)
    assert all(isinstance(answer, RefreshToken) for answer in answers)
    for session in sessions:
        log = await happened(conninfo, session.family_id)
        assert log == ["SessionStarted", "RefreshTokenRotated"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_an_answer_that_cannot_be_made_fails_its_caller_alone(
    accounts: Accounts, lanes: RefreshLanes, conninfo: str
) -> None:
    session, other = await accounts.sign_in(), await accounts.sign_in()

    def fails(_: Executed) -> Executed:
        msg = "no answer can be made of this"
        raise LookupError(msg)

    failed, answered = await asyncio.gather(
        lanes.execute(session.family_id, refresh(session.token), cause(), fails),
        present(lanes, other.token),
        return_exceptions=True,
    )

    assert isinstance(failed, LookupError)
    assert isinstance(answered, RefreshToken)
    assert isinstance(await present(lanes, session.token), RefreshToken)  # a retry recovers
    assert await happened(conninfo, session.family_id) == [
        "SessionStarted",
        "RefreshTokenRotated",
        "RefreshRetried",
    ]


async def test_a_caller_who_gives_up_takes_no_other_with_them(
    accounts: Accounts, lanes: RefreshLanes
) -> None:
    session, other = await accounts.sign_in(), await accounts.sign_in()

    gone = asyncio.create_task(present(lanes, session.token))
    staying = asyncio.create_task(present(lanes, other.token))
    await asyncio.sleep(0)
    gone.cancel()

    assert isinstance(await staying, RefreshToken)
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert isinstance(await present(lanes, session.token), RefreshToken)


# ----------------------------------------------------------------------------- other writers


async def test_lanes_of_several_processes_agree_on_one_successor(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    async with contextlib.AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(at_work(RefreshLanes(conninfo, data_keys)))
            for _ in range(4)
        ]
        answers = await asyncio.gather(
            *(present(process, session.token) for process in processes for _ in range(10))
        )

    assert {rotated(answer) for answer in answers} == {rotated(answers[0])}
    log = await happened(conninfo, session.family_id)
    assert log.count("RefreshTokenRotated") == 1
    assert log.count("RefreshRetried") == 39
    await assert_rows_are_folds(conninfo, data_keys)


async def test_no_copy_of_a_token_is_exchanged_between_the_proof_and_its_owners_refresh(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()
    proof = Reauthenticate(refresh(session.token), ["pwd"])

    async with (
        at_work(RefreshLanes(conninfo, data_keys)) as lanes,
        at_work(RefreshLanes(conninfo, data_keys)) as other,
    ):
        await carry_out(lanes, session.family_id, RequireStepUp())
        thief = [present(each, session.token, client=PHONE) for each in (lanes, other) * 10]
        of_the_owner, of_the_thief = await asyncio.gather(
            lanes.execute(session.family_id, proof, cause(), itself), asyncio.gather(*thief)
        )

    assert of_the_owner.decision.refusal is None
    assert set(of_the_thief) <= {
        Refusal.STEP_UP_REQUIRED,
        Refusal.TOKEN_REUSED,
        Refusal.SESSION_ENDED,
    }
    log = await happened(conninfo, session.family_id)
    assert log[:4] == ["SessionStarted", "StepUpRequired", "StepUpCompleted", "RefreshTokenRotated"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_family_that_keeps_moving_is_decided_again_on_what_is_there(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    async def keep_renaming(lanes: RefreshLanes) -> None:
        for number in range(30):
            name = RenameSession(session.session_id, f"name {number}")
            await carry_out(lanes, session.family_id, name)

    token = session.token
    async with (
        at_work(RefreshLanes(conninfo, data_keys)) as one,
        at_work(RefreshLanes(conninfo, data_keys)) as other,
    ):
        renaming = asyncio.create_task(keep_renaming(other))
        for _ in range(30):
            token = rotated(await present(one, token))
        await renaming

    log = await happened(conninfo, session.family_id)
    assert token.generation == 31
    assert (log.count("RefreshTokenRotated"), log.count("SessionRenamed")) == (30, 30)
    await assert_rows_are_folds(conninfo, data_keys)


# ----------------------------------------------------------------------------- a slow database


async def test_a_caller_is_told_in_time_and_what_was_under_way_is_what_a_retry_gets(
    accounts: Accounts, conninfo: str, owner_conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    async with at_work(RefreshLanes(conninfo, data_keys, answer_within_s=0.5)) as lanes:
        async with stuck_log(owner_conninfo):
            began = asyncio.get_running_loop().time()
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                await present(lanes, session.token)
            waited = asyncio.get_running_loop().time() - began
            with pytest.raises(StoreUnavailableError):
                await present(lanes, session.token)  # the retry finds the same
        answer = await present(lanes, session.token)

    assert 0.5 <= waited < 5
    log = await happened(conninfo, session.family_id)
    assert log == ["SessionStarted", "RefreshTokenRotated", "RefreshRetried"]
    assert await is_current(conninfo, rotated(answer))
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_family_that_is_held_elsewhere_is_decided_on_what_its_holder_leaves(
    accounts: Accounts, lanes: RefreshLanes, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    async with await connect(conninfo) as other, other.transaction():
        await hold_families(other, [session.family_id])
        waiting = asyncio.create_task(present(lanes, session.token))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        revoke = RevokeFamily(EndReason.STAFF)
        await command_held_families(other, [session.family_id], revoke, cause(), data_keys)
    answer = await waiting

    assert answer is Refusal.SESSION_ENDED
    assert await happened(conninfo, session.family_id) == [
        "SessionStarted",
        "FamilyRevoked",
        "EndedSessionRefreshRefused",
    ]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_a_family_that_is_held_elsewhere_holds_no_other_family_up(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    stuck, *others = [await accounts.sign_in() for _ in range(4)]

    async with at_work(RefreshLanes(conninfo, data_keys, lanes=1, answer_within_s=2)) as lanes:
        async with await connect(conninfo) as other, other.transaction():
            await hold_families(other, [stuck.family_id])
            waiting = asyncio.create_task(present(lanes, stuck.token))
            tokens = [session.token for session in others]
            for _ in range(5):
                answers = await asyncio.gather(*(present(lanes, token) for token in tokens))
                tokens = [rotated(answer) for answer in answers]
            assert not waiting.done()
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                await waiting
        answer = await present(lanes, stuck.token)

    assert rotated(answer).generation == 2
    log = await happened(conninfo, stuck.family_id)
    assert log == ["SessionStarted", "RefreshTokenRotated"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_more_callers_than_may_wait_are_turned_away_at_once(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    async with at_work(RefreshLanes(conninfo, data_keys, lanes=1, max_waiting=5)) as lanes:
        answers = await asyncio.gather(
            *(present(lanes, session.token) for _ in range(20)), return_exceptions=True
        )

    turned_away = [answer for answer in answers if isinstance(answer, StoreUnavailableError)]
    assert len(turned_away) == 15
    assert all("too many commands" in str(error) for error in turned_away)
    assert len({answer for answer in answers if isinstance(answer, RefreshToken)}) == 1


# ----------------------------------------------------------------------------- lost connections


async def test_a_connection_lost_while_idle_costs_nobody_an_answer(
    accounts: Accounts, lanes: RefreshLanes, owner_conninfo: str, conninfo: str
) -> None:
    sessions = [await accounts.sign_in() for _ in range(8)]
    tokens = await asyncio.gather(*(present(lanes, session.token) for session in sessions))

    cut_connections(owner_conninfo)
    answers = await asyncio.gather(*(present(lanes, rotated(token)) for token in tokens))

    assert all(isinstance(answer, RefreshToken) for answer in answers)
    assert await happened(conninfo, sessions[0].family_id) == [
        "SessionStarted",
        "RefreshTokenRotated",
        "RefreshTokenRotated",
    ]


async def test_a_connection_lost_in_the_middle_is_told_and_a_retry_recovers(
    accounts: Accounts,
    lanes: RefreshLanes,
    owner_conninfo: str,
    conninfo: str,
    data_keys: DataKeys,
) -> None:
    session = await accounts.sign_in()

    async with stuck_log(owner_conninfo):
        waiting = asyncio.create_task(present(lanes, session.token))
        await somebody_waits(conninfo)
        cut_connections(owner_conninfo)
        with pytest.raises(StoreUnavailableError):
            await waiting
    answer = await present(lanes, session.token)

    assert await is_current(conninfo, rotated(answer))
    assert await happened(conninfo, session.family_id) == ["SessionStarted", "RefreshTokenRotated"]
    await assert_rows_are_folds(conninfo, data_keys)


async def test_without_a_database_callers_are_told_so_at_once(data_keys: DataKeys) -> None:
    nowhere = "host=/nonexistent dbname=sessiontrail"
    token = RefreshToken(1, FamilyId(new_uuid()), SessionId(new_uuid()), 1, bytes(32))

    async with at_work(RefreshLanes(nowhere, data_keys)) as lanes:
        with pytest.raises(StoreUnavailableError):
            await asyncio.wait_for(present(lanes, token), 10)


async def test_callers_who_wait_when_the_lanes_stop_are_told_so(
    accounts: Accounts, conninfo: str, owner_conninfo: str, data_keys: DataKeys
) -> None:
    session = await accounts.sign_in()

    async with stuck_log(owner_conninfo):
        async with at_work(RefreshLanes(conninfo, data_keys, lanes=1)) as lanes:
            under_way = asyncio.create_task(present(lanes, session.token))
            await somebody_waits(conninfo)
            behind = asyncio.create_task(present(lanes, session.token))
            await asyncio.sleep(0)
        for caller in (under_way, behind):
            with pytest.raises(StoreUnavailableError, match="stopping"):
                await caller

    assert await happened(conninfo, session.family_id) == ["SessionStarted"]
    await assert_rows_are_folds(conninfo, data_keys)


@asynccontextmanager
async def stuck_log(owner_conninfo: str) -> AsyncIterator[None]:
    """Nothing can be appended for as long as the block lasts; what tries waits."""
    async with await connect(owner_conninfo) as owner, owner.transaction():
        await owner.execute("LOCK TABLE events IN SHARE MODE")
        yield


async def somebody_waits(conninfo: str) -> None:
    """Wait until a backend of this database waits for a lock."""
    deadline = asyncio.get_running_loop().time() + 10
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with await connect(conninfo) as looking:
        while True:
            cursor = await looking.execute(query)
            if await cursor.fetchone() != (0,):
                return
            assert asyncio.get_running_loop().time() < deadline, "nobody waits"
            await asyncio.sleep(0.005)


def cut_connections(owner_conninfo: str) -> None:
    """Cut the lanes' connections, as a failover does; waits until they are gone."""
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        cut = owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND query LIKE '%jsonb_to_recordset%'"
        ).fetchall()
    assert cut
    assert all(gone for (gone,) in cut)


async def is_current(conninfo: str, token: RefreshToken) -> bool:
    """Whether it is the token that its session's row stands at."""
    async with await connect(conninfo) as looking:
        cursor = await looking.execute(
            "SELECT secret_hash FROM sessions WHERE session_id = %s", (token.session_id,)
        )
        return await cursor.fetchone() == (hash_secret(token.secret),)
