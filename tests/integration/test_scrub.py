"""Scrubbing: what it waits for, what it needs, and what it tells when it may not do all."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from infra.scrub import PERSONAL_TABLES, ScrubError, scrub
from infra.sealing import DataKeys
from tests.integration.projection_world import World, open_world, some_lives


async def world_with_an_erasure(world: World) -> None:
    """Some lives, one of them erased."""
    ada = (await some_lives(world)).user
    await world.accounts.erase(ada)


async def test_tables_are_written_anew_and_hold_what_they_held(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys
) -> None:
    steps: list[tuple[int, int]] = []
    async with open_world(conninfo, owner_conninfo, data_keys) as world:
        await world_with_an_erasure(world)
        contents, files = world.contents(), files_of(owner_conninfo)

        done = await scrub(owner_conninfo, lambda *step: steps.append(step))

        assert world.contents() == contents
        assert files_of(owner_conninfo).isdisjoint(files)
        assert await world.verify() == []
    assert done.tables == PERSONAL_TABLES
    assert done.left == ()
    assert steps == [(n, len(steps)) for n in range(1, len(steps) + 1)]


async def test_the_statistics_of_columns_forget_too(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys
) -> None:
    async with open_world(conninfo, owner_conninfo, data_keys) as world:
        ada = (await some_lives(world)).user
        world.sql("ANALYZE users")
        before = world.sql("SELECT most_common_vals, histogram_bounds FROM pg_stats")
        await world.accounts.erase(ada)

        await scrub(owner_conninfo, lambda *_: None)

        after = world.sql("SELECT most_common_vals, histogram_bounds FROM pg_stats")
    assert "ada@example.com" in str(before)
    assert "ada@example.com" not in str(after)


async def test_whoever_may_still_see_what_was_erased_is_waited_for_and_named(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys
) -> None:
    async with open_world(conninfo, owner_conninfo, data_keys) as world:
        with psycopg.connect(owner_conninfo) as looking:
            looking.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            looking.execute("SELECT 1 FROM users")
            await world_with_an_erasure(world)

            with pytest.raises(ScrubError, match=f"backend {looking.info.backend_pid}"):
                await scrub(owner_conninfo, lambda *_: None, patience_s=0.2)

        assert (await scrub(owner_conninfo, lambda *_: None)).left == ()


async def test_the_services_role_may_not(conninfo: str) -> None:
    with pytest.raises(ScrubError, match="needs the owner of"):
        await scrub(conninfo, lambda *_: None)


async def test_an_owner_without_further_rights_is_told_what_is_left(
    owner_conninfo: str, database_name: str
) -> None:
    role = f"owner_of_{database_name}"
    with psycopg.connect(owner_conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        for table in PERSONAL_TABLES:
            connection.execute(f"ALTER TABLE {table} OWNER TO {role}".encode())
    try:
        done = await scrub(make_conninfo(owner_conninfo, user=role), lambda *_: None)
    finally:
        with psycopg.connect(owner_conninfo, autocommit=True) as connection:
            connection.execute(f"REASSIGN OWNED BY {role} TO postgres".encode())
            connection.execute(f"DROP ROLE {role}".encode())

    assert done.wal_files == 0
    assert [each.partition(":")[0] for each in done.left] == [
        "column statistics",
        "the write-ahead log",
    ]


def files_of(conninfo: str) -> set[object]:
    """The files that the personal tables and their indexes lie in."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c WHERE c.relname = ANY(%s)"
            " UNION SELECT pg_relation_filepath(i.indexrelid) FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = ANY(%s)",
            (list(PERSONAL_TABLES), list(PERSONAL_TABLES)),
        ).fetchall()
    return {row[0] for row in rows}
