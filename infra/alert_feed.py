"""Following what happens to alerts: one reader of the log a process, for any number of listeners.

It reads only while somebody listens, and keeps the latest changes for some seconds; a listener who
comes back with an older place, or fell behind, catches up from the log itself. So nobody misses a
change, and nobody's slowness costs memory. Places are those of the gap-free tail.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import msgspec
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert_lists import AlertChange, AlertChanges
from domain.events.users import UserErased
from domain.ids import AlertId, UserId
from domain.ports import StoreUnavailableError
from infra.alert_queries import PostgresAlertQueries
from infra.postgres import Connection, transaction
from infra.tail import Place, newest_place

_POLL_S = 0.25
_KEPT_S = 30.0
_KEPT_CHANGES = 1_000
_MAX_CURSOR_CHARS = 41
"""Two 64-bit numbers and a dash; what is longer is none of ours."""

_log = logging.getLogger(__name__)

_ALERT_EVENTS = """
SELECT transaction_id, position, stream, type, subject_id
  FROM events
 WHERE transaction_id >= %(after_transaction)s::text::xid8
   AND transaction_id <= %(upto_transaction)s::text::xid8
   AND (transaction_id, position) > (%(after_transaction)s::text::xid8, %(after_position)s)
   AND (transaction_id, position) <= (%(upto_transaction)s::text::xid8, %(upto_position)s)
   AND (starts_with(stream, 'alert-') OR type = 'UserErased')
 ORDER BY transaction_id, position
 LIMIT %(limit)s
"""


class AlertFeed:
    """``api.ports.AlertFeed`` over PostgreSQL."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        window: int = 500,
        max_events_behind: int = 200_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read through this pool.

        Args:
            engine: The pool.
            window: How many events are read at a time.
            max_events_behind: How much of the log is searched for somebody who comes back: by
                default some tenths of a second's work.
            clock: Seconds, never backwards.
        """
        self._engine = engine
        self._window = window
        self._max_events_behind = max_events_behind
        self._queries = PostgresAlertQueries(engine)
        self._clock = clock
        self._listeners = 0
        self._listened = asyncio.Event()
        self._moved = asyncio.Event()
        self._closed = False
        # What happened behind ``_floor``, up to and including ``_head``; None while nobody listens.
        self._floor: Place | None = None
        self._head: Place | None = None
        self._recent: deque[tuple[float, AlertChange]] = deque()

    @property
    def closed(self) -> bool:
        """Whether everybody who listens is to stop."""
        return self._closed

    def close(self) -> None:
        """Tell everybody who listens to stop: the service is about to."""
        self._closed = True
        self._wake()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep the feed reading for as long as the block lasts."""
        self._listeners += 1
        self._listened.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._listened.clear()
                self._floor = self._head = None
                self._recent.clear()

    async def run(self) -> None:
        """Read the log while somebody listens, until cancelled."""
        while True:
            await self._listened.wait()
            try:
                await self._advance()
            except StoreUnavailableError as error:
                _log.warning("the alert feed will go on later: %s", error)
            await asyncio.sleep(_POLL_S)

    async def place(self, cursor: str | None) -> tuple[str, bool]:
        """Where a listener begins.

        Args:
            cursor: Where they left off, as the feed said; None for now.

        Returns:
            The place, and whether it goes on from there without a gap: not where the cursor is
            none of this log, or the log has grown too much since.
        """
        async with transaction(self._engine) as connection:
            newest = await newest_place(connection)
            if cursor is None:
                return _cursor_of(newest), True
            place = _place_of(cursor)
            if place is None or place > newest:
                return _cursor_of(newest), False
            if await _more_between(connection, place, newest, self._max_events_behind):
                return _cursor_of(newest), False
        return cursor, True

    async def after(self, cursor: str, wait_s: float) -> AlertChanges:
        """What happened behind a place; waits for something to happen.

        Args:
            cursor: From ``place``, or from the changes before.
            wait_s: The longest to wait.

        Returns:
            What happened; the place moves on with the log even where nothing happened to alerts,
            so that who comes back need not search it again.

        Raises:
            StoreUnavailableError: The database cannot serve.
            ValueError: The place is none of the feed's.
        """
        place = _place_of(cursor)
        if place is None:
            msg = f"{cursor!r} is no place in the log"
            raise ValueError(msg)
        if not self._has_behind(place):
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not self._has_behind(place):
                        await self._moved.wait()
        if self._closed or self._floor is None or self._head is None:
            return AlertChanges((), cursor)
        if place < self._floor:
            return (await self._window_of(place, self._head)).changes
        changes = tuple(
            change for _, change in self._recent if (_place_of(change.cursor) or place) > place
        )
        return AlertChanges(changes, _cursor_of(max(self._head, place)))

    def _has_behind(self, place: Place) -> bool:
        """Whether there is anything to tell, or nothing to wait for."""
        if self._closed:
            return True
        if self._floor is None or self._head is None:
            return False
        if place < self._floor:
            return True
        newest = _place_of(self._recent[-1][1].cursor) if self._recent else None
        return newest is not None and newest > place

    async def _advance(self) -> None:
        """Read what happened since the last time."""
        async with transaction(self._engine) as connection:
            newest = await newest_place(connection)
        while self._listeners:
            head = self._head
            if head is None:
                self._floor = self._head = newest
                break
            if head >= newest:
                break
            window = await self._window_of(head, newest)
            found = window.changes
            if self._head is not head:
                return  # the last listener left meanwhile, and perhaps another one came
            self._clear(window.erased)
            self._recent.extend((self._clock(), change) for change in found.changes)
            self._head = _place_of(found.cursor)
        self._forget()
        self._wake()

    def _forget(self) -> None:
        """Let go of old changes: they hold personal data, and there is the log."""
        oldest = self._clock() - _KEPT_S
        while self._recent and (self._recent[0][0] < oldest or len(self._recent) > _KEPT_CHANGES):
            _, change = self._recent.popleft()
            self._floor = _place_of(change.cursor)

    def _clear(self, erased: Collection[UserId]) -> None:
        """Take out of the latest changes what they hold of persons who were erased since."""
        if erased:
            self._recent = deque(
                (at, _without_person(change) if change.alert.subject_id in erased else change)
                for at, change in self._recent
            )

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _window_of(self, after: Place, upto: Place) -> "_Window":
        """A window of what happened between two places, the second included."""
        async with transaction(self._engine) as connection:
            cursor = await connection.execute(
                _ALERT_EVENTS,
                {
                    "after_transaction": str(after.transaction_id),
                    "after_position": after.position,
                    "upto_transaction": str(upto.transaction_id),
                    "upto_position": upto.position,
                    "limit": self._window,
                },
                binary=True,
            )
            records = await cursor.fetchall()
        types: dict[AlertId, list[str]] = {}
        places: dict[AlertId, Place] = {}
        erased = frozenset(UserId(each[4]) for each in records if each[3] == UserErased.TYPE)
        for transaction_id, position, stream, type_, _ in records:
            if type_ == UserErased.TYPE:
                continue
            alert_id = AlertId(stream.removeprefix("alert-"))
            types.setdefault(alert_id, []).append(type_)
            places[alert_id] = Place(transaction_id, position)
        alerts = await self._queries.alerts(list(types)) if types else {}
        changes = tuple(
            AlertChange(_cursor_of(places[alert_id]), tuple(types[alert_id]), alerts[alert_id])
            for alert_id in sorted(alerts, key=places.__getitem__)
        )
        end = Place(*records[-1][:2]) if len(records) == self._window else upto
        return _Window(AlertChanges(changes, _cursor_of(end)), erased)


class _Window(msgspec.Struct, frozen=True):
    """A stretch of the log: what happened to alerts, and who was erased."""

    changes: AlertChanges
    erased: frozenset[UserId]


def _without_person(change: AlertChange) -> AlertChange:
    return replace(change, alert=replace(change.alert, client=None, fact_texts=None))


async def _more_between(connection: Connection, place: Place, newest: Place, most: int) -> bool:
    """Whether more events than that lie between two places; it counts no further."""
    cursor = await connection.execute(
        "SELECT count(*) FROM (SELECT FROM events"
        " WHERE transaction_id >= %s::text::xid8 AND transaction_id <= %s::text::xid8"
        " LIMIT %s) AS behind",
        (str(place.transaction_id), str(newest.transaction_id), most + 1),
        binary=True,
    )
    record = await cursor.fetchone()
    return record is None or record[0] > most


def _cursor_of(place: Place) -> str:
    return f"{place.transaction_id}-{place.position}"


def _place_of(cursor: str) -> Place | None:
    transaction_id, _, position = cursor.partition("-")
    if not (transaction_id.isascii() and transaction_id.isdigit()):
        return None
    if not (position.isascii() and position.isdigit()) or len(cursor) > _MAX_CURSOR_CHARS:
        return None
    return Place(int(transaction_id), int(position))
