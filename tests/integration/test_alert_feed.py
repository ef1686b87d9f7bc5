"""Following alerts in the log: nothing skipped, nothing told twice, nothing kept for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert_lists import AlertChange
from domain.ids import AlertId
from infra.alert_feed import AlertFeed
from infra.ids import new_uuid
from infra.sealing import DataKeys
from tests.alerts import put, raise_alert, raised, repeated
from tests.integration.accounts import Accounts

WAIT_S = 10.0


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def feed(engine: AsyncEngine, clock: Clock) -> AsyncIterator[AlertFeed]:
    async with at_work(AlertFeed(engine, clock=clock)) as working:
        yield working


@contextlib.asynccontextmanager
async def at_work(feed: AlertFeed) -> AsyncIterator[AlertFeed]:
    """The feed, working for as long as the block lasts."""
    work = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def changes(feed: AlertFeed, cursor: str, count: int) -> tuple[list[AlertChange], str]:
    """The next so many changes; an alert that changes twice between two looks is one."""
    found: list[AlertChange] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            told = await feed.after(cursor, WAIT_S)
            found.extend(told.changes)
            cursor = told.cursor
    return found, cursor


def ids_of(found: list[AlertChange]) -> list[AlertId]:
    return [change.alert.alert_id for change in found]


async def test_what_happens_is_told_in_the_order_of_the_log(
    feed: AlertFeed, engine: AsyncEngine, data_keys: DataKeys
) -> None:
    with feed.listening():
        place, without_gap = await feed.place(None)
        alerts = [await raise_alert(engine, data_keys, raised()) for _ in range(3)]
        found, place = await changes(feed, place, 3)
        await put(engine, data_keys, alerts[0].alert_id, repeated(), repeated())
        (again,), _ = await changes(feed, place, 1)

    assert without_gap
    assert ids_of(found) == [alert.alert_id for alert in alerts]
    assert [change.types for change in found] == [("AlertRaised",)] * 3
    assert again.types == ("AlertRepeated", "AlertRepeated")
    assert (again.alert.alert_id, again.alert.count) == (alerts[0].alert_id, 3)


async def test_an_event_that_commits_late_is_not_skipped(
    feed: AlertFeed, engine: AsyncEngine, data_keys: DataKeys, conninfo: str
) -> None:
    early = await raise_alert(engine, data_keys, raised())
    with feed.listening(), psycopg.connect(conninfo) as slow:
        place, _ = await feed.place(None)
        # Takes its place in the order now, and commits behind the other.
        slow.execute(
            "INSERT INTO events (occurred_at, version, schema_version, event_id, correlation_id,"
            " stream, type, actor, data) VALUES (now(), 2, 1, gen_random_uuid(),"
            " gen_random_uuid(), %s, 'AlertCommented', 'system', '{}')",
            (f"alert-{early.alert_id}",),
        )
        fast = await raise_alert(engine, data_keys, raised())
        nothing = await feed.after(place, 1.0)
        slow.commit()
        found, _ = await changes(feed, place, 2)

    assert nothing.changes == ()
    assert ids_of(found) == [early.alert_id, fast.alert_id]


async def test_who_comes_back_goes_on_behind_the_last_change(
    feed: AlertFeed, engine: AsyncEngine, data_keys: DataKeys
) -> None:
    with feed.listening():
        start, _ = await feed.place(None)
        first = await raise_alert(engine, data_keys, raised())
        second = await raise_alert(engine, data_keys, raised())
        (seen, _), _ = await changes(feed, start, 2)
    third = await raise_alert(engine, data_keys, raised())

    with feed.listening():
        place, without_gap = await feed.place(seen.cursor)
        found, _ = await changes(feed, place, 2)

    assert without_gap
    assert seen.alert.alert_id == first.alert_id
    assert ids_of(found) == [second.alert_id, third.alert_id]


async def test_who_falls_behind_what_is_kept_catches_up_from_the_log(
    feed: AlertFeed, engine: AsyncEngine, data_keys: DataKeys, clock: Clock
) -> None:
    with feed.listening():
        start, _ = await feed.place(None)
        early = await raise_alert(engine, data_keys, raised())
        _, place = await changes(feed, start, 1)
        clock.now += 3_600  # what was told is forgotten at the next look
        late = await raise_alert(engine, data_keys, raised())
        await changes(feed, place, 1)

        found, _ = await changes(feed, start, 2)

    assert ids_of(found) == [early.alert_id, late.alert_id]


async def test_more_than_fits_a_window_is_told_piece_by_piece(
    engine: AsyncEngine, data_keys: DataKeys
) -> None:
    async with at_work(AlertFeed(engine, window=2)) as feed:
        with feed.listening():
            start, _ = await feed.place(None)
            alert_id = AlertId(new_uuid())
            await put(engine, data_keys, alert_id, raised(), repeated(), repeated())
            other = await raise_alert(engine, data_keys, raised())

            found, _ = await changes(feed, start, 3)

    assert ids_of(found) == [alert_id, alert_id, other.alert_id]
    assert [change.types for change in found] == [
        ("AlertRaised", "AlertRepeated"),
        ("AlertRepeated",),
        ("AlertRaised",),
    ]


async def test_a_place_moves_on_with_the_log_though_no_alert_changes(
    feed: AlertFeed, engine: AsyncEngine, data_keys: DataKeys
) -> None:
    """Or who comes back after a quiet night would have a night's events searched."""
    with feed.listening():
        start, _ = await feed.place(None)
        await Accounts(engine, data_keys).user()
        place = start
        async with asyncio.timeout(WAIT_S):
            while place == start:
                told = await feed.after(place, 0.1)
                place = told.cursor
                assert told.changes == ()


@pytest.mark.parametrize(
    "cursor", ["", "1", "-1", "1-", "1-2-3", "\u0661-\u0661", "1" * 4_400, "18446744073709551615-1"]
)
async def test_a_place_that_is_none_of_this_log_is_a_gap(feed: AlertFeed, cursor: str) -> None:
    place, without_gap = await feed.place(cursor)

    assert await feed.place(place) == (place, True)
    assert not without_gap


async def test_a_place_too_far_behind_is_a_gap(engine: AsyncEngine, data_keys: DataKeys) -> None:
    feed = AlertFeed(engine, max_events_behind=2)
    for _ in range(3):
        await raise_alert(engine, data_keys, raised())

    place, without_gap = await feed.place("0-0")

    assert not without_gap
    assert await feed.place(place) == (place, True)


async def test_a_closed_feed_waits_for_nothing(feed: AlertFeed) -> None:
    with feed.listening():
        place, _ = await feed.place(None)
        waiting = asyncio.create_task(feed.after(place, 3_600))
        feed.close()
        async with asyncio.timeout(WAIT_S):
            told = await waiting

    assert feed.closed
    assert told.changes == ()
