"""The database's clock, known closely enough in this process to judge access tokens by.

Every expiry of a *session* is decided by the database itself, in the transaction. Access tokens
are judged without a query: by the database's clock as last seen, carried on by the monotonic
clock, so that neither a host whose clock is wrong nor one whose clock steps changes the answer.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ports import StoreUnavailableError
from infra.event_store import database_clock
from infra.postgres import transaction

_RESYNC_S = 30.0
_log = logging.getLogger(__name__)


class DatabaseClock:
    """Tells the time as the database does."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Go by the host's clock until the first ``synchronise``."""
        self._engine = engine
        self._seen = datetime.now(UTC)
        self._seen_at = time.monotonic()

    def now(self) -> datetime:
        """The database's time, to within a round trip and the drift since it was last asked."""
        return self._seen + timedelta(seconds=time.monotonic() - self._seen_at)

    async def synchronise(self) -> None:
        """Ask the database.

        Raises:
            StoreUnavailableError: It cannot be asked.
        """
        async with transaction(self._engine) as connection:
            self._seen = await database_clock(connection)
            self._seen_at = time.monotonic()

    async def run(self) -> None:
        """Ask again every half minute, until cancelled."""
        while True:
            await asyncio.sleep(_RESYNC_S)
            try:
                await self.synchronise()
            except StoreUnavailableError as error:
                _log.warning("the database's clock was not read: %s", error)
