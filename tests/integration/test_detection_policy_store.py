"""The detection policy as its stream has it."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection import Severity
from domain.detection_policy import NO_POLICY, RuleSettings
from domain.detection_policy_decisions import AllowList, ConfigureRule, HoldBack, RemoveEntry
from domain.events.detection_policies import AllowedKind
from domain.ids import DETECTION_POLICY_STREAM, SYSTEM_SUBJECT, UserId
from domain.refusals import Refusal
from infra.detection_policy_store import DetectionPolicyStore
from infra.event_store import database_clock
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.tail import read_stream
from tests.alerts import by_rule, by_staff
from tests.unit.domain.builders import DAY, HOUR

RULES = {"impossible-travel": {"min_km": 500}, "dormant": {}}
SET = ConfigureRule("impossible-travel", RuleSettings(severity=Severity.LOW))


@pytest.fixture
def store(engine: AsyncEngine, data_keys: DataKeys) -> DetectionPolicyStore:
    return DetectionPolicyStore(engine, data_keys)


@pytest.fixture
def other(engine: AsyncEngine, data_keys: DataKeys) -> DetectionPolicyStore:
    """Another process on the same database."""
    return DetectionPolicyStore(engine, data_keys)


async def allowed(engine: AsyncEngine, **fields: object) -> AllowList:
    async with transaction(engine) as connection:
        until = await database_clock(connection) + DAY
    chosen: dict[str, object] = {
        "entry_id": new_uuid(),
        "kind": AllowedKind.NETWORK,
        "network": "203.0.113.0/24",
        "owner": UserId(new_uuid()),
        "reason": "our office",
        "until": until,
    }
    return AllowList(**(chosen | fields))  # type: ignore[arg-type]  # as its fields are


async def test_nothing_was_set_in_a_new_database(store: DetectionPolicyStore) -> None:
    assert await store.current() == NO_POLICY


async def test_what_one_process_sets_every_other_reads(
    store: DetectionPolicyStore, other: DetectionPolicyStore, engine: AsyncEngine
) -> None:
    before = await other.current()
    entry = await allowed(engine)

    await store.command(SET, RULES, by_staff("a"))
    await store.command(entry, RULES, by_staff("a"))

    policy = await other.current()
    assert before == NO_POLICY
    assert policy.version == 2
    assert policy.rules == {"impossible-travel": SET.settings}
    (kept,) = policy.entries.values()
    assert (kept.network, kept.reason) == ("203.0.113.0/24", "our office")
    assert policy == await store.current()


async def test_a_network_is_sealed_in_the_log(
    store: DetectionPolicyStore, engine: AsyncEngine
) -> None:
    await store.command(await allowed(engine), RULES, by_staff("a"))

    async with transaction(engine) as connection:
        (event,) = await read_stream(connection, DETECTION_POLICY_STREAM)

    assert event.subject_id == SYSTEM_SUBJECT
    assert event.personal is not None
    assert "203.0.113" not in repr(event)


async def test_what_is_refused_leaves_nothing(
    store: DetectionPolicyStore, engine: AsyncEngine
) -> None:
    unknown = await store.command(ConfigureRule("unheard-of", RuleSettings()), RULES, by_staff("a"))
    removed = await store.command(RemoveEntry(new_uuid()), RULES, by_staff("a"))

    assert (unknown.refusal, removed.refusal) == (Refusal.UNKNOWN_RULE, Refusal.UNKNOWN_ENTRY)
    assert await store.current() == NO_POLICY


async def test_commands_that_meet_are_decided_one_after_the_other(
    store: DetectionPolicyStore, other: DetectionPolicyStore, engine: AsyncEngine
) -> None:
    entries = [await allowed(engine, network=f"203.0.113.{number}") for number in range(4)]

    decisions = await asyncio.gather(
        *(
            each.command(entry, RULES, by_staff("a"))
            for each, entry in zip([store, other] * 2, entries, strict=True)
        )
    )

    assert [decision.refusal for decision in decisions] == [None] * 4
    policy = await store.current()
    assert policy.version == 4
    assert set(policy.entries) == {entry.entry_id for entry in entries}


async def test_what_a_transaction_wrote_is_read_in_it_and_forgotten_with_it(
    store: DetectionPolicyStore, engine: AsyncEngine
) -> None:
    async with transaction(engine) as connection:
        until = await database_clock(connection) + HOUR
        command = HoldBack("dormant", families=200, active=10_000, until=until)
        await store.append(connection, command, RULES, by_rule("dormant"))
        within = await store.read(connection)
        await connection.execute("ROLLBACK AND CHAIN")

    assert within.held_back == {"dormant": until}
    assert await store.current() == NO_POLICY
