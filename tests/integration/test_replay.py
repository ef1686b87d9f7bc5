"""Time travel: what is replayed is what a fold from the start gives, wherever one looks."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.as_of import AsOf, AtPosition
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.personal import Sealed
from domain.events.registry import decode_event
from domain.ids import CorrelationId, Stream
from infra.ids import new_uuid
from infra.replay import replaying
from infra.sealing import DataKeys
from infra.snapshot_taking import take_snapshot
from projections.folding import ALERTS, FAMILIES, USERS
from projections.replaying import AnyState, StateKind
from projections.snapshot_states import EVERYBODY
from tests.generated_history import GeneratedHistory

ALL_KINDS = tuple(StateKind)
_RULES: dict[str, Any] = {"family": FAMILIES, "user": USERS, "alert": ALERTS}
_INDEX = """
INSERT INTO entry_bundles (bundle, transaction_id, position, earliest_at, latest_at)
SELECT leaf / 256, (array_agg(transaction_id ORDER BY leaf))[1],
       (array_agg(position ORDER BY leaf))[1], min(occurred_at), max(occurred_at)
  FROM (SELECT *, row_number() OVER (ORDER BY transaction_id, position) - 1 AS leaf
          FROM events) e
 WHERE leaf < %s GROUP BY leaf / 256
"""


def cause() -> Cause:
    return Cause(Actor(ActorKind.SYSTEM, "tests"), CorrelationId(new_uuid()))


@dataclass(slots=True)
class PlainFold:
    """Each stream's first events, one after the other, as far as they have all come."""

    states: dict[Stream, Any] = field(default_factory=dict)
    early: dict[tuple[Stream, int], tuple[Any, ...]] = field(default_factory=dict)

    def take(self, record: tuple[Any, ...]) -> None:
        stream, version = record[2], record[3]
        self.early[stream, version] = record
        while (due := self.early.pop((stream, self._due(stream)), None)) is not None:
            _, _, _, _, type_, schema_version, at, data, event_id, box = due
            kind, _, owner = stream.partition("-")
            personal = None if box is None else Sealed(event_id, box)
            event = decode_event(type_, schema_version, data)
            before = self.states.get(stream)
            self.states[stream] = _RULES[kind].evolve(before, owner, event, personal, at)

    def _due(self, stream: Stream) -> int:
        state = self.states.get(stream)
        return 1 if state is None else state.version + 1


@dataclass(slots=True)
class Log:
    """A database with a generated history, and all its events as they lie."""

    engine: AsyncEngine
    owner_conninfo: str
    records: list[tuple[Any, ...]]

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner_conninfo, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    async def states(self, as_of: AsOf, *, from_snapshots: bool = True) -> dict[Stream, AnyState]:
        async with replaying(self.engine) as replay:
            moment = await replay.moment(as_of, from_snapshots=from_snapshots)
            fold = await replay.fold(moment, ALL_KINDS, EVERYBODY)
        assert not fold.damaged
        return dict(fold.states)


def _records(owner_conninfo: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(owner_conninfo) as connection:
        return connection.execute(
            "SELECT transaction_id::text::bigint, position, stream, version, type,"
            " schema_version, occurred_at, convert_to(data::text, 'UTF8'), event_id::text,"
            " personal FROM events WHERE stream !~ '^audit-'"
            " ORDER BY transaction_id, position"
        ).fetchall()


@pytest.fixture
async def log(engine: AsyncEngine, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[Log]:
    """Some thousand events with snapshots among them; the tree covers most of them."""
    history = GeneratedHistory(engine, data_keys, seed=20_261_125)
    for _ in range(8):
        await history.write(300)
        await history.write_out_of_turn()
        assert await take_snapshot(engine, cause()) is not None
    await history.write(300)
    log = Log(engine, owner_conninfo, _records(owner_conninfo))
    log.sql(_INDEX, len(log.records) - 400)
    return log


async def test_replay_at_a_thousand_positions_is_the_fold_from_the_start(log: Log) -> None:
    chosen = sorted(random.Random(4).sample(range(len(log.records)), 1_000))
    reference = PlainFold()
    folded = 0

    for index in chosen:
        for record in log.records[folded : index + 1]:
            reference.take(record)
        folded = index + 1
        assert await log.states(AtPosition(log.records[index][1])) == reference.states
