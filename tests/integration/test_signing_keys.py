"""Signing keys: what follows from one, and their life in a real PostgreSQL."""

import asyncio
import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from joserfc.jwk import import_key
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.access_tokens import InvalidAccessTokenError
from domain.events.canonical import from_microseconds
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.keys import SigningKeyCreated, SigningKeyRetired
from domain.events.registry import Event, decode_event
from domain.ids import CorrelationId, FamilyId, SessionId
from infra.access_tokens import AccessTokens
from infra.event_store import database_clock
from infra.ids import new_uuid
from infra.postgres import create_engine, transaction
from infra.sealing import MasterKeys, UnsealError
from infra.signing_key_set import (
    NoSigningKeyError,
    SigningAlgorithm,
    SigningKeySet,
    new_private_key,
    signing_key,
)
from infra.signing_keys import SigningKeyRecord, SigningKeyStore, UnknownSigningKeyError

CAUSE = Cause(Actor(ActorKind.OPERATOR, "root"), CorrelationId(new_uuid()))
MASTERS = MasterKeys(1, {1: os.urandom(32)})
LIFETIME = timedelta(minutes=10)
AT_ONCE = timedelta(0)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
EDDSA, ES256, RS256 = SigningAlgorithm


@pytest.fixture
def store(engine: AsyncEngine) -> SigningKeyStore:
    return SigningKeyStore(engine, MASTERS)


@pytest.fixture
async def first(store: SigningKeyStore) -> str:
    """The kid of the key that a first start made."""
    await store.ensure_one(CAUSE)
    (record,) = await store.list()
    return record.kid


def tokens_with(keys: SigningKeySet) -> AccessTokens:
    tokens = AccessTokens("https://id.example.com", "api", LIFETIME)
    tokens.use(keys)
    return tokens


def issue(tokens: AccessTokens, now: datetime) -> str:
    return tokens.issue(
        sub="user-1",
        sid=SessionId(new_uuid()),
        family_id=FamilyId(new_uuid()),
        client_id="web",
        auth_time=now,
        auth_methods=["pwd"],
        roles=[],
        now=now,
        expires_at=None,
    ).token


async def now_of(engine: AsyncEngine) -> datetime:
    async with transaction(engine) as connection:
        return await database_clock(connection)


async def events_of(engine: AsyncEngine, kid: str) -> list[Event]:
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT type, schema_version, data FROM events WHERE stream = %s ORDER BY version",
            ("key-" + kid,),
            binary=True,
        )
        return [decode_event(*record) async for record in cursor]


async def by_kid(store: SigningKeyStore) -> dict[str, SigningKeyRecord]:
    return {record.kid: record for record in await store.list()}


def published(keys: SigningKeySet, instant: datetime) -> set[str]:
    return {key["kid"] for key in json.loads(keys.jwks(instant).body)["keys"]}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 (what it waits for has no event)
            await asyncio.sleep(0.005)


class TestOneKey:
    KEYS = tuple(
        signing_key(new_private_key(algorithm), datetime(2026, 1, 1, tzinfo=UTC))
        for algorithm in SigningAlgorithm
    )

    def test_the_kid_is_the_thumbprint_that_another_implementation_computes(self) -> None:
        for key in self.KEYS:
            assert import_key(dict(key.public_jwk)).thumbprint() == key.kid

    def test_the_kid_of_the_rfcs_own_example_is_the_rfcs(self) -> None:
        # RFC 8037 appendix A.1 and A.3.
        private = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")

        key = signing_key(
            ed25519.Ed25519PrivateKey.from_private_bytes(private), datetime(2026, 1, 1, tzinfo=UTC)
        )

        assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        assert key.public_jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

    def test_the_jwks_holds_public_members_only(self) -> None:
        body = json.loads(SigningKeySet(self.KEYS).jwks(datetime(2026, 2, 1, tzinfo=UTC)).body)

        assert {key["alg"]: set(key) for key in body["keys"]} == {
            "EdDSA": {"kty", "crv", "x", "use", "alg", "kid"},
            "ES256": {"kty", "crv", "x", "y", "use", "alg", "kid"},
            "RS256": {"kty", "n", "e", "use", "alg", "kid"},
        }
        assert {key["use"] for key in body["keys"]} == {"sig"}

    def test_a_key_of_another_curve_is_not_signed_with(self) -> None:
        with pytest.raises(ValueError, match="P-256"):
            signing_key(ec.generate_private_key(ec.SECP384R1()), datetime(2026, 1, 1, tzinfo=UTC))

    def test_an_es256_signature_is_64_bytes_however_small_its_numbers(self) -> None:
        key = self.KEYS[1]

        # One signature in 128 has an r or s that DER writes in fewer than 32 bytes.
        assert {len(key.sign(hashlib.sha256(bytes([n])).digest())) for n in range(256)} == {64}

    def test_the_etag_is_quoted_and_follows_the_content_alone(self) -> None:
        then = datetime(2026, 2, 1, tzinfo=UTC)
        one, same = SigningKeySet(self.KEYS), SigningKeySet(reversed(self.KEYS))

        assert one.jwks(then) == same.jwks(then + HOUR)
        assert one.jwks(then).etag != SigningKeySet(self.KEYS[:2]).jwks(then).etag
        assert one.jwks(then).etag[0] == one.jwks(then).etag[-1] == '"'


class TestFirstStart:
    async def test_a_first_start_makes_an_eddsa_key_that_signs_at_once(
        self, store: SigningKeyStore, engine: AsyncEngine
    ) -> None:
        before = await now_of(engine)

        made = await store.ensure_one(CAUSE)

        key = (await store.load()).signing_at(await now_of(engine))
        record = (await by_kid(store))[key.kid]
        assert made
        assert key.algorithm is EDDSA
        assert before < record.created_at == record.signs_from < await now_of(engine)
        assert (record.retired_at, record.verifies_until, record.compromised) == (None, None, False)

    async def test_a_later_start_makes_none(self, store: SigningKeyStore, first: str) -> None:
        made = await store.ensure_one(CAUSE)

        assert not made
        assert set(await by_kid(store)) == {first}

    async def test_replicas_that_start_together_make_one(self, engine: AsyncEngine) -> None:
        replicas = [SigningKeyStore(engine, MASTERS) for _ in range(12)]

        made = await asyncio.gather(*(replica.ensure_one(CAUSE) for replica in replicas))

        assert made.count(True) == 1
        assert len(await replicas[0].list()) == 1
        assert {len((await replica.load()).keys) for replica in replicas} == {1}

    async def test_a_key_whose_event_cannot_be_written_is_not_made(
        self, store: SigningKeyStore
    ) -> None:
        nonsense = Cause(Actor(ActorKind.SYSTEM), CorrelationId("no uuid"))

        with pytest.raises(psycopg.DataError):
            await store.ensure_one(nonsense)

        assert await store.list() == ()

    async def test_the_log_says_what_was_published(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        record = (await by_kid(store))[first]
        (event,) = await events_of(engine, first)
        (jwk,) = json.loads((await store.load()).jwks(record.created_at).body)["keys"]
        assert isinstance(event, SigningKeyCreated)
        assert (event.kid, event.algorithm) == (record.kid, "EdDSA")
        assert json.loads(event.public_jwk) == jwk
        assert from_microseconds(event.signs_from_us) == record.signs_from


class TestRotation:
    @pytest.mark.parametrize("algorithm", SigningAlgorithm)
    async def test_the_new_key_is_published_at_once_and_signs_later(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine, algorithm: SigningAlgorithm
    ) -> None:
        new = await store.rotate(algorithm, HOUR, LIFETIME, CAUSE)

        keys, records = await store.load(), await by_kid(store)
        takes_over = records[new].signs_from
        assert takes_over == records[new].created_at + HOUR
        assert published(keys, await now_of(engine)) == {first, new}
        assert keys.signing_at(takes_over - TICK).kid == first
        assert keys.signing_at(takes_over).kid == new
        assert keys.signing_at(takes_over).algorithm is algorithm

    async def test_the_old_key_verifies_until_its_last_token_has_expired(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        new = await store.rotate(EDDSA, HOUR, LIFETIME, CAUSE)

        keys, records = await store.load(), await by_kid(store)
        takes_over = records[new].signs_from
        end = takes_over + LIFETIME + timedelta(seconds=60)
        tokens = tokens_with(keys)
        last = issue(tokens, takes_over - TICK)
        assert (records[first].retired_at, records[first].verifies_until) == (takes_over, end)
        assert tokens.verify(last, takes_over + timedelta(minutes=9)).sub == "user-1"
        assert published(keys, end - TICK) == {first, new}
        assert published(keys, end) == {new}
        assert keys.verifying_at(first, end) is None

    async def test_a_rotation_without_notice_signs_at_once(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        tokens = tokens_with(await store.load())
        earlier = issue(tokens, await now_of(engine))

        new = await store.rotate(ES256, AT_ONCE, LIFETIME, CAUSE)
        tokens.use(await store.load())

        now = await now_of(engine)
        assert tokens.keys.signing_at(now).kid == new != first
        assert tokens.verify(issue(tokens, now), now).sub == "user-1"
        assert tokens.verify(earlier, now).sub == "user-1"

    async def test_the_log_says_who_retired_which_key_until_when(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        new = await store.rotate(EDDSA, HOUR, LIFETIME, CAUSE)

        records = await by_kid(store)
        created, retired = await events_of(engine, first)
        assert isinstance(created, SigningKeyCreated)
        assert isinstance(retired, SigningKeyRetired)
        assert from_microseconds(retired.verifies_until_us) == records[first].verifies_until
        assert not retired.compromised
        assert [type(event) for event in await events_of(engine, new)] == [SigningKeyCreated]

    async def test_rotations_in_any_order_leave_one_key_to_sign_at_every_instant(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        slow = await store.rotate(EDDSA, 2 * HOUR, LIFETIME, CAUSE)
        quick = await store.rotate(EDDSA, HOUR, LIFETIME, CAUSE)

        keys, now = await store.load(), await now_of(engine)
        assert keys.signing_at(now).kid == first
        assert keys.signing_at(now + HOUR).kid == quick
        assert keys.signing_at(now + 3 * HOUR).kid == quick
        assert (await by_kid(store))[slow].retired_at is not None

    async def test_a_further_rotation_gives_a_retired_key_no_longer_life(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        await store.rotate(EDDSA, AT_ONCE, LIFETIME, CAUSE)
        before = (await by_kid(store))[first], await events_of(engine, first)

        await store.rotate(EDDSA, HOUR, LIFETIME, CAUSE)

        assert ((await by_kid(store))[first], await events_of(engine, first)) == before

    async def test_a_key_that_verifies_no_more_is_not_loaded(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        new = await store.rotate(EDDSA, AT_ONCE, LIFETIME, CAUSE)
        async with transaction(engine) as connection:
            await connection.execute(
                "UPDATE signing_keys SET retired_at = retired_at - interval '1 day',"
                " verifies_until = verifies_until - interval '1 day' WHERE kid = %s",
                (first,),
            )

        assert [key.kid for key in (await store.load()).keys] == [new]

    async def test_operators_that_rotate_at_once_take_turns(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        kids = await asyncio.gather(
            *(store.rotate(EDDSA, AT_ONCE, LIFETIME, CAUSE) for _ in range(6))
        )

        records = await store.list()
        current = [record.kid for record in records if record.retired_at is None]
        assert {record.kid for record in records} == {first, *kids}
        assert current == [records[-1].kid]
        assert (await store.load()).signing_at(await now_of(engine)).kid == current[0]

    @pytest.mark.parametrize(("ahead", "lifetime"), [(-TICK, LIFETIME), (HOUR, -TICK)])
    async def test_a_negative_duration_is_refused(
        self, store: SigningKeyStore, ahead: timedelta, lifetime: timedelta
    ) -> None:
        with pytest.raises(ValueError, match="must not be negative"):
            await store.rotate(EDDSA, ahead, lifetime, CAUSE)

        assert await store.list() == ()


class TestCompromise:
    async def test_a_compromised_signing_key_dies_at_once_and_another_signs(
        self, store: SigningKeyStore, engine: AsyncEngine
    ) -> None:
        stolen = await store.rotate(ES256, AT_ONCE, LIFETIME, CAUSE)
        tokens = tokens_with(await store.load())
        token = issue(tokens, await now_of(engine))

        fresh = await store.mark_compromised(stolen, CAUSE)
        tokens.use(await store.load())

        now = await now_of(engine)
        assert fresh is not None
        assert published(tokens.keys, now) == {fresh}
        assert tokens.keys.signing_at(now).algorithm is ES256
        assert tokens.verify(issue(tokens, now), now).sub == "user-1"
        with pytest.raises(InvalidAccessTokenError, match="unknown_key"):
            tokens.verify(token, now)

    async def test_it_is_marked_in_the_list_and_in_the_log(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        await store.mark_compromised(first, CAUSE)

        record = (await by_kid(store))[first]
        event = (await events_of(engine, first))[-1]
        assert record.compromised
        assert isinstance(event, SigningKeyRetired)
        assert event.compromised
        assert from_microseconds(event.verifies_until_us) == record.verifies_until

    async def test_a_clock_set_back_does_not_revive_it(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        await store.mark_compromised(first, CAUSE)

        # The same to the query as a clock set back by an hour: the mark lies in its future.
        async with transaction(engine) as connection:
            await connection.execute(
                "UPDATE signing_keys SET retired_at = retired_at + interval '1 hour',"
                " verifies_until = verifies_until + interval '1 hour' WHERE kid = %s",
                (first,),
            )

        assert first not in {key.kid for key in (await store.load()).keys}

    async def test_a_compromised_key_that_was_yet_to_sign_is_replaced_for_the_same_instant(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        coming = await store.rotate(EDDSA, HOUR, LIFETIME, CAUSE)

        instead = await store.mark_compromised(coming, CAUSE)

        keys, records = await store.load(), await by_kid(store)
        assert instead is not None
        assert records[instead].signs_from == records[coming].signs_from
        assert keys.signing_at(await now_of(engine)).kid == first
        assert keys.signing_at(records[instead].signs_from).kid == instead

    async def test_a_compromised_signing_key_with_a_successor_leaves_no_gap(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        coming = await store.rotate(EDDSA, HOUR, LIFETIME, CAUSE)

        instead = await store.mark_compromised(first, CAUSE)

        keys, now = await store.load(), await now_of(engine)
        assert keys.signing_at(now).kid == instead
        assert keys.signing_at(now + HOUR).kid == coming

    async def test_a_compromised_retired_key_needs_no_replacement(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        new = await store.rotate(EDDSA, AT_ONCE, LIFETIME, CAUSE)

        instead = await store.mark_compromised(first, CAUSE)

        assert instead is None
        assert published(await store.load(), await now_of(engine)) == {new}

    async def test_a_key_is_marked_once(
        self, store: SigningKeyStore, first: str, engine: AsyncEngine
    ) -> None:
        await store.mark_compromised(first, CAUSE)
        before = await events_of(engine, first), await store.list()

        assert await store.mark_compromised(first, CAUSE) is None

        assert (await events_of(engine, first), await store.list()) == before

    async def test_an_unknown_kid_is_named_in_the_error(self, store: SigningKeyStore) -> None:
        with pytest.raises(UnknownSigningKeyError, match="nobody"):
            await store.mark_compromised("nobody", CAUSE)


@pytest.mark.usefixtures("first")
class TestAtRest:
    async def test_the_private_key_opens_with_the_master_key_only(
        self, engine: AsyncEngine
    ) -> None:
        with pytest.raises(UnsealError, match="does not open"):
            await SigningKeyStore(engine, MasterKeys(1, {1: os.urandom(32)})).load()
        with pytest.raises(UnsealError, match="not in the ring"):
            await SigningKeyStore(engine, MasterKeys(2, {2: os.urandom(32)})).load()

    async def test_a_rotated_master_key_still_opens_it(
        self, first: str, engine: AsyncEngine
    ) -> None:
        rotated = MasterKeys(2, {**MASTERS.keys, 2: os.urandom(32)})

        keys = await SigningKeyStore(engine, rotated).load()

        assert keys.signing_at(await now_of(engine)).kid == first

    async def test_a_private_key_does_not_open_under_another_kid(
        self, store: SigningKeyStore, engine: AsyncEngine
    ) -> None:
        async with transaction(engine) as connection:
            await connection.execute("UPDATE signing_keys SET kid = 'other'")

        with pytest.raises(UnsealError, match="signing-key:other"):
            await store.load()

    async def test_a_public_key_written_into_the_table_is_not_believed(
        self, store: SigningKeyStore, engine: AsyncEngine
    ) -> None:
        before = (await store.load()).jwks(await now_of(engine))
        thief = signing_key(new_private_key(EDDSA), datetime(2020, 1, 1, tzinfo=UTC))
        async with transaction(engine) as connection:
            await connection.execute(
                "UPDATE signing_keys SET algorithm = 'HS256', public_jwk = %s::jsonb",
                (json.dumps(dict(thief.public_jwk)),),
            )

        after = (await SigningKeyStore(engine, MASTERS).load()).jwks(await now_of(engine))

        assert after == before


@pytest.mark.usefixtures("first")
class TestKeepFresh:
    async def test_another_replica_follows_a_rotation(
        self, store: SigningKeyStore, engine: AsyncEngine
    ) -> None:
        tokens = tokens_with(await store.load())
        replica = SigningKeyStore(engine, MASTERS)

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(tokens.keep_fresh(replica, timedelta(milliseconds=5)))
            new = await store.rotate(RS256, AT_ONCE, LIFETIME, CAUSE)
            now = await now_of(engine)
            await until(lambda: tokens.keys.signing_at(now).kid == new)
            following.cancel()

        assert tokens.verify(issue(tokens, now), now).sub == "user-1"

    async def test_while_the_store_is_away_the_keys_at_hand_stay_in_use(
        self, store: SigningKeyStore, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "infra.access_tokens")
        tokens = tokens_with(await store.load())
        nowhere = create_engine("host=/nonexistent", max_connections=1, wait_s=1)
        away = SigningKeyStore(nowhere, MASTERS)

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(tokens.keep_fresh(away, timedelta(milliseconds=1)))
            await until(lambda: bool(caplog.records))
            still_following = not following.done()
            following.cancel()
        await nowhere.dispose()

        now = await now_of(engine)
        assert still_following
        assert "the old ones stay in use" in caplog.messages[0]
        assert tokens.verify(issue(tokens, now), now).sub == "user-1"

    async def test_a_key_that_this_replica_cannot_open_yet_does_not_stop_it(
        self, store: SigningKeyStore, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "infra.access_tokens")
        tokens = tokens_with(await store.load())
        ahead = SigningKeyStore(engine, MasterKeys(2, {**MASTERS.keys, 2: os.urandom(32)}))
        new = await ahead.rotate(EDDSA, AT_ONCE, LIFETIME, CAUSE)

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(tokens.keep_fresh(store, timedelta(milliseconds=1)))
            await until(lambda: bool(caplog.records))
            await ahead.mark_compromised(new, CAUSE)
            instead = await store.rotate(EDDSA, AT_ONCE, LIFETIME, CAUSE)
            async with transaction(engine) as connection:
                await connection.execute(
                    "UPDATE signing_keys SET retired_at = created_at, verifies_until = created_at"
                    " WHERE kid <> %s",
                    (instead,),
                )
            await until(lambda: len(caplog.records) == 2)
            following.cancel()

        assert new in caplog.messages[0]
        assert caplog.messages[1] == "signing keys reloaded again"
        assert tokens.keys.signing_at(await now_of(engine)).kid == instead


async def test_before_the_first_key_nothing_signs(
    store: SigningKeyStore, engine: AsyncEngine
) -> None:
    keys = await store.load()

    assert json.loads(keys.jwks(await now_of(engine)).body) == {"keys": []}
    with pytest.raises(NoSigningKeyError):
        keys.signing_at(await now_of(engine))
