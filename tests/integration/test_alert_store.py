"""Appending to alerts, in bulk and against other writers, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest

from domain.alert import Alert, AlertStatus
from domain.alert_decisions import Acknowledge, Comment, decide_alert
from domain.detection import Outcome, Response
from domain.events.alerts import AlertAnswered
from domain.events.envelope import NewEvent
from domain.events.personal import Personal, Sealed
from domain.ids import SYSTEM_SUBJECT, AlertId, alert_stream
from infra.alert_store import AlertAppend, append_of, load_alerts, put_alerts
from infra.event_rows import StreamConflictError
from infra.event_store import append_stream, database_clock
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.subject_keys import subject_keys
from infra.tail import read_stream
from tests.alerts import NOW, TEXTS, THIEF, by_rule, by_staff, put, raise_alert, raised, repeated
from tests.integration.projection_world import World, open_world


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


async def stored(world: World, alert_id: AlertId) -> Alert | None:
    async with transaction(world.engine) as connection:
        loaded = (await load_alerts(connection, [alert_id])).get(alert_id)
    return loaded.alert if loaded is not None else None


async def append_to(
    world: World, before: Alert | None, alert_id: AlertId, *events: NewEvent
) -> AlertAppend:
    """An append that was decided on ``before``."""
    async with transaction(world.engine) as connection:
        subject = before.subject_id if before is not None else SYSTEM_SUBJECT
        keys = await subject_keys(connection, [subject], world.data_keys)
    return append_of(
        before, alert_id, [(event, by_rule()) for event in events], keys.get(subject), NOW
    )


async def test_an_alert_is_stored_as_it_was_folded(world: World) -> None:
    user = await world.accounts.user()
    alert_id = AlertId(new_uuid())

    alert = await raise_alert(world.engine, world.data_keys, raised(user_id=user.user_id), alert_id)

    assert await stored(world, alert_id) == alert
    assert (alert.client, alert.fact_texts) == (THIEF, TEXTS)


async def test_what_identifies_somebody_is_sealed_in_the_log(world: World) -> None:
    user = await world.accounts.user()
    alert = await raise_alert(world.engine, world.data_keys, raised(user_id=user.user_id))

    async with transaction(world.engine) as connection:
        (event,) = await read_stream(connection, alert_stream(alert.alert_id))
        keys = await subject_keys(connection, [user.user_id], world.data_keys)

    assert event.subject_id == user.user_id
    assert isinstance(event.personal, Sealed)
    assert keys[user.user_id].open(event.personal) == Personal(client=THIEF, facts=TEXTS)


async def test_an_alert_about_no_user_is_sealed_under_the_services_own_key(world: World) -> None:
    alert = await raise_alert(world.engine, world.data_keys, raised())

    async with transaction(world.engine) as connection:
        (event,) = await read_stream(connection, alert_stream(alert.alert_id))

    assert (alert.user_id, event.subject_id) == (None, SYSTEM_SUBJECT)
    assert await stored(world, alert.alert_id) == alert


async def test_many_alerts_are_raised_and_repeated_in_one_statement(world: World) -> None:
    old = [await raise_alert(world.engine, world.data_keys, raised()) for _ in range(3)]
    new = [AlertId(new_uuid()) for _ in range(3)]
    answered = NewEvent(AlertAnswered(response=Response.ALERT, outcome=Outcome.DONE))
    appends = [
        *[await append_to(world, each, each.alert_id, repeated(), answered) for each in old],
        *[await append_to(world, None, each, raised()) for each in new],
    ]

    async with transaction(world.engine) as connection:
        accepted = await put_alerts(connection, appends)

    assert accepted == {append.after.alert_id for append in appends}
    for append in appends:
        assert await stored(world, append.after.alert_id) == append.after
    assert await world.verify() == []


async def test_nothing_to_put_is_no_statement(world: World) -> None:
    async with transaction(world.engine) as connection:
        assert await put_alerts(connection, []) == set()


async def test_an_alert_that_moved_on_is_passed_over_and_the_others_are_put(world: World) -> None:
    stale = await raise_alert(world.engine, world.data_keys, raised())
    other = await raise_alert(world.engine, world.data_keys, raised())
    moved = await put(world.engine, world.data_keys, stale.alert_id, repeated())
    appends = [
        await append_to(world, stale, stale.alert_id, repeated()),
        await append_to(world, other, other.alert_id, repeated()),
    ]

    async with transaction(world.engine) as connection:
        accepted = await put_alerts(connection, appends)

    assert accepted == {other.alert_id}
    assert await stored(world, stale.alert_id) == moved
    assert await world.verify() == []


async def test_an_alert_that_was_raised_before_is_not_raised_again(world: World) -> None:
    """A detector that plays its events again derives the same id."""
    alert = await raise_alert(world.engine, world.data_keys, raised())
    again = await append_to(world, None, alert.alert_id, raised(count=7))

    async with transaction(world.engine) as connection:
        accepted = await put_alerts(connection, [again])

    assert accepted == set()
    assert await stored(world, alert.alert_id) == alert


async def test_alerts_that_are_put_go_with_their_transaction(world: World) -> None:
    alert_id = AlertId(new_uuid())
    append = await append_to(world, None, alert_id, raised())

    with suppress(psycopg.errors.DivisionByZero):
        async with transaction(world.engine) as connection:
            await put_alerts(connection, [append])
            await connection.execute("SELECT 1 / 0")

    assert await stored(world, alert_id) is None
    assert await world.verify() == []


async def test_a_loaded_alert_is_held_until_the_transaction_ends(world: World) -> None:
    alert = await raise_alert(world.engine, world.data_keys, raised())
    other_waits = asyncio.Event()

    async def other() -> None:
        other_waits.set()
        await put(world.engine, world.data_keys, alert.alert_id, repeated())

    async with asyncio.TaskGroup() as tasks, transaction(world.engine) as connection:
        loaded = await load_alerts(connection, [alert.alert_id])
        tasks.create_task(other())
        await other_waits.wait()
        before = loaded[alert.alert_id].alert
        append = await append_to(world, before, alert.alert_id, repeated())
        assert await put_alerts(connection, [append]) == {alert.alert_id}

    after = await stored(world, alert.alert_id)
    assert after is not None
    assert (after.version, after.count) == (3, 3)


async def test_an_alert_with_events_and_no_row_is_said_to_be_so(world: World) -> None:
    alert = await raise_alert(world.engine, world.data_keys, raised())
    world.sql("DELETE FROM alerts")
    append = await append_to(world, None, alert.alert_id, raised())

    with pytest.raises(StreamConflictError):
        async with transaction(world.engine) as connection:
            await put_alerts(connection, [append])


async def test_of_an_erased_subject_nothing_personal_is_kept(world: World) -> None:
    user = await world.accounts.user()
    alert = await raise_alert(world.engine, world.data_keys, raised(user_id=user.user_id))
    world.erase(user.user_id)
    before = await stored(world, alert.alert_id)
    assert before is not None

    append = await append_to(world, before, alert.alert_id, repeated(facts={"new_asn": "AS64500"}))
    async with transaction(world.engine) as connection:
        await put_alerts(connection, [append])

    after = await stored(world, alert.alert_id)
    assert after == append.after
    assert (after.client, after.fact_texts, after.count) == (None, None, 2)
    assert await world.verify() == []


async def test_a_command_of_an_analyst_is_an_event_with_its_actor(world: World) -> None:
    alert = await raise_alert(world.engine, world.data_keys, raised())
    analyst = new_uuid()
    events = [
        (new, by_staff(analyst))
        for command in (Acknowledge(), Comment("odd"))
        for new in decide_alert(alert, command).events
    ]

    async with transaction(world.engine) as connection:
        keys = await subject_keys(connection, [SYSTEM_SUBJECT], world.data_keys)
        at = await database_clock(connection)
        append = append_of(alert, alert.alert_id, events, keys[SYSTEM_SUBJECT], at)
        await put_alerts(connection, [append])
        history = await read_stream(connection, alert_stream(alert.alert_id))

    assert append.after.status is AlertStatus.ACKNOWLEDGED
    assert [str(event.cause.actor) for event in history[1:]] == [f"staff:{analyst}"] * 2
    assert await world.verify() == []


async def test_an_event_that_another_store_appended_is_found(world: World) -> None:
    alert = await raise_alert(world.engine, world.data_keys, raised())
    acknowledged = decide_alert(alert, Acknowledge()).events
    async with transaction(world.engine) as connection:
        await append_stream(
            connection, alert_stream(alert.alert_id), 1, acknowledged, by_rule(), NOW
        )

    found = await world.verify()

    assert {(each.table, each.column) for each in found} == {
        ("alerts", "version"),
        ("alerts", "status"),
    }
