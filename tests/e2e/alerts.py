"""Alerts on a running service's database, raised as its detector would."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert import Alert
from domain.events.envelope import NewEvent
from domain.ids import AlertId
from infra.ids import new_uuid
from infra.postgres import create_engine
from infra.sealing import DataKeys
from tests.alerts import put
from tests.e2e.accounts import conninfo_of, key_ring_of
from tests.e2e.service import RunningService

_ResultT = TypeVar("_ResultT")


def raise_alert(service: RunningService, first: NewEvent, *more: NewEvent) -> Alert:
    """A new alert."""
    return append(service, AlertId(new_uuid()), first, *more)


def append(service: RunningService, alert_id: AlertId, *events: NewEvent) -> Alert:
    """What a rule has to add to an alert."""

    async def work(engine: AsyncEngine) -> Alert:
        data_keys = DataKeys(key_ring_of(service).masters)
        return await put(engine, data_keys, alert_id, *events)

    return _on_engine(service, work)


def _on_engine(
    service: RunningService, work: Callable[[AsyncEngine], Awaitable[_ResultT]]
) -> _ResultT:
    async def main() -> _ResultT:
        engine = create_engine(conninfo_of(service), max_connections=1, wait_s=5)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(main())
