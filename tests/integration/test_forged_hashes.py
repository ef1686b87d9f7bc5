"""Who has the database, and not the master keys, lets nobody in by what he writes into it."""

import logging

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ids import UserId
from domain.refresh_token import hash_secret
from domain.refusals import Refusal
from domain.service_keys import ServiceScope
from domain.user import User
from infra.sealed_hashes import NO_HASH
from infra.sealing import DataKeys, MasterKeys
from infra.service_keys import NewServiceKey, ServiceKeyStore
from tests.integration.accounts import Accounts, by_operator

CREATE, INTROSPECT = ServiceScope
FOREIGN = MasterKeys(1, {1: bytes(range(1, 33))})
"""Master keys of another service, or of a thief's own."""


class Dba:
    """Somebody who may write whatever he likes into the database."""

    def __init__(self, owner_conninfo: str) -> None:
        self._conninfo = owner_conninfo

    def __call__(self, statement: str, *values: object) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            superuser.execute(statement.encode(), values)


@pytest.fixture
def dba(owner_conninfo: str) -> Dba:
    return Dba(owner_conninfo)


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


@pytest.fixture
def keys(engine: AsyncEngine, masters: MasterKeys) -> ServiceKeyStore:
    return ServiceKeyStore(engine, masters)


async def hash_of(accounts: Accounts, user: User) -> str | None:
    found = await accounts.users.find(user.user_id)
    assert found is not None
    return found.password_hash


async def new_password(accounts: Accounts, user: User, epoch: int, hashed: str) -> None:
    changed = await accounts.users.change_password(user.user_id, epoch, hashed, None, by_operator())
    assert not isinstance(changed, Refusal)


# ------------------------------------------------------------------------------ passwords


async def test_a_users_own_hash_is_found(accounts: Accounts) -> None:
    user = await accounts.user()

    assert await hash_of(accounts, user) == "a hash"


@pytest.mark.parametrize("forged", [b"", b"\0\1", b"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"])
async def test_a_hash_of_a_superusers_own_fits_no_password(
    accounts: Accounts, dba: Dba, forged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    user = await accounts.user()

    dba("UPDATE credentials SET sealed_hash = %s", forged)

    assert await hash_of(accounts, user) == NO_HASH
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert user.user_id in record.getMessage()
    assert "argon2" not in caplog.text


async def test_one_that_was_sealed_with_other_keys_fits_no_password(
    accounts: Accounts, engine: AsyncEngine, dba: Dba
) -> None:
    user = await accounts.user()
    (record,) = await stored(engine)
    own = FOREIGN.wrap(b"his own", f'{{"epoch":0,"password_of":"{user.user_id}"}}')
    assert len(own) == len(record) - len("a hash") + len("his own")

    dba("UPDATE credentials SET sealed_hash = %s", own)

    assert await hash_of(accounts, user) == NO_HASH


async def test_the_hash_of_another_user_fits_no_password(accounts: Accounts, dba: Dba) -> None:
    admin, other = await accounts.user(), await accounts.user()

    dba(
        "UPDATE credentials SET sealed_hash = (SELECT sealed_hash FROM credentials"
        " WHERE user_id = %s) WHERE user_id = %s",
        *(other.user_id, admin.user_id),
    )

    assert await hash_of(accounts, admin) == NO_HASH
    assert await hash_of(accounts, other) == "a hash"


async def test_an_older_hash_of_the_same_user_fits_no_password(
    accounts: Accounts, engine: AsyncEngine, dba: Dba
) -> None:
    user = await accounts.user()
    (older,) = await stored(engine)
    await new_password(accounts, user, 0, "a newer hash")
    assert await hash_of(accounts, user) == "a newer hash"

    dba("UPDATE credentials SET sealed_hash = %s", older)

    assert await hash_of(accounts, user) == NO_HASH


async def test_a_renewed_hash_opens_as_the_one_before_did(accounts: Accounts) -> None:
    user = await accounts.user()
    await new_password(accounts, user, 0, "weak")

    await accounts.users.rehash_password(user.user_id, "weak", "strong")

    assert await hash_of(accounts, user) == "strong"


async def test_a_hash_is_not_renewed_that_was_replaced_meanwhile(accounts: Accounts) -> None:
    user = await accounts.user()
    await new_password(accounts, user, 0, "of another password")

    await accounts.users.rehash_password(user.user_id, "a hash", "of the old one")
    await accounts.users.rehash_password(UserId("0" * 32), "a hash", "of nobody")

    assert await hash_of(accounts, user) == "of another password"


async def test_what_an_older_master_key_sealed_still_opens(
    accounts: Accounts, engine: AsyncEngine, masters: MasterKeys
) -> None:
    user = await accounts.user()
    rotated = MasterKeys(2, {**masters.keys, 2: bytes(range(2, 34))})
    later = Accounts(engine, DataKeys(rotated))

    assert await hash_of(later, user) == "a hash"
    await new_password(later, user, 0, "a newer hash")
    assert await hash_of(later, user) == "a newer hash"
    (record,) = await stored(engine)
    assert record[:2] == b"\0\2"


async def stored(engine: AsyncEngine) -> list[bytes]:
    """The boxes of all users."""
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql("SELECT sealed_hash FROM credentials")
        return [bytes(row[0]) for row in found]


# --------------------------------------------------------------------------- service keys


async def test_a_key_that_a_superuser_wrote_lets_nobody_in(
    keys: ServiceKeyStore, dba: Dba, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "A" * 43
    dba(
        "INSERT INTO service_keys (key_id, name, sealed_hash, scopes, created_at)"
        " VALUES (%s, 'evil', %s, '{sessions:create}', now())",
        *("0" * 16, hash_secret(secret.encode()).encode()),
    )

    assert await keys.authenticate(f"stk_{'0' * 16}_{secret}") is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert secret not in caplog.text
    assert hash_secret(secret.encode()) not in caplog.text


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE service_keys SET scopes = '{sessions:create,tokens:introspect}'",
        "UPDATE service_keys SET name = 'another'",
        "UPDATE service_keys SET key_id = '0123456789abcdef'",
        "UPDATE service_keys SET sealed_hash = set_byte(sealed_hash, 20, 0)",
        "UPDATE service_keys SET sealed_hash = NULL",
    ],
    ids=lambda value: value[24:],
)
async def test_a_key_whose_row_was_altered_lets_nobody_in(
    keys: ServiceKeyStore, dba: Dba, statement: str
) -> None:
    added = await keys.add("gateway", [INTROSPECT], by_operator())
    assert await keys.authenticate(added.text) is not None

    dba(statement)

    for key_id in (added.key_id, "0123456789abcdef"):
        assert await keys.authenticate(added.text.replace(added.key_id, key_id)) is None


async def test_a_revocation_that_was_undone_lets_nobody_in(
    keys: ServiceKeyStore, dba: Dba, engine: AsyncEngine
) -> None:
    added = await keys.add("shop", [CREATE], by_operator())
    await keys.revoke(added.key_id, by_operator())

    dba("UPDATE service_keys SET revoked_at = NULL")

    assert await keys.authenticate(added.text) is None


async def test_the_box_of_another_key_lets_nobody_in(keys: ServiceKeyStore, dba: Dba) -> None:
    weak = await keys.add("gateway", [INTROSPECT], by_operator())
    strong = await keys.add("shop", [CREATE], by_operator())

    dba(
        "UPDATE service_keys SET sealed_hash = (SELECT sealed_hash FROM service_keys"
        " WHERE key_id = %s) WHERE key_id = %s",
        *(weak.key_id, strong.key_id),
    )

    assert await keys.authenticate(with_id(weak, strong.key_id)) is None
    assert await keys.authenticate(strong.text) is None


def with_id(key: NewServiceKey, key_id: str) -> str:
    """The same secret under another id."""
    return key.text.replace(key.key_id, key_id)
