"""What the detector's worker tells Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)


class DetectorMetrics:
    """``detector.worker.Gauge`` in a registry of its own. Labels are stages, rules, responses."""

    def __init__(self) -> None:
        """Register everything, at zero."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._events = Counter(
            "sessiontrail_detector_events", "Events judged.", ["stage"], registry=registry
        )
        self._newest = Gauge(
            "sessiontrail_detector_newest_event_seconds",
            "When the latest event that was judged happened, in seconds since 1970.",
            ["stage"],
            registry=registry,
        )
        self._latency = Histogram(
            "sessiontrail_detector_latency_seconds",
            "From an event to the commit of what was found about it; the last of each batch.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._findings = Counter(
            "sessiontrail_detector_findings",
            "What rules found.",
            ["rule", "response"],
            registry=registry,
        )
        self._set_aside = Counter(
            "sessiontrail_detector_set_aside", "Poison events.", ["stage"], registry=registry
        )

    def judged(self, stage: str, events: int, newest: float) -> None:
        """See ``detector.worker.Gauge.judged``."""
        self._events.labels(stage).inc(events)
        self._newest.labels(stage).set(newest)
        self._latency.labels(stage).observe(max(0.0, time.time() - newest))

    def found(self, rule: str, response: str) -> None:
        """See ``detector.worker.Gauge.found``."""
        self._findings.labels(rule, response).inc()

    def poisoned(self, stage: str) -> None:
        """See ``detector.worker.Gauge.poisoned``."""
        self._set_aside.labels(stage).inc()
