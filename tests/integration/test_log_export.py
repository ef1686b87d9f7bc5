"""Exports on record and handed over: not where somebody was erased while they were made."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from audit.export_lines import read_lines
from audit.export_verification import check_export
from domain.exports import (
    ExportedAs,
    ExportFormat,
    ExportRequest,
    ExportTooLargeError,
    NotExportedError,
    OlderTree,
    Selection,
)
from domain.ids import EXPORTS_STREAM, UserId
from infra.log_export import reading_since, record_export
from infra.postgres import transaction
from infra.sealing import DataKeys
from sessiontrail.exporting import LogExports
from tests.integration.accounts import cause
from tests.integration.projection_world import World, open_world, some_lives
from tests.integration.tree_world import SIGNER, sequenced


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


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where exports lie until they are handed over."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def lying_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def everything(exports: LogExports, most: int) -> bytes:
    request = ExportRequest(format=ExportFormat.JSONL, extends=(OlderTree(3),))
    made = await exports.export(request, cause(), most)
    chunks = [chunk async for chunk in made.chunks()]
    assert sum(map(len, chunks)) == made.size
    return b"".join(chunks)


async def test_an_export_to_hand_over_is_what_is_on_record_and_leaves_nothing_behind(
    world: World, conninfo: str, tmp_path: Path, spool: Path
) -> None:
    await some_lives(world)
    await sequenced(conninfo, tmp_path / "tree")
    exports = LogExports(world.engine, world.data_keys)

    first, second = await asyncio.gather(everything(exports, 1_000), everything(exports, 1_000))

    hashes = {sha256(each).hexdigest() for each in (first, second)}
    rows = world.sql("SELECT data->>'sha256' FROM events WHERE stream = %s", EXPORTS_STREAM)
    assert {str(row[0]) for row in rows} == hashes
    assert lying_in(spool) == []
    checked = check_export(read_lines(BytesIO(first)), SIGNER.verifier, None)
    assert (checked.findings, checked.is_contiguous) == ([], True)


async def test_one_that_is_too_large_is_refused_and_leaves_nothing_behind(
    world: World, conninfo: str, tmp_path: Path, spool: Path
) -> None:
    await some_lives(world)
    await sequenced(conninfo, tmp_path / "tree")

    with pytest.raises(ExportTooLargeError):
        await everything(LogExports(world.engine, world.data_keys), 1)

    assert lying_in(spool) == []
    assert on_record(world) == 0
