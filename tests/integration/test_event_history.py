"""Histories for auditors: every event of one thing; opened only with a reason on record."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from domain.audit_history import (
    AuditEntry,
    HistoryOf,
    HistoryScope,
    InvalidCursorError,
    NothingToRevealError,
    UnknownHistoryError,
)
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.reveals import PersonalDataRevealed
from domain.ids import REVEALS_STREAM, CorrelationId, UserId
from infra.event_history import AuditHistories
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.tail import read_stream
from tests.integration.accounts import SignedIn
from tests.integration.projection_world import World, open_world, some_lives

REASON = "case 4711: Ada asked"


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's: she has another, and there are a few other lives."""
    return await some_lives(world)


@pytest.fixture
def histories(world: World) -> AuditHistories:
    return AuditHistories(world.engine, world.data_keys)


def auditor() -> Cause:
    return Cause(Actor(ActorKind.STAFF, new_uuid()), CorrelationId(new_uuid()))


def of_user(session: SignedIn) -> HistoryOf:
    return HistoryOf(HistoryScope.USER, session.user.user_id)


def of_family(session: SignedIn) -> HistoryOf:
    return HistoryOf(HistoryScope.FAMILY, session.family_id)


async def whole(histories: AuditHistories, of: HistoryOf, limit: int = 3) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    page = await histories.page(of, after=None, limit=limit)
    entries += page.entries
    while page.next_after is not None:
        page = await histories.page(of, after=page.next_after, limit=limit)
        entries += page.entries
    return entries


async def test_the_history_of_a_user_is_every_event_about_them_in_the_logs_order(
    world: World, session: SignedIn, histories: AuditHistories
) -> None:
    entries = await whole(histories, of_user(session))

    assert [(entry.position,) for entry in entries] == world.sql(
        "SELECT position FROM events WHERE subject_id = %s ORDER BY transaction_id, position",
        session.user.user_id,
    )
    assert {entry.stream.partition("-")[0] for entry in entries} == {"user", "family", "alert"}


@pytest.mark.parametrize("scope", [HistoryScope.FAMILY, HistoryScope.SESSION], ids=str)
async def test_the_history_of_a_session_is_that_of_its_family(
    session: SignedIn, histories: AuditHistories, scope: HistoryScope
) -> None:
    id_ = session.family_id if scope is HistoryScope.FAMILY else session.session_id

    entries = await whole(histories, HistoryOf(scope, id_))

    assert [entry.type for entry in entries] == ["SessionStarted", *["RefreshTokenRotated"] * 3]
    assert [entry.version for entry in entries] == [1, 2, 3, 4]


async def test_the_history_of_an_alert_has_who_did_what(
    world: World, session: SignedIn, histories: AuditHistories
) -> None:
    ((alert_id,),) = world.sql(
        "SELECT alert_id::text FROM alerts WHERE subject_id = %s", session.user.user_id
    )

    entries = await whole(histories, HistoryOf(HistoryScope.ALERT, str(alert_id)))

    assert [entry.type for entry in entries] == ["AlertRaised", "AlertRepeated", "AlertResolved"]
    assert entries[-1].actor.startswith("staff:")
    assert entries[-1].data == {"verdict": "benign", "family_id": session.family_id}


async def test_no_hash_no_salt_and_nothing_personal_is_shown(
    session: SignedIn, histories: AuditHistories
) -> None:
    entries = await whole(histories, of_user(session))

    shown = msgspec.json.encode(entries)
    assert b"generation" in shown
    for secret in (b"hash", b"salt", b"203.0.113.7", b"my laptop", b"ada@example.com", b"moved"):
        assert secret not in shown
    assert any(entry.sealed for entry in entries)
    assert all(entry.personal is None for entry in entries)


async def test_of_an_event_that_a_newer_build_wrote_no_data_is_shown(
    world: World, session: SignedIn, histories: AuditHistories
) -> None:
    world.sql("UPDATE events SET schema_version = 9 WHERE stream = 'family-' || %s AND version = 2",
              session.family_id)  # fmt: skip
    world.sql("UPDATE events SET type = 'Later' WHERE stream = 'family-' || %s AND version = 3",
              session.family_id)  # fmt: skip

    entries = await whole(histories, of_family(session))

    assert [entry.data is None for entry in entries] == [False, True, True, False]


@pytest.mark.parametrize(
    "change",
    [
        "data = '[]'",
        "data = 'null'",
        "data = (repeat('[', 3000) || repeat(']', 3000))::jsonb",
        "occurred_at = 'infinity'",
        "occurred_at = '4000-01-01 BC'",
    ],
)
async def test_an_event_that_was_altered_hides_no_other(
    world: World, session: SignedIn, histories: AuditHistories, change: str
) -> None:
    world.sql(f"UPDATE events SET {change} WHERE stream = 'family-' || %s AND version = 2",
              session.family_id)  # fmt: skip

    entries = await whole(histories, of_family(session))

    assert [entry.version for entry in entries] == [1, 2, 3, 4]


async def test_a_reveal_is_on_record_before_anything_is_shown(
    world: World, session: SignedIn, histories: AuditHistories, data_keys: DataKeys
) -> None:
    cause = auditor()

    await histories.record_reveal(of_user(session), REASON, cause)

    async with transaction(world.engine) as connection:
        (recorded,) = await read_stream(connection, REVEALS_STREAM)
    assert recorded.event == PersonalDataRevealed(
        scope=HistoryScope.USER, scope_id=session.user.user_id
    )
    assert recorded.cause == cause
    assert recorded.subject_id == session.user.user_id
    assert REASON not in str(world.sql("SELECT * FROM events"))


async def test_a_revealed_history_is_opened_the_reason_with_it(
    session: SignedIn, histories: AuditHistories
) -> None:
    reveal = await histories.record_reveal(of_user(session), REASON, auditor())

    page = await histories.revealed_page(reveal, after=None, limit=1_000)

    opened = {entry.type: entry.personal for entry in page.entries if entry.personal is not None}
    assert opened["UserRegistered"].username == "ada@example.com"
    assert opened["SessionStarted"].client is not None
    assert opened["AlertResolved"].comment == "she moved"
    assert opened["PersonalDataRevealed"].comment == REASON
    assert page.next_after is None


async def test_a_revealed_history_comes_in_pages_too(
    session: SignedIn, histories: AuditHistories
) -> None:
    reveal = await histories.record_reveal(of_family(session), REASON, auditor())

    first = await histories.revealed_page(reveal, after=None, limit=3)
    second = await histories.revealed_page(reveal, after=first.next_after, limit=3)

    assert [entry.version for entry in [*first.entries, *second.entries]] == [1, 2, 3, 4]
    assert second.next_after is None


async def test_of_who_was_erased_there_is_nothing_to_reveal(
    world: World, session: SignedIn, histories: AuditHistories
) -> None:
    reveal = await histories.record_reveal(of_user(session), REASON, auditor())
    world.erase(session.user.user_id)

    with pytest.raises(NothingToRevealError):
        await histories.record_reveal(of_user(session), REASON, auditor())
    page = await histories.revealed_page(reveal, after=None, limit=1_000)

    assert page.entries
    assert all(entry.personal is None for entry in page.entries)
    assert world.sql("SELECT count(*) FROM events WHERE stream = %s", REVEALS_STREAM) == [(1,)]


async def test_a_box_that_does_not_open_stays_sealed_and_hides_nothing_else(
    world: World, session: SignedIn, histories: AuditHistories
) -> None:
    world.sql("UPDATE events SET personal = 'x' WHERE stream = 'family-' || %s AND version = 2",
              session.family_id)  # fmt: skip
    reveal = await histories.record_reveal(of_family(session), REASON, auditor())

    page = await histories.revealed_page(reveal, after=None, limit=1_000)

    assert [entry.personal is None for entry in page.entries] == [False, True, False, False]


@pytest.mark.parametrize("scope", list(HistoryScope), ids=str)
async def test_what_the_log_does_not_know_has_no_history(
    session: SignedIn, histories: AuditHistories, scope: HistoryScope
) -> None:
    nobody = HistoryOf(scope, UserId(new_uuid()))

    with pytest.raises(UnknownHistoryError):
        await histories.page(nobody, after=None, limit=10)
    with pytest.raises(UnknownHistoryError):
        await histories.record_reveal(nobody, REASON, auditor())


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", "1.x", "-1.2", "9" * 30 + ".1"])
async def test_a_cursor_that_was_not_given_out_is_refused(
    session: SignedIn, histories: AuditHistories, cursor: str
) -> None:
    with pytest.raises(InvalidCursorError):
        await histories.page(of_user(session), after=cursor, limit=10)
    if not cursor.isdigit():
        with pytest.raises(InvalidCursorError):
            await histories.page(of_family(session), after=cursor, limit=10)
