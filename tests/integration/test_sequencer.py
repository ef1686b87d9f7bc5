"""The sequencer on a real PostgreSQL: one chain, whoever else runs and whatever is in the log."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.checkpoints import signed_checkpoint
from audit.proving import prove_consistency, prove_leaf
from audit.publication import Publication
from audit.sequencer import Sequencer
from audit.signed_notes import Signer
from audit.tiles import edge_tiles, tile_path, width_at
from audit.tlog_proofs import verify_proof
from domain.events.canonical import microseconds
from domain.transparency import BUNDLE_WIDTH, TileId, TreeDamagedError
from infra.sealing import DataKeys
from infra.tree_files import TreeFolder
from infra.tree_store import StoredTree
from tests.integration.accounts import Accounts
from tests.integration.tree_world import (
    SIGNER,
    Counts,
    NoTurns,
    append,
    assert_one_chain,
    leaves_from_scratch,
    published_size,
    root_from_scratch,
    sequenced,
    sequencer,
    sequencing,
    tree_size,
    until,
    until_sequenced,
)


async def test_the_tree_is_that_of_every_event_in_the_logs_order(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    append(owner_conninfo, 700)

    await sequenced(conninfo, tmp_path / "tree")

    assert tree_size(conninfo) == 700
    assert_one_chain(owner_conninfo)


async def test_real_events_are_leaves_as_the_definition_has_them(
    conninfo: str, engine: AsyncEngine, data_keys: DataKeys, tmp_path: Path
) -> None:
    accounts = Accounts(engine, data_keys)
    await accounts.sign_in()

    await sequenced(conninfo, tmp_path / "tree")

    assert tree_size(conninfo) > 1
    assert_one_chain(conninfo)


async def test_it_goes_on_where_it_stopped(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    for count in (1, 255, 1, 300, 256):
        append(owner_conninfo, count)
        await sequenced(conninfo, tmp_path / "tree", batch=100)

    assert tree_size(conninfo) == 813
    assert_one_chain(owner_conninfo)


async def test_an_event_whose_transaction_commits_late_is_not_left_out(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    with psycopg.connect(owner_conninfo) as late:
        late.execute(
            "INSERT INTO events (stream, version, event_id, type, schema_version, occurred_at,"
            " actor, correlation_id, data) VALUES ('late', 1, gen_random_uuid(), 'Late', 1, now(),"
            " 'user', gen_random_uuid(), '{}')"
        )
        append(owner_conninfo, 10)
        async with sequencing(conninfo, tmp_path / "tree"):
            late.commit()
            await until_sequenced(conninfo)

    assert tree_size(conninfo) == 11
    assert_one_chain(owner_conninfo)


async def test_of_several_one_works_and_the_rest_take_over(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    first = asyncio.create_task(sequencer(conninfo, tmp_path / "tree").run())
    append(owner_conninfo, 10)
    await until_sequenced(conninfo)
    async with sequencing(conninfo, tmp_path / "tree"):
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        append(owner_conninfo, 10)
        await until_sequenced(conninfo)

    assert_one_chain(owner_conninfo)


async def test_two_that_both_believe_to_have_the_turn_make_one_chain(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    """The lock is lost without a word where a pooler stands in between: it only saves work."""
    counts = [Counts(), Counts(), Counts()]
    publication = Publication(TreeFolder(tmp_path / "tree"), SIGNER.verifier)
    async with asyncio.TaskGroup() as tasks:
        at_work = [
            tasks.create_task(
                Sequencer(NoTurns(conninfo), SIGNER, publication, count, batch=5).run()
            )
            for count in counts
        ]
        for _ in range(12):
            append(owner_conninfo, 20)
            await until_sequenced(conninfo)
        for each in at_work:
            each.cancel()

    assert tree_size(conninfo) == 240
    assert_one_chain(owner_conninfo)
    sizes = [size for count in counts for size in count.sizes]
    assert len(sizes) == len(set(sizes))


async def test_a_head_follows_soon_after_an_event(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    async with sequencing(conninfo, tmp_path / "tree"):
        append(owner_conninfo, 1)
        await until_sequenced(conninfo)
        appended_at = loop.time()
        append(owner_conninfo, 1)
        await until_sequenced(conninfo)

    assert loop.time() - appended_at < 10


async def test_data_that_nobody_but_a_tamperer_writes_does_not_stop_it(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    append(owner_conninfo, 5)
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger fires
        for change in (
            "data = '{\"n\": 1.50}'",
            "data = '[123456789012345678901234567890]'",
            "occurred_at = 'infinity'",
            "occurred_at = '-infinity'",
            "occurred_at = '4000-01-01 BC'",
        ):
            connection.execute(
                "UPDATE events SET " + change + " WHERE position = (SELECT min(position)"
                " FROM events WHERE data ? 'z' AND occurred_at > '2000-01-01'"
                " AND isfinite(occurred_at))"
            )

    await sequenced(conninfo, tmp_path / "tree")

    assert tree_size(conninfo) == 5


async def test_bundles_say_where_they_begin_and_when_their_events_happened(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    append(owner_conninfo, 300)
    await sequenced(conninfo, tmp_path / "tree", batch=200)
    append(owner_conninfo, 300)
    await sequenced(conninfo, tmp_path / "tree", batch=200)

    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        found = connection.execute(
            "SELECT bundle, transaction_id::text, position, earliest_at, latest_at"
            " FROM entry_bundles ORDER BY bundle"
        ).fetchall()
        expected = connection.execute(
            "SELECT leaf / 256, (array_agg(transaction_id ORDER BY leaf))[1]::text,"
            "       (array_agg(position ORDER BY leaf))[1], min(occurred_at), max(occurred_at)"
            "  FROM (SELECT *, row_number() OVER (ORDER BY transaction_id, position) - 1 AS leaf"
            "          FROM events) AS numbered"
            " GROUP BY leaf / 256 ORDER BY leaf / 256"
        ).fetchall()

    assert found == expected


async def test_leaves_and_events_are_found_by_one_another(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    for count in (300, 250, 1):
        append(owner_conninfo, count)
    await sequenced(conninfo, tmp_path / "tree")
    append(owner_conninfo, 1)
    tree = StoredTree(engine)
    leaves = leaves_from_scratch(owner_conninfo)
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        positions = [
            row[0]
            for row in connection.execute(
                "SELECT position FROM events ORDER BY transaction_id, position"
            )
        ]

    for index in (0, 1, 255, 256, 299, 300, 511, 512, 550):
        assert await tree.leaf_at(positions[index]) == index
        assert [entry.leaf for entry in await tree.entries(index, 3)] == leaves[
            index : min(index + 3, 551)
        ]
    assert await tree.leaf_at(positions[551]) is None
    assert await tree.leaf_at(10**9) is None
    assert await tree.entries(600, 1) == []


async def test_the_last_leaf_by_an_instant_is_found(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    append(owner_conninfo, 600)  # a second apart
    noon = microseconds(datetime(2026, 3, 1, 12, tzinfo=UTC))
    tree = StoredTree(engine)
    never_sequenced = await tree.last_by(noon + 300_000_000)
    await sequenced(conninfo, tmp_path / "tree")

    found = [
        await tree.last_by(noon + later)
        for later in (0, 1_000_000, 1_999_999, 256_000_000, 257_000_000, 10**12)
    ]

    assert never_sequenced is None
    assert found == [None, 0, 0, 255, 256, 599]


async def test_every_proof_of_the_stored_tree_holds(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    append(owner_conninfo, 600)
    await sequenced(conninfo, tmp_path / "tree")
    tree = StoredTree(engine)
    leaves = leaves_from_scratch(owner_conninfo)

    for index in (0, 1, 255, 256, 511, 512, 599):
        proof = await prove_leaf(tree, index)

        assert proof.extra == leaves[index]
        verify_proof(proof, leaves[index], SIGNER.verifier)
    for old in (0, 1, 255, 256, 257, 599, 600):
        found = await prove_consistency(tree, old)

        assert found.old_root == root_from_scratch(owner_conninfo, old)


async def test_an_event_is_found_by_its_id(
    conninfo: str, engine: AsyncEngine, data_keys: DataKeys, tmp_path: Path
) -> None:
    accounts = Accounts(engine, data_keys)
    for _ in range(4):
        await accounts.sign_in()
    await sequenced(conninfo, tmp_path / "tree")
    await accounts.sign_in()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        rows = connection.execute("SELECT event_id::text, position FROM events").fetchall()
    tree = StoredTree(engine)

    assert [await tree.position_of(event_id) for event_id, _ in rows] == [
        position for _, position in rows
    ]
    assert await tree.position_of(rows[0][0][:-1] + "0") in {None, rows[0][1]}


async def test_files_are_those_of_the_tree_and_partial_ones_go_when_they_are_full(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    append(owner_conninfo, 100)
    await sequenced(conninfo, folder)
    assert (folder / "tile/0/000.p/100").exists()

    append(owner_conninfo, 500)
    async with sequencing(conninfo, folder):
        await until(
            lambda: published_size(folder) == 600 and not (folder / "tile/0/000.p").exists()
        )

    head = await StoredTree(engine).newest_head()
    assert head is not None
    assert (folder / "checkpoint").read_text() == head.note
    await assert_files_hold_the_tree(folder, StoredTree(engine), 600)


@pytest.mark.parametrize("damage", ["removed", "cut", "never written"])
async def test_files_that_are_missing_are_written_at_the_next_start(
    conninfo: str, owner_conninfo: str, engine: AsyncEngine, tmp_path: Path, damage: str
) -> None:
    folder, whole = tmp_path / "tree", "tile/0/001"
    append(owner_conninfo, 1000)
    await sequenced(conninfo, folder)
    match damage:
        case "removed":
            (folder / whole).unlink()
        case "cut":
            (folder / whole).write_bytes(b"")
        case _:
            folder = tmp_path / "elsewhere"

    async with sequencing(conninfo, folder):
        await until(lambda: published_size(folder) == 1000 and length(folder / whole) == 8192)

    await assert_files_hold_the_tree(folder, StoredTree(engine), 1000)


async def test_a_database_that_was_set_back_gets_nothing_signed(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    """Its tree would contradict the one that was published."""
    append(owner_conninfo, 300)
    await sequenced(conninfo, tmp_path / "tree")
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute("TRUNCATE tree_heads, tree_tiles, entry_bundles")
        connection.execute("DELETE FROM checkpoints WHERE reader = 'sequencer'")
        connection.execute("SET session_replication_role = replica")  # no trigger fires
        connection.execute("DELETE FROM events WHERE position > 200")

    with pytest.raises(
        TreeDamagedError, match=r"300 events was published.*knows of 0: .* set back"
    ):
        await asyncio.wait_for(sequencer(conninfo, tmp_path / "tree").run(), 20)

    assert tree_size(conninfo) == 0
    assert published_size(tmp_path / "tree") == 300


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE tree_tiles SET hashes = overlay(hashes placing '\\x00' from 5) WHERE tile = 1",
         "is not the one that was signed"),
        ("UPDATE tree_tiles SET hashes = '' WHERE level = 0 AND tile = 1", "not wide enough"),
        ("DELETE FROM tree_tiles WHERE level = 1", "not wide enough"),
        ("DELETE FROM tree_tiles WHERE level = 0 AND tile = 0", "missing or cut short"),
        ("UPDATE tree_heads SET root = sha256('x')", "is not the one that was signed"),
        ("UPDATE tree_heads SET size = 299", "is not the one that was signed"),
        ("UPDATE tree_heads SET note = 'x'", "not signed with our key"),
    ],
    ids=["a hash", "a tile", "a level", "a full tile", "the root", "the size", "the note"],
)  # fmt: skip
async def test_nothing_is_signed_on_top_of_a_tree_that_was_changed(
    conninfo: str, owner_conninfo: str, tmp_path: Path, damage: str, message: str
) -> None:
    append(owner_conninfo, 300)
    await sequenced(conninfo, tmp_path / "tree")
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute(damage.encode())
    append(owner_conninfo, 10)

    with pytest.raises(TreeDamagedError, match=message):
        await asyncio.wait_for(sequencer(conninfo, tmp_path / "tree").run(), 20)

    assert published_size(tmp_path / "tree") == 300


async def test_nothing_is_signed_on_top_of_a_head_of_another_key(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    append(owner_conninfo, 10)
    await sequenced(conninfo, tmp_path / "tree")
    other = Signer("tests.example/tlog", bytes(32))

    with pytest.raises(TreeDamagedError, match="not signed with our key"):
        await asyncio.wait_for(sequencer(conninfo, tmp_path / "other", other).run(), 20)


async def test_a_published_checkpoint_of_another_tree_stops_it(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    append(owner_conninfo, 10)
    await sequenced(conninfo, tmp_path / "tree")
    forged = signed_checkpoint(SIGNER, 5, bytes(32))
    (tmp_path / "tree/checkpoint").write_text(forged)

    with pytest.raises(TreeDamagedError, match="does not begin with the published one of 5"):
        await asyncio.wait_for(sequencer(conninfo, tmp_path / "tree").run(), 20)


async def test_a_database_that_goes_away_is_waited_for(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    append(owner_conninfo, 10)
    async with sequencing(conninfo, tmp_path / "tree"):
        await until_sequenced(conninfo)
        with psycopg.connect(owner_conninfo, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        append(owner_conninfo, 10)
        await until_sequenced(conninfo)
        await until(lambda: published_size(tmp_path / "tree") == 20)

    assert_one_chain(owner_conninfo)


def length(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


async def assert_files_hold_the_tree(folder: Path, tree: StoredTree, size: int) -> None:
    wanted = [
        TileId(edge.level, number)
        for edge in edge_tiles(size)
        for number in range(edge.number + 1)
        if width_at(edge.level, number, size)
    ]
    stored = await tree.tiles(wanted)
    assert len(wanted) > size // BUNDLE_WIDTH
    for tile in wanted:
        width = width_at(*tile, size)
        assert (folder / tile_path(*tile, width)).read_bytes() == stored[tile][: width * 32]
