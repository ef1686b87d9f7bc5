"""What guards the tables: whoever takes it away, or around it, is found."""

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.log_guard import guard_faults

_SWALLOW = (
    "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    " CREATE TRIGGER swallow BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION swallow()"
)


async def test_what_migrations_made_is_in_place(engine: AsyncEngine) -> None:
    assert await guard_faults(engine) == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("DROP TRIGGER events_append_only ON events", "is gone, off or altered"),
        ("ALTER TABLE events DISABLE TRIGGER ALL", "is gone, off or altered"),
        (
            (
                "CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger"
                " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            ),
            "is gone, off or altered",
        ),
        ("ALTER TABLE events ENABLE ROW LEVEL SECURITY", "events has row security"),
        ("ALTER TABLE sessions ENABLE ROW LEVEL SECURITY", "sessions has row security"),
        (
            "CREATE RULE quiet AS ON INSERT TO events WHERE NEW.type = 'x' DO INSTEAD NOTHING",
            "events has a rule",
        ),
        (
            "ALTER TABLE alerts RENAME TO other; CREATE VIEW alerts AS SELECT * FROM other",
            "alerts is no table any more",
        ),
        ("CREATE TABLE more () INHERITS (events)", "events has tables that inherit"),
        (_SWALLOW.format("events"), "events has a trigger swallow"),
        (_SWALLOW.format("tree_heads"), "tree_heads has a trigger swallow"),
        ("GRANT ALL ON events TO PUBLIC", "everybody has UPDATE on events"),
    ],
    ids=lambda value: value[:50],
)
async def test_whatever_is_taken_away_or_put_before_it_is_named(
    engine: AsyncEngine, owner_conninfo: str, statement: str, finding: str
) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as superuser:
        superuser.execute(statement.encode())

    assert finding in "\n".join(await guard_faults(engine))


async def test_a_trigger_that_only_follows_what_happens_is_nobodys_fault(
    engine: AsyncEngine, owner_conninfo: str
) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as superuser:
        superuser.execute(_SWALLOW.format("events").replace("BEFORE", "AFTER").encode())

    assert await guard_faults(engine) == []
