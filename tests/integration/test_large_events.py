"""How large an event can be: what an entry of the transparency log can hold."""

import string
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg
import pytest

from domain.events.alerts import AlertCommented
from domain.events.envelope import NewEvent
from domain.events.personal import Personal
from domain.ids import Stream, UserId
from infra.event_rows import EventTooLargeError, event_document, event_row
from infra.event_store import append_stream
from infra.ids import new_uuid
from infra.postgres import connect
from infra.sealing import DataKey
from tests.integration.accounts import cause
from tests.integration.tree_world import leaves_from_scratch, sequenced

NOW = datetime(2026, 11, 26, tzinfo=UTC)
KEY = DataKey(bytes(32))


TEXT = "".join(Random(3).choices(string.ascii_letters + string.digits + "+-", k=100_000))
"""Personal parts are compressed: this is not to be."""


def commented(length: int) -> NewEvent:
    return NewEvent(AlertCommented(), personal=Personal(comment=TEXT[:length]))


async def append(conninfo: str, events: list[NewEvent]) -> None:
    async with await connect(conninfo) as connection:
        await append_stream(
            connection,
            Stream("alert-large"),
            0,
            events,
            cause(),
            NOW,
            subject_id=UserId(new_uuid()),
            data_key=KEY,
        )


async def test_the_largest_event_that_is_taken_is_an_entry_of_the_log(
    conninfo: str, owner_conninfo: str, tmp_path: Path
) -> None:
    low, high = 40_000, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        row = event_row(
            Stream("alert-large"), 1, commented(middle), cause(), NOW, UserId(new_uuid()), KEY
        )
        try:
            event_document([row])
        except EventTooLargeError:
            high = middle
        else:
            low = middle

    await append(conninfo, [commented(low)])
    await sequenced(conninfo, tmp_path / "tree")

    assert 65_000 < len(leaves_from_scratch(owner_conninfo)[0]) <= 65_535


@pytest.mark.parametrize("others", [0, 1, 400])
async def test_a_larger_one_is_refused_among_however_many(conninfo: str, others: int) -> None:
    events = [commented(1) for _ in range(others)]
    events.insert(others // 2, commented(90_000))

    with pytest.raises(EventTooLargeError, match=r"^AlertCommented of \d+ bytes is too large"):
        await append(conninfo, events)

    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)


async def test_many_small_ones_are_taken_together(conninfo: str) -> None:
    await append(conninfo, [commented(100) for _ in range(1000)])

    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1000,)
