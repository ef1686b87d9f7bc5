"""Bringing a database to this build's schema, and giving the service's role what it needs."""

from collections.abc import Callable
from functools import partial
from importlib import resources

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.event_rows import EVENT_COLUMNS
from infra.postgres import queries
from infra.sealing import MasterKeys

HEAD = "0005"
"""This build's last migration; revisions are numbered so that later ones sort behind."""

_LOCK = 7_305_802_116_530_211
"""Advisory lock held while migrating, so that replicas which start together take turns."""

# Events are added column by column: who could choose a place in the log's order could put an event
# where readers have been already.
_GRANTS = """
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT ON events TO {role};
REVOKE INSERT ON events FROM {role};
GRANT INSERT ({columns}) ON events TO {role};
GRANT SELECT, INSERT, UPDATE ON sessions, users, credentials, signing_keys, service_keys,
      checkpoints, alerts, activity TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON data_keys, detector_partitions, detector_workers,
      detector_states, detector_set_aside, detector_actions TO {role};
GRANT SELECT, INSERT ON tree_heads TO {role};
GRANT SELECT, INSERT, UPDATE ON tree_tiles, entry_bundles TO {role};
GRANT SELECT ON log_archives TO {role};
GRANT SELECT, INSERT, DELETE ON snapshots, snapshot_chunks TO {role};
GRANT DELETE ON credentials TO {role};
GRANT SELECT (user_id), UPDATE (username, external_subject) ON rebuilt_users TO {role};
GRANT SELECT (user_id), UPDATE (client, device_name) ON rebuilt_sessions TO {role};
GRANT SELECT (subject_id), UPDATE (client, fact_texts) ON rebuilt_alerts TO {role};
GRANT SELECT (subject_id), DELETE ON replaced_rows TO {role};
GRANT SELECT ON alembic_version TO {role};
"""


class MayNotMigrateError(Exception):
    """Migrations are missing, and the role that was to apply them may not; says what to do."""


async def migrate(
    engine: AsyncEngine,
    service_role: str | None = None,
    masters: Callable[[], MasterKeys] | None = None,
) -> None:
    """Apply every migration that is missing.

    Args:
        engine: Connects as the owner of the tables.
        service_role: A role to grant just what the API needs: it can add events, and neither
            change nor remove one.
        masters: Gives the master keys, where there are hashes of an older version to seal.

    Raises:
        UnsealedHashesError: There are such hashes, and no keys that are this database's.
        MayNotMigrateError: The role does not own the tables, or may not create any.
        StoreUnavailableError: The database cannot be reached.
    """
    try:
        await _migrated(engine, service_role, masters)
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        msg = (
            "the database lacks migrations that this role may not apply: "
            "set SESSIONTRAIL_MIGRATION_DATABASE_URL to the owner's and run sessiontrail migrate"
        )
        raise MayNotMigrateError(msg) from error


async def _migrated(
    engine: AsyncEngine, service_role: str | None, masters: Callable[[], MasterKeys] | None
) -> None:
    async with queries(engine) as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if not _is_head(await _revision(connection)):
            await connection.run_sync(partial(_upgrade, masters=masters))
        if service_role is not None:
            role = '"' + service_role.replace('"', '""') + '"'
            for statement in _GRANTS.format(role=role, columns=EVENT_COLUMNS).split(";"):
                if statement.strip():
                    await connection.execute(text(statement))


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the database has every migration of this build (it may have later ones).

    Raises:
        StoreUnavailableError: The database cannot be reached.
    """
    async with queries(engine) as connection:
        return _is_head(await _revision(connection))


def _is_head(revision: str | None) -> bool:
    return revision is not None and revision >= HEAD


async def _revision(connection: AsyncConnection) -> str | None:
    """The revision that the database is at; None before the first migration."""
    if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection, masters: Callable[[], MasterKeys] | None) -> None:
    # Alembic takes 11 MB: a service on a database that is up to date does without.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(resources.files("infra") / "migrations"))
    config.attributes["connection"] = connection
    config.attributes["masters"] = masters
    command.upgrade(config, "head")
