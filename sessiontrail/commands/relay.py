"""``sessiontrail relay``: the log, published to Apache Kafka."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Annotated

import typer
import uvloop
from prometheus_client import CollectorRegistry, start_http_server

from infra.kafka_access import KafkaAccess
from infra.kafka_metrics import RelayMetrics
from infra.migrate import is_current
from infra.postgres import create_engine
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from sessiontrail.commands.context import CommandError, run, say
from sessiontrail.databases import DatabaseAccess, bring_up_to_date, database

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
    with database(settings) as access, _served(settings.host, metrics_port, metrics.registry):
        uvloop.run(_relay(settings, access, kafka, metrics))


async def _relay(
    settings: Settings, access: DatabaseAccess, kafka: KafkaAccess, metrics: RelayMetrics
) -> None:
    from infra.kafka_relay import KafkaRelay  # noqa: PLC0415 (kafka-python: a tenth of a second)

    await _ensure_current(settings, access)
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


async def _ensure_current(settings: Settings, access: DatabaseAccess) -> None:
    """Migrate where that is ours to do, as ``serve`` does.

    Raises:
        CommandError: Migrations are missing, and not ours to apply.
    """
    if settings.is_embedded:
        await bring_up_to_date(access)
        return
    engine = create_engine(access.service, max_connections=1, wait_s=5)
    try:
        if not await is_current(engine):
            msg = "the database lacks migrations of this version: run `sessiontrail migrate`"
            raise CommandError(msg)
    finally:
        await engine.dispose()


def _print_status(settings: Settings) -> None:
    from infra.kafka_relay import relay_status  # noqa: PLC0415 (kafka-python, as above)

    topic = settings.kafka_topic
    with database(settings) as access:
        found = run(lambda: relay_status(access.service, topic))
    say(f"{topic}: published up to position {found.place.position}")
    say(f"{found.waiting} events wait, the oldest for {found.lag.behind.total_seconds():.1f} s")
    if found.lag.held_by is not None:
        say(f"database backend {found.lag.held_by} has the oldest open transaction that writes")


@contextlib.contextmanager
def _served(host: str, port: int | None, registry: CollectorRegistry) -> Iterator[None]:
    """Metrics on a port of their own, where one is asked for.

    Raises:
        CommandError: The port is taken.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        msg = f"cannot serve metrics on {host}:{port}: {error.strerror}"
        raise CommandError(msg) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
