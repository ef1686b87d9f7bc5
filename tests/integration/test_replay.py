"""Time travel: what is replayed is what a fold from the start gives, wherever one looks."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.as_of import AlteredHistoryError, AsOf, AtInstant, AtLeaf, AtPosition, UnknownPlaceError
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.personal import Sealed
from domain.events.registry import decode_event
from domain.ids import CorrelationId, Stream
from infra.ids import new_uuid
from infra.replay import replaying
from infra.sealing import DataKeys
from infra.snapshot_taking import take_snapshot
from projections.folding import ALERTS, FAMILIES, USERS, DamagedStream
from projections.replaying import AnyState, StateKind, subject_of
from projections.snapshot_states import EVERYBODY, buckets_of
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
async def log(engine: AsyncEngine, owner_conninfo: str, data_keys: DataKeys) -> Log:
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


async def test_the_history_has_events_that_lie_before_their_predecessors(log: Log) -> None:
    """Without them the tests here would not show that such an event waits for its turn."""
    seen: dict[Stream, int] = {}
    out_of_turn = 0
    for record in log.records:
        out_of_turn += record[3] != seen.get(record[2], 0) + 1
        seen[record[2]] = max(seen.get(record[2], 0), record[3])

    assert out_of_turn >= 8


async def test_replay_at_random_instants_is_the_fold_of_what_had_happened(log: Log) -> None:
    first, last = log.records[0][6], log.records[-1][6]
    chooser = random.Random(5)
    instants = [first + (last - first) * chooser.random() for _ in range(60)]

    for at in [first, last, last + timedelta(days=1), *instants]:
        reference = PlainFold()
        for record in log.records:
            if record[6] <= at:
                reference.take(record)
        assert await log.states(AtInstant(at)) == reference.states
        assert await log.states(AtInstant(at), from_snapshots=False) == reference.states


async def test_before_the_first_event_there_was_nothing(log: Log) -> None:
    before = log.records[0][6] - timedelta(microseconds=1)

    assert await log.states(AtInstant(before)) == {}


async def test_a_leaf_is_the_event_at_that_place_of_the_log(log: Log) -> None:
    log.sql("INSERT INTO tree_heads VALUES (%s, '', now(), '')", len(log.records) - 400)

    for leaf in (0, 1, 255, 256, 257, 1_999):
        of_leaf = await log.states(AtLeaf(leaf))
        assert of_leaf == await log.states(AtPosition(_all(log)[leaf]))


def _all(log: Log) -> list[int]:
    """Positions in the log's order, those of snapshots too."""
    rows = log.sql("SELECT position FROM events ORDER BY transaction_id, position")
    return [position for (position,) in rows]


@pytest.mark.parametrize("place", [AtPosition(10**15), AtLeaf(10**15), AtLeaf(0)], ids=str)
async def test_a_place_that_there_is_not_is_refused(log: Log, place: AsOf) -> None:
    with pytest.raises(UnknownPlaceError):
        await log.states(place)


async def test_one_user_is_replayed_alone(log: Log) -> None:
    at = log.records[2_000][6]
    everybody = await log.states(AtInstant(at))
    users = {subject_of(state) for state in everybody.values()}
    assert len(users) > 10

    for user_id in users:
        async with replaying(log.engine) as replay:
            fold = await replay.fold(await replay.moment(AtInstant(at)), ALL_KINDS, user_id)
        assert fold.states == {
            stream: state for stream, state in everybody.items() if subject_of(state) == user_id
        }


async def test_parts_of_everybody_are_everybody(log: Log) -> None:
    as_of = AtPosition(log.records[-1][1])
    everybody = await log.states(as_of)

    found: dict[Stream, AnyState] = {}
    async with replaying(log.engine) as replay:
        moment = await replay.moment(as_of)
        for part in range(8):
            states = (await replay.fold(moment, ALL_KINDS, buckets_of(part, 8))).states
            assert not states.keys() & found.keys()
            found |= states

    assert found == everybody


async def test_an_instant_reads_little_but_what_lies_around_it(log: Log) -> None:
    """From the newest snapshot before it to the bundles that may hold something of it."""
    async with replaying(log.engine) as replay:
        for index in range(400, 2_200, 100):
            moment = await replay.moment(AtInstant(log.records[index][6]))
            events = await replay.count(moment, ALL_KINDS, EVERYBODY)
            assert moment.start is not None
            assert events <= 310 + 2 * 256


async def test_without_snapshots_and_tree_everything_is_as_it_is_with_them(log: Log) -> None:
    moments: list[AsOf] = [AtPosition(log.records[1_500][1]), AtInstant(log.records[700][6])]
    expected = [await log.states(moment) for moment in moments]
    log.sql("TRUNCATE snapshots, snapshot_chunks, entry_bundles")

    assert [await log.states(moment) for moment in moments] == expected


async def test_a_stream_that_lost_an_event_is_named_and_the_others_are_sound(log: Log) -> None:
    stream = next(record[2] for record in log.records if record[3] == 5)
    log.sql("DELETE FROM events WHERE stream = %s AND version = 3", stream)

    async with replaying(log.engine) as replay:
        as_of = AtPosition(log.records[-1][1])
        moment = await replay.moment(as_of, from_snapshots=False)
        fold = await replay.fold(moment, ALL_KINDS, EVERYBODY)

    assert fold.damaged == [DamagedStream(stream, "version 4 where version 3 is due")]
    assert len(fold.states) > 100


async def test_an_event_with_a_time_that_nobody_wrote_is_told_and_no_crash(log: Log) -> None:
    log.sql("UPDATE events SET occurred_at = '-infinity' WHERE position = %s", log.records[5][1])

    with pytest.raises(AlteredHistoryError, match="audit verify"):
        await log.states(AtInstant(log.records[-1][6]), from_snapshots=False)


async def test_a_place_with_a_time_that_nobody_wrote_is_told_and_no_crash(log: Log) -> None:
    position = log.records[5][1]
    log.sql("UPDATE events SET occurred_at = 'infinity' WHERE position = %s", position)

    with pytest.raises(AlteredHistoryError, match=f"event {position} .*audit verify"):
        await log.states(AtPosition(position))
