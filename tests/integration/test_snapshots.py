"""Snapshots: what they hold, what they do not, and that an altered one is refused by its name."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from domain.as_of import AtInstant
from domain.events.envelope import Actor, ActorKind, Cause
from domain.family import Family
from domain.ids import SNAPSHOTS_STREAM, CorrelationId, family_stream, user_stream
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.replay import replaying
from infra.sealing import DataKeys
from infra.snapshot_store import TamperedSnapshotError, altered_snapshots, newest_snapshot
from infra.snapshot_taking import (
    SnapshotNotTakenError,
    TakenSnapshot,
    run_snapshots,
    snapshot_is_due,
    take_snapshot,
)
from infra.tail import read_stream
from projections.folding import Opener, nothing_left, open_family
from projections.replaying import LogFold, StateKind
from projections.snapshot_states import EVERYBODY
from tests.integration.accounts import SignedIn
from tests.integration.projection_world import World, open_world, some_lives

ALL_KINDS = tuple(StateKind)
SOMEDAY = AtInstant(datetime(2100, 1, 1, tzinfo=UTC))


def cause(job: str = "tests") -> Cause:
    return Cause(Actor(ActorKind.SYSTEM, job), CorrelationId(new_uuid()))


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's: she has another, and there are a few other lives."""
    return await some_lives(world)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true within 30 s"
        await asyncio.sleep(0.005)


async def taken(world: World) -> TakenSnapshot:
    snapshot = await take_snapshot(world.engine, cause())
    assert snapshot is not None
    return snapshot


async def replayed(world: World, *, from_snapshots: bool = True) -> LogFold:
    async with replaying(world.engine) as replay:
        moment = await replay.moment(SOMEDAY, from_snapshots=from_snapshots)
        assert (moment.start is not None) == from_snapshots
        return await replay.fold(moment, ALL_KINDS, EVERYBODY)


async def test_a_snapshot_holds_what_a_fold_from_the_start_gives(
    world: World, session: SignedIn
) -> None:
    reports: list[tuple[int, int]] = []

    snapshot = await take_snapshot(world.engine, cause(), lambda *each: reports.append(each))

    assert snapshot is not None
    assert snapshot.states == 4 + 5 + 2
    assert reports[-1] == (snapshot.events, snapshot.events)
    from_it = await replayed(world)
    assert from_it.states == (await replayed(world, from_snapshots=False)).states
    assert len(from_it.states) == snapshot.states


async def test_a_snapshot_is_announced_in_the_log(world: World, session: SignedIn) -> None:
    snapshot = await taken(world)

    async with transaction(world.engine) as connection:
        (announced,) = await read_stream(connection, SNAPSHOTS_STREAM)
    assert announced.event.snapshot_id == snapshot.snapshot_id  # type: ignore[attr-defined]
    assert announced.subject_id is None


async def test_the_next_snapshot_goes_on_from_the_last(world: World, session: SignedIn) -> None:
    first = await taken(world)
    await world.refresh(session)

    second = await taken(world)

    assert world.sql("SELECT count(*) FROM events") == [(first.events + second.events + 2,)]
    assert second.events == 1
    assert (await replayed(world)).states == (await replayed(world, from_snapshots=False)).states


async def test_where_nothing_happened_no_snapshot_is_taken(world: World, session: SignedIn) -> None:
    assert await take_snapshot(world.engine, cause()) is not None

    assert await take_snapshot(world.engine, cause()) is None


async def test_of_an_empty_log_no_snapshot_is_taken(world: World) -> None:
    assert await take_snapshot(world.engine, cause()) is None


async def test_a_snapshot_holds_nothing_personal_in_clear(world: World, session: SignedIn) -> None:
    await taken(world)

    chunks = [
        zlib.decompress(bytes.fromhex(str(packed)))
        for (packed,) in world.sql("SELECT encode(states, 'hex') FROM snapshot_chunks")
    ]
    assert any(session.family_id.encode() in chunk for chunk in chunks)
    for secret in (b"203.0.113.7", b"Firefox", b"my laptop", b"ada@example.com", b"curl", b"Oslo"):
        assert not any(secret in chunk for chunk in chunks)


async def test_who_is_erased_stays_erased_in_snapshots(
    world: World, session: SignedIn, data_keys: DataKeys
) -> None:
    user_id = session.user.user_id
    ((wrapped,),) = world.sql(
        "SELECT encode(wrapped_key, 'hex') FROM data_keys WHERE subject_id = %s", user_id
    )
    await taken(world)
    key = data_keys.unwrap(bytes.fromhex(str(wrapped)), user_id)
    assert await device_name(world, session, key.open) == "my laptop"

    world.erase(user_id)

    assert await device_name(world, session, nothing_left) is None
    assert not world.sql("SELECT 1 FROM data_keys WHERE subject_id = %s", user_id)
    await world.accounts.sign_in()
    assert await take_snapshot(world.engine, cause()) is not None


async def device_name(world: World, session: SignedIn, opener: Opener) -> object:
    """What the newest snapshot says that a device is called."""
    family = (await replayed(world)).states[family_stream(session.family_id)]
    assert isinstance(family, Family)
    return open_family(family, opener).sessions[0].device_name


_TAMPER = {
    "a chunk's bytes": "UPDATE snapshot_chunks SET states = set_byte(states, 20, 7)"
    " WHERE kind = 'family'",
    "a chunk from elsewhere": "UPDATE snapshot_chunks SET states = (SELECT states FROM"
    " snapshot_chunks WHERE kind = 'alert') WHERE kind = 'user'",
    "a chunk is gone": "DELETE FROM snapshot_chunks WHERE kind = 'alert'",
    "its place": "UPDATE snapshots SET position = position - 1",
    "its transaction": "UPDATE snapshots SET transaction_id ="
    " (transaction_id::text::bigint - 1)::text::xid8",
    "its time": "UPDATE snapshots SET latest_at = latest_at - interval '1 hour'",
    "its digests": "UPDATE snapshots SET digests = set_byte(digests, 40, 7)",
    "its digests' number": "UPDATE snapshots SET digests = digests || digests",
    "its event is another": "UPDATE snapshots SET version = version + 1",
    "its event is gone": "DELETE FROM events WHERE stream = 'audit-snapshots'",
    "its event's type": "UPDATE events SET type = 'UserEnabled' WHERE stream = 'audit-snapshots'",
    "its id": "UPDATE snapshots SET snapshot_id = '0195513a-0000-7000-8000-0000000000ff'",
}


@pytest.mark.parametrize("what", _TAMPER)
async def test_a_snapshot_that_was_altered_is_refused_with_its_name(
    world: World, session: SignedIn, what: str
) -> None:
    await taken(world)
    assert world.sql("SELECT octet_length(digests) FROM snapshots")[0][0] == 96
    world.sql(_TAMPER[what])

    with pytest.raises(TamperedSnapshotError) as refused:
        await replayed(world)

    assert refused.value.snapshot_id in str(refused.value)
    assert [refused.value.snapshot_id] == [
        str(row[0]) for row in world.sql("SELECT snapshot_id FROM snapshots")
    ]
    assert (await replayed(world, from_snapshots=False)).states
    await world.refresh(await world.accounts.sign_in())
    with pytest.raises(TamperedSnapshotError):
        await take_snapshot(world.engine, cause())


@pytest.mark.usefixtures("session")
async def test_a_snapshot_with_a_time_that_nobody_wrote_is_named_and_no_crash(
    world: World,
) -> None:
    await taken(world)
    world.sql("UPDATE snapshots SET latest_at = 'infinity'")

    async with transaction(world.engine) as connection:
        (found,) = await altered_snapshots(connection)

    assert "its row differs" in found


async def test_of_a_damaged_log_no_snapshot_is_taken_and_the_stream_is_named(
    world: World, session: SignedIn
) -> None:
    stream = user_stream(session.user.user_id)
    world.sql("UPDATE events SET version = 7 WHERE stream = %s", stream)

    with pytest.raises(SnapshotNotTakenError, match=stream):
        await take_snapshot(world.engine, cause())

    assert world.sql("SELECT 1 FROM snapshots") == []


async def test_two_do_not_take_one_at_once(world: World, session: SignedIn) -> None:
    outcomes = await asyncio.gather(
        *(take_snapshot(world.engine, cause()) for _ in range(3)), return_exceptions=True
    )

    others = [each for each in outcomes if not isinstance(each, TakenSnapshot)]
    assert len(others) == 2
    assert all(each is None or isinstance(each, SnapshotNotTakenError) for each in others)
    assert world.sql("SELECT count(*) FROM snapshots") == [(1,)]


async def test_what_an_attempt_left_half_done_is_cleared_away(
    world: World, session: SignedIn
) -> None:
    world.sql("INSERT INTO snapshot_chunks VALUES (gen_random_uuid(), 'user', 0, 'half')")

    await taken(world)

    assert world.sql("SELECT count(*) FROM snapshot_chunks") == [(3,)]


async def test_snapshots_of_another_format_are_passed_over(world: World, session: SignedIn) -> None:
    await taken(world)
    world.sql("UPDATE snapshots SET format = 2")

    async with transaction(world.engine) as connection:
        assert await newest_snapshot(connection) is None
    assert (await replayed(world, from_snapshots=False)).states


async def test_a_snapshot_is_due_when_enough_events_lie_behind_the_last(
    world: World, session: SignedIn
) -> None:
    assert not await snapshot_is_due(world.engine, least_events=256)
    world.sql(
        "INSERT INTO entry_bundles SELECT 0, transaction_id, position, occurred_at, occurred_at"
        " FROM events ORDER BY position LIMIT 1"
    )
    assert await snapshot_is_due(world.engine, least_events=256)
    assert not await snapshot_is_due(world.engine, least_events=257)

    await taken(world)

    assert not await snapshot_is_due(world.engine, least_events=1)


async def test_the_job_takes_a_snapshot_when_it_is_due(world: World, session: SignedIn) -> None:
    world.sql(
        "INSERT INTO entry_bundles SELECT 0, transaction_id, position, occurred_at, occurred_at"
        " FROM events ORDER BY position LIMIT 1"
    )

    async with asyncio.TaskGroup() as tasks:
        job = tasks.create_task(run_snapshots(world.engine, cause, timedelta(seconds=60), 256))
        await until(lambda: bool(world.sql("SELECT 1 FROM snapshots")))
        job.cancel()

    assert (await replayed(world)).states
