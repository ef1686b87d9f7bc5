"""``sessiontrail relay``: the log, published to Apache Kafka."""

import asyncio
import signal
from typing import Annotated

import typer
import uvloop

from infra.kafka_access import KafkaAccess
from infra.kafka_metrics import RelayMetrics
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from sessiontrail.commands.beside import ensure_current, metrics_served
from sessiontrail.commands.context import run, say
from sessiontrail.databases import DatabaseAccess, database

_STOP_S = 20
"""Longer than a batch that is under way can take, whatever is away."""


def relay(
    status: Annotated[
        bool, typer.Option("--status", help="Say how far publishing is, and end")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port of HOST"),
    ] = None,
) -> None:
    """Publish the event log to Kafka, in order, until Ctrl-C. Personal parts stay sealed."""
    settings = load_settings()
    if status:
        _print_status(settings)
        return
    kafka = settings.kafka_access()
    configure_logging(settings.log_level.upper())
    metrics = RelayMetrics()
    with (
        database(settings) as access,
        metrics_served(settings.host, metrics_port, metrics.registry),
    ):
        uvloop.run(_relay(settings, access, kafka, metrics))


async def _relay(
    settings: Settings, access: DatabaseAccess, kafka: KafkaAccess, metrics: RelayMetrics
) -> None:
    from infra.kafka_relay import KafkaRelay  # noqa: PLC0415 (kafka-python: a tenth of a second)

    await ensure_current(settings, access)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    say(f"Relaying the log to the topic {kafka.topic} at {kafka.bootstrap_servers}")
    relaying = asyncio.create_task(KafkaRelay(access.service, kafka, metrics).run(stopping))
    told_to_stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({relaying, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
    told_to_stop.cancel()
    await asyncio.wait_for(relaying, _STOP_S)


def _print_status(settings: Settings) -> None:
    from infra.kafka_relay import relay_status  # noqa: PLC0415 (kafka-python, as above)

    topic = settings.kafka_topic
    with database(settings) as access:
        found = run(lambda: relay_status(access.service, topic))
    say(f"{topic}: published up to position {found.place.position}")
    say(f"{found.waiting} events wait, the oldest for {found.lag.behind.total_seconds():.1f} s")
    if found.lag.held_by is not None:
        say(f"database backend {found.lag.held_by} has the oldest open transaction that writes")
