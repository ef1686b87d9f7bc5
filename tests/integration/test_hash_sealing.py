"""The migration that seals the hashes of an older version: with the right keys, or not at all."""

from collections.abc import AsyncIterator, Callable, Iterator
from importlib import resources

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ids import UserId
from domain.refresh_token import hash_secret
from infra.embedded_postgres import RunningPostgres
from infra.ids import new_uuid
from infra.key_files import KeyRingError
from infra.migrate import is_current, migrate
from infra.postgres import create_engine, queries
from infra.sealed_hashes import UnsealedHashesError
from infra.sealing import DataKeys, MasterKeys
from infra.service_keys import ServiceKeyStore
from infra.user_commands import PostgresUserCommands

Rows = list[tuple[object, ...]]

OLDER = "0004"
ARGON2 = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IGhlcmU$c29tZSBoYXNoIGhlcmU"
USER = UserId(new_uuid())
SECRET = "A" * 43
LIVE, REVOKED = "0" * 16, "1" * 16


@pytest.fixture
def owner_conninfo(postgres: RunningPostgres) -> Iterator[str]:
    """Connects as superuser to a database of the test's own, that is empty."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE of_an_older_version")
    yield postgres.conninfo(dbname="of_an_older_version")
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("DROP DATABASE of_an_older_version WITH (FORCE)")


@pytest.fixture
async def owner(owner_conninfo: str) -> AsyncIterator[AsyncEngine]:
    pool = create_engine(owner_conninfo, max_connections=2, wait_s=10)
    yield pool
    await pool.dispose()


@pytest.fixture
async def older(owner: AsyncEngine, owner_conninfo: str, data_keys: DataKeys) -> Rows:
    """A database of an older version: a user and two service keys; what it has of their hashes."""
    await at_revision(owner, command.upgrade, OLDER)
    hashed = hash_secret(SECRET.encode())
    with psycopg.connect(owner_conninfo) as connection:
        connection.execute(
            "INSERT INTO users (user_id, version, origin, username, roles, registered_at,"
            " credential_epoch) VALUES (%s, 1, 'local', 'ada', '{}', now(), 3)",
            (USER,),
        )
        connection.execute("INSERT INTO credentials VALUES (%s, %s)", (USER, ARGON2))
        connection.execute("INSERT INTO data_keys VALUES (%s, %s)", (USER, data_keys.new(USER)))
        for key_id, revoked_at in ((LIVE, None), (REVOKED, "now")):
            connection.execute(
                "INSERT INTO service_keys VALUES (%s, 'shop', %s, '{sessions:create}', now(), %s)",
                (key_id, hashed, revoked_at),
            )
    return hashes(owner_conninfo)


async def at_revision(
    owner: AsyncEngine,
    go: Callable[[Config, str], None],
    revision: str,
    masters: MasterKeys | None = None,
) -> None:
    """Bring a database to a revision, up or down."""

    def work(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(resources.files("infra") / "migrations"))
        config.attributes["connection"] = connection
        config.attributes["masters"] = None if masters is None else lambda: masters
        go(config, revision)

    async with queries(owner) as connection:
        await connection.run_sync(work)


def hashes(owner_conninfo: str) -> Rows:
    with psycopg.connect(owner_conninfo) as connection:
        passwords = connection.execute("SELECT * FROM credentials").fetchall()
        return (
            passwords + connection.execute("SELECT * FROM service_keys ORDER BY key_id").fetchall()
        )


async def test_what_an_older_version_stored_is_sealed_and_still_lets_its_owners_in(
    owner: AsyncEngine, older: Rows, owner_conninfo: str, data_keys: DataKeys, masters: MasterKeys
) -> None:
    await migrate(owner, masters=lambda: masters)

    found = await PostgresUserCommands(owner, data_keys).find(USER)
    assert found is not None
    assert found.password_hash == ARGON2
    keys = ServiceKeyStore(owner, masters)
    assert await keys.authenticate(f"stk_{LIVE}_{SECRET}") is not None
    assert await keys.authenticate(f"stk_{REVOKED}_{SECRET}") is None
    in_clear = {row[1] for row in older[:1]} | {row[2] for row in older[1:]}
    assert not in_clear & {str(value) for row in hashes(owner_conninfo) for value in row}
    (*_, revoked) = hashes(owner_conninfo)
    assert revoked[2] is None


@pytest.mark.parametrize("foreign", [False, True], ids=["no keys", "other keys"])
async def test_without_the_keys_of_this_database_nothing_is_changed(
    owner: AsyncEngine, older: Rows, owner_conninfo: str, foreign: bool
) -> None:
    others = MasterKeys(1, {1: bytes(range(1, 33))})

    with pytest.raises(UnsealedHashesError, match="master keys"):
        await migrate(owner, masters=(lambda: others) if foreign else None)

    assert not await is_current(owner)
    assert hashes(owner_conninfo) == older


async def test_keys_that_cannot_be_read_change_nothing(
    owner: AsyncEngine, older: Rows, owner_conninfo: str
) -> None:
    def unreadable() -> MasterKeys:
        msg = "there is no key file"
        raise KeyRingError(msg)

    with pytest.raises(KeyRingError):
        await migrate(owner, masters=unreadable)

    assert hashes(owner_conninfo) == older


async def test_an_empty_database_asks_for_no_keys(owner: AsyncEngine) -> None:
    await migrate(owner)

    assert await is_current(owner)


@pytest.mark.usefixtures("older")
async def test_a_row_that_is_put_there_later_is_never_sealed(
    owner: AsyncEngine, owner_conninfo: str, data_keys: DataKeys, masters: MasterKeys
) -> None:
    await migrate(owner, masters=lambda: masters)
    with psycopg.connect(owner_conninfo) as superuser:
        superuser.execute("UPDATE credentials SET sealed_hash = %s", (ARGON2.encode(),))

    await migrate(owner, masters=lambda: masters)

    found = await PostgresUserCommands(owner, data_keys).find(USER)
    assert found is not None
    assert found.password_hash == ""


async def test_going_back_gives_the_hashes_back_but_for_those_of_revoked_keys(
    owner: AsyncEngine, older: Rows, owner_conninfo: str, masters: MasterKeys
) -> None:
    await migrate(owner, masters=lambda: masters)

    await at_revision(owner, command.downgrade, OLDER, masters)

    *same, revoked = hashes(owner_conninfo)
    assert same == older[:-1]
    assert revoked[2] == ""
