"""Failed sign-ins, counted in memory and written as one event a window and source.

However hard an attack, a window adds a bounded number of events and holds a bounded number of
counters: sources beyond the limit are merged into one.
"""

import asyncio
import hmac
import logging
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import microseconds
from domain.events.envelope import Actor, ActorKind, Cause, NewEvent
from domain.events.personal import Personal
from domain.events.sign_in_failures import AccountFailures, SignInFailuresCounted
from domain.ids import CorrelationId, Stream, UserId
from domain.ports import StoreUnavailableError
from infra.event_store import StreamConflictError, append_stream, database_clock, stream_version
from infra.ids import new_uuid
from infra.postgres import Connection, transaction
from infra.sealing import DataKey, DataKeys

SYSTEM_SUBJECT = UserId("00000000-0000-7000-8000-000000000001")
"""Whose data key seals what concerns no user in particular, such as the networks of sources."""

_OTHERS = "others"
_ATTEMPTS = 5
_ACTOR = Actor(ActorKind.SYSTEM, "sign-in-failures")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Source:
    networks: list[str]
    failures: int = 0
    limited: int = 0
    unknown_accounts: int = 0
    accounts: dict[UserId, int] = field(default_factory=dict)
    accounts_omitted: int = 0


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
    ) -> None:
        """Count from now on.

        Args:
            engine: The pool.
            data_keys: Makes and opens the system's data key.
            key: Names streams of networks without revealing the networks.
            window_s: Seconds from one flush to the next.
            max_sources: Networks counted one by one in a window.
            max_accounts: Accounts counted one by one for each network.
        """
        self._engine = engine
        self._data_keys = data_keys
        self._key = key
        self._window_s = window_s
        self._max_sources = max_sources
        self._max_accounts = max_accounts
        self._sources: dict[str, _Source] = {}

    def note(self, network: str, user_id: UserId | None, *, limited: bool) -> None:
        """Count one failure: from a network, on an account if it exists, refused unchecked or not."""
        source = self._sources.get(network)
        if source is None:
            if len(self._sources) < self._max_sources:
                source = self._sources[network] = _Source([network])
            else:
                source = self._sources.setdefault(_OTHERS, _Source([]))
        source.failures += 1
        source.limited += limited
        if user_id is None:
            source.unknown_accounts += 1
        elif user_id in source.accounts or len(source.accounts) < self._max_accounts:
            source.accounts[user_id] = source.accounts.get(user_id, 0) + 1
        else:
            source.accounts_omitted += 1

    async def flush(self) -> None:
        """Write what was counted since the last flush; what cannot be written is kept.

        Raises:
            StoreUnavailableError: The database cannot serve.
        """
        for network in list(self._sources):
            source = self._sources.pop(network)
            try:
                await self._write(network, source)
            except BaseException:
                self._sources.setdefault(network, source)
                raise

    async def run(self) -> None:
        """Flush at every window until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(self._window_s)
                await self._try_to_flush()
        finally:
            await self._try_to_flush()

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except (StoreUnavailableError, StreamConflictError) as error:
            _log.warning("sign-in failures were not written yet: %s", error)

    async def _write(self, network: str, source: _Source) -> None:
        stream = self._stream(network)
        for attempt in range(_ATTEMPTS):
            try:
                async with transaction(self._engine) as connection:
                    at = await database_clock(connection)
                    await append_stream(
                        connection,
                        stream,
                        await stream_version(connection, stream),
                        [self._event(source, at)],
                        Cause(_ACTOR, CorrelationId(new_uuid())),
                        at,
                        data_key=await self._system_key(connection),
                    )
            except StreamConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def _stream(self, network: str) -> Stream:
        if network == _OTHERS:
            return Stream("source-others")
        return Stream("source-" + hmac.digest(self._key, network.encode(), "sha256").hex()[:32])

    def _event(self, source: _Source, at: datetime) -> NewEvent:
        most_tried = sorted(source.accounts.items(), key=lambda item: -item[1])
        counted = SignInFailuresCounted(
            window_start_us=microseconds(at) - self._window_s * 1_000_000,
            window_s=self._window_s,
            failures=source.failures,
            limited=source.limited,
            unknown_accounts=source.unknown_accounts,
            accounts=[AccountFailures(user_id, count) for user_id, count in most_tried],
            accounts_omitted=source.accounts_omitted,
        )
        return NewEvent(counted, Personal(networks=source.networks))

    async def _system_key(self, connection: Connection) -> DataKey:
        await connection.execute(
            "INSERT INTO data_keys (subject_id, wrapped_key) VALUES (%s, %s)"
            " ON CONFLICT (subject_id) DO NOTHING",
            (SYSTEM_SUBJECT, self._data_keys.new(SYSTEM_SUBJECT)),
        )
        cursor: psycopg.AsyncCursor[tuple[bytes]] = await connection.execute(
            "SELECT wrapped_key FROM data_keys WHERE subject_id = %s", (SYSTEM_SUBJECT,)
        )  # type: ignore[assignment]  # the row is that of the query
        record = await cursor.fetchone()
        if record is None:
            msg = "the system's data key is missing"
            raise StoreUnavailableError(msg)
        return self._data_keys.unwrap(record[0], SYSTEM_SUBJECT)
