"""What the sequencer tells Prometheus, and how far it is behind as the database knows it."""

import asyncio
import logging
import time

import psycopg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ports import StoreUnavailableError
from infra.postgres import Connection, transaction
from infra.tree_store import SEQUENCER

_EVERY_S = 5.0
_IDLE_S = 60.0
_log = logging.getLogger(__name__)

# The oldest event behind the sequencer's place, if any; and when that place was moved last.
_BEHIND = """
SELECT coalesce((SELECT size FROM tree_heads ORDER BY size DESC LIMIT 1), 0),
       coalesce(extract(epoch FROM clock_timestamp() - (
         SELECT e.occurred_at FROM events e
          WHERE e.transaction_id >= p.transaction_id
            AND (e.transaction_id, e.position) > (p.transaction_id, p.position)
          ORDER BY e.transaction_id, e.position LIMIT 1)), 0)::float8
  FROM (SELECT coalesce(max(transaction_id::text::bigint), 0)::text::xid8 AS transaction_id,
               coalesce(max(position), 0) AS position
          FROM checkpoints WHERE reader = %s) p
"""


class SequencerMetrics:
    """``audit.tree_ports.SequencerGauge`` in a registry of its own."""

    def __init__(self) -> None:
        """Register everything, at zero."""
        # A second series a counter, saying when it began: nothing here asks for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._leaves = Counter(
            "sessiontrail_sequencer_events", "Events put into the tree.", registry=registry
        )
        self._heads = Counter(
            "sessiontrail_sequencer_heads", "Heads signed and published.", registry=registry
        )
        self._size = Gauge(
            "sessiontrail_tree_size", "Events in the tree, by its newest head.", registry=registry
        )
        self._newest = Gauge(
            "sessiontrail_sequencer_newest_event_seconds",
            "When the latest event in the tree happened, in seconds since 1970.",
            registry=registry,
        )
        self._latency = Gauge(
            "sessiontrail_sequencer_latency_seconds",
            "Age that the last event of a step had when it was in the tree.",
            registry=registry,
        )
        self._has_turn = Gauge(
            "sessiontrail_sequencer_has_turn",
            "1 where this process sequences, 0 where another one does.",
            registry=registry,
        )

    def has_turn(self, *, has: bool) -> None:
        """See ``SequencerGauge.has_turn``."""
        self._has_turn.set(int(has))

    def grew(self, size: int, leaves: int, newest: float) -> None:
        """See ``SequencerGauge.grew``."""
        self._leaves.inc(leaves)
        self._heads.inc()
        self._size.set(size)
        self._newest.set(newest)
        self._latency.set(max(0.0, time.time() - newest))


async def read_tree_lag(connection: Connection) -> tuple[int, float]:
    """How large the signed tree is, and how old the oldest event is that is not in it (s)."""
    cursor = await connection.execute(_BEHIND, (SEQUENCER,), binary=True)
    record = await cursor.fetchone()
    size, behind = record if record is not None else (0, 0.0)
    return size, max(0.0, behind)


class TreeLag:
    """Keeps gauges of it, in whatever process: when no sequencer is alive it is what grows."""

    def __init__(self, engine: AsyncEngine, registry: CollectorRegistry) -> None:
        """Register the gauges; they have no value before ``run``."""
        self._engine = engine
        self._state = "not known yet"
        self._size = Gauge(
            "sessiontrail_tree_size", "Events in the tree, by its newest head.", registry=registry
        )
        self._behind = Gauge(
            "sessiontrail_tree_lag_seconds",
            "Age of the oldest event that is not in the tree yet.",
            registry=registry,
        )

    def states(self) -> dict[str, str]:
        """How the tree stands, in words, for readiness."""
        return {"transparency_log": self._state}

    async def run(self) -> None:
        """Ask every few seconds until cancelled; the last answer stays while nobody answers."""
        while True:
            try:
                async with transaction(self._engine) as connection:
                    size, behind = await read_tree_lag(connection)
            except (StoreUnavailableError, psycopg.errors.UndefinedTable) as error:
                # A service also runs on a database that an older release has migrated.
                _log.warning("the tree's lag is not known: %s", error)
            else:
                self._size.set(size)
                self._behind.set(behind)
                self._state = _in_words(size, behind)
            await asyncio.sleep(_EVERY_S)


def _in_words(size: int, behind_s: float) -> str:
    if behind_s < _IDLE_S:
        return f"{size} events"
    return f"{size} events, {behind_s:.0f} s behind: run sessiontrail sequence"
