"""Folding the log in its own order, where a version can lie before its predecessor."""

import itertools
from datetime import timedelta
from hashlib import sha256

import pytest

from domain.alert import Alert
from domain.events.registry import UnknownEventError
from domain.family import Family, Session
from domain.ids import Stream
from domain.user import User
from projections.folding import DamagedStream, StoredEvent
from projections.replaying import LogFold, StateKind, Waiting
from projections.snapshot_states import (
    ALL_BUCKETS,
    FORMAT,
    UnreadableChunkError,
    buckets_of,
    chunk_of,
    chunks_for,
    chunks_in,
    pack,
    parts_of,
    unpack,
)
from tests.alerts import ALERT_ID, raised
from tests.unit.domain.builders import NOW, OTHER_FAMILY_ID
from tests.unit.test_folding import LOG_OUT, RENAME, History, stored


def events_of_a_life() -> list[StoredEvent]:
    history = History(device_name="my laptop")
    history.refresh()
    history.do(RENAME)
    history.refresh()
    history.do(LOG_OUT)
    return history.events


def folded(events: list[StoredEvent]) -> LogFold:
    fold = LogFold()
    fold.feed(events)
    return fold


def test_streams_that_lie_among_one_another_fold_as_they_do_apart() -> None:
    one, other = History(), History(OTHER_FAMILY_ID)
    for each in (one, other):
        each.refresh()
        each.do(LOG_OUT)
    mixed = [event for pair in zip(one.events, other.events, strict=True) for event in pair]

    apart = {**folded(one.events).states, **folded(other.events).states}
    assert folded(mixed).states == apart


def test_a_version_that_comes_before_its_predecessor_waits_for_it() -> None:
    events = events_of_a_life()
    fold = LogFold()

    fold.feed([events[0], events[3], events[2]])
    held = next(iter(fold.states.values())).version
    waiting = fold.waiting
    fold.feed([events[1], events[4]])

    assert held == 1
    assert waiting == [Waiting(Stream(events[0][0]), due=2, came=3)]
    assert fold.waiting == []
    assert fold.states == folded(events).states


def test_a_version_that_comes_twice_is_damage_and_what_follows_it_is_left_alone() -> None:
    events = events_of_a_life()

    fold = folded([*events[:3], events[1], *events[3:]])

    assert fold.damaged == [DamagedStream(events[0][0], "version 2 where version 4 is due")]
    assert not fold.states
    assert not fold.waiting


def test_an_event_of_another_kind_of_stream_is_damage() -> None:
    (event,) = stored(Stream(f"family-{ALERT_ID}"), [raised()])

    (damaged,) = folded([event]).damaged

    assert "AlertRaised does not belong there" in damaged.fault


def test_a_stream_without_an_id_in_its_name_is_damage() -> None:
    (event,) = stored(Stream("alert-7"), [raised()])

    (damaged,) = folded([event]).damaged

    assert damaged.fault == "its name holds no id"


def test_an_event_of_a_newer_build_stops_the_fold() -> None:
    event = events_of_a_life()[0]

    with pytest.raises(UnknownEventError):
        folded([(*event[:2], "FromTheFuture", *event[3:])])


def test_a_state_comes_out_of_a_chunk_as_it_went_in() -> None:
    fold = folded([*events_of_a_life(), *stored(Stream(f"alert-{ALERT_ID}"), [raised()])])
    families = [state for state in fold.states.values() if isinstance(state, Family)]
    alerts = [state for state in fold.states.values() if isinstance(state, Alert)]

    assert unpack(StateKind.FAMILY, pack(families)) == families
    assert unpack(StateKind.ALERT, pack(alerts)) == alerts
    assert unpack(StateKind.USER, pack([])) == []


def test_what_is_personal_in_clear_does_not_go_into_a_chunk() -> None:
    with pytest.raises(TypeError, match="personal"):
        pack([History().state])


@pytest.mark.parametrize("packed", [b"", b"x", pack([])[:-1]], ids=["empty", "other", "short"])
def test_what_is_no_chunk_is_refused(packed: bytes) -> None:
    with pytest.raises(UnreadableChunkError):
        unpack(StateKind.USER, packed)


def test_a_chunk_of_another_kind_is_refused() -> None:
    families = [*folded(events_of_a_life()).states.values()]

    with pytest.raises(UnreadableChunkError):
        unpack(StateKind.USER, pack(families))


@pytest.mark.parametrize("states", [0, 1, 1_000, 1_001, 10**6, 10**9])
def test_chunks_are_whole_ranges_of_buckets_that_cover_everybody(states: int) -> None:
    chunks = chunks_for(states)
    ranges = [buckets_of(chunk, chunks) for chunk in range(chunks)]

    assert ranges[0].first == 0
    assert ranges[-1].beyond == ALL_BUCKETS
    assert all(one.beyond == other.first for one, other in itertools.pairwise(ranges))
    for chunk in {0, chunks // 2, chunks - 1}:
        first, beyond = ranges[chunk]
        assert chunk_of(first, chunks) == chunk_of(beyond - 1, chunks) == chunk


@pytest.mark.parametrize("states", [0, 99_999, 100_001, 5 * 10**6])
def test_parts_of_everybody_are_whole_chunks_and_few_enough_states(states: int) -> None:
    chunks = chunks_for(states)
    parts = parts_of(states, chunks)

    assert parts[0].first == 0
    assert parts[-1].beyond == ALL_BUCKETS
    assert all((part.first * chunks) % ALL_BUCKETS == 0 for part in parts)
    assert states / len(parts) <= 100_000


@pytest.mark.parametrize(("length", "chunks"), [(96, 1), (192, 2), (0, 0), (95, 0), (288, 0)])
def test_digests_of_a_number_that_no_snapshot_has_are_damaged(length: int, chunks: int) -> None:
    assert chunks_in(bytes(length)) == chunks


def test_time_does_not_matter_to_the_fold() -> None:
    events = events_of_a_life()
    back = [
        (*event[:4], NOW - timedelta(days=index), *event[5:]) for index, event in enumerate(events)
    ]

    assert next(iter(folded(back).states.values())).version == len(events)


def test_the_format_is_raised_when_a_state_gets_other_fields() -> None:
    """A snapshot names no fields: one that was taken with others would be misread."""
    fields = [cls.__struct_fields__ for cls in (Family, Session, User, Alert)]
    pinned = sha256(repr(fields).encode()).hexdigest()[:16]

    assert (FORMAT, pinned) == (1, "cc86181294067796"), "raise FORMAT if a release has had this one"
