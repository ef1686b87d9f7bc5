"""Erasing a person: what is cleared, what is left of them, and whom it does not concern."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from domain.detection_policy_decisions import AllowList
from domain.events.detection_policies import AllowedKind
from domain.events.families import EndedSessionRefreshRefused, EndReason, FamilyRevoked
from domain.events.personal import Sealed
from domain.events.users import UserErased, UserOrigin
from domain.family_decisions import EndSession
from domain.ids import SYSTEM_SUBJECT, UserId, family_stream, user_stream
from domain.ports import ConcurrencyError, Executed
from domain.refusals import Refusal
from domain.user import ChangePassword, ChangeRoles, EnableUser, EraseUser, RegisterUser, User
from infra.detection_policy_store import DetectionPolicyStore
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys, UnsealError
from infra.subject_keys import system_key
from infra.tail import read_stream
from tests.integration.accounts import (
    PHONE,
    at_work,
    by_operator,
    carry_out,
    cause,
    present,
    start_session,
)
from tests.integration.projection_world import World, open_world, some_lives

PERSONAL = (  # %s is the user
    "SELECT num_nonnulls(username, external_subject) FROM users WHERE user_id = %s",
    "SELECT num_nonnulls(client, device_name) FROM sessions WHERE user_id = %s",
    "SELECT num_nonnulls(client, fact_texts) FROM alerts WHERE subject_id = %s",
    "SELECT 1 FROM data_keys WHERE subject_id = %s",
    "SELECT 1 FROM credentials WHERE user_id = %s",
    "SELECT 1 FROM detector_states WHERE subject_id = %s",
    "SELECT 1 FROM replaced_rows WHERE subject_id = %s",
)


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


def left_of(world: World, user: User) -> int:
    """How much that is personal is in the tables."""
    found = [
        row[0] for query in PERSONAL for row in world.sql(query.replace("%s", "%s"), user.user_id)
    ]
    return sum(int(str(each)) for each in found)


async def test_nothing_personal_is_left_in_the_tables(world: World) -> None:
    ada = (await some_lives(world)).user
    before = left_of(world, ada)

    erased = await world.accounts.erase(ada, "request 4711")

    assert before > 5
    assert left_of(world, ada) == 0
    assert (erased.families, erased.is_repeat) == (2, False)
    assert {table for table, rows in erased.rows.items() if rows} == {
        "users", "sessions", "data_keys", "credentials", "alerts"
    }  # fmt: skip
    assert (erased.rows["sessions"], erased.rows["alerts"]) == (2, 1)


async def test_it_is_an_event_behind_the_end_of_all_sessions(world: World) -> None:
    session = await some_lives(world)

    await world.accounts.erase(session.user, "request 4711")

    async with transaction(world.engine) as connection:
        of_user = await read_stream(connection, user_stream(session.user.user_id))
        of_family = await read_stream(connection, family_stream(session.family_id))
    assert of_user[-1].event == UserErased(reason="request 4711")
    assert str(of_user[-1].cause.actor) == "operator:tests"
    assert of_user[-1].personal is None
    assert of_family[-1].event == FamilyRevoked(reason=EndReason.USER_ERASED)
    assert of_family[-1].transaction_id == of_user[-1].transaction_id


async def test_an_erasure_is_done_once_and_can_be_asked_for_again(world: World) -> None:
    ada = (await some_lives(world)).user
    first = await world.accounts.erase(ada)
    tables = world.tables()

    second = await world.accounts.erase(ada, "once more")

    assert (second.is_repeat, second.families, sum(second.rows.values())) == (True, 0, 0)
    assert second.erased_at == first.erased_at
    assert world.tables() == tables


async def test_nobody_else_is_touched(world: World) -> None:
    ada = (await some_lives(world)).user
    others = "SELECT t.ctid::text, t.xmin::text, t::text FROM {} t WHERE {} <> %s ORDER BY 3"
    queries = [
        others.format(table, subject)
        for table, subject in (
            ("users", "user_id"), ("sessions", "user_id"), ("alerts", "subject_id"),
            ("data_keys", "subject_id"), ("credentials", "user_id"),
        )
    ]  # fmt: skip
    before = [world.sql(query, ada.user_id) for query in queries]

    await world.accounts.erase(ada)

    assert all(before)
    assert [world.sql(query, ada.user_id) for query in queries] == before


async def test_the_tables_are_still_the_fold_of_the_log(world: World) -> None:
    ada = (await some_lives(world)).user
    await world.accounts.erase(ada)
    contents = world.contents()

    differences = await world.verify()
    rebuilt = await world.rebuild()

    assert differences == []
    assert {table: each.written for table, each in rebuilt.items()} == dict.fromkeys(rebuilt, 0)
    assert world.contents() == contents


async def test_the_user_name_is_free_again(world: World) -> None:
    ada = await world.accounts.user("ada@example.com")
    await world.accounts.erase(ada)

    another = await world.accounts.user("ada@example.com")

    assert another.user_id != ada.user_id
    assert await world.accounts.users.find_for_sign_in("ada@example.com") is not None


async def test_a_backends_subject_that_was_erased_is_a_stranger(world: World) -> None:
    users = world.accounts.users
    first = await users.open_external_session("their-7", *start_session(UserId(new_uuid())))
    assert isinstance(first, Executed)
    assert first.family is not None
    known = await users.find(first.family.user_id)
    assert known is not None
    await world.accounts.erase(known.user)

    second = await users.open_external_session("their-7", *start_session(UserId(new_uuid())))

    assert isinstance(second, Executed)
    assert second.family is not None
    assert second.family.user_id != known.user.user_id


async def test_an_erased_user_neither_signs_in_nor_changes(world: World) -> None:
    ada = await world.accounts.user()
    await world.accounts.erase(ada)
    users, user_id = world.accounts.users, ada.user_id

    refused = [
        await users.open_session(0, *start_session(user_id)),
        await users.change_password(user_id, 0, "a hash", None, cause()),
        await users.command(user_id, EnableUser(), cause()),
        await users.command(user_id, ChangeRoles(()), cause()),
        await users.command(user_id, ChangePassword(0), cause()),
        await users.disable(user_id, cause()),
    ]

    assert set(refused) == {Refusal.SUBJECT_ERASED}
    assert world.sql("SELECT 1 FROM credentials WHERE user_id = %s", user_id) == []


async def test_an_erased_user_is_not_registered_over(world: World) -> None:
    ada = await world.accounts.user()
    await world.accounts.erase(ada)
    command = RegisterUser(origin=UserOrigin.LOCAL, username="eve@example.com")

    with pytest.raises(ConcurrencyError, match="moved on"):
        await world.accounts.users.register(ada.user_id, command, "a hash", cause())

    assert left_of(world, ada) == 0


async def test_a_token_of_an_erased_user_is_refused_and_noted_without_its_client(
    world: World,
) -> None:
    session = await world.accounts.sign_in(client=PHONE, device_name="my phone")
    await world.accounts.erase(session.user)

    async with at_work(RefreshLanes(world.conninfo, world.data_keys)) as lanes:
        answer = await present(lanes, session.token, client=PHONE)

    async with transaction(world.engine) as connection:
        events = await read_stream(connection, family_stream(session.family_id))
    assert answer is Refusal.SESSION_ENDED
    assert isinstance(events[-1].event, EndedSessionRefreshRefused)
    assert events[-1].personal is None
    assert left_of(world, session.user) == 0
    assert await world.verify() == []


async def test_families_that_ended_before_are_cleared_too(world: World) -> None:
    session = await world.accounts.sign_in(device_name="my laptop")
    async with at_work(RefreshLanes(world.conninfo, world.data_keys)) as lanes:
        await carry_out(lanes, session.family_id, EndSession(session.session_id, EndReason.LOGOUT))

    erased = await world.accounts.erase(session.user)

    assert (erased.families, erased.rows["sessions"]) == (0, 1)
    assert left_of(world, session.user) == 0


async def test_whoever_lost_their_key_is_erased_all_the_same(world: World) -> None:
    session = await world.accounts.sign_in(device_name="my laptop")
    world.lose_data_key(session.user.user_id)

    erased = await world.accounts.erase(session.user)

    assert (erased.families, erased.rows["data_keys"]) == (1, 0)
    assert left_of(world, session.user) == 0


@pytest.mark.parametrize(
    "user_id", [UserId(new_uuid()), SYSTEM_SUBJECT], ids=["a stranger", "the service itself"]
)
async def test_who_is_no_user_is_not_erased(world: World, user_id: UserId) -> None:
    await some_lives(world)
    assert (
        await world.accounts.erasure.erase(user_id, EraseUser(), by_operator())
        is Refusal.UNKNOWN_USER
    )
    assert world.sql("SELECT count(*) FROM data_keys WHERE subject_id = %s", SYSTEM_SUBJECT) == [
        (1,)
    ]


async def test_a_reason_that_names_them_is_refused(world: World) -> None:
    ada = await world.accounts.user("ada lovelace")
    refused = await world.accounts.erasure.erase(
        ada.user_id, EraseUser("Ada Lovelace asked"), by_operator()
    )

    assert refused is Refusal.REASON_NAMES_USER
    assert left_of(world, ada) > 0


async def test_what_the_allow_list_says_of_them_goes_too(world: World) -> None:
    ada, bob = await world.accounts.user(), await world.accounts.user()
    policies = DetectionPolicyStore(world.engine, world.data_keys)
    entries = [allowing(ada, "Ada is at sea"), allowing(bob, "Bob is at sea")]
    for entry in entries:
        assert (await policies.command(entry, {}, cause())).refusal is None
    reasons = {each.reason for each in (await policies.current()).entries.values()}

    erased = await world.accounts.erase(ada)
    late = await policies.command(allowing(ada, "Ada is back"), {}, cause())

    (left,) = (await policies.current()).entries.values()
    (box,) = world.sql(
        "SELECT event_id::text, personal FROM events"
        " WHERE type = 'AllowListed' AND subject_id = %s",
        ada.user_id,
    )
    async with transaction(world.engine) as connection:
        key = await system_key(connection, world.data_keys)
    assert reasons == {"Ada is at sea", "Bob is at sea"}
    assert (left.user_id, left.reason) == (bob.user_id, "Bob is at sea")
    assert erased.rows["allow_list"] == 1
    assert late.refusal is Refusal.SUBJECT_ERASED
    with pytest.raises(UnsealError):
        key.open(Sealed(str(box[0]), bytes(cast("bytes", box[1]))))


def allowing(user: User, reason: str) -> AllowList:
    """An entry that lets a user raise no alert for a day."""
    now = datetime.now(UTC)
    return AllowList(
        entry_id=new_uuid(),
        kind=AllowedKind.USER,
        user_id=user.user_id,
        owner=user.user_id,
        reason=reason,
        until=now + timedelta(hours=12),
        longest=timedelta(days=1),
    )


async def test_what_was_set_aside_of_them_is_removed(world: World) -> None:
    session, other = await world.accounts.sign_in(), await world.accounts.sign_in()
    world.sql(
        "INSERT INTO detector_set_aside SELECT event_id, 1, position, stream, type, 'why', now()"
        " FROM events"
    )

    erased = await world.accounts.erase(session.user)

    left = world.sql("SELECT stream FROM detector_set_aside")
    assert erased.rows["detector_set_aside"] == 2
    assert {row[0] for row in left} == {
        user_stream(other.user.user_id), family_stream(other.family_id)
    }  # fmt: skip
