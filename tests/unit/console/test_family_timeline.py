"""The picture of a session family: lanes, the way of the token, and where it came back."""

from datetime import UTC, datetime, timedelta

import pytest

from api.console.family_timeline import Mark, Picture, picture_of
from api.console.places import Whereabouts
from domain.client import ClientContext
from domain.events.personal import Personal
from domain.histories import HistoryEntry
from domain.ids import CorrelationId, EventId

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOME = ClientContext(ip="192.0.2.1", user_agent="Firefox")
AWAY = ClientContext(ip="203.0.113.9", user_agent="curl")


def entry(
    version: int,
    type_: str,
    client: ClientContext | None = HOME,
    *,
    at: datetime | None = None,
    **data: object,
) -> HistoryEntry:
    return HistoryEntry(
        version=version,
        event_id=EventId(f"event-{version}"),
        type=type_,
        at=at or AT + timedelta(seconds=version),
        actor="user",
        correlation_id=CorrelationId("c"),
        data=data,
        personal=Personal(client=client),
    )


def described(client: ClientContext | None) -> Whereabouts | None:
    if client is None:
        return None
    return Whereabouts(None, client.ip, None, client.ip, client.user_agent, None, None)


def picture(*entries: HistoryEntry, earlier: int = 0, trigger: int | None = None) -> Picture:
    event_id = None if trigger is None else EventId(f"event-{trigger}")
    return picture_of(entries, earlier, event_id, described)


def test_each_network_and_device_has_a_lane_and_what_was_done_has_the_last() -> None:
    drawn = picture(
        entry(1, "SessionStarted"),
        entry(2, "FamilyRevoked", None, reason="staff"),
        entry(3, "RefreshTokenRotated", AWAY, generation=2),
    )

    assert [(lane.where, lane.what) for lane in drawn.lanes] == [
        ("192.0.2.1", "Firefox"),
        ("203.0.113.9", "curl"),
        (None, None),
    ]
    assert [point.lane for point in drawn.points] == [0, 2, 1]


def test_the_token_leaps_to_another_lane() -> None:
    drawn = picture(
        entry(1, "SessionStarted"),
        entry(2, "RefreshTokenRotated", generation=2),
        entry(3, "RefreshTokenRotated", AWAY, generation=3),
    )

    assert [line.kind for line in drawn.lines] == ["path", "leap"]


def test_a_reused_token_leads_back_to_where_it_was_given_out() -> None:
    drawn = picture(
        entry(1, "SessionStarted"),
        entry(2, "RefreshTokenRotated", generation=2),
        entry(3, "RefreshTokenRotated", AWAY, generation=3),
        entry(4, "RefreshTokenReused", presented_generation=2, current_generation=3),
        trigger=4,
    )

    given_out, reuse = drawn.points[1], drawn.points[3]
    theft = next(line for line in drawn.lines if line.kind == "theft")
    assert (theft.x1, theft.y1, theft.x2, theft.y2) == (
        given_out.x,
        given_out.y,
        reuse.x,
        reuse.y,
    )
    assert reuse.mark is Mark.REUSE
    assert [point.is_trigger for point in drawn.points] == [False, False, False, True]


def test_a_long_pause_is_marked() -> None:
    drawn = picture(
        entry(1, "SessionStarted", at=AT),
        entry(2, "RefreshTokenRotated", at=AT + timedelta(days=2), generation=2),
    )

    assert [pause.text for pause in drawn.pauses] == ["2 days"]


@pytest.mark.parametrize("refreshes", [0, 1, 38, 39, 40, 500])
def test_however_long_the_life_the_picture_keeps_its_size(refreshes: int) -> None:
    rotations = [entry(n, "RefreshTokenRotated", generation=n) for n in range(2, refreshes + 2)]

    drawn = picture(entry(1, "SessionStarted"), *rotations, earlier=7)

    assert len(drawn.points) <= 40
    assert drawn.points[0].mark is Mark.BEGIN
    assert drawn.left_out == 7 + refreshes + 1 - len(drawn.points)
    assert max(point.x for point in drawn.points) < drawn.width


def test_nothing_is_drawn_of_nothing() -> None:
    assert picture().points == []
