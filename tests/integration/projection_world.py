"""A database with some lives in it, and what an intruder does to it: for tests of projections."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import psycopg

from domain.alert import Alert
from domain.alert_decisions import Resolve
from domain.detection import Verdict
from domain.events.families import EndReason
from domain.family_decisions import CompleteStepUp, EndSession, RenameSession, RequireStepUp
from domain.ids import SessionId, UserId
from domain.refresh_token import RefreshToken
from domain.refusals import Refusal
from infra.alert_commands import PostgresAlertCommands
from infra.ids import new_uuid
from infra.postgres import create_engine
from infra.projection_build import build_projections
from infra.projection_compare import Comparison, compare_projections
from infra.projection_folds import Progress
from infra.projection_leftovers import PERSONAL_LEFTOVERS
from infra.projection_rollback import RolledBack, rollback_projections
from infra.projection_store import verify_projections
from infra.projection_swap import Rebuilt, rebuild_projections, swap_projections
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from projections.comparison import Difference
from tests.alerts import by_staff, put, raise_alert, raised, repeated
from tests.integration.accounts import (
    PHONE,
    Accounts,
    SignedIn,
    at_work,
    carry_out,
    cause,
    present,
)

_COPIED = (
    "user_id, family_version, client_id, auth_methods, signed_in_at, expires_at, delivery,"
    " persistent, started_at, idle_timeout_s, generation, secret_hash, token_key, rotated_at,"
    " last_seen_at, idle_expires_at, late_retries, client"
)
_ERASE = (
    "DELETE FROM data_keys WHERE subject_id = %s",
    "UPDATE sessions SET client = NULL, device_name = NULL WHERE user_id = %s",
    "UPDATE users SET username = NULL WHERE user_id = %s",
    "UPDATE alerts SET client = NULL, fact_texts = NULL WHERE subject_id = %s",
)


def no_progress(_done: int, _total: int) -> None:
    """For tests that look elsewhere."""


class World:
    """A database, as the service sees it and as its superuser does."""

    def __init__(self, conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> None:
        self.conninfo, self.owner_conninfo, self.data_keys = conninfo, owner_conninfo, data_keys
        self.engine = create_engine(conninfo, max_connections=8, wait_s=10)
        self.owner = create_engine(owner_conninfo, max_connections=2, wait_s=10)
        self.accounts = Accounts(self.engine, data_keys)

    async def close(self) -> None:
        await self.engine.dispose()
        await self.owner.dispose()

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """What a superuser does to it behind the service's back; the log's guard is off."""
        with psycopg.connect(self.owner_conninfo, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> list[list[tuple[object, ...]]]:
        """All that the tables hold, with every version of every row told apart."""
        return [
            self.sql("SELECT s.ctid::text, s.xmin::text, s::text FROM sessions s ORDER BY 3"),
            self.sql("SELECT u.ctid::text, u.xmin::text, u::text FROM users u ORDER BY 3"),
            self.sql("SELECT a.ctid::text, a.xmin::text, a::text FROM alerts a ORDER BY 3"),
        ]

    def contents(self) -> list[list[object]]:
        """All that the tables hold, wherever it lies."""
        return [[row[2] for row in table] for table in self.tables()]

    def insert_copy(self, session_id: SessionId, family_id: str) -> str:
        """Put a copy of a session's row beside it, under an id of its own; returns that."""
        stranger = new_uuid()
        self.sql(
            f"INSERT INTO sessions (session_id, family_id, ordinal, {_COPIED})"
            f" SELECT %s, {family_id}, 1, {_COPIED} FROM sessions WHERE session_id = %s",
            stranger,
            session_id,
        )
        return stranger

    def erase(self, user_id: UserId) -> None:
        """Forget a person: their data key, and what the tables hold in clear."""
        for statement in _ERASE:
            self.sql(statement, user_id)

    def lose_data_key(self, user_id: UserId) -> None:
        """Half an erasure."""
        self.sql(_ERASE[0], user_id)

    async def verify(self, progress: Progress = no_progress) -> list[Difference]:
        found = verify_projections(self.engine, self.data_keys, progress)
        return [difference async for difference in found]

    async def rebuild(self, progress: Progress = no_progress) -> dict[str, Rebuilt]:
        rebuilt = await rebuild_projections(self.owner, self.data_keys, progress)
        return {each.table: each for each in rebuilt}

    async def build(self, progress: Progress = no_progress) -> int:
        return await build_projections(self.owner, self.data_keys, progress)

    async def compare(self, progress: Progress = no_progress, shown: int = 20) -> Comparison:
        return await compare_projections(self.owner, self.data_keys, progress, shown)

    async def swap(self, progress: Progress = no_progress) -> dict[str, Rebuilt]:
        swapped = await swap_projections(self.owner, self.data_keys, progress)
        return {each.table: each for each in swapped}

    async def rollback(self, progress: Progress = no_progress) -> dict[str, RolledBack]:
        rolled_back = await rollback_projections(self.owner, self.data_keys, progress)
        return {each.table: each for each in rolled_back}

    def rows_beside(self) -> dict[str, int]:
        """How many rows rebuilds have left beside the tables, by table, where there are any."""
        counts = {
            table: len(self.sql(f"SELECT 1 FROM {table}"))
            for table in ("rebuild_progress", *PERSONAL_LEFTOVERS)
        }
        return {table: count for table, count in counts.items() if count}

    async def refresh(self, session: SignedIn, times: int = 1) -> SignedIn:
        token = session.token
        async with at_work(RefreshLanes(self.conninfo, self.data_keys)) as lanes:
            for _ in range(times):
                answer = await present(lanes, token)
                assert isinstance(answer, RefreshToken), answer
                token = answer
        return SignedIn(session.family_id, session.user, token)


@asynccontextmanager
async def open_world(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys
) -> AsyncIterator[World]:
    world = World(conninfo, owner_conninfo, data_keys)
    yield world
    await world.close()


async def some_lives(world: World) -> SignedIn:
    """Ada's session, three refreshes old, beside a few lives of other kinds."""
    ada = await world.accounts.user("ada@example.com")
    session = await world.accounts.sign_in(ada, device_name="my laptop")
    session = await world.refresh(session, 3)
    phone = await world.accounts.sign_in(ada, client=PHONE)
    renamed, ended, reused = [await world.accounts.sign_in() for _ in range(3)]
    async with at_work(RefreshLanes(world.conninfo, world.data_keys)) as lanes:
        await carry_out(lanes, renamed.family_id, RenameSession(renamed.session_id, "kitchen"))
        await carry_out(lanes, renamed.family_id, RequireStepUp())
        await carry_out(lanes, phone.family_id, RequireStepUp())
        await carry_out(lanes, phone.family_id, CompleteStepUp(phone.session_id, ["otp"], PHONE))
        await carry_out(lanes, ended.family_id, EndSession(ended.session_id, EndReason.LOGOUT))
        await present(lanes, reused.token)
        assert await present(lanes, reused.token, client=PHONE) is Refusal.TOKEN_REUSED
    await world.accounts.users.disable(ended.user.user_id, cause())
    await _some_alerts(world, session)
    return session


async def _some_alerts(world: World, session: SignedIn) -> None:
    """One about Ada's session, judged since, and one about nobody."""
    about_ada = raised(user_id=session.user.user_id, family_id=session.family_id)
    alert = await raise_alert(world.engine, world.data_keys, about_ada)
    await put(world.engine, world.data_keys, alert.alert_id, repeated(facts={"new_city": "Oslo"}))
    analysts = PostgresAlertCommands(world.engine, world.data_keys)
    verdict = Resolve(Verdict.BENIGN, "she moved")
    resolved = await analysts.command(alert.alert_id, verdict, by_staff(new_uuid()))
    assert isinstance(resolved, Alert), resolved
    await raise_alert(world.engine, world.data_keys, raised())


@asynccontextmanager
async def refreshing(world: World, sessions: Sequence[SignedIn]) -> AsyncIterator[None]:
    """Refresh sessions as fast as they can, as long as the block lasts; each must get on."""
    finished = asyncio.Event()

    async def refresh_until_finished(each: SignedIn) -> int:
        token, count = each.token, 0
        while not finished.is_set():
            answer = await present(lanes, token)
            assert isinstance(answer, RefreshToken), answer
            token, count = answer, count + 1
        return count

    working = at_work(RefreshLanes(world.conninfo, world.data_keys))
    async with working as lanes, asyncio.TaskGroup() as tasks:
        counts = [tasks.create_task(refresh_until_finished(each)) for each in sessions]
        try:
            yield
        finally:
            finished.set()
    assert all(count.result() > 0 for count in counts)


def meanwhile(work: Callable[[], Coroutine[object, object, None]]) -> Progress:
    """Progress that, when it first comes, lets something else happen and waits for its end."""
    faults: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as fault:  # noqa: BLE001 (raised again in the test)
            faults.append(fault)

    def progress(_done: int, _total: int) -> None:
        if not done.is_set():
            done.set()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            if faults:
                raise faults[0]

    return progress


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the database tells, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true within 30 s"
        await asyncio.sleep(0.005)
