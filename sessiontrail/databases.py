"""Where the database is: the one that the settings name, or the embedded one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from infra import embedded_postgres
from infra.migrate import is_current, migrate
from infra.postgres import create_engine
from infra.settings import Settings
from sessiontrail.keys import keys_to_seal_with

_NAME = "sessiontrail"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatabaseAccess:
    """How to reach the database.

    Attributes:
        service: Connection string of the role that the service runs as.
        owner: Connection string of the role that owns the tables, or None where only the
            service's is known.
    """

    service: str
    owner: str | None


@contextmanager
def database(settings: Settings) -> Iterator[DatabaseAccess]:
    """The database, for as long as the block lasts: the embedded one is started and stopped.

    Raises:
        EmbeddedPostgresError: The embedded one does not start.
    """
    if settings.database_url is not None:
        yield DatabaseAccess(settings.database_url, settings.migration_database_url)
        return
    server = embedded_postgres.start(settings.data_dir / "postgres")
    try:
        _create_database(server.conninfo())
        yield DatabaseAccess(
            server.conninfo(user=_NAME, dbname=_NAME), server.conninfo(dbname=_NAME)
        )
    finally:
        server.stop()


async def bring_up_to_date(settings: Settings, access: DatabaseAccess) -> None:
    """Apply missing migrations, as the owner where one is known.

    Raises:
        KeyRingError: There are hashes to seal, and no keys.
        UnsealedHashesError: There are, and they are not to be sealed with these keys.
        StoreUnavailableError: The database cannot be reached.
    """
    masters = partial(keys_to_seal_with, settings)
    engine = create_engine(access.owner or access.service, max_connections=1, wait_s=5)
    try:
        if access.owner is not None:
            await migrate(engine, _role_of(access.service), masters)
        elif not await is_current(engine):
            await migrate(engine, masters=masters)
    finally:
        await engine.dispose()


def _role_of(conninfo: str) -> str | None:
    user = conninfo_to_dict(conninfo).get("user")
    return None if user is None else str(user)


def _create_database(conninfo: str) -> None:
    """The role and the database of the embedded server, unless they are there."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        name = sql.Identifier(_NAME)
        query = "SELECT 1 FROM pg_roles WHERE rolname = %s"
        if connection.execute(query, (_NAME,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, (_NAME,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
