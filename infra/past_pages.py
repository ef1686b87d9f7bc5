"""Pages of the past, for a service that does other things at the same time.

Everybody is replayed some users at a time, in the order of their buckets, so a page costs what is
on it and not the whole; one that would take long ends early, with less on it. Few are made at once.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.as_of import AsOf
from domain.audit_history import InvalidCursorError
from domain.ids import UserId, parse_uuid
from infra.log_moments import Moment, earliest_instant
from infra.projection_folds import snapshot as one_instant
from infra.replay import Whose, replaying
from projections.replaying import LogFold, StateKind
from projections.session_views import SessionsPage, SessionStatus, SessionView, place_of, views_of
from projections.snapshot_states import ALL_BUCKETS, Buckets, buckets_of, chunk_of
from projections.state_diffs import Change, ChangesPage, changes_between, place_of_change

_AT_ONCE = 2
_LONG_S = 2.0
_PARTS_WITHOUT_SNAPSHOT = 16
_FAMILIES = (StateKind.FAMILY,)
_ALL = tuple(StateKind)

ItemT = TypeVar("ItemT")
Place = tuple[int, str, str]
"""Bucket, user, and what of theirs: the order of all lists here."""


class PastPages:
    """``api.audit_ports.Past`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Read through this pool."""
        self._engine = engine
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def begins_at(self) -> datetime | None:
        """See ``api.audit_ports.Past.begins_at``."""
        async with one_instant(self._engine) as reader:
            return await earliest_instant(reader)

    async def sessions(
        self,
        as_of: AsOf,
        *,
        user_id: UserId | None,
        statuses: Collection[SessionStatus],
        limit: int,
        after: str | None,
    ) -> SessionsPage:
        """See ``api.audit_ports.Past.sessions``."""
        page = _Page[SessionView](after, limit)
        damaged: list[str] = []
        async with self._turns, replaying(self._engine) as replay:
            moment = await replay.moment(as_of)
            for whose in page.parts(moment, user_id):
                fold = await replay.fold(moment, _FAMILIES, whose)
                views = views_of(fold.states.values(), moment.at)
                page.take(
                    (place_of(view), view)
                    for view in views
                    if not statuses or view.status in statuses
                )
                damaged += _faults(fold)
        return SessionsPage(page.items, moment.at, page.next_after, damaged)

    async def changes(
        self, first: AsOf, second: AsOf, *, user_id: UserId | None, limit: int, after: str | None
    ) -> ChangesPage:
        """See ``api.audit_ports.Past.changes``."""
        page = _Page[Change](after, limit)
        damaged: set[str] = set()
        async with self._turns, replaying(self._engine) as replay:
            one, other = await replay.moment(first), await replay.moment(second)
            for whose in page.parts(other, user_id):
                old = await replay.fold(one, _ALL, whose)
                new = await replay.fold(other, _ALL, whose)
                changes = changes_between(old.states, one.at, new.states, other.at)
                page.take((place_of_change(change), change) for change in changes)
                damaged.update(_faults(old), _faults(new))
        return ChangesPage(page.items, page.next_after, sorted(damaged))


class _Page(Generic[ItemT]):
    """What is gathered until it is enough, or took long."""

    def __init__(self, after: str | None, limit: int) -> None:
        self._after = (0, "", "") if after is None else _place_of_cursor(after)
        self._limit = limit
        self._last = self._after
        self._until = time.monotonic() + _LONG_S
        self.items: list[ItemT] = []
        self.next_after: str | None = None

    def parts(self, moment: Moment, user_id: UserId | None) -> Iterator[Whose]:
        """Who is to be replayed next; ends where the page does."""
        if user_id is not None:
            yield user_id
            return
        chunks = _PARTS_WITHOUT_SNAPSHOT if moment.start is None else moment.start.chunks
        for chunk in range(chunk_of(self._after[0], chunks), chunks):
            first, beyond = buckets_of(chunk, chunks)
            yield Buckets(max(first, self._after[0]), beyond)
            if self.next_after is not None:
                return
            if time.monotonic() > self._until and beyond < ALL_BUCKETS:
                self.next_after = _cursor_of((beyond, "", ""))
                return

    def take(self, found: Iterable[tuple[Place, ItemT]]) -> None:
        """Take what lies behind the page before; what stands at one place stays together."""
        for place, item in found:
            if place <= self._after:
                continue
            if len(self.items) >= self._limit and place != self._last:
                self.next_after = _cursor_of(self._last)
                return
            self.items.append(item)
            self._last = place


def _faults(fold: LogFold) -> list[str]:
    return [f"{each.stream}: {each.fault}" for each in fold.damaged]


def _cursor_of(place: Place) -> str:
    bucket, user_id, what = place
    return f"{bucket:04x}" + (f".{user_id}.{what}" if user_id else "")


def _place_of_cursor(cursor: str) -> Place:
    """Raises ``InvalidCursorError`` for one that was not given out."""
    bucket, _, rest = cursor.partition(".")
    user_id, _, what = rest.partition(".")
    try:
        number = int(bucket, 16)
    except ValueError:
        number = ALL_BUCKETS
    if not 0 <= number < ALL_BUCKETS or (rest and (parse_uuid(user_id) != user_id or not what)):
        msg = "after is not a cursor of this list"
        raise InvalidCursorError(msg)
    return number, user_id, what
