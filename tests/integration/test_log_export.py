"""Putting exports on record: not where somebody was erased while the file still opens them."""

from collections.abc import AsyncIterator

import pytest

from domain.exports import ExportedAs, ExportFormat, ExportRequest, NotExportedError, Selection
from domain.ids import EXPORTS_STREAM, UserId
from infra.log_export import reading_since, record_export
from infra.postgres import transaction
from infra.sealing import DataKeys
from tests.integration.accounts import cause
from tests.integration.projection_world import World, open_world, some_lives


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


async def record(world: World, since: int, reason: str | None, user: UserId | None = None) -> None:
    made = ExportedAs(events=1, sha256="00" * 32, head_size=1, read_since=since)
    request = ExportRequest(
        format=ExportFormat.JSONL, selection=Selection(user_id=user), reason=reason
    )
    await record_export(world.engine, world.data_keys, request, made, cause())


async def read_since(world: World) -> int:
    async with transaction(world.engine) as connection:
        return await reading_since(connection)


def on_record(world: World) -> int:
    (row,) = world.sql("SELECT count(*) FROM events WHERE stream = %s", EXPORTS_STREAM)
    return int(str(row[0]))


@pytest.mark.parametrize("of_her_alone", [False, True])
async def test_an_opened_export_that_began_before_an_erasure_is_refused(
    world: World, *, of_her_alone: bool
) -> None:
    ada = (await some_lives(world)).user
    since = await read_since(world)
    await world.accounts.erase(ada)

    with pytest.raises(NotExportedError, match="was erased"):
        await record(world, since, "a ticket", ada.user_id if of_her_alone else None)

    assert on_record(world) == 0


async def test_a_sealed_one_and_one_that_began_later_are_not(world: World) -> None:
    ada = (await some_lives(world)).user
    before = await read_since(world)
    await world.accounts.erase(ada)

    await record(world, before, None)
    await record(world, await read_since(world), "a ticket")

    assert on_record(world) == 2
