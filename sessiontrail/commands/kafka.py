"""``sessiontrail kafka``: a real Kafka broker on this machine, to try things with."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from infra.settings import Settings, load_settings
from sessiontrail.commands.context import CommandError, run, say

if TYPE_CHECKING:
    from infra.local_kafka import LocalKafka

app = typer.Typer(help="Run a Kafka broker on this machine.", no_args_is_help=True)

_BESIDE = ("relay",)
"""What runs beside the service."""

Port = Annotated[int, typer.Option(min=1, max=65535, help="Where clients connect, on 127.0.0.1")]


@app.command()
def start(port: Port = 9092) -> None:
    """Start a broker in the data folder, until Ctrl-C. Needs Java 17 and, once, Maven."""
    with _broker(load_settings(), port) as broker:
        say(f"Kafka answers: KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap_servers}")
        try:
            status = broker.wait()
        except KeyboardInterrupt:
            return
    msg = f"the broker ended by itself, with exit code {status}; see {broker.log_path}"
    raise CommandError(msg)


@app.command("run")
def run_all(port: Port = 9092) -> None:
    """Start a broker, the service with a detector on it, and the relay; until Ctrl-C."""
    settings = load_settings()
    with _broker(settings, port) as broker:
        say(f"Kafka answers: KAFKA_BOOTSTRAP_SERVERS={broker.bootstrap_servers}")
        run(lambda: _together(settings, broker.bootstrap_servers))


@contextmanager
def _broker(settings: Settings, port: int) -> "Iterator[LocalKafka]":
    # kafka-python takes a tenth of a second to load, which only these commands need.
    from infra.kafka_distribution import NoKafkaError  # noqa: PLC0415
    from infra.local_kafka import LocalKafka, LocalKafkaError, free_ports  # noqa: PLC0415

    folder = settings.data_dir.resolve() / "kafka"
    broker = LocalKafka(folder, port, free_ports(1)[0])
    say(f"Starting a Kafka broker in {folder}")
    try:
        broker.start()
    except (NoKafkaError, LocalKafkaError) as error:
        raise CommandError(str(error)) from error
    try:
        yield broker
    finally:
        broker.stop()


async def _together(settings: Settings, bootstrap_servers: str) -> None:
    """The service and what runs beside it, each in a process; when one ends, all do."""
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "SESSIONTRAIL_DETECTOR": os.environ.get("SESSIONTRAIL_DETECTOR", "true"),
        "SESSIONTRAIL_DETECTOR_TRANSPORT": "kafka",
    }
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)

    async def launch(command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessiontrail", command), env=environment
        )

    service = await launch("serve")
    running = {"serve": service}
    try:
        if await _answers(settings, service, stopping):  # the database is migrated by then
            for command in _BESIDE:
                running[command] = await launch(command)
            ended = {name: asyncio.create_task(each.wait()) for name, each in running.items()}
            told = asyncio.create_task(stopping.wait())
            await asyncio.wait({told, *ended.values()}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
    finally:
        for each in running.values():
            if each.returncode is None:
                each.terminate()
        statuses = {name: await each.wait() for name, each in running.items()}
    if not stopping.is_set():
        msg = "ended by itself: " + ", ".join(
            f"{name} ({status})" for name, status in statuses.items() if status > 0
        )
        raise CommandError(msg)


async def _answers(
    settings: Settings, service: asyncio.subprocess.Process, stopping: asyncio.Event
) -> bool:
    """Wait until the service takes connections; False if it ended or is told to."""
    while service.returncode is None and not stopping.is_set():
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        writer.close()
        return True
    return False
