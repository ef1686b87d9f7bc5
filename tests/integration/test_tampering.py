"""Whatever a superuser of the database does to the log, it is found and named.

The signing key, the published head and saved heads lie outside the database.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest

from audit.checkpoints import open_checkpoint, signed_checkpoint
from audit.head_claims import SavedHead
from audit.log_verification import Covered
from audit.merkle import leaf_hash
from audit.signed_notes import Signer
from audit.tiles import GrowingTiles
from domain.ids import SYSTEM_SUBJECT
from infra.embedded_postgres import RunningPostgres
from infra.sealing import DataKeys, MasterKeys
from infra.snapshot_taking import take_snapshot
from infra.tree_rows import next_entries
from sessiontrail.table_comparison import differences
from sessiontrail.verification import Verified, verify_store
from tests.integration.accounts import cause
from tests.integration.projection_world import World, open_world, some_lives
from tests.integration.test_tail import documented_step
from tests.integration.tree_world import SIGNER, connected, sequenced

FOREIGN = Signer(SIGNER.verifier.name, bytes(range(1, 33)))
"""A DBA's own key, under the log's name."""
DATA_KEYS = DataKeys(MasterKeys(1, {1: bytes(range(32))}))
MIDDLE = 300
"""A leaf in the second of three bundles."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Store:
    """A log that was sequenced, and the heads of it that others have."""

    database: str
    backup: str
    newest: SavedHead
    older: SavedHead


class Tampering:
    """A copy of the store, as its superuser has it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sql = world.sql

    def event(self, leaf: int) -> tuple[int, str, int, str]:
        """Position, stream, version and type of the event that is a leaf."""
        (row,) = self.sql(
            "SELECT position, stream, version, type FROM events"
            " ORDER BY transaction_id, position OFFSET %s LIMIT 1",
            leaf,
        )
        position, stream, version, type_ = row
        assert isinstance(position, int)
        assert isinstance(version, int)
        return position, str(stream), version, str(type_)

    def leaves(self) -> int:
        (row,) = self.sql("SELECT max(size) FROM tree_heads")
        assert isinstance(row[0], int)
        return row[0]

    def run_documented_step(self) -> None:
        """What docs/operations.md tells to do after a dump was restored in another cluster."""
        with psycopg.connect(self._world.owner_conninfo, autocommit=True) as owner:
            for statement in documented_step().split(";"):
                owner.execute(statement.encode())

    async def sign_in(self) -> None:
        """Two events more: a user and a session."""
        await self._world.accounts.sign_in()

    async def rebuild_tree(self, signer: Signer) -> None:
        """Make tiles and one head that fit the events as they are."""
        async with connected(self._world.owner_conninfo) as connection:
            entries = await next_entries(connection, (0, 0), self.leaves())
        tree = GrowingTiles()
        tree.extend([leaf_hash(each.leaf) for each in entries])
        for (level, number), hashes in tree.take_changed().items():
            self.sql(
                "UPDATE tree_tiles SET hashes = %s WHERE level = %s AND tile = %s",
                *(hashes, level, number),
            )
        note = signed_checkpoint(signer, tree.size, tree.root())
        self.sql("DELETE FROM tree_heads WHERE size < %s", tree.size)
        self.sql("UPDATE tree_heads SET root = %s, note = %s", tree.root(), note)

    async def verify(self, *saved: SavedHead) -> Verified:
        engine = self._world.owner
        compare_tables = partial(differences, engine, DATA_KEYS)
        return await verify_store(engine, SIGNER.verifier, saved, compare_tables, unseen)

    async def findings(self, *saved: SavedHead) -> str:
        return "\n".join(map(str, (await self.verify(*saved)).findings))


def unseen(_: str) -> Callable[[int, int], None]:
    """Progress that nobody watches."""
    return lambda _done, _total: None


@pytest.fixture(scope="module")
def store(postgres: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Some lives and 600 refreshes, a snapshot, a tree that was signed twice, and a backup."""
    number = next(_numbers)
    name, backup = f"sequenced_{number}", f"backup_{number}"
    _create(postgres, name, "migrated")
    conninfo = postgres.conninfo(user="sessiontrail", dbname=name)
    owner = postgres.conninfo(dbname=name)
    folder = tmp_path_factory.mktemp("tree")

    async def begin() -> str:
        async with open_world(conninfo, owner, DATA_KEYS) as world:
            session = await some_lives(world)
            await world.refresh(session, 300)
            await sequenced(conninfo, folder)
        return (folder / "checkpoint").read_text()

    async def go_on() -> str:
        async with open_world(conninfo, owner, DATA_KEYS) as world:
            await take_snapshot(world.engine, cause())
            await world.refresh(await world.accounts.sign_in(), 300)
            await sequenced(conninfo, folder)
        return (folder / "checkpoint").read_text()

    older = asyncio.run(begin())
    _create(postgres, backup, name)
    newest = asyncio.run(go_on())
    yield Store(name, backup, head(newest), head(older))
    for each in (name, backup):
        with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {each} WITH (FORCE)".encode())


@pytest.fixture
async def tampering(postgres: RunningPostgres, store: Store) -> AsyncIterator[Tampering]:
    """A copy to tamper with."""
    async with copied(postgres, store.database) as tampering:
        yield tampering


@asynccontextmanager
async def copied(postgres: RunningPostgres, database: str) -> AsyncIterator[Tampering]:
    name = f"tampered_{next(_numbers)}"
    _create(postgres, name, database)
    conninfo = postgres.conninfo(user="sessiontrail", dbname=name)
    async with open_world(conninfo, postgres.conninfo(dbname=name), DATA_KEYS) as world:
        yield Tampering(world)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _create(postgres: RunningPostgres, name: str, template: str) -> None:
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode()
        )


def head(note: str) -> SavedHead:
    return SavedHead("the saved head", open_checkpoint(note, SIGNER.verifier))


async def test_an_untouched_log_verifies_clean(tampering: Tampering, store: Store) -> None:
    verified = await tampering.verify(store.newest, store.older)

    assert verified.findings == []
    assert verified.covered == Covered(store.newest.checkpoint.size, 0, 0, None)
    assert verified.covered.leaves > 600


async def test_a_dump_restored_elsewhere_verifies_after_the_documented_step(
    tampering: Tampering, store: Store
) -> None:
    for table in ("events", "entry_bundles", "checkpoints"):
        tampering.sql(
            f"UPDATE {table} SET transaction_id"
            " = (transaction_id::text::bigint + 1000000000)::text::xid8"
        )

    tampering.run_documented_step()

    assert (await tampering.verify(store.newest, store.older)).findings == []


async def test_events_that_are_not_signed_yet_are_counted(tampering: Tampering) -> None:
    await tampering.sign_in()

    verified = await tampering.verify()

    assert verified.findings == []
    assert verified.covered.beyond == 2


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("data", "data || '{\"generation\": 999}'"),
        ("data", "data || '{\"generation\": 1.5}'"),
        ("personal", "set_byte(personal, 20, get_byte(personal, 20) # 1)"),
        ("personal", "NULL"),
        ("stream", "'family-' || gen_random_uuid()"),
        ("version", "version + 100000"),
        ("event_id", "gen_random_uuid()"),
        ("type", "'SessionEnded'"),
        ("type", "'OfANewerBuild'"),
        ("schema_version", "2"),
        ("occurred_at", "occurred_at + interval '1 microsecond'"),
        ("occurred_at", "'infinity'"),
        ("subject_id", "gen_random_uuid()"),
        ("actor", "'system:nobody'"),
        ("actor", "'nonsense'"),
        ("correlation_id", "gen_random_uuid()"),
        ("causation_id", "gen_random_uuid()"),
    ],
    ids=str,
)
async def test_a_changed_column_is_found_and_its_event_named(
    tampering: Tampering, column: str, value: str
) -> None:
    position, *_ = tampering.event(MIDDLE)

    tampering.sql(f"UPDATE events SET {column} = {value} WHERE position = %s", position)

    found = await tampering.findings()
    assert re.search(rf"event {position} \(.*was altered: .* leaf {MIDDLE} ", found), found


async def test_a_changed_position_is_found(tampering: Tampering) -> None:
    position, stream, version, type_ = tampering.event(MIDDLE)
    tampering.sql("ALTER TABLE events ALTER position DROP IDENTITY")

    tampering.sql("UPDATE events SET position = 1000000 WHERE position = %s", position)

    found = await tampering.findings()
    assert f"event 1000000 ({stream} version {version}, {type_}) was altered" in found


async def test_an_event_moved_to_another_place_in_the_order_is_found(tampering: Tampering) -> None:
    position, *_ = tampering.event(MIDDLE)

    tampering.sql("UPDATE events SET transaction_id = '1' WHERE position = %s", position)

    found = await tampering.findings()
    assert re.search(rf"event {position} \(.*was moved: .* leaf {MIDDLE} ", found), found


async def test_two_events_that_changed_places_are_found(tampering: Tampering) -> None:
    one, other = tampering.event(MIDDLE)[0], tampering.event(MIDDLE + 3)[0]

    tampering.sql(
        "UPDATE events e SET transaction_id = f.transaction_id FROM events f"
        " WHERE (e.position, f.position) IN ((%s, %s), (%s, %s))",
        *(one, other, other, one),
    )

    found = await tampering.findings()
    assert f"event {one} " in found
    assert f"event {other} " in found
    assert found.count("was moved") == 2


async def test_two_events_that_changed_their_data_are_found(tampering: Tampering) -> None:
    one, other = tampering.event(MIDDLE)[0], tampering.event(MIDDLE + 3)[0]

    tampering.sql(
        "UPDATE events e SET data = f.data FROM events f"
        " WHERE (e.position, f.position) IN ((%s, %s), (%s, %s))",
        *(one, other, other, one),
    )

    found = await tampering.findings()
    assert f"event {one} " in found
    assert f"event {other} " in found


async def test_a_deleted_event_is_named_by_its_leaf(tampering: Tampering) -> None:
    tampering.sql("DELETE FROM events WHERE position = %s", tampering.event(MIDDLE)[0])

    found = await tampering.findings()

    assert f"leaf {MIDDLE} is missing" in found
    assert found.count("is missing") == 1


async def test_the_deleted_last_event_is_named(tampering: Tampering) -> None:
    last = tampering.leaves() - 1
    tampering.sql("DELETE FROM events WHERE position = %s", tampering.event(last)[0])

    assert f"leaf {last} is missing" in await tampering.findings()


async def test_the_deleted_last_event_is_named_though_others_followed(
    tampering: Tampering,
) -> None:
    last = tampering.leaves() - 1
    tampering.sql("DELETE FROM events WHERE position = %s", tampering.event(last)[0])
    await tampering.sign_in()

    assert f"leaf {last} is missing" in await tampering.findings()


async def test_a_deleted_stream_is_found_event_by_event(tampering: Tampering) -> None:
    stream = tampering.event(MIDDLE)[1]
    (count,) = tampering.sql("SELECT count(*) FROM events WHERE stream = %s", stream)[0]

    tampering.sql("DELETE FROM events WHERE stream = %s", stream)

    found = await tampering.findings()
    assert found.count("is missing: its event") == count
    assert "the log knows of no such row" in found


async def test_deleting_all_events_and_their_rows_is_found(tampering: Tampering) -> None:
    for table in ("events", "sessions", "users", "alerts"):
        tampering.sql(f"DELETE FROM {table}")

    assert "leaf 0 is missing" in await tampering.findings()


async def test_an_inserted_event_is_found_and_named(tampering: Tampering) -> None:
    position = tampering.event(MIDDLE)[0]

    ((inserted,),) = tampering.sql(
        "INSERT INTO events (transaction_id, stream, version, event_id, type, schema_version,"
        " occurred_at, subject_id, actor, correlation_id, data)"
        " SELECT transaction_id, 'family-' || gen_random_uuid(), 1, gen_random_uuid(), type, 1,"
        " occurred_at, subject_id, actor, correlation_id, data FROM events WHERE position = %s"
        " RETURNING position",
        position,
    )

    found = await tampering.findings()
    assert re.search(rf"event {inserted} \(.*was inserted before leaf {MIDDLE + 1}:", found), found


async def test_an_event_that_no_reader_comes_to_is_found(tampering: Tampering) -> None:
    ((hidden,),) = tampering.sql(
        "INSERT INTO events (transaction_id, stream, version, event_id, type, schema_version,"
        " occurred_at, actor, correlation_id, data)"
        " VALUES ('9000000000000', 'key-x', 1, gen_random_uuid(), 'SigningKeyCreated', 1, now(),"
        " 'system', gen_random_uuid(), '{}') RETURNING position"
    )

    found = await tampering.findings()

    assert f"event {hidden} (key-x version 1) names a transaction that was not yet" in found


async def test_an_event_where_the_log_begins_is_found(tampering: Tampering) -> None:
    tampering.sql(
        "INSERT INTO events (position, transaction_id, stream, version, event_id, type,"
        " schema_version, occurred_at, actor, correlation_id, data) OVERRIDING SYSTEM VALUE"
        " VALUES (-5, '0', 'key-x', 1, gen_random_uuid(), 'SigningKeyCreated', 1, now(),"
        " 'system', gen_random_uuid(), '{}')"
    )

    found = await tampering.findings()

    assert "event -5 (key-x version 1) lies where the log begins" in found


async def test_the_services_own_key_that_is_gone_is_found(tampering: Tampering) -> None:
    tampering.sql(
        "INSERT INTO events (stream, version, event_id, type, schema_version, occurred_at,"
        " subject_id, actor, correlation_id, data, personal) VALUES ('burst-x', 1,"
        " gen_random_uuid(), 'SignInFailures', 1, now(), %s, 'system', gen_random_uuid(), '{}',"
        " '')",
        SYSTEM_SUBJECT,
    )
    before = await tampering.findings()
    tampering.sql("DELETE FROM data_keys WHERE subject_id = %s", SYSTEM_SUBJECT)

    found = await tampering.findings()

    assert "own data key" not in before
    assert "the service's own data key is gone" in found


async def test_the_key_of_somebody_erased_that_is_back_is_found(tampering: Tampering) -> None:
    tampering.sql(
        "UPDATE users SET erased_at = now() WHERE user_id = (SELECT user_id FROM users LIMIT 1)"
    )

    found = await tampering.findings()

    assert "is there, and the log says that they were erased" in found


async def test_a_database_set_back_to_a_backup_is_found(
    postgres: RunningPostgres, store: Store
) -> None:
    async with copied(postgres, store.backup) as set_back:
        assert (await set_back.verify(store.older)).findings == []

        found = await set_back.findings(store.newest)

    assert f"the saved head is of {store.newest.checkpoint.size} events" in found
    assert "set back" in found


async def test_heads_signed_with_another_key_are_found(tampering: Tampering, store: Store) -> None:
    for size, root in tampering.sql("SELECT size, root FROM tree_heads"):
        assert isinstance(size, int)
        assert isinstance(root, bytes)
        note = signed_checkpoint(FOREIGN, size, root)
        tampering.sql("UPDATE tree_heads SET note = %s WHERE size = %s", note, size)

    found = await tampering.findings(store.newest)

    assert f"head of {store.newest.checkpoint.size} events is not signed by the log" in found


async def test_a_tree_rebuilt_over_altered_events_with_another_key_is_found(
    tampering: Tampering, store: Store
) -> None:
    tampering.sql(
        "UPDATE events SET actor = 'system:nobody' WHERE position = %s", tampering.event(MIDDLE)[0]
    )
    await tampering.rebuild_tree(FOREIGN)

    found = await tampering.findings(store.newest)

    assert "is not signed by the log" in found


async def test_a_tree_rebuilt_with_the_stolen_key_contradicts_a_saved_head(
    tampering: Tampering, store: Store
) -> None:
    tampering.sql(
        "UPDATE events SET actor = 'system:nobody' WHERE position = %s", tampering.event(MIDDLE)[0]
    )
    await tampering.rebuild_tree(SIGNER)

    assert (await tampering.verify()).findings == []
    found = await tampering.findings(store.newest)
    assert "the saved head" in found
    assert "signed over another tree" in found


_FLIPPED = "set_byte({0}, 7, get_byte({0}, 7) # 1)"
_HASHES = f"UPDATE tree_tiles SET hashes = {_FLIPPED.format('hashes')}"
_WIDER = "UPDATE tree_tiles SET hashes = hashes || decode(repeat('00', 32), 'hex')"
_ROOT = f"UPDATE tree_heads SET root = {_FLIPPED.format('root')}"


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (f"{_HASHES} WHERE level = 0 AND tile = 1", "tile 1 of level 0 was altered"),
        (f"{_HASHES} WHERE level = 0 AND tile = 2", "tile 2 of level 0 was altered"),
        ("DELETE FROM tree_tiles WHERE level = 0 AND tile = 1", "tile 1 of level 0"),
        (f"{_HASHES} WHERE level = 1", "tile 0 of level 1 was altered"),
        (_ROOT, "does not say what was signed"),
        ("UPDATE tree_heads SET note = 'nonsense'", "is not signed by the log"),
        ("DELETE FROM tree_heads", "were removed"),
        (
            "UPDATE checkpoints SET position = position - 1 WHERE reader = 'sequencer'",
            "the sequencer's checkpoint",
        ),
        ("UPDATE entry_bundles SET position = position + 1 WHERE bundle = 1", "entry bundle 1"),
        ("UPDATE entry_bundles SET latest_at = 'epoch' WHERE bundle = 1", "entry bundle 1"),
        (
            "INSERT INTO entry_bundles SELECT 9, '7', 7, 'epoch', 'epoch'",
            "entry bundle 9 lies beyond the signed tree",
        ),
        ("INSERT INTO tree_tiles VALUES (0, 7, ''), (4, 0, '')", "tile 0 of level 4 lies beyond"),
        (f"{_WIDER} WHERE level = 0 AND tile = 2", "tile 2 of level 0 holds"),
        (f"{_WIDER} WHERE level = 1", "tile 0 of level 1 was altered"),
        ("UPDATE sessions SET generation = generation + 1", "generation"),
        ("UPDATE users SET roles = '{admin}'", "roles"),
        (
            f"UPDATE data_keys SET wrapped_key = '' WHERE subject_id = '{SYSTEM_SUBJECT}'",
            "the service's own data key",
        ),
        ("DELETE FROM data_keys", "is gone, and the log has no erasure of them"),
        ("UPDATE snapshot_chunks SET states = states || states", "snapshot"),
    ],
    ids=lambda value: value[-40:],
)
async def test_whatever_else_is_changed_is_named(
    tampering: Tampering, store: Store, statement: str, finding: str
) -> None:
    tampering.sql(statement)

    assert finding in await tampering.findings(store.newest)
