"""The migrations and the metadata of ``infra.schema`` make the same tables, in real PostgreSQL."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.embedded_postgres import RunningPostgres
from infra.migrate import HEAD, is_current, migrate
from infra.postgres import create_engine, queries
from infra.schema import TransactionId, metadata


@pytest.fixture(autouse=True)
def _known_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy reflects ``xid8`` as what it is in our metadata, rather than as unknown."""
    monkeypatch.setitem(ischema_names, "xid8", TransactionId)


@pytest.fixture
def empty_database(postgres: RunningPostgres) -> Iterator[str]:
    """Connects as superuser to a database that was never migrated."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE never_migrated")
    yield postgres.conninfo(dbname="never_migrated")
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("DROP DATABASE never_migrated WITH (FORCE)")


# Alembic cannot compare generated columns, and says so; the next test does.
@pytest.mark.filterwarnings("ignore:Computed default on sessions.sweep_after:UserWarning")
async def test_autogenerate_finds_nothing_to_migrate(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))

    async with queries(engine) as connection:
        found = await connection.run_sync(differences)

    assert found == []


async def test_tables_made_from_the_metadata_are_those_of_the_migrations_to_the_letter(
    empty_database: str, owner_conninfo: str
) -> None:
    with engines(empty_database, 1) as (owner,):
        async with queries(owner) as connection:
            await connection.run_sync(metadata.create_all)
        await owner.dispose()

    assert catalogue(empty_database) == catalogue(owner_conninfo)


def catalogue(conninfo: str) -> set[tuple[str, ...]]:
    """Columns, indexes, constraints and storage, as PostgreSQL itself spells them."""
    columns = (
        "SELECT 'column', attrelid::regclass::text, attnum::text, attname,"
        " format_type(atttypid, atttypmod), attnotnull::text, attidentity::text,"
        " attgenerated::text, coalesce(pg_get_expr(adbin, adrelid), '')"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)"
        " WHERE attrelid IN (SELECT oid FROM ours) AND attnum > 0"
    )
    indexes = (
        "SELECT 'index', indrelid::regclass::text, pg_get_indexdef(indexrelid)"
        " FROM pg_index WHERE indrelid IN (SELECT oid FROM ours)"
    )
    constraints = (
        "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE conrelid IN (SELECT oid FROM ours)"
    )
    storage = (
        "SELECT 'storage', relname::text, relpersistence::text, coalesce(reloptions::text, '')"
        " FROM ours"
    )
    ours = (
        "WITH ours AS (SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind = 'r' AND relname <> 'alembic_version')"
    )
    with psycopg.connect(conninfo) as connection:
        return {
            row
            for query in (columns, indexes, constraints, storage)
            for row in connection.execute(f"{ours} {query}".encode()).fetchall()
        }


async def test_the_services_role_has_what_the_api_needs_and_no_more(owner_conninfo: str) -> None:
    query = (
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
        " FROM information_schema.role_table_grants"
        " WHERE grantee = 'sessiontrail' AND table_schema = 'public' GROUP BY table_name"
    )
    with psycopg.connect(owner_conninfo) as connection:
        granted: dict[str, str] = dict(connection.execute(query).fetchall())

    assert granted.pop("alembic_version") == "SELECT"
    assert granted.pop("events") == "SELECT"  # and INSERT, column by column
    assert granted.pop("data_keys") == "DELETE INSERT SELECT UPDATE"
    assert set(granted) <= set(metadata.tables)
    assert granted["tree_heads"] == "INSERT SELECT"
    # What the detector keeps, and snapshots, are no record of anything; who is erased keeps no
    # password, and nothing that a rebuild replaced.
    can_delete = {name for name, each in granted.items() if "DELETE" in each}
    detector_tables = {name for name in metadata.tables if name.startswith("detector_")}
    others = {"snapshots", "snapshot_chunks", "credentials", "replaced_rows"}
    assert can_delete == detector_tables | others
    assert all("TRUNCATE" not in each and "TRIGGER" not in each for each in granted.values())


@pytest.mark.parametrize("column", ["transaction_id", "position"])
async def test_the_services_role_cannot_choose_an_events_place_in_the_log(
    conninfo: str, column: str
) -> None:
    with (
        psycopg.connect(conninfo) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(
            f"INSERT INTO events ({column}, stream, version, event_id, type, schema_version,"
            " occurred_at, actor, correlation_id, data) OVERRIDING SYSTEM VALUE"
            " VALUES ('1', 'family-x', 1, gen_random_uuid(), 'T', 1, now(), 'user',"
            " gen_random_uuid(), '{}')".encode()
        )


async def test_replicas_that_start_together_migrate_an_empty_database_once(
    empty_database: str,
) -> None:
    with engines(empty_database, 4) as starting:
        assert not await is_current(starting[0])

        await asyncio.gather(*(migrate(each, "sessiontrail") for each in starting))
        await migrate(starting[0], "sessiontrail")  # and once more changes nothing

        assert await is_current(starting[0])
        for each in starting:
            await each.dispose()
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [(HEAD,)]


async def test_a_later_builds_database_is_left_as_it_is(
    engine: AsyncEngine, owner_conninfo: str
) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as later_build:
        later_build.execute("ALTER TABLE sessions ADD COLUMN mood text")
        later_build.execute("UPDATE alembic_version SET version_num = '9999'")
    with engines(owner_conninfo, 1) as (owner,):
        await migrate(owner, "sessiontrail")
        await owner.dispose()

    assert await is_current(engine)
    with psycopg.connect(owner_conninfo) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("9999",)]
        connection.execute("SELECT mood FROM sessions")


@contextmanager
def engines(conninfo: str, number: int) -> Iterator[list[AsyncEngine]]:
    """Pools of one connection each, as replicas that start have."""
    yield [create_engine(conninfo, max_connections=1, wait_s=20) for _ in range(number)]
