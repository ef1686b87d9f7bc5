"""Keys of trusted backends, in a real PostgreSQL."""

import hashlib
from base64 import urlsafe_b64encode

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.keys import ServiceKeyAdded, ServiceKeyRevoked
from domain.events.registry import Event, decode_event
from domain.ids import CorrelationId
from domain.ports import StoreUnavailableError
from domain.refresh_token import hash_secret
from domain.service_keys import ServiceScope
from infra.ids import new_uuid
from infra.postgres import create_engine, transaction
from infra.sealed_hashes import SealedHashes
from infra.sealing import MasterKeys
from infra.service_keys import ServiceKeyStore

CAUSE = Cause(Actor(ActorKind.OPERATOR, "root"), CorrelationId(new_uuid()))
CREATE, INTROSPECT = ServiceScope


@pytest.fixture
def store(engine: AsyncEngine, masters: MasterKeys) -> ServiceKeyStore:
    return ServiceKeyStore(engine, masters)


async def events_of(engine: AsyncEngine, key_id: str) -> list[Event]:
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT type, schema_version, data FROM events WHERE stream = %s ORDER BY version",
            ("key-" + key_id,),
            binary=True,
        )
        return [decode_event(*record) async for record in cursor]


async def everything_stored(engine: AsyncEngine) -> str:
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT row_to_json(k)::text FROM service_keys k"
            " UNION ALL SELECT row_to_json(e)::text FROM events e"
        )
        return "\n".join([record[0] async for record in cursor])


async def test_an_added_key_authenticates_with_its_name_and_scopes(store: ServiceKeyStore) -> None:
    key_id, text = await store.add("billing", [CREATE, INTROSPECT, CREATE], CAUSE)

    key = await store.authenticate(text)

    assert key is not None
    assert (key.key_id, key.name) == (key_id, "billing")
    assert key.scopes == {CREATE, INTROSPECT}
    assert key.revoked_at is None


async def test_a_key_may_do_what_it_was_given_and_no_more(store: ServiceKeyStore) -> None:
    _, text = await store.add("gateway", [INTROSPECT], CAUSE)

    key = await store.authenticate(text)

    assert key is not None
    assert key.allows(INTROSPECT)
    assert not key.allows(CREATE)


async def test_its_text_has_the_prefix_the_id_and_43_characters(store: ServiceKeyStore) -> None:
    key_id, text = await store.add("billing", [CREATE], CAUSE)

    prefix, shown_id, secret = text.split("_", 2)
    assert (prefix, shown_id, len(secret)) == ("stk", key_id, 43)


async def test_neither_the_secret_nor_its_hash_is_stored_in_clear(
    store: ServiceKeyStore, engine: AsyncEngine
) -> None:
    _, text = await store.add("billing", [CREATE], CAUSE)
    secret = text.split("_", 2)[2]
    digest = hashlib.sha256(secret.encode()).digest()

    stored = await everything_stored(engine)

    hashed = urlsafe_b64encode(digest).rstrip(b"=")
    for part in (secret.encode(), hashed, digest):
        assert part.decode("latin-1") not in stored
        assert part.hex() not in stored


async def test_the_secret_does_not_show_when_the_new_key_is_printed(
    store: ServiceKeyStore,
) -> None:
    new = await store.add("billing", [CREATE], CAUSE)

    assert f"{new!r} {new}" == " ".join([f"NewServiceKey(key_id='{new.key_id}')"] * 2)


async def test_a_wrong_text_authenticates_nobody(store: ServiceKeyStore) -> None:
    key_id, text = await store.add("billing", [CREATE], CAUSE)
    _, other = await store.add("gateway", [CREATE], CAUSE)
    secret = text.split("_", 2)[2]
    wrong = [
        "",
        "stk_",
        text[:-1],
        text + "A",
        text + "\n",
        " " + text,
        text.upper(),
        text.replace("stk_", "str_"),
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        f"stk_{key_id}_{other.split('_', 2)[2]}",
        f"stk_{'0' * 16}_{secret}",
        f"stk_{key_id}_{'é' * 43}",
        f"stk_{key_id}_{'A' * 43}",
        f"stk_' OR '1'='1_{secret}",
        "x" * 100_000,
    ]

    found = [await store.authenticate(text) for text in wrong]

    assert found == [None] * len(wrong)


async def test_a_revoked_key_authenticates_nobody(store: ServiceKeyStore) -> None:
    key_id, text = await store.add("billing", [CREATE], CAUSE)
    _, other = await store.add("gateway", [CREATE], CAUSE)

    revoked = await store.revoke(key_id, CAUSE)

    assert revoked
    assert await store.authenticate(text) is None
    assert await store.authenticate(other) is not None


async def test_a_key_is_revoked_once(store: ServiceKeyStore, engine: AsyncEngine) -> None:
    key_id, _ = await store.add("billing", [CREATE], CAUSE)
    await store.revoke(key_id, CAUSE)

    assert not await store.revoke(key_id, CAUSE)

    assert len(await events_of(engine, key_id)) == 2


async def test_an_unknown_key_is_not_revoked(store: ServiceKeyStore, engine: AsyncEngine) -> None:
    assert not await store.revoke("0" * 16, CAUSE)

    assert await events_of(engine, "0" * 16) == []


async def test_the_log_says_who_added_and_revoked_what(
    store: ServiceKeyStore, engine: AsyncEngine
) -> None:
    key_id, _ = await store.add("billing", [INTROSPECT, CREATE], CAUSE)
    await store.revoke(key_id, CAUSE)

    assert await events_of(engine, key_id) == [
        ServiceKeyAdded(
            key_id=key_id, name="billing", scopes=["sessions:create", "tokens:introspect"]
        ),
        ServiceKeyRevoked(key_id=key_id),
    ]


async def test_the_list_has_every_key_oldest_first_and_says_which_are_revoked(
    store: ServiceKeyStore,
) -> None:
    first, _ = await store.add("billing", [CREATE], CAUSE)
    second, _ = await store.add("gateway", [INTROSPECT], CAUSE)
    await store.revoke(first, CAUSE)

    keys = await store.list()

    assert [key.key_id for key in keys] == [first, second]
    assert [key.revoked_at is not None for key in keys] == [True, False]


async def test_a_scope_that_only_a_newer_build_knows_grants_nothing(
    store: ServiceKeyStore, engine: AsyncEngine, masters: MasterKeys
) -> None:
    key_id, text = await store.add("billing", [CREATE], CAUSE)
    scopes = [CREATE.value, "users:erase"]
    hashed = hash_secret(text.split("_", 2)[2].encode())
    async with transaction(engine) as connection:
        await connection.execute(
            "UPDATE service_keys SET scopes = %s, sealed_hash = %s",
            (scopes, SealedHashes(masters).seal_key(key_id, "billing", scopes, hashed)),
        )

    key = await store.authenticate(text)

    assert key is not None
    assert key.scopes == {CREATE}


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "bell\x07", "two\nlines"])
async def test_a_name_that_cannot_be_shown_is_refused(store: ServiceKeyStore, name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        await store.add(name, [CREATE], CAUSE)

    assert await store.list() == ()


async def test_a_key_without_a_scope_is_refused(store: ServiceKeyStore) -> None:
    with pytest.raises(ValueError, match="at least one"):
        await store.add("billing", [], CAUSE)

    assert await store.list() == ()


async def test_while_the_database_is_away_nobody_is_told_that_their_key_is_wrong(
    masters: MasterKeys,
) -> None:
    nowhere = create_engine("host=/nonexistent", max_connections=1, wait_s=1)

    with pytest.raises(StoreUnavailableError):
        await ServiceKeyStore(nowhere, masters).authenticate(f"stk_{'0' * 16}_{'A' * 43}")
    await nowhere.dispose()
