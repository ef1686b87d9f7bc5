"""Retention: the oldest part of the log in a file, and everything that goes on without it."""

import gzip
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from audit.archive_files import ArchiveFileError, read_header, verified_leaves
from domain.archives import ArchivedError, NotArchivedError
from domain.as_of import AlteredHistoryError, AtInstant, AtLeaf, AtPosition, UnknownPlaceError
from domain.events.archives import LogArchived, LogRestored
from domain.events.canonical import microseconds
from domain.events.envelope import NewEvent
from domain.events.families import StepUpRequired
from domain.ids import ARCHIVES_STREAM, Stream
from infra.event_store import append_stream
from infra.log_archives import archive_of_leaf, newest_archive
from infra.postgres import transaction
from infra.replay import replaying
from infra.sealing import DataKeys
from infra.snapshot_store import TamperedSnapshotError
from infra.tail import read_stream
from infra.tree_store import StoredTree
from tests.integration.accounts import cause
from tests.integration.archived_world import Kept
from tests.integration.tree_world import SIGNER, leaves_from_scratch
from tests.unit.domain.builders import NOW


@pytest.fixture
async def log(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys, tmp_path: Path
) -> AsyncIterator[Kept]:
    kept = Kept(conninfo, owner_conninfo, data_keys, tmp_path)
    await kept.grow(700)
    await kept.rebuild()
    yield kept
    await kept.close()


async def test_an_archive_holds_the_trees_first_leaves_and_their_rows_are_gone(log: Kept) -> None:
    leaves, rows = leaves_from_scratch(log.owner_conninfo), len(log.rows())

    path, archive, removed = await log.archive()

    assert archive.first_leaf == 0
    assert archive.end_leaf % 256 == 0
    assert len(leaves) > archive.end_leaf >= 512
    found = list(verified_leaves(path, SIGNER.verifier))
    assert [each.leaf for each in found] == leaves[: archive.end_leaf]
    assert removed == archive.leaves
    assert len(log.rows()) == rows - removed
    assert path.name == archive.file_name == f"log-000000000000-{archive.end_leaf:012d}.gz"


async def test_what_was_archived_is_on_record(log: Kept) -> None:
    _, archive, _ = await log.archive()

    async with transaction(log.engine) as connection:
        (recorded,) = await read_stream(connection, ARCHIVES_STREAM)
        assert await newest_archive(connection) == archive
        assert await archive_of_leaf(connection, archive.end_leaf - 1) == archive
        assert await archive_of_leaf(connection, archive.end_leaf) is None
    assert recorded.event == LogArchived(
        archive_id=archive.archive_id,
        first_leaf=0,
        end_leaf=archive.end_leaf,
        snapshot_id=archive.snapshot_id,
        file_name=archive.file_name,
        sha256=archive.sha256.hex(),
        kept=archive.kept,
    )


async def test_the_tree_says_where_archived_events_went_and_gives_the_others(log: Kept) -> None:
    leaves = leaves_from_scratch(log.owner_conninfo)
    _, archive, _ = await log.archive()
    tree = StoredTree(log.engine)

    assert await tree.entries(0, 256) == []
    assert await tree.archive_of(0) == archive.file_name
    assert await tree.archive_of(archive.end_leaf) is None
    rest = await tree.entries(archive.end_leaf, len(leaves))
    assert [each.leaf for each in rest][: len(leaves) - archive.end_leaf] == (
        leaves[archive.end_leaf :]
    )
    place = rest[3].place
    assert await tree.leaf_at(place[1]) == archive.end_leaf + 3
    ((earliest, bundle),) = log.sql(
        "SELECT min(earliest_at), (array_agg(bundle ORDER BY earliest_at))[1] FROM entry_bundles"
    )
    assert isinstance(earliest, datetime)
    assert isinstance(bundle, int)
    assert bundle < archive.end_leaf // 256
    assert await tree.last_by(microseconds(earliest)) == 256 * bundle + 255


async def test_replay_and_the_projections_go_on_from_the_snapshot(log: Kept) -> None:
    before, tables = await log.states(), log.contents()
    assert await log.verify() == []

    await log.archive()

    assert await log.states() == before
    assert await log.verify() == []
    log.sql("TRUNCATE sessions, users, alerts")
    assert await log.verify() != []
    await log.rebuild()
    assert log.contents() == tables


async def test_what_is_tampered_with_in_the_tables_is_still_found(log: Kept) -> None:
    await log.archive()
    log.sql("UPDATE users SET roles = '{admin}' WHERE user_id = (SELECT min(user_id::text)::uuid FROM users)")  # noqa: E501  # fmt: skip
    log.sql("INSERT INTO users SELECT gen_random_uuid(), 1, 'local', 'x', NULL, '{}', now(), NULL, 0, NULL")  # noqa: E501  # fmt: skip

    kinds = sorted(each.kind for each in await log.verify())

    assert kinds == ["differs", "extra_row"]


async def test_the_log_goes_on_after_an_archive_and_the_next_one_follows_it(log: Kept) -> None:
    _, first, _ = await log.archive()
    await log.grow(700)
    before = await log.states()

    path, archive, _ = await log.archive()

    assert archive.first_leaf == first.end_leaf
    assert archive.leaves >= 512
    assert sum(1 for _ in verified_leaves(path, SIGNER.verifier)) == archive.leaves
    assert await log.states() == before


async def test_a_moment_in_an_archive_is_refused_with_the_files_name(log: Kept) -> None:
    ((position,),) = log.sql(
        "SELECT position FROM events ORDER BY transaction_id, position LIMIT 1"
    )
    instant = log.history.lives.at - timedelta(hours=5)
    _, archive, _ = await log.archive()

    async with replaying(log.engine) as replay:
        for moment in (AtInstant(instant), AtLeaf(100)):
            with pytest.raises(ArchivedError, match=archive.file_name):
                await replay.moment(moment)
        with pytest.raises(UnknownPlaceError, match=archive.file_name):
            await replay.moment(AtPosition(int(str(position))))


async def test_a_restored_archive_leaves_every_row_as_it_was(log: Kept) -> None:
    before, states = log.rows(), await log.states()
    path, archive, _ = await log.archive()

    await log.restore(path)

    assert log.rows() == before
    assert await log.states() == states
    assert await log.verify() == []
    async with transaction(log.engine) as connection:
        assert await newest_archive(connection) is None
        recorded = await read_stream(connection, ARCHIVES_STREAM)
    assert recorded[-1].event == LogRestored(archive_id=archive.archive_id)


async def test_archives_come_back_newest_first(log: Kept) -> None:
    before = log.rows()
    first, _, _ = await log.archive()
    await log.grow(700)
    grown = log.rows()
    second, archive, _ = await log.archive()

    with pytest.raises(NotArchivedError, match=archive.file_name):
        await log.restore(first)
    await log.restore(second)
    assert log.rows() == grown
    await log.restore(first)

    assert log.rows()[: len(before)] == before
    with pytest.raises(NotArchivedError, match="nothing is archived"):
        await log.restore(first)


async def test_what_was_restored_can_be_archived_again(log: Kept) -> None:
    path, first, _ = await log.archive()
    await log.restore(path)

    _, second, removed = await log.archive()

    assert (second.first_leaf, second.end_leaf) == (first.first_leaf, first.end_leaf)
    assert removed == first.leaves


def _altered(path: Path, change: bytes, into: bytes) -> None:
    content = gzip.decompress(path.read_bytes())
    assert change in content
    path.write_bytes(gzip.compress(content.replace(change, into, 1)))


@pytest.mark.parametrize(
    ("change", "into"),
    [
        (b'"generation":2', b'"generation":3'),
        (b'"end_leaf":', b'"end_leaf":1'),
        (b'"first_leaf":0', b'"first_leaf":1'),
        (b"tests.example/tlog\\n", b"other.example/tlog\\n"),
    ],
    ids=["leaf", "end", "first", "log"],
)
async def test_a_file_that_was_altered_is_no_archive(log: Kept, change: bytes, into: bytes) -> None:
    path, _, _ = await log.archive()

    _altered(path, change, into)

    with pytest.raises(ArchiveFileError, match=path.name):
        list(verified_leaves(path, SIGNER.verifier))
    with pytest.raises((ArchiveFileError, NotArchivedError)):
        await log.restore(path)


async def test_a_file_that_was_cut_short_or_is_another_is_no_archive(
    log: Kept, tmp_path: Path
) -> None:
    path, _, _ = await log.archive()
    short, other = tmp_path / "short.gz", tmp_path / "other.gz"
    short.write_bytes(path.read_bytes()[:-400])
    other.write_bytes(b"not compressed")

    for file in (short, other):
        with pytest.raises(ArchiveFileError):
            list(verified_leaves(file, SIGNER.verifier))
    with pytest.raises(ArchiveFileError):
        read_header(other)


async def test_a_last_line_that_was_left_out_is_noticed(log: Kept, tmp_path: Path) -> None:
    path, _, _ = await log.archive()
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    copy = tmp_path / path.name
    copy.write_bytes(gzip.compress(b"".join(lines[:-1])))

    with pytest.raises(ArchiveFileError, match="holds the leaves up to"):
        list(verified_leaves(copy, SIGNER.verifier))


async def test_a_log_that_was_tampered_with_is_not_archived(log: Kept) -> None:
    rows = len(log.rows())
    log.sql("UPDATE events SET actor = 'user:x' WHERE position ="
            " (SELECT min(position) FROM events)")  # fmt: skip

    with pytest.raises(ArchiveFileError):
        await log.archive()

    assert len(log.rows()) == rows
    assert log.sql("SELECT 1 FROM log_archives") == []


async def test_a_log_that_lacks_an_event_is_not_archived(log: Kept) -> None:
    log.sql("DELETE FROM events WHERE position = (SELECT min(position) FROM events)")

    with pytest.raises((NotArchivedError, ArchiveFileError)):
        await log.archive()

    assert log.sql("SELECT 1 FROM log_archives") == []


async def test_what_a_reader_has_not_read_is_not_archived(log: Kept) -> None:
    log.sql("INSERT INTO checkpoints VALUES ('kafka', '0', 0, now())")

    with pytest.raises(NotArchivedError, match="kafka has not read"):
        await log.archive()


async def test_without_a_snapshot_of_before_nothing_is_archived(log: Kept) -> None:
    with pytest.raises(NotArchivedError, match="no snapshot"):
        await log.archive(log.history.lives.at - timedelta(days=300))


async def test_streams_that_are_read_whole_stay_and_a_counters_last_event_too(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys, tmp_path: Path
) -> None:
    log = Kept(conninfo, owner_conninfo, data_keys, tmp_path)
    kept = {"policy-x": [1, 2], "key-x": [1, 2], "audit-x": [1, 2], "source-x": [2]}
    async with transaction(log.engine) as connection:
        for stream in kept:
            events = [NewEvent(StepUpRequired())] * 2
            await append_stream(connection, Stream(stream), 0, events, cause(), NOW)
    await log.grow(700)

    await log.archive()

    for stream, versions in kept.items():
        left = log.sql("SELECT version FROM events WHERE stream = %s ORDER BY version", stream)
        assert [version for (version,) in left] == versions
    await log.close()


async def test_an_archives_snapshot_that_is_altered_is_refused(log: Kept) -> None:
    await log.archive()
    log.sql("UPDATE snapshot_chunks SET states = set_byte(states, 20, 7)")

    with pytest.raises(TamperedSnapshotError):
        await log.states()
    with pytest.raises(TamperedSnapshotError):
        await log.verify()


@pytest.mark.parametrize(
    "change",
    ["end_leaf = end_leaf + 256", "snapshot_id = gen_random_uuid()", "archive_id = event_id"],
    ids=["end", "snapshot", "id"],
)
async def test_an_archive_that_the_log_does_not_know_is_refused(log: Kept, change: str) -> None:
    await log.archive()
    log.sql(f"UPDATE log_archives SET {change} FROM (SELECT event_id FROM events LIMIT 1) e")

    with pytest.raises(AlteredHistoryError, match="archive"):
        await log.states()


async def test_the_service_may_not_remove_a_row_whatever_it_says(log: Kept) -> None:
    async with transaction(log.engine) as connection:
        await connection.execute("SET LOCAL sessiontrail.archiving = 'on'")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute("DELETE FROM events")
        await connection.rollback()


async def test_two_files_of_one_archive_are_one(log: Kept, tmp_path: Path) -> None:
    before = log.rows()
    path, _, _ = await log.archive()
    copy = tmp_path / "renamed.gz"
    shutil.copy(path, copy)

    await log.restore(copy)

    assert log.rows() == before
