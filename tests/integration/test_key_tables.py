"""The tables of keys against the log: whoever writes a key into them is found."""

from datetime import timedelta

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.registry import MalformedEventError
from domain.ids import CorrelationId
from domain.service_keys import ServiceScope
from infra.ids import new_uuid
from infra.key_tables import key_differences
from infra.sealing import MasterKeys
from infra.service_keys import ServiceKeyStore
from infra.signing_key_set import SigningAlgorithm
from infra.signing_keys import SigningKeyStore

CAUSE = Cause(Actor(ActorKind.OPERATOR, "root"), CorrelationId(new_uuid()))
MASTERS = MasterKeys(1, {1: bytes(range(32))})

_INSERT_ANOTHER = (
    'INSERT INTO service_keys SELECT (jsonb_populate_record(k, \'{"key_id": "evil"}\')).*'
    " FROM service_keys k WHERE k.name = 'shop'"
)


@pytest.fixture
async def keys(engine: AsyncEngine) -> None:
    """Keys that were made, rotated, marked as compromised, added and revoked."""
    signing, service = SigningKeyStore(engine, MASTERS), ServiceKeyStore(engine, MASTERS)
    await signing.ensure_one(CAUSE)
    kid = await signing.rotate(
        SigningAlgorithm.ES256, timedelta(minutes=5), timedelta(minutes=10), CAUSE
    )
    await signing.rotate(SigningAlgorithm.EDDSA, timedelta(0), timedelta(minutes=10), CAUSE)
    await signing.mark_compromised(kid, CAUSE)
    await signing.mark_compromised((await signing.list())[-1].kid, CAUSE)
    await service.add("billing", list(ServiceScope), CAUSE)
    revoked = await service.add("shop", [ServiceScope.CREATE_SESSIONS], CAUSE)
    await service.revoke(revoked.key_id, CAUSE)


@pytest.mark.usefixtures("keys")
async def test_tables_that_nobody_touched_are_what_the_log_says(engine: AsyncEngine) -> None:
    assert await key_differences(engine) == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            _INSERT_ANOTHER,
            "service_keys evil: the log knows of no such row",
        ),
        ("UPDATE service_keys SET revoked_at = NULL", "revoked_at: expected 2"),
        ("UPDATE service_keys SET scopes = '{sessions:create}'", "scopes: expected {"),
        ("UPDATE service_keys SET name = 'x' WHERE name = 'shop'", "expected shop, found x"),
        ("UPDATE service_keys SET created_at = '-infinity'", "created_at: expected 2"),
        ("DELETE FROM service_keys WHERE name = 'shop'", ": the row is missing"),
        ("UPDATE signing_keys SET retired_at = NULL, verifies_until = NULL", "retired_at"),
        (
            "UPDATE signing_keys SET verifies_until = 'infinity' WHERE retired_at IS NOT NULL",
            "verifies_until: expected 2",
        ),
        (
            (
                "UPDATE signing_keys SET retired_at = retired_at + interval '1 second'"
                " WHERE retired_at IS NOT NULL"
            ),
            "retired_at: expected 2",
        ),
        ("UPDATE signing_keys SET signs_from = 'epoch'", "signs_from: expected 2"),
        ("UPDATE signing_keys SET algorithm = 'none'", "algorithm: expected EdDSA, found none"),
        ("UPDATE signing_keys SET public_jwk = '{}'", "public_jwk: expected {"),
        ("DELETE FROM signing_keys", "signing_keys"),
    ],
    ids=lambda value: value[:60],
)
@pytest.mark.usefixtures("keys")
async def test_whatever_is_changed_is_named(
    engine: AsyncEngine, owner_conninfo: str, statement: str, finding: str
) -> None:
    _tamper(owner_conninfo, statement)

    found = "\n".join(map(str, await key_differences(engine)))

    assert finding in found


@pytest.mark.parametrize("time", ["1e30", "9e17"])
@pytest.mark.usefixtures("keys")
async def test_an_event_with_a_time_that_is_none_is_refused(
    engine: AsyncEngine, owner_conninfo: str, time: str
) -> None:
    _tamper(
        owner_conninfo,
        f"UPDATE events SET data = data || '{{\"signs_from_us\": {time}}}'"
        " WHERE type = 'SigningKeyCreated'",
    )

    with pytest.raises(MalformedEventError):
        await key_differences(engine)


def _tamper(owner_conninfo: str, statement: str) -> None:
    with psycopg.connect(owner_conninfo, autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute(statement.encode())
