"""Bringing a database to this build's schema, and giving the service's role what it needs."""

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres import queries

_LOCK = 7_305_802_116_530_211
"""Advisory lock held while migrating, so that replicas which start together take turns."""

_GRANTS = """
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT, INSERT ON events TO {role};
GRANT SELECT, INSERT, UPDATE ON sessions, users, credentials, signing_keys, service_keys,
      checkpoints TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON data_keys TO {role};
GRANT SELECT ON alembic_version TO {role};
"""


async def migrate(engine: AsyncEngine, service_role: str | None = None) -> None:
    """Apply every migration that is missing.

    Args:
        engine: Connects as the owner of the tables.
        service_role: A role to grant just what the API needs: it can add events, and neither
            change nor remove one.

    Raises:
        StoreUnavailableError: The database cannot be reached.
    """
    async with queries(engine) as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.run_sync(_upgrade)
        if service_role is not None:
            role = '"' + service_role.replace('"', '""') + '"'
            for statement in _GRANTS.format(role=role).split(";"):
                if statement.strip():
                    await connection.execute(text(statement))


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the database has every migration of this build (it may have later ones)."""
    known = {script.revision for script in _scripts().walk_revisions()}
    async with queries(engine) as connection:
        present = await connection.run_sync(_revision)
    return present is not None and (
        present == _scripts().get_current_head() or present not in known
    )


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    present = _revision(connection)
    if present is not None and present not in {
        script.revision for script in _scripts().walk_revisions()
    }:
        return  # a newer build has migrated already; its steps are additive
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("infra") / "migrations"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
