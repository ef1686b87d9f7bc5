"""What a superuser does to the archived part of a log, or says was archived, is found and named."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from domain.service_keys import ServiceScope
from infra.sealing import DataKeys
from infra.service_keys import ServiceKeyStore
from sessiontrail.table_comparison import differences
from sessiontrail.verification import Verified, verify_store
from tests.integration.accounts import cause
from tests.integration.archived_world import Kept
from tests.integration.test_tampering import unseen
from tests.integration.tree_world import SIGNER


class Archived(Kept):
    """A log whose oldest part was archived, but for the events of two service keys."""

    async def make(self) -> None:
        keys = ServiceKeyStore(self.engine, self.data_keys.masters)
        for name in ("shop", "till"):
            await keys.add(name, [ServiceScope.CREATE_SESSIONS], cause())
        await self.grow(700)
        await self.rebuild()
        self.path, self.archived, _ = await self.archive()

    async def verify(self, data_keys: DataKeys) -> Verified:  # type: ignore[override]
        compare_tables = partial(differences, self.owner, data_keys)
        return await verify_store(self.owner, SIGNER.verifier, [], compare_tables, unseen)


@pytest.fixture
async def log(
    conninfo: str, owner_conninfo: str, data_keys: DataKeys, tmp_path: Path
) -> AsyncIterator[Archived]:
    archived = Archived(conninfo, owner_conninfo, data_keys, tmp_path)
    await archived.make()
    yield archived
    await archived.close()


async def findings(log: Archived, data_keys: DataKeys) -> str:
    return "\n".join(map(str, (await log.verify(data_keys)).findings))


async def test_an_untouched_log_verifies_clean_archived_and_restored(
    log: Archived, data_keys: DataKeys
) -> None:
    archived = await log.verify(data_keys)
    await log.restore(log.path)
    restored = await log.verify(data_keys)

    assert archived.findings == restored.findings == []
    assert archived.covered.archived == log.archived.end_leaf
    assert restored.covered.archived == 0
    assert log.archived.kept > 1


ADDED = "type = 'ServiceKeyAdded' AND data ->> 'name' = 'till'"
FORGED = (
    """
INSERT INTO events (position, transaction_id, stream, version, event_id, type, schema_version,
                    occurred_at, actor, correlation_id, data)
OVERRIDING SYSTEM VALUE
SELECT -position, transaction_id, {stream}, 1, gen_random_uuid(), 'SessionStarted', 1, now(),
       'system', gen_random_uuid(), '{{}}'
  FROM events WHERE """
    + ADDED
)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            f'UPDATE events SET data = data || \'{{"name": "shop"}}\' WHERE {ADDED}',
            "ServiceKeyAdded) was altered, moved or inserted: it is none of the archived leaves",
        ),
        (f"UPDATE events SET transaction_id = '4' WHERE {ADDED}", "was altered, moved or"),
        (f"DELETE FROM events WHERE {ADDED}", "of the archived events"),
        (FORGED.format(stream="'family-' || gen_random_uuid()"), "SessionStarted) was altered,"),
        (FORGED.format(stream="'key-evil'"), "event -"),
        ("DELETE FROM entry_bundles WHERE bundle = 1", "entry bundle 1 is missing"),
        ("UPDATE log_archives SET restored_at = now()", "archive log-000000000000-"),
    ],
    ids=["altered", "moved", "deleted", "history", "a_key", "bundle", "restored_by_hand"],
)
async def test_what_is_changed_within_an_archived_part_is_named(
    log: Archived, data_keys: DataKeys, statement: str, finding: str
) -> None:
    log.sql(statement)

    assert finding in await findings(log, data_keys)


async def test_a_restored_part_that_is_marked_as_archived_again_is_found(
    log: Archived, data_keys: DataKeys
) -> None:
    await log.restore(log.path)
    log.sql("UPDATE log_archives SET restored_at = NULL")
    log.sql(
        "DELETE FROM events WHERE position = (SELECT min(position) FROM events"
        " WHERE type = 'SessionStarted')"
    )

    found = await findings(log, data_keys)

    assert "is marked as not restored, and the log says that it was" in found
