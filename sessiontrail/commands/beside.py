"""What commands share that run for long beside the service: relay and detector."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from sessiontrail.commands.context import CommandError, ensure_current

__all__ = ["ensure_current", "metrics_served"]


@contextmanager
def metrics_served(host: str, port: int | None, registry: CollectorRegistry) -> Iterator[None]:
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
