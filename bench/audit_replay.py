"""Time travel through a million events: replay beside COPY, a random instant with and without."""

import asyncio
import random
import statistics
import time
from datetime import datetime, timedelta

import psycopg

from bench.ceilings import copy_seconds
from bench.environment import Bench, cause
from bench.figures import Figure
from bench.lives import make_lives
from bench.measures import Say
from domain.as_of import AtInstant
from domain.ids import UserId
from infra.postgres import create_engine
from infra.replay import Whose, replaying
from infra.snapshot_taking import SNAPSHOT_EVENTS, take_snapshot
from projections.replaying import StateKind
from projections.session_views import views_of
from projections.snapshot_states import EVERYBODY

_EVENTS = 1_000_000
_DATABASE = "replay"
_INSTANTS_OF_ONE = 40
_INSTANTS_OF_ALL = 7
_INSTANTS_WITHOUT = 3
_ALL = tuple(StateKind)
_FAMILIES = (StateKind.FAMILY,)
_INDEX = """
INSERT INTO entry_bundles (bundle, transaction_id, position, earliest_at, latest_at)
SELECT leaf / 256, (array_agg(transaction_id ORDER BY leaf))[1],
       (array_agg(position ORDER BY leaf))[1], min(occurred_at), max(occurred_at)
  FROM (SELECT transaction_id, position, occurred_at,
               row_number() OVER (ORDER BY transaction_id, position) - 1 AS leaf
          FROM events) e
 GROUP BY leaf / 256
"""


def replay_figures(on: Bench, say: Say, events: int = _EVENTS) -> list[Figure]:
    """A log of its own, with snapshots taken as it grows."""
    on.create_database(_DATABASE)
    users = asyncio.run(make_log(on, _DATABASE, events, say))
    conninfo = on.conninfo(_DATABASE, user="postgres")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(_INDEX)  # as the sequencer leaves it
        connection.execute("VACUUM ANALYZE")
        bounds = connection.execute("SELECT min(occurred_at), max(occurred_at) FROM events")
        first, last = bounds.fetchone() or (None, None)
        snapshots = connection.execute(
            "SELECT sum(octet_length(states))::float8 FROM snapshot_chunks WHERE snapshot_id ="
            " (SELECT snapshot_id FROM snapshots ORDER BY position DESC LIMIT 1)"
        ).fetchone()
        states = connection.execute(
            "SELECT (data->>'states')::float8 FROM events WHERE type = 'SnapshotTaken'"
            " ORDER BY position DESC LIMIT 1"
        ).fetchone()
    say("reading a million events with COPY")
    copies = statistics.median(copy_seconds(conninfo, on.folder / "copy.out") for _ in range(3))
    return [
        *asyncio.run(_travels(on, users, (first, last), copies, say)),
        Figure(
            "snapshot bytes a state",
            (snapshots or (0.0,))[0] / (states or (1.0,))[0],
            "B",
            None,
            500,
            at_least=False,
        ),
    ]


async def make_log(on: Bench, database: str, events: int, say: Say) -> list[UserId]:
    """Fill a log with lives, and take snapshots as it grows; returns the users."""
    engine = create_engine(on.conninfo(database), max_connections=4, wait_s=10)
    snapshots = 0

    async def progress(written: int) -> None:
        nonlocal snapshots
        if written >= (snapshots + 1) * SNAPSHOT_EVENTS:
            snapshots += 1
            began = time.perf_counter()
            await take_snapshot(engine, cause())
            say(f"made {written:,} events; a snapshot in {time.perf_counter() - began:.1f} s")

    try:
        return await make_lives(on, database, events, progress)
    finally:
        await engine.dispose()


async def _travels(
    on: Bench, users: list[UserId], bounds: tuple[datetime, datetime], copies: float, say: Say
) -> list[Figure]:
    chooser = random.Random(1)
    first, last = bounds

    def instant() -> AtInstant:
        return AtInstant(first + (last - first) * chooser.random())

    say("replaying everything from the start")
    whole = await _travel(on, AtInstant(last + timedelta(days=1)), EVERYBODY, _ALL, fresh=True)
    say("travelling to random instants")
    one = [
        await _travel(on, instant(), chooser.choice(users), _FAMILIES)
        for _ in range(_INSTANTS_OF_ONE)
    ]
    everybody = [
        await _travel(on, instant(), EVERYBODY, _FAMILIES) for _ in range(_INSTANTS_OF_ALL)
    ]
    one_fresh = [
        await _travel(on, instant(), chooser.choice(users), _FAMILIES, fresh=True)
        for _ in range(_INSTANTS_OF_ONE)
    ]
    all_fresh = [
        await _travel(on, instant(), EVERYBODY, _FAMILIES, fresh=True)
        for _ in range(_INSTANTS_WITHOUT)
    ]
    p50 = statistics.median
    return [
        Figure("replay of 1,000,000 events", whole, "s", copies, 10, at_least=False),
        Figure("time travel, one user, worst", max(one), "s", None, 1, at_least=False),
        Figure("time travel, everybody, worst", max(everybody), "s", None, 10, at_least=False),
        Figure("time travel p50, one user", p50(one), "s", p50(one_fresh), 1.5, at_least=False),
        Figure(
            "time travel p50, everybody", p50(everybody), "s", p50(all_fresh), 1, at_least=False
        ),
    ]


async def _travel(
    on: Bench, as_of: AtInstant, whose: Whose, kinds: tuple[StateKind, ...], *, fresh: bool = False
) -> float:
    """Seconds to the sessions as they stood; ``fresh`` without snapshots."""
    engine = create_engine(on.conninfo(_DATABASE), max_connections=1, wait_s=10)
    try:
        began = time.perf_counter()
        async with replaying(engine) as replay:
            moment = await replay.moment(as_of, from_snapshots=not fresh)
            fold = await replay.fold(moment, kinds, whose)
            for _ in views_of(fold.states.values(), moment.at):
                pass
        return time.perf_counter() - began
    finally:
        await engine.dispose()
