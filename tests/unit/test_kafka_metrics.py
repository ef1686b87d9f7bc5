"""What the relay tells Prometheus, and that its page says the same."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.exposition import generate_latest

from infra.kafka_metrics import RelayMetrics

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def value_of(metrics: RelayMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_lag_is_the_age_of_the_oldest_event_that_waits() -> None:
    metrics = RelayMetrics(lambda: NOW)
    before = value_of(metrics, "sessiontrail_relay_lag_seconds")

    metrics.oldest_waiting(NOW - timedelta(seconds=90))

    assert (before, value_of(metrics, "sessiontrail_relay_lag_seconds")) == (0, 90)


def test_the_lag_grows_while_brokers_are_away() -> None:
    clock = [NOW]
    metrics = RelayMetrics(lambda: clock[0])
    metrics.oldest_waiting(NOW)
    metrics.failed("kafka")

    clock[0] += timedelta(minutes=5)

    assert value_of(metrics, "sessiontrail_relay_lag_seconds") == 300
    assert value_of(metrics, "sessiontrail_relay_failures_total", away="kafka") == 1
    assert value_of(metrics, "sessiontrail_relay_failures_total", away="database") == 0


def test_a_relay_that_stands_by_has_no_lag_of_its_own() -> None:
    metrics = RelayMetrics(lambda: NOW)
    metrics.has_turn()
    metrics.oldest_waiting(NOW - timedelta(seconds=90))

    metrics.stands_by()

    assert value_of(metrics, "sessiontrail_relay_has_turn") == 0
    assert value_of(metrics, "sessiontrail_relay_lag_seconds") == 0


def test_the_documented_metrics_are_those_that_there_are() -> None:
    exposition = generate_latest(RelayMetrics().registry).decode()
    there_are = set(re.findall(r"^# TYPE (sessiontrail_\w+) ", exposition, re.MULTILINE))

    rows = re.compile(r"^\| `(sessiontrail_relay_\w+)`", re.MULTILINE)
    documented = set(rows.findall(OPERATIONS.read_text(encoding="utf-8")))

    assert documented == there_are
