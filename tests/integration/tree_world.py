"""A log with a tree: events appended in bulk, sequenced until nothing is left, and checked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import psycopg
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader

from audit.checkpoints import open_checkpoint
from audit.merkle import Frontier, leaf_hash, root_of
from audit.publication import Publication
from audit.sequencer import BATCH, Sequencer
from audit.signed_notes import Signer
from domain.events.canonical import canonical_event_bytes
from infra.postgres import Connection, connect, translated_faults
from infra.tree_files import TreeFolder
from infra.tree_growth import SequencerTurn, SequencerTurns, begin_place

SIGNER = Signer("tests.example/tlog", bytes(range(32)))
_DEADLINE_S = 60.0

_APPEND = """
INSERT INTO events (stream, version, event_id, type, schema_version, occurred_at, subject_id,
                    actor, correlation_id, causation_id, data, personal)
SELECT 'test-' || gen_random_uuid(), 1, gen_random_uuid(), %(type)s, 1,
       '2026-03-01T12:00:00Z'::timestamptz + n * interval '1 second',
       CASE WHEN n %% 2 = 0 THEN gen_random_uuid() END, 'system:tests', gen_random_uuid(),
       CASE WHEN n %% 3 = 0 THEN gen_random_uuid() END,
       jsonb_build_object('n', n, 'z', 'é' || n, 'list', jsonb_build_array(n, true, null)),
       CASE WHEN n %% 5 = 0 THEN decode(md5(n::text), 'hex') END
  FROM generate_series(1, %(count)s) AS n
"""


class NoTurns:
    """``TurnTaking`` that lets everybody work at once, as a lock does that was lost unnoticed."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[SequencerTurn]:
        """See ``TurnTaking.turn``."""
        with translated_faults():
            async with await connect(self._conninfo) as connection:
                await begin_place(connection)
                yield SequencerTurn(connection)


class Counts:
    """``SequencerGauge`` that remembers."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.turns: list[bool] = []
        self.sizes: list[int] = []

    def has_turn(self, *, has: bool) -> None:
        """Remember it."""
        self.turns.append(has)

    def grew(self, size: int, leaves: int, newest: float) -> None:
        """Remember it."""
        assert leaves > 0
        self.sizes.append(size)


def append(conninfo: str, count: int, type_: str = "TestEvent") -> None:
    """Append events of a type that no build knows, in one transaction."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(_APPEND, {"count": count, "type": type_})


def sequencer(
    conninfo: str, folder: Path, signer: Signer = SIGNER, batch: int = BATCH
) -> Sequencer:
    """A sequencer of the database that publishes to ``folder``."""
    publication = Publication(TreeFolder(folder), signer.verifier)
    return Sequencer(SequencerTurns(conninfo), signer, publication, Counts(), batch)


@asynccontextmanager
async def sequencing(
    conninfo: str, folder: Path, signer: Signer = SIGNER, batch: int = BATCH
) -> AsyncIterator[None]:
    """A sequencer that runs for as long as the block lasts; its failure ends the block."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(sequencer(conninfo, folder, signer, batch).run())
        yield
        working.cancel()


async def sequenced(conninfo: str, folder: Path, batch: int = BATCH) -> None:
    """Sequence until nothing is left, and everything is published."""
    async with sequencing(conninfo, folder, batch=batch):
        await until_sequenced(conninfo)
        await until(lambda: published_size(folder) == tree_size(conninfo))


async def until_sequenced(conninfo: str) -> None:
    """Wait until every event is in a signed tree."""
    await until(lambda: tree_size(conninfo) == count_events(conninfo))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def published_size(folder: Path) -> int:
    """The size that the published checkpoint says; 0 where there is none."""
    try:
        note = (folder / "checkpoint").read_bytes()
    except FileNotFoundError:
        return 0
    return open_checkpoint(note, SIGNER.verifier).size


def tree_size(conninfo: str) -> int:
    """Of the newest head."""
    return _number(conninfo, "SELECT coalesce(max(size), 0) FROM tree_heads")


def count_events(conninfo: str) -> int:
    """Of all events."""
    return _number(conninfo, "SELECT count(*) FROM events")


def _number(conninfo: str, query: str) -> int:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[Connection]:
    """A connection that commits each statement."""
    async with await connect(conninfo) as connection:
        yield connection


def leaves_from_scratch(conninfo: str) -> list[bytes]:
    """The canonical bytes of every event in the log's order, by their definition."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET timezone TO 'UTC'")
        rows = connection.execute(
            "SELECT position, stream, version, event_id::text, type, schema_version, occurred_at,"
            " subject_id::text, actor, correlation_id::text, causation_id::text, data, personal"
            " FROM events ORDER BY transaction_id, position"
        ).fetchall()
    return [_leaf(*row) for row in rows]


def root_from_scratch(conninfo: str, size: int | None = None) -> bytes:
    """The root of the tree over the first events."""
    return root_of(map(leaf_hash, leaves_from_scratch(conninfo)[:size]))


def assert_one_chain(conninfo: str) -> None:
    """Every head ever signed is a tree over the beginning of the log, built from scratch."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        heads = connection.execute(
            "SELECT size, root, note FROM tree_heads ORDER BY size"
        ).fetchall()
    leaves = leaves_from_scratch(conninfo)
    assert heads
    assert heads[-1][0] == len(leaves)
    tree = Frontier()
    for size, root, note in heads:
        for leaf in leaves[tree.size : size]:
            tree.append(leaf_hash(leaf))
        checkpoint = open_checkpoint(note, SIGNER.verifier)
        assert (checkpoint.size, checkpoint.root) == (size, root) == (tree.size, tree.root())


def _leaf(*columns: object) -> bytes:
    (
        position, stream, version, event_id, type_, schema_version, occurred_at, subject_id,
        actor, correlation_id, causation_id, data, personal,
    ) = columns  # fmt: skip
    assert isinstance(occurred_at, datetime)
    return canonical_event_bytes(
        position=position,  # type: ignore[arg-type]  # a row's columns, here and below
        stream=stream,  # type: ignore[arg-type]
        version=version,  # type: ignore[arg-type]
        event_id=event_id,  # type: ignore[arg-type]
        type_=type_,  # type: ignore[arg-type]
        schema_version=schema_version,  # type: ignore[arg-type]
        occurred_at=occurred_at,
        subject_id=subject_id,  # type: ignore[arg-type]
        actor=actor,  # type: ignore[arg-type]
        correlation_id=correlation_id,  # type: ignore[arg-type]
        causation_id=causation_id,  # type: ignore[arg-type]
        data=data,  # type: ignore[arg-type]
        sealed_personal=personal,  # type: ignore[arg-type]
    )


async def assert_published(conninfo: str, folder: Path) -> None:
    """The files are those of the newest tree: what a reader of them computes is its root."""
    reader = TilesReader(LocalBackend(folder))
    checkpoint = reader.get_checkpoint()
    assert checkpoint.size == tree_size(conninfo)
    assert reader.calculate_root_hash() == checkpoint.root_hash
