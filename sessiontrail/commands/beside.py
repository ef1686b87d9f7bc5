"""What commands share that run for long beside the service: relay and detector."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from infra.migrate import is_current
from infra.postgres import create_engine
from infra.settings import Settings
from sessiontrail.commands.context import CommandError
from sessiontrail.databases import DatabaseAccess, bring_up_to_date


async def ensure_current(settings: Settings, access: DatabaseAccess) -> None:
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
