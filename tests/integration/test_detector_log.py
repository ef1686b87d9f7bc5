"""The log as the detector's source: no gap, no event twice, whoever owned a partition before."""

import asyncio
import contextlib
from collections.abc import Sequence

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import Stage
from domain.events.envelope import RecordedEvent
from domain.events.users import PasswordChanged
from domain.ids import UserId
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_leases import PARTITIONS, Leases
from infra.detector_log import LogSource, PartitionLostError
from infra.detector_reactions import Reactions
from infra.detector_work import Workbench
from infra.ids import new_uuid
from infra.postgres import Connection, transaction
from infra.sealing import DataKeys
from infra.user_commands import PostgresUserCommands

DEADLINE_S = 20.0
_INSERT = """
INSERT INTO events (occurred_at, version, schema_version, event_id, subject_id, correlation_id,
                    stream, type, actor, data)
SELECT clock_timestamp(), coalesce((SELECT max(version) FROM events WHERE stream = %(stream)s), 0)
       + 1, 1, %(id)s, %(subject)s, gen_random_uuid(), %(stream)s, 'PasswordChanged', 'user', '{}'
"""


async def append(connection: Connection, subject: UserId | None = None) -> str:
    """One event of a user, or of nobody; returns its id."""
    event_id = new_uuid()
    stream = f"user-{subject or new_uuid()}"
    await connection.execute(_INSERT, {"stream": stream, "id": event_id, "subject": subject})
    return event_id


class Worker:
    """An owner of partitions that takes batches and notes what it got."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        self.leases = Leases(engine)
        policies = DetectionPolicyStore(engine, data_keys)
        reactions = Reactions(
            data_keys, PostgresUserCommands(engine, data_keys), policies, {}, lambda *_: True
        )
        bench = Workbench(policies, reactions, data_keys)
        self.source = LogSource(engine, self.leases, bench, lambda _: [PasswordChanged.TYPE])
        self.seen: list[str] = []

    async def take(self, count: int, limit: int = 50, stage: Stage = Stage.USERS) -> list[str]:
        """Take batches until so many events came; their ids."""
        taken: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            async for opening in self.source.batches(stage, lambda: limit):
                async with opening as work:
                    came = [event.event_id for event in work.events]
                taken.extend(came)
                if len(taken) >= count:
                    break
        self.seen.extend(taken)
        return taken

    async def nothing_comes(self, within_s: float = 0.3) -> None:
        """Look for a while; nothing may come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async for opening in self.source.batches(Stage.USERS, lambda: 50):
                    async with opening as work:
                        raise AssertionError(f"came: {ids(work.events)}")


def ids(events: Sequence[RecordedEvent]) -> list[str]:
    return [event.event_id for event in events]


def users(count: int) -> list[UserId]:
    return [UserId(new_uuid()) for _ in range(count)]


@pytest.fixture
async def worker(engine: AsyncEngine, data_keys: DataKeys) -> Worker:
    """One that owns everything."""
    only = Worker(engine, data_keys)
    await only.leases.renew()
    return only


@pytest.fixture
def second(engine: AsyncEngine, data_keys: DataKeys) -> Worker:
    """One that owns nothing yet."""
    return Worker(engine, data_keys)


async def write(engine: AsyncEngine, *subjects: UserId | None) -> list[str]:
    """An event for each, each in a transaction of its own."""
    written = []
    for subject in subjects:
        async with transaction(engine) as connection:
            written.append(await append(connection, subject))
    return written


async def test_an_empty_log_gives_nothing_and_then_what_comes(
    engine: AsyncEngine, worker: Worker
) -> None:
    await worker.nothing_comes()

    written = await write(engine, *users(3))

    assert await worker.take(3) == written


async def test_events_come_in_the_logs_order_whatever_the_batches_size(
    engine: AsyncEngine, worker: Worker
) -> None:
    written = await write(engine, *users(20))

    assert await worker.take(20, limit=3) == written


async def test_an_event_that_commits_late_comes_in_its_place(
    engine: AsyncEngine, worker: Worker
) -> None:
    await worker.take(len(await write(engine, *users(1))))

    async with transaction(engine) as connection:
        late = await append(connection, *users(1))
        early = await write(engine, *users(2))
        await worker.nothing_comes()

    assert await worker.take(3) == [late, *early]


async def test_events_about_nobody_count_as_some_partitions_own(
    engine: AsyncEngine, worker: Worker, second: Worker
) -> None:
    await second.leases.renew()
    await worker.leases.renew()
    await second.leases.renew()
    written = await write(engine, None, None)

    takes = [asyncio.create_task(each.take(2)) for each in (worker, second)]
    done, others = await asyncio.wait(takes, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()

    assert [task.result() for task in done] == [written]


async def test_a_batch_whose_body_raises_leaves_nothing_and_comes_again(
    engine: AsyncEngine, worker: Worker
) -> None:
    written = await write(engine, *users(3))

    async for opening in worker.source.batches(Stage.USERS, lambda: 50):
        with contextlib.suppress(ZeroDivisionError):
            async with opening as work:
                await work.set_aside(work.events[0], "for a test")
                _ = 1 / 0
        break

    assert await worker.take(3) == written
    async with transaction(engine) as connection:
        cursor = await connection.execute("SELECT count(*) FROM detector_set_aside")
        assert await cursor.fetchone() == (0,)


async def test_a_batch_may_end_before_an_event_which_then_comes_again(
    engine: AsyncEngine, worker: Worker
) -> None:
    written = await write(engine, *users(4))

    came = []
    for index in (2, 0, 1):
        async for opening in worker.source.batches(Stage.USERS, lambda: 50):
            async with opening as work:
                came.append(ids(work.events))
                work.stop_before(index)
            break

    assert came == [written, written[2:], written[2:]]
    assert await worker.take(1) == written[3:]


async def test_a_worker_whose_partitions_were_taken_over_changes_nothing(
    engine: AsyncEngine, worker: Worker, second: Worker
) -> None:
    written = await write(engine, *users(5))

    async for opening in worker.source.batches(Stage.USERS, lambda: 50):
        await let_leases_run_out(engine)
        await second.leases.renew()
        with pytest.raises(PartitionLostError):
            async with opening:
                pytest.fail("the batch was opened")
        break

    assert await second.take(5) == written
    await worker.nothing_comes()


async def let_leases_run_out(engine: AsyncEngine) -> None:
    """What time does."""
    async with transaction(engine) as connection:
        await connection.execute("UPDATE detector_partitions SET leased_until = 'epoch'")
        await connection.execute("UPDATE detector_workers SET seen_at = 'epoch'")


async def test_partitions_that_stand_at_different_places_lose_and_double_nothing(
    engine: AsyncEngine, worker: Worker, second: Worker
) -> None:
    everybody = users(40)
    written = await write(engine, *everybody)
    await worker.take(20, limit=20)
    await second.leases.renew()
    await worker.leases.renew()
    await second.leases.renew()
    written += await write(engine, *everybody)
    await second.take(5)  # its half goes ahead
    await second.leases._hand_back()  # what the end of its run does
    await worker.leases.renew()

    await worker.take(len(written) - len(worker.seen) - len(second.seen))
    await worker.nothing_comes()

    assert sorted(worker.seen + second.seen) == sorted(written)


async def test_where_there_was_nothing_for_a_worker_the_next_does_not_look_again(
    engine: AsyncEngine, worker: Worker
) -> None:
    async with transaction(engine) as connection:
        await connection.execute(
            _INSERT.replace("PasswordChanged", "UserDisabled"),
            {"stream": "user-1", "id": new_uuid(), "subject": None},
        )

    await worker.nothing_comes()

    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM detector_partitions WHERE stage = %s AND position > 0",
            (int(Stage.USERS),),
        )
        assert await cursor.fetchone() == (PARTITIONS,)


async def test_what_nobody_can_read_is_set_aside_with_what_comes_before_the_next_stop(
    engine: AsyncEngine, worker: Worker, owner_conninfo: str
) -> None:
    first, broken, last = await write(engine, *users(3))
    change(owner_conninfo, broken, data=Jsonb([]))

    assert await worker.take(2) == [first, last]

    async with transaction(engine) as connection:
        cursor = await connection.execute("SELECT event_id, reason FROM detector_set_aside")
        ((event_id, reason),) = await cursor.fetchall()
    assert (str(event_id), reason) == (broken, "it cannot be read: MalformedEventError")


async def test_of_several_that_nobody_can_read_each_is_set_aside(
    engine: AsyncEngine, worker: Worker, owner_conninfo: str
) -> None:
    *broken, last = await write(engine, *users(3))
    for each in broken:
        change(owner_conninfo, each, data=Jsonb([]))

    assert await worker.take(1) == [last]

    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT event_id::text FROM detector_set_aside ORDER BY position"
        )
        assert [row[0] for row in await cursor.fetchall()] == broken


async def test_it_waits_at_an_event_of_a_newer_build_and_gives_what_comes_before(
    engine: AsyncEngine, worker: Worker, owner_conninfo: str
) -> None:
    first, newer, last = await write(engine, *users(3))
    change(owner_conninfo, newer, schema_version=99)

    assert await worker.take(1) == [first]
    await worker.nothing_comes()
    change(owner_conninfo, newer, schema_version=1)

    assert await worker.take(2) == [newer, last]


def change(owner_conninfo: str, event_id: str, **columns: object) -> None:
    """What only a superuser can do to an event."""
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for column, value in columns.items():
            connection.execute(
                f"UPDATE events SET {column} = %s WHERE event_id = %s".encode(), (value, event_id)
            )
