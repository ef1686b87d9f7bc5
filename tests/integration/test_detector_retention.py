"""What the detector no longer needs goes, and nothing else."""

from datetime import timedelta

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_work import StoredState
from infra.detector_retention import drop_old_states
from infra.detector_states import DetectorStates
from infra.postgres import transaction

_SHORT, _LONG, _FOREVER = 4, 1, 99


async def keep(engine: AsyncEngine, *keys: tuple[int, str]) -> None:
    async with transaction(engine) as connection:
        await DetectorStates(connection).save([StoredState(key, None, b"state") for key in keys])


def age(conninfo: str, key: str, days: int) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "UPDATE detector_states SET updated_at = updated_at - make_interval(days => %s)"
            " WHERE key = %s",
            (days, key),
        )


async def kept(engine: AsyncEngine) -> set[str]:
    async with transaction(engine) as connection:
        cursor = await connection.execute("SELECT key FROM detector_states")
        return {record[0] for record in await cursor.fetchall()}


async def test_states_that_have_not_changed_for_long_are_dropped_by_scope(
    engine: AsyncEngine, conninfo: str
) -> None:
    await keep(engine, (_SHORT, "old"), (_SHORT, "new"), (_LONG, "as old"), (_FOREVER, "ancient"))
    for key in ("old", "as old", "ancient"):
        age(conninfo, key, 10)

    dropped = await drop_old_states(engine, {_SHORT: timedelta(days=7), _LONG: timedelta(days=400)})

    assert dropped == 1
    assert await kept(engine) == {"new", "as old", "ancient"}


async def test_a_state_that_changes_again_is_young_again(
    engine: AsyncEngine, conninfo: str
) -> None:
    await keep(engine, (_SHORT, "source"))
    age(conninfo, "source", 10)

    await keep(engine, (_SHORT, "source"))

    assert await drop_old_states(engine, {_SHORT: timedelta(days=7)}) == 0
