"""What the relay says of itself to Prometheus."""

from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

_ZERO_S = 0.0


def _now() -> datetime:
    return datetime.now(UTC)


class RelayMetrics:
    """Prometheus metrics in a registry of their own, to be served by whoever runs the relay."""

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        """Register everything, at zero.

        Args:
            now: The clock that ages are taken by.
        """
        # A second series a counter, saying when it began: nothing here asks for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._now = now
        self._oldest_waiting: datetime | None = None
        self._published = Counter(
            "sessiontrail_relay_published", "Events that the brokers took.", registry=registry
        )
        self._failures = Counter(
            "sessiontrail_relay_failures",
            "Attempts that came to nothing, by what was away.",
            ["away"],
            registry=registry,
        )
        for away in ("database", "kafka"):
            self._failures.labels(away)
        self._has_turn = Gauge(
            "sessiontrail_relay_has_turn",
            "1 where this process publishes, 0 where another one does.",
            registry=registry,
        )
        lag = Gauge(
            "sessiontrail_relay_lag_seconds",
            "Age of the oldest event that is not on the topic yet.",
            registry=registry,
        )
        lag.set_function(self._lag)

    def published(self, count: int) -> None:
        """The brokers took so many events."""
        self._published.inc(count)

    def failed(self, away: str) -> None:
        """An attempt came to nothing: ``database`` or ``kafka`` was away."""
        self._failures.labels(away).inc()

    def has_turn(self) -> None:
        """This process publishes."""
        self._has_turn.set(1)

    def stands_by(self) -> None:
        """Another process publishes, and knows what waits."""
        self._has_turn.set(0)
        self._oldest_waiting = None

    def oldest_waiting(self, occurred_at: datetime | None) -> None:
        """When the oldest event happened that is not on the topic; None where all are."""
        self._oldest_waiting = occurred_at

    def _lag(self) -> float:
        if self._oldest_waiting is None:
            return _ZERO_S
        return max(_ZERO_S, (self._now() - self._oldest_waiting).total_seconds())
