"""Counting what happens: every event once, however it is read and by however many."""

import asyncio
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.activity import Counted
from infra.activity import STRETCH, count_once, read_activity
from infra.postgres import transaction
from infra.sealing import DataKeys
from tests.alerts import raise_alert as put_alert
from tests.alerts import raised

DAY = timedelta(days=1)


async def counted(engine: AsyncEngine) -> list[Counted]:
    async with transaction(engine) as connection:
        cursor = await connection.execute("SELECT clock_timestamp()")
        row = await cursor.fetchone()
    assert row is not None
    return list(await read_activity(engine, row[0] - DAY, row[0] + DAY, STRETCH))


async def test_every_event_is_counted_once_by_any_number_of_services(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    for _ in range(3):
        await put_alert(engine, data_keys, raised())

    await asyncio.gather(*(count_once(engine) for _ in range(4)))
    await count_once(engine)
    again = await count_once(engine)

    found = await counted(engine)
    assert again == 0
    assert {each.kind for each in found} == {"alerts"}
    assert sum(each.count for each in found) == 3


async def test_nothing_is_counted_where_nothing_happened(engine: AsyncEngine) -> None:
    await count_once(engine)

    assert await counted(engine) == []
