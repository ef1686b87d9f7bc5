"""``serve`` and ``migrate``."""

import contextlib

import uvloop

from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from sessiontrail.commands.context import run, say
from sessiontrail.companions import companion
from sessiontrail.databases import DatabaseAccess, bring_up_to_date, database
from sessiontrail.demo import DEMO_PASSWORD, DEMO_USERNAME, walk
from sessiontrail.keys import key_ring
from sessiontrail.server import serve as serve_http


def serve() -> None:
    """Serve the HTTP API, on the embedded database unless DATABASE_URL is set."""
    settings = load_settings()
    configure_logging(settings.log_level.upper())
    with database(settings) as access:
        uvloop.run(_serve(settings, access))


async def _serve(settings: Settings, access: DatabaseAccess) -> None:
    if settings.migrate_at_start:
        await bring_up_to_date(settings, access)

    def started() -> None:
        say(f"Sessiontrail answers on {settings.public_issuer}")
        if settings.wants_demo:
            say(f"Demo user {DEMO_USERNAME}, password: {DEMO_PASSWORD}")
            say(walk(settings.public_issuer))

    async with contextlib.AsyncExitStack() as stack:
        if settings.wants_detector:
            await stack.enter_async_context(companion("detect", {}))
        if settings.wants_sequencer:
            await stack.enter_async_context(companion("sequence", {}))
        await serve_http(settings, access.service, lambda: key_ring(settings), started)


def migrate() -> None:
    """Bring the database to this version's schema."""
    settings = load_settings()
    with database(settings) as access:
        run(lambda: bring_up_to_date(settings, access))
    say("The database is up to date.")
