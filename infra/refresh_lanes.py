"""Commands on families, many at once: one read, one write and one commit for a batch.

A commit costs more than a decision, so what arrives while a batch is under way goes together into
the next; the answers are made while PostgreSQL writes. One lane, a connection of its own, does best
on few cores, because its batches are larger (docs/performance.md); where commits take long, as on
replicated storage, more lanes overlap them. A family always takes the same lane.

A batch also has a price of its own, however small it is. So under load a lane waits up to two
milliseconds for as many commands as its last batches had; a caller who is alone waits for nobody.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Generic

import msgspec
import psycopg

from domain.events.envelope import Cause
from domain.family_decisions import FamilyCommand, decide
from domain.ids import FamilyId
from domain.ports import ConcurrencyError, Executed, ResultT, StoreUnavailableError
from infra.event_store import FamilyAppend, LoadedFamily, load_families, update_families
from infra.family_execution import carry_out
from infra.postgres import Connection, connect, translated_faults
from infra.sealing import DataKeys

_MAX_BATCH = 64
_MAX_ATTEMPTS = 64
_GATHER_FOR_S = 0.002
_FORGETTING = 0.9
"""What a batch's size counts for at the next: after 22 small ones a crowd of ten is forgotten."""
_FIRST_REST_S = 0.001
_LONGEST_REST_S = 0.1
_WATCH_INTERVAL_S = 0.5
_ABANDON_AFTER_S = 60.0
_NOTHING_FINISHED = object()
_log = logging.getLogger(__name__)


class _Item(Generic[ResultT]):
    """One command waiting for its batch."""

    __slots__ = (
        "attempts",
        "cause",
        "command",
        "deadline",
        "family_id",
        "finish",
        "future",
        "result",
    )

    def __init__(
        self,
        family_id: FamilyId,
        command: FamilyCommand,
        cause: Cause,
        finish: Callable[[Executed], ResultT],
        future: "asyncio.Future[ResultT]",
        deadline: float,
    ) -> None:
        self.family_id = family_id
        self.command = command
        self.cause = cause
        self.finish = finish
        self.future = future
        self.deadline = deadline
        self.attempts = 0
        self.result: ResultT | object = _NOTHING_FINISHED

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


_AnyItem = _Item[Any]  # Any: items of one batch have results of different types


class _Decided(msgspec.Struct):
    """What a batch came to for one family."""

    items: list[_AnyItem]
    outcomes: list[Executed]
    append: FamilyAppend | None


class RefreshLanes:
    """``domain.ports.FamilyCommands`` over PostgreSQL."""

    def __init__(
        self,
        conninfo: str,
        data_keys: DataKeys,
        *,
        lanes: int = 1,
        max_waiting: int = 2_000,
        answer_within_s: float = 5.0,
        gather_for_s: float = _GATHER_FOR_S,
    ) -> None:
        """Prepare the lanes; nothing connects before ``run``.

        Args:
            conninfo: libpq connection string or URL of the one primary that decides.
            data_keys: Opens the subjects' data keys.
            lanes: How many connections share the work.
            max_waiting: Commands that may wait before further ones are turned away.
            answer_within_s: Seconds after which a waiting caller is told to try again. What is
                under way by then is not undone: the retry finds out.
            gather_for_s: Seconds that a batch is held back at most, until it is as large as the
                last ones were.
        """
        self._lanes = [_Lane(conninfo, data_keys, gather_for_s) for _ in range(lanes)]
        self._max_waiting = max_waiting
        self._answer_within_s = answer_within_s

    async def execute(
        self,
        family_id: FamilyId,
        command: FamilyCommand,
        cause: Cause,
        finish: Callable[[Executed], ResultT],
    ) -> ResultT:
        """See ``domain.ports.FamilyCommands.execute``."""
        lane = self._lanes[hash(family_id) % len(self._lanes)]
        if lane.load() >= self._max_waiting:
            msg = "too many commands are waiting for the database"
            raise StoreUnavailableError(msg)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        deadline = loop.time() + self._answer_within_s
        lane.submit(_Item(family_id, command, cause, finish, future, deadline))
        return await future

    async def run(self) -> None:
        """Work until cancelled; the commands still waiting then are refused."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run())
            tasks.create_task(self._watch())

    async def _watch(self) -> None:
        """Answer those who have waited too long; one clock for all is cheaper than one each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            for lane in self._lanes:
                lane.give_up_on_overdue(loop.time())


class _Lane:
    def __init__(self, conninfo: str, data_keys: DataKeys, gather_for_s: float) -> None:
        self.waiting: deque[_AnyItem] = deque()
        self._conninfo = conninfo
        self._data_keys = data_keys
        self._connection: Connection | None = None
        self._under_way: list[_AnyItem] = []
        self._resting: set[_AnyItem] = set()
        self._gather_for_s = gather_for_s
        self._arrived = asyncio.Event()
        self._gathered = asyncio.Event()
        self._wanted = 1.0

    def submit(self, item: _AnyItem) -> None:
        self.waiting.append(item)
        self._arrived.set()
        if len(self.waiting) >= self._wanted:
            self._gathered.set()

    def load(self) -> int:
        """How many commands wait for a batch."""
        return len(self.waiting) + len(self._resting)

    def give_up_on_overdue(self, now: float) -> None:
        for item in self._everyone():
            if item.deadline <= now:
                item.fail(StoreUnavailableError("the database did not answer in time"))
        while self.waiting and self.waiting[0].future.done():
            self.waiting.popleft()

    async def run(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self.waiting:
                    await self._gather()
                    await self._next_batch()
        finally:
            for item in self._everyone():
                item.fail(StoreUnavailableError("the service is stopping"))
            if self._connection is not None:
                await self._connection.close()

    def _everyone(self) -> Iterable[_AnyItem]:
        return itertools.chain(self._under_way, self._resting, self.waiting)

    async def _gather(self) -> None:
        """Hold the next batch back for a moment, where fewer wait than went together lately.

        Callers that were answered together tend to come again together.
        """
        if len(self.waiting) < self._wanted:
            self._gathered.clear()
            alarm = asyncio.get_running_loop().call_later(self._gather_for_s, self._gathered.set)
            await self._gathered.wait()
            alarm.cancel()
        together = min(len(self.waiting), _MAX_BATCH)
        self._wanted = max(together, self._wanted * _FORGETTING)

    async def _next_batch(self) -> None:
        self._under_way = self._take()
        await self._attempt(self._under_way)
        self._under_way = []  # not when cancelled: ``run`` still has to tell them

    async def _attempt(self, batch: list[_AnyItem]) -> None:
        try:
            with translated_faults():
                async with asyncio.timeout(_ABANDON_AFTER_S):
                    await self._process(batch)
        except (StoreUnavailableError, TimeoutError) as error:
            for item in batch:
                item.fail(StoreUnavailableError(str(error) or "the database does not answer"))
            await self._drop_connection()
        except Exception as error:  # noqa: BLE001 (one bad command must not end the lane)
            # One command that cannot be carried out must not take the others with it.
            await self._drop_connection()
            if len(batch) == 1:
                _log.exception("a command on a session family failed")
                batch[0].fail(error)
                return
            for item in batch:
                await self._attempt([item])

    def _take(self) -> list[_AnyItem]:
        batch: list[_AnyItem] = []
        while self.waiting and len(batch) < _MAX_BATCH:
            item = self.waiting.popleft()
            if not item.future.done():  # its caller may have given up meanwhile
                batch.append(item)
        return batch

    async def _process(self, batch: list[_AnyItem]) -> None:
        if not batch:
            return
        by_family: dict[FamilyId, list[_AnyItem]] = {}
        for item in batch:
            by_family.setdefault(item.family_id, []).append(item)
        connection, (loaded, clock) = await self._load(list(by_family))
        decided = {
            family_id: self._decide(items, loaded.get(family_id), clock)
            for family_id, items in by_family.items()
        }
        appends = [each.append for each in decided.values() if each.append is not None]
        if not appends:
            for each in decided.values():
                _finish(each)
                _answer(each)
            return
        # The answers are made while PostgreSQL writes, and handed out once it has committed.
        writing = asyncio.ensure_future(update_families(connection, appends))
        try:
            await asyncio.sleep(0)  # lets the statement go out
            for each in decided.values():
                _finish(each)
            accepted = await writing
        finally:
            writing.cancel()
        for family_id, each in decided.items():
            if each.append is None or family_id in accepted:
                _answer(each)
            else:
                self._again(each.items)

    async def _load(
        self, family_ids: list[FamilyId]
    ) -> tuple[Connection, tuple[dict[FamilyId, LoadedFamily], datetime]]:
        """Read families, on a new connection if the one at hand was lost since it was last used."""
        if self._connection is not None:
            try:
                return self._connection, await load_families(self._connection, family_ids)
            except psycopg.OperationalError:
                await self._drop_connection()
        self._connection = await connect(self._conninfo)
        return self._connection, await load_families(self._connection, family_ids)

    def _decide(
        self, items: list[_AnyItem], loaded: LoadedFamily | None, clock: datetime
    ) -> _Decided:
        if loaded is None:
            outcomes = [
                Executed(None, None, decide(None, item.command, clock), clock) for item in items
            ]
            return _Decided(items, outcomes, None)
        commands = [(item.command, item.cause) for item in items]
        return _Decided(items, *carry_out(loaded, commands, clock, self._data_keys))

    def _again(self, items: list[_AnyItem]) -> None:
        """Have commands decided anew on a family that moved on or is held: at once, then later."""
        waiting = []
        for item in items:
            item.attempts += 1
            if item.attempts >= _MAX_ATTEMPTS:
                item.fail(ConcurrencyError(f"family {item.family_id} kept moving"))
            else:
                waiting.append(item)
        if not waiting:
            return
        attempts = max(item.attempts for item in waiting)
        if attempts == 1:
            self.waiting.extendleft(reversed(waiting))
            return
        rest_s = min(_LONGEST_REST_S, _FIRST_REST_S * 2.0 ** (attempts - 2))
        self._resting.update(waiting)
        asyncio.get_running_loop().call_later(rest_s, self._end_rest, waiting)

    def _end_rest(self, items: list[_AnyItem]) -> None:
        self._resting.difference_update(items)
        self.waiting.extendleft(reversed(items))
        self._arrived.set()

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _finish(decided: _Decided) -> None:
    for item, executed in zip(decided.items, decided.outcomes, strict=True):
        try:
            item.result = item.finish(executed)
        except Exception as error:  # noqa: BLE001 (handed to the one who asked)
            item.fail(error)


def _answer(decided: _Decided) -> None:
    for item in decided.items:
        if not item.future.done():
            item.future.set_result(item.result)
