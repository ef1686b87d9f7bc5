"""Failed sign-ins, counted in memory and written as one event a window and source.

However hard an attack, a window adds a bounded number of events and holds a bounded number of
counters: sources beyond the limit are merged into one, and of the accounts that one source tries,
those tried least are only numbered.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import microseconds
from domain.events.envelope import Actor, ActorKind, Cause, NewEvent
from domain.events.personal import Personal
from domain.events.sign_in_failures import AccountFailures, SignInFailuresCounted
from domain.ids import SYSTEM_SUBJECT, CorrelationId, Stream, UserId
from domain.ports import StoreUnavailableError
from infra.event_rows import StreamConflictError
from infra.event_store import append_stream, database_clock, stream_version
from infra.ids import new_uuid
from infra.postgres import Connection, transaction
from infra.rate_limits import drop_least
from infra.sealing import DataKeys
from infra.subject_keys import system_key

logger = logging.getLogger(__name__)

_OTHERS = Stream("source-others")
_ACTOR = Actor(ActorKind.SYSTEM, "sign-in-failures")
_ATTEMPTS = 10
_ACCOUNTS_IN_MEMORY_FACTOR = 4


class SignInFailureCounter:
    """Counts failures of this process; ``flush`` writes them."""

    def __init__(
        self,
        engine: AsyncEngine,
        data_keys: DataKeys,
        key: bytes,
        *,
        window_s: int = 10,
        max_sources: int = 100,
        max_accounts: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count from now on.

        Args:
            engine: The pool.
            data_keys: Makes and opens the system's data key.
            key: Names streams of networks without revealing the networks.
            window_s: Seconds from one flush to the next.
            max_sources: Networks counted one by one in a window.
            max_accounts: Accounts named in the event of one source. Four times as many are told
                apart in memory, so that those named are the ones most tried.
            clock: Seconds, never backwards.
        """
        self._engine = engine
        self._data_keys = data_keys
        self._key = key
        self._window_s = window_s
        self._max_sources = max_sources
        self._max_accounts = max_accounts
        self._clock = clock
        self._window = self._new_window()

    def note(self, network: str, user_id: UserId | None, *, limited: bool) -> None:
        """Count one failure.

        Args:
            network: The source.
            user_id: The account, if it exists and was looked up.
            limited: Whether a rate limit refused it without a password check.
        """
        self._window.source(network).note(user_id, limited=limited)

    async def flush(self) -> None:
        """Append what was counted since the last flush, in one transaction.

        What cannot be written, because the store is unavailable or other replicas were faster ten
        times in a row, is kept for the next flush. If the connection breaks just as it commits,
        nobody knows whether it did, and those failures may be counted twice.
        """
        window = self._window
        self._window = self._new_window()
        if not window.is_empty():
            try:
                await self._append(window)
            except (StoreUnavailableError, StreamConflictError) as error:
                self._keep(window)
                logger.warning("sign-in failures will be written later: %s", error)
            except BaseException:
                self._keep(window)
                raise

    async def run(self) -> None:
        """Flush at every window until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(self._window_s)
                await self._flush_undisturbed()
        except asyncio.CancelledError:
            await self.flush()
            if not self._window.is_empty():
                logger.error("the sign-in failures of the last window are lost")  # noqa: TRY400
            raise

    async def _flush_undisturbed(self) -> None:
        # A cancellation in the middle of a commit would leave open whether it was one.
        flushing = asyncio.ensure_future(self.flush())
        try:
            await asyncio.shield(flushing)
        except asyncio.CancelledError:
            await flushing
            raise

    def _new_window(self) -> "_Window":
        return _Window(
            self._clock(), self._max_sources, self._max_accounts * _ACCOUNTS_IN_MEMORY_FACTOR
        )

    def _keep(self, window: "_Window") -> None:
        window.add(self._window)
        self._window = window

    async def _append(self, window: "_Window") -> None:
        sources = [(self._stream(network), source) for network, source in window.streams()]
        sources.sort(key=itemgetter(0))  # so that two replicas never wait for each other
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with transaction(self._engine) as connection:
                    await self._append_sources(connection, sources, window.began)
            except StreamConflictError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return

    async def _append_sources(
        self, connection: Connection, sources: "list[tuple[Stream, _Source]]", began: float
    ) -> None:
        at = await database_clock(connection)
        elapsed_s = max(0.0, self._clock() - began)
        data_key = await system_key(connection, self._data_keys)
        named = {user_id for _, source in sources for user_id in source.accounts}
        erased = await _erased_among(connection, named)
        cause = Cause(_ACTOR, CorrelationId(new_uuid()))
        for stream, source in sources:
            await append_stream(
                connection,
                stream,
                await stream_version(connection, stream),
                [self._event(source, at, elapsed_s, erased)],
                cause,
                at,
                subject_id=SYSTEM_SUBJECT,
                data_key=data_key,
            )

    def _event(
        self, source: "_Source", at: datetime, elapsed_s: float, erased: Collection[UserId]
    ) -> NewEvent:
        most_tried = sorted(source.accounts.items(), key=lambda item: -item[1])
        named = [each for each in most_tried if each[0] not in erased][: self._max_accounts]
        counted = SignInFailuresCounted(
            window_start_us=microseconds(at - timedelta(seconds=elapsed_s)),
            window_s=max(1, round(elapsed_s)),
            failures=source.failures,
            limited=source.limited,
            unknown_accounts=source.unknown_accounts,
            accounts=[AccountFailures(user_id, count) for user_id, count in named],
            accounts_omitted=source.forgotten + len(most_tried) - len(named),
        )
        return NewEvent(counted, Personal(networks=sorted(source.networks)))

    def _stream(self, network: str | None) -> Stream:
        if network is None:
            return _OTHERS
        return Stream("source-" + hmac.digest(self._key, network.encode(), "sha256").hex()[:32])


async def _erased_among(connection: Connection, users: Collection[UserId]) -> set[UserId]:
    """Those whom nothing is to be said of any more: their failures are counted, not named."""
    if not users:
        return set()
    cursor = await connection.execute(
        "SELECT user_id FROM users WHERE user_id = ANY(%s::uuid[]) AND erased_at IS NOT NULL",
        (list(users),),
        binary=True,
    )
    return {UserId(record[0]) for record in await cursor.fetchall()}


@dataclass(slots=True)
class _Source:
    """The failures from one network, or from all that are not counted one by one.

    Attributes:
        max_names: The most networks and the most accounts that are told apart.
        forgotten: Accounts no longer told apart; one that came back since is counted again.
    """

    max_names: int
    networks: set[str] = field(default_factory=set)
    failures: int = 0
    limited: int = 0
    unknown_accounts: int = 0
    accounts: dict[UserId, int] = field(default_factory=dict)
    forgotten: int = 0

    def note(self, user_id: UserId | None, *, limited: bool) -> None:
        self.failures += 1
        self.limited += limited
        if user_id is None:
            self.unknown_accounts += 1
        else:
            self._count(user_id, 1)

    def add(self, other: "_Source") -> None:
        self.failures += other.failures
        self.limited += other.limited
        self.unknown_accounts += other.unknown_accounts
        self.forgotten += other.forgotten
        for user_id, count in other.accounts.items():
            self._count(user_id, count)
        for network in other.networks:
            self.see(network)

    def see(self, network: str) -> None:
        if len(self.networks) < self.max_names:
            self.networks.add(network)

    def _count(self, user_id: UserId, count: int) -> None:
        if user_id not in self.accounts and len(self.accounts) >= self.max_names:
            self.forgotten += drop_least(self.accounts)
        self.accounts[user_id] = self.accounts.get(user_id, 0) + count


class _Window:
    """What was counted since an instant of the clock."""

    __slots__ = ("_max_names", "_max_sources", "_others", "_sources", "began")

    def __init__(self, began: float, max_sources: int, max_names: int) -> None:
        self.began = began
        self._max_sources = max_sources
        self._max_names = max_names
        self._sources: dict[str, _Source] = {}
        self._others: _Source | None = None

    def source(self, network: str) -> _Source:
        source = self._sources.get(network)
        if source is not None:
            return source
        if len(self._sources) < self._max_sources:
            source = self._sources[network] = _Source(self._max_names)
        else:
            source = self._all_others()
        source.see(network)
        return source

    def add(self, later: "_Window") -> None:
        for network, source in later.streams():
            mine = self._all_others() if network is None else self.source(network)
            mine.add(source)

    def streams(self) -> Iterator[tuple[str | None, _Source]]:
        """The sources by network, and all others under None."""
        yield from self._sources.items()
        if self._others is not None:
            yield None, self._others

    def is_empty(self) -> bool:
        return not self._sources

    def _all_others(self) -> _Source:
        if self._others is None:
            self._others = _Source(self._max_names)
        return self._others
