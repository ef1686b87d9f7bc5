"""Reading the log: without gaps, in order, each event once in effect, in a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import NewEvent, RecordedEvent
from domain.events.registry import UnknownEventError
from domain.events.users import PasswordChanged
from domain.ids import FamilyId, Stream
from domain.ports import StoreUnavailableError
from infra.event_store import append_stream, database_clock, load_families, update_families
from infra.family_execution import carry_out
from infra.postgres import Connection, connect
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from infra.tail import START, Place, TailLag, newest_place, next_batch, read_tail, tail_lag
from tests.integration.accounts import Accounts, at_work, cause, present, refresh

READER = "test reader"
ALONE = (
    "SELECT bool_and(pid = ANY(%s)) IS NOT FALSE FROM pg_stat_activity"
    " WHERE backend_xid IS NOT NULL"
)
"""Whether nobody else writes."""


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


@pytest.fixture
async def connection(conninfo: str) -> AsyncIterator[Connection]:
    """A connection that commits each statement: a reader's."""
    async with await connect(conninfo) as opened:
        yield opened


@asynccontextmanager
async def open_transaction(conninfo: str) -> AsyncIterator[Connection]:
    """Another writer, whose transaction commits at the end of the block."""
    async with await connect(conninfo) as other, other.transaction():
        yield other


async def write(connection: Connection, stream: str, version: int = 1) -> None:
    """Append one event without a state."""
    at = await database_clock(connection)
    changed = [NewEvent(PasswordChanged())]
    await append_stream(connection, Stream(stream), version - 1, changed, cause(), at)


async def read_on(connection: Connection, after: Place) -> tuple[list[str], Place]:
    """The streams of what is new, and the place behind it."""
    events = await read_tail(connection, after, 100)
    return [event.stream for event in events], place_of(events, after)


async def settled(connection: Connection) -> None:
    """Wait until nobody, such as an autovacuum elsewhere, holds back what is committed by now."""
    await eventually(
        connection,
        "SELECT coalesce(bool_and(transaction_id < pg_snapshot_xmin(pg_current_snapshot())), true)"
        " FROM events",
    )


async def eventually(connection: Connection, question: str, *arguments: object) -> None:
    """Ask until the answer is yes."""
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        cursor = await connection.execute(question, arguments or None)
        if await cursor.fetchone() == (True,):
            return
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain: {question}"
        await asyncio.sleep(0.01)


def place_of(events: list[RecordedEvent], otherwise: Place) -> Place:
    return Place(events[-1].transaction_id, events[-1].position) if events else otherwise


def insert_unknown(owner_conninfo: str, stream: str, schema_version: int = 1) -> None:
    """What a newer build would write."""
    with psycopg.connect(owner_conninfo) as newer_build:
        newer_build.execute(
            "INSERT INTO events (occurred_at, version, schema_version, event_id, correlation_id,"
            " stream, type, actor, data) VALUES (now(), 1, %s, gen_random_uuid(),"
            " gen_random_uuid(), %s, 'SessionTeleported', 'user', '{}')",
            (schema_version, stream),
        )


# ----------------------------------------------------------------------------- late commits


async def test_late_commit(connection: Connection, conninfo: str) -> None:
    async with open_transaction(conninfo) as late:
        await write(late, "late")  # position 1, not committed
        await write(connection, "early")  # position 2, committed

        while_open, place = await read_on(connection, START)
    await settled(connection)
    after_commit, _ = await read_on(connection, place)

    assert while_open == []  # "early" waits: a reader that took it would have to skip "late"
    assert after_commit == ["late", "early"]


async def test_what_committed_before_the_oldest_writer_began_is_not_held_back(
    connection: Connection, conninfo: str
) -> None:
    await write(connection, "before")
    await settled(connection)

    async with open_transaction(conninfo) as late:
        await write(late, "late")
        seen, _ = await read_on(connection, START)

    assert seen == ["before"]


async def test_an_undone_transaction_leaves_a_hole_in_the_positions_and_none_in_the_tail(
    connection: Connection, conninfo: str
) -> None:
    async with await connect(conninfo) as other, other.transaction(force_rollback=True):
        await write(other, "undone")
    await write(connection, "done")
    await settled(connection)

    events = await read_tail(connection, START, 100)

    assert [(event.stream, event.position) for event in events] == [("done", 2)]


async def test_a_tailing_reader_sees_every_event_once_and_in_order_across_an_open_transaction(
    accounts: Accounts, conninfo: str, data_keys: DataKeys
) -> None:
    sessions = [await accounts.sign_in() for _ in range(4)]
    seen: list[RecordedEvent] = []
    finished = asyncio.Event()

    async def tail() -> None:
        place = START
        async with await connect(conninfo) as reading:
            while True:
                last_round = finished.is_set()
                events = await read_tail(reading, place, 7)  # small: batches end anywhere
                seen.extend(events)
                place = place_of(events, place)
                if last_round and not events:
                    return
                await asyncio.sleep(0.001)

    async def storm(lanes: RefreshLanes) -> None:
        for index in range(40):
            for session in sessions:
                token = tokens[session.family_id]
                tokens[session.family_id] = await present(lanes, token)  # type: ignore[assignment]
            if index == 20:
                release.set()

    async def hold_open() -> None:
        async with open_transaction(conninfo) as late:
            await write(late, "held-open", 1)
            await release.wait()
            await write(late, "held-open", 2)

    tokens = {session.family_id: session.token for session in sessions}
    release = asyncio.Event()
    async with (
        await connect(conninfo) as looking,
        at_work(RefreshLanes(conninfo, data_keys, lanes=2)) as lanes,
    ):
        reader = asyncio.create_task(tail())
        holder = asyncio.create_task(hold_open())
        await storm(lanes)
        await holder
        await settled(looking)
        finished.set()
        await reader

        cursor = await looking.execute(
            "SELECT position FROM events ORDER BY transaction_id, position"
        )
        everything = [record[0] for record in await cursor.fetchall()]
    assert [event.position for event in seen] == everything
    assert len(everything) >= 4 * 40 + 2
    versions: dict[str, int] = {}
    for event in seen:  # each stream in order, too
        assert event.version == versions.get(event.stream, 0) + 1
        versions[event.stream] = event.version


async def test_one_transactions_events_come_together_and_in_the_order_they_were_written(
    connection: Connection, conninfo: str
) -> None:
    async with open_transaction(conninfo) as writer:
        for version in range(1, 6):
            await write(writer, "one", version)
    await settled(connection)

    first = await read_tail(connection, START, 3)
    rest = await read_tail(connection, place_of(first, START), 3)

    assert [event.version for event in (*first, *rest)] == [1, 2, 3, 4, 5]
    assert len({event.transaction_id for event in (*first, *rest)}) == 1


async def test_the_newest_place_is_behind_everything_the_tail_would_hand_out(
    connection: Connection, conninfo: str
) -> None:
    empty = await newest_place(connection)
    await write(connection, "old")
    await settled(connection)
    async with open_transaction(conninfo) as late:
        await write(late, "late")
        await write(connection, "early")
        newest = await newest_place(connection)
    await settled(connection)

    seen, _ = await read_on(connection, newest)

    assert empty == START
    assert seen == ["late", "early"]


# ----------------------------------------------------------------------------- checkpoints


async def test_duplicate_delivery(connection: Connection, engine: AsyncEngine) -> None:
    for version in (1, 2, 3):
        await write(connection, "delivered", version)
    await settled(connection)
    delivered: list[list[int]] = []

    async def read(*, fails: bool) -> None:
        async with next_batch(engine, READER) as reading:
            delivered.append([event.version for event in reading.events])
            for event in reading.events:
                await count_effect(reading.connection, event)
            if fails:
                msg = "the reader dies before its transaction commits"
                raise RuntimeError(msg)

    with pytest.raises(RuntimeError):
        await read(fails=True)
    await read(fails=False)
    await read(fails=False)

    assert delivered == [[1, 2, 3], [1, 2, 3], []]
    assert await effects(connection) == {"delivered": 3}


async def test_a_readers_connection_that_is_cut_off_leaves_no_effect(
    connection: Connection, engine: AsyncEngine, owner_conninfo: str
) -> None:
    await write(connection, "delivered")
    await settled(connection)

    async def read_and_be_cut_off() -> None:
        async with next_batch(engine, READER) as reading:
            await count_effect(reading.connection, reading.events[0])
            cut_off(owner_conninfo, reading.connection.info.backend_pid)

    with pytest.raises(StoreUnavailableError):
        await read_and_be_cut_off()
    async with next_batch(engine, READER) as reading:
        again = [event.stream for event in reading.events]
        await count_effect(reading.connection, reading.events[0])

    assert again == ["delivered"]
    assert await effects(connection) == {"delivered": 1}


async def test_several_readers_of_one_name_share_the_log_out_among_them(
    connection: Connection, engine: AsyncEngine
) -> None:
    for version in range(1, 61):
        await write(connection, "shared", version)
    await settled(connection)
    batches: list[list[int]] = []

    async def reader() -> None:
        while True:
            async with next_batch(engine, READER, limit=7) as reading:
                if not reading.events:
                    return
                batches.append([event.version for event in reading.events])
                for event in reading.events:
                    await count_effect(reading.connection, event)

    await asyncio.gather(*(reader() for _ in range(4)))

    assert [version for batch in batches for version in batch] == list(range(1, 61))
    assert await effects(connection) == {"shared": 60}


async def test_readers_of_two_names_do_not_know_of_each_other(
    connection: Connection, engine: AsyncEngine
) -> None:
    await write(connection, "both")
    await settled(connection)
    seen = []
    for name in ("one", "other", "one"):
        async with next_batch(engine, name) as reading:
            seen.append([event.stream for event in reading.events])

    assert seen == [["both"], ["both"], []]


async def count_effect(connection: Connection, event: RecordedEvent) -> None:
    """A reader's effect, in the one table of its kind that the service's role may write."""
    await connection.execute(
        "INSERT INTO checkpoints (reader, transaction_id, position, updated_at)"
        " VALUES (%s, '0', 1, now()) ON CONFLICT (reader)"
        " DO UPDATE SET position = checkpoints.position + 1",
        (f"effect on {event.stream}",),
    )


async def effects(connection: Connection) -> dict[str, int]:
    cursor = await connection.execute(
        "SELECT substr(reader, 11), position FROM checkpoints WHERE reader LIKE 'effect on %'"
    )
    return dict(await cursor.fetchall())


def cut_off(owner_conninfo: str, pid: int) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        owner.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


# ----------------------------------------------------------------------------- other clusters


async def test_a_log_from_another_clusters_dump_is_whole_after_the_documented_step(
    connection: Connection, owner_conninfo: str
) -> None:
    for version in (1, 2, 3):
        await write(connection, "dumped", version)
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        owner.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")
        owner.execute(
            "UPDATE events SET transaction_id = (transaction_id::text::bigint + 1000000000"
            " + CASE position WHEN 1 THEN 100 ELSE 0 END)::text::xid8"  # 2 and 3 overtook it
        )
        owner.execute("ALTER TABLE events ENABLE TRIGGER events_append_only")
        for statement in documented_step().split(";"):
            owner.execute(statement.encode())
    await write(connection, "new")
    await settled(connection)

    events = await read_tail(connection, START, 10)

    assert [(each.stream, each.position) for each in events] == [
        ("dumped", 2),
        ("dumped", 3),
        ("dumped", 1),
        ("new", 4),
    ]
    with (
        psycopg.connect(owner_conninfo) as owner,
        pytest.raises(psycopg.Error, match="append-only"),
    ):
        owner.execute("DELETE FROM events")


def documented_step() -> str:
    """The SQL that docs/operations.md tells to run after restoring a dump elsewhere."""
    operations = Path(__file__).parents[2] / "docs" / "operations.md"
    section = operations.read_text().partition("### Logical dumps")[2]
    return section.partition("```sql\n")[2].partition("```")[0]


# ----------------------------------------------------------------------------- newer writers


async def test_unknown_event(
    connection: Connection, engine: AsyncEngine, owner_conninfo: str
) -> None:
    await write(connection, "known", 1)
    await write(connection, "known", 2)
    insert_unknown(owner_conninfo, "newer")
    await write(connection, "known", 3)
    await settled(connection)

    async with next_batch(engine, READER) as reading:
        preceding = [(event.stream, event.version) for event in reading.events]
    for _ in range(2):  # however often it tries
        with pytest.raises(UnknownEventError, match="'SessionTeleported' version 1 is newer"):
            async with next_batch(engine, READER):
                pass

    assert preceding == [("known", 1), ("known", 2)]
    async with await connect(owner_conninfo) as upgraded:  # loses nothing: it is all still there
        cursor = await upgraded.execute(
            "SELECT position FROM checkpoints WHERE reader = %s", (READER,)
        )
        assert await cursor.fetchall() == [(2,)]


async def test_a_newer_version_of_a_known_type_stops_the_reader_too(
    connection: Connection, owner_conninfo: str
) -> None:
    insert_unknown(owner_conninfo, "newer")
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        owner.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")
        owner.execute("UPDATE events SET type = 'PasswordChanged', schema_version = 99")
    await settled(connection)

    with pytest.raises(UnknownEventError, match="'PasswordChanged' version 99 is newer"):
        await read_tail(connection, START, 10)


async def test_an_actor_that_this_build_does_not_know_stops_the_reader_too(
    connection: Connection, owner_conninfo: str
) -> None:
    await write(connection, "known")
    await write(connection, "newer")
    with psycopg.connect(owner_conninfo, autocommit=True) as owner:
        owner.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")
        owner.execute("UPDATE events SET actor = 'robot:r2d2' WHERE stream = 'newer'")
    await settled(connection)

    preceding, place = await read_on(connection, START)
    with pytest.raises(UnknownEventError):
        await read_tail(connection, place, 10)

    assert preceding == ["known"]


# ----------------------------------------------------------------------------- lag


async def test_the_lag_names_the_backend_that_holds_the_tail_back(
    connection: Connection, conninfo: str
) -> None:
    async with open_transaction(conninfo) as late, open_transaction(conninfo) as later:
        await write(late, "late")
        await write(later, "later")
        await write(connection, "early")
        oldest = late.info.backend_pid
        await eventually(connection, ALONE, [oldest, later.info.backend_pid])
        held = await tail_lag(connection, START)
    await settled(connection)
    _, place = await read_on(connection, START)
    await eventually(connection, ALONE, [])
    caught_up = await tail_lag(connection, place)

    assert held.held_by == oldest
    assert held.behind > timedelta(0)
    assert caught_up == TailLag(timedelta(0), None)


async def test_a_transaction_that_only_reads_holds_nothing_back(
    connection: Connection, conninfo: str
) -> None:
    async with open_transaction(conninfo) as reading:
        await reading.execute("SELECT count(*) FROM events")
        await write(connection, "written")
        await settled(connection)
        seen, _ = await read_on(connection, START)

    assert seen == ["written"]


async def test_a_batch_of_families_is_read_in_the_order_it_was_appended(
    accounts: Accounts, connection: Connection, data_keys: DataKeys
) -> None:
    sessions = [await accounts.sign_in() for _ in range(3)]
    await settled(connection)
    start = await newest_place(connection)
    families: list[FamilyId] = [session.family_id for session in sessions]
    loaded, clock = await load_families(connection, families)
    appends = []
    for session in sessions:
        command = refresh(session.token)
        _, append = carry_out(loaded[session.family_id], [(command, cause())], clock, data_keys)
        assert append is not None
        appends.append(append)
    await update_families(connection, appends)
    await settled(connection)

    events = await read_tail(connection, start, 10)

    assert [event.stream for event in events] == sorted(f"family-{each}" for each in families)
    assert len({event.transaction_id for event in events}) == 1
