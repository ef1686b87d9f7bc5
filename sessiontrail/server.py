"""Serving HTTP: granian inside our own event loop, with a clean start and a clean stop."""

import asyncio
import signal
import socket
from collections.abc import Callable

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from infra.key_files import KeyRing
from infra.settings import Settings
from sessiontrail.collector import spare_the_collector
from sessiontrail.composition import running_service

_BACKLOG = 1024
_MAX_CONNECTIONS = 16_384
"""Open at once, idle ones included: by its own default granian stops at the length of its backlog,
and a hundred idle browsers would keep everybody else out."""


class AddressTakenError(Exception):
    """The address cannot be listened on; the message says why and what to set."""


async def serve(
    settings: Settings,
    conninfo: str,
    load_keys: Callable[[], KeyRing],
    started: Callable[[], object],
) -> None:
    """Serve until SIGINT or SIGTERM; what is under way then is finished first.

    Args:
        settings: The settings.
        conninfo: The database.
        load_keys: Reads the key ring.
        started: Called once the service answers.

    Raises:
        StoreUnavailableError: The database cannot serve at the start.
        AddressTakenError: The address is taken.
    """
    _refuse_taken_address(settings)
    async with running_service(settings, conninfo, load_keys) as service:
        server = Server(
            service.app,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=_MAX_CONNECTIONS,
            log_enabled=False,
        )

        def stop() -> None:
            service.end_streams()
            server.stop()  # type: ignore[no-untyped-call]  # granian leaves it so

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        serving = asyncio.create_task(server.serve())
        await _answers(settings, serving)
        spare_the_collector()
        started()
        await serving


def _refuse_taken_address(settings: Settings) -> None:
    """Granian shares a port that another process has; two services there would be a riddle.

    Raises:
        AddressTakenError: Somebody listens there, or the address is not ours to listen on.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        msg = (
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; set HOST or PORT"
        )
        raise AddressTakenError(msg) from error


async def _answers(settings: Settings, serving: "asyncio.Task[None]") -> None:
    """Wait until the address takes connections, or serving has failed."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(settings.host, settings.port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return
    await serving
