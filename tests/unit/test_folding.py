"""Folding stored events: what comes out is the state that the live path would have, or a fault."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.events.envelope import NewEvent
from domain.events.families import EndReason
from domain.events.personal import Personal, Sealed
from domain.events.registry import UnknownEventError
from domain.events.users import Role, UserOrigin
from domain.family import Family
from domain.family_decisions import (
    EndSession,
    ExpireSessions,
    FamilyCommand,
    RenameSession,
    RevokeFamily,
)
from domain.ids import FamilyId, Stream, family_stream, user_stream
from domain.refresh_token import RefreshToken
from domain.user import (
    ChangePassword,
    ChangeRoles,
    DisableUser,
    EnableUser,
    RegisterUser,
    User,
    UserCommand,
    decide_user,
    fold_new_user,
)
from infra.sealing import DataKey, UnsealError
from projections.folding import (
    FAMILIES,
    USERS,
    DamagedStream,
    Fold,
    FoldRules,
    StateT,
    StoredEvent,
    nothing_left,
    open_family,
    open_user,
)
from projections.session_rows import StillSealedError, family_of, rows_of
from tests.unit.domain.builders import (
    DAY,
    FAMILY_ID,
    LAPTOP,
    MINUTE,
    NOW,
    OTHER_SALT,
    SESSION_ID,
    USER_ID,
    answer_to,
    carried_out,
    first_token,
    refresh,
    start_session,
)

KEY = DataKey(bytes(32))
RENAME = RenameSession(SESSION_ID, "kitchen laptop")
LOG_OUT = EndSession(SESSION_ID, EndReason.LOGOUT)


class History:
    """A family's life: its state as the live path folds it, and its events as the log holds them.

    Commands may come in any order; a refresh presents the current token, or an older one.
    """

    def __init__(self, family_id: FamilyId = FAMILY_ID, device_name: str | None = None) -> None:
        self.stream = family_stream(family_id)
        self.tokens = [first_token(family_id=family_id)]
        self.events: list[StoredEvent] = []
        self.at = NOW
        self.family: Family | None = None
        self.do(start_session(device_name=device_name))

    def do(self, command: FamilyCommand) -> None:
        before = self.family
        decision, after = carried_out(before, command, self.at, family_id=self.tokens[0].family_id)
        at = self.at if before is None else max(self.at, before.last_event_at())
        self.events += stored(self.stream, decision.events, at, 1 + len(self.events))
        self.family = after

    def refresh(self, token: RefreshToken | None = None) -> None:
        presented = token or self.tokens[-1]
        self.do(refresh(presented, salt=OTHER_SALT))
        state = self.state
        if state.is_live and state.sessions[0].generation == presented.generation + 1:
            successor = answer_to(state, presented)
            if successor not in self.tokens:
                self.tokens.append(successor)

    @property
    def state(self) -> Family:
        assert self.family is not None
        return self.family


def stored(
    stream: Stream, events: Iterable[NewEvent], at: datetime = NOW, first_version: int = 1
) -> list[StoredEvent]:
    """New events as the log holds them, their personal parts sealed."""
    return [_stored(stream, version, new, at) for version, new in enumerate(events, first_version)]


def _stored(stream: Stream, version: int, new: NewEvent, at: datetime) -> StoredEvent:
    event_id = f"0195513a-0000-7000-8000-{version:012x}"
    box = None if new.personal is None else KEY.seal(new.personal, event_id)
    data = msgspec.json.encode(new.event)
    return stream, version, new.event.TYPE, new.event.SCHEMA_VERSION, at, data, event_id, box


def fold(rules: FoldRules[StateT], *pieces: Iterable[StoredEvent]) -> list[StateT | DamagedStream]:
    """What comes of a log that is read in these pieces."""
    folding = Fold(rules)
    return [state for piece in pieces for state in folding.feed(piece)] + list(folding.finish())


def only_family(*pieces: Iterable[StoredEvent]) -> Family:
    (state,) = fold(FAMILIES, *pieces)
    assert isinstance(state, Family)
    return state


def only_fault(rules: FoldRules[StateT], events: Iterable[StoredEvent]) -> DamagedStream:
    (damaged,) = fold(rules, events)
    assert isinstance(damaged, DamagedStream)
    return damaged


def with_stream(events: Iterable[StoredEvent], stream: str) -> list[StoredEvent]:
    return [(Stream(stream), *event[1:]) for event in events]


# ------------------------------------------------------------------------------------------ folds


def do_refresh(history: History) -> None:
    history.refresh()


def do_retry(history: History) -> None:
    history.refresh(history.tokens[-2] if len(history.tokens) > 1 else None)


def do_reuse(history: History) -> None:
    history.refresh(history.tokens[0])


def do_pass_a_minute(history: History) -> None:
    history.at += MINUTE


def do_pass_a_day(history: History) -> None:
    history.at += DAY


def do_rename(history: History) -> None:
    history.do(RENAME)


def do_log_out(history: History) -> None:
    history.do(LOG_OUT)


def do_revoke(history: History) -> None:
    history.do(RevokeFamily(EndReason.STAFF))


def do_expire(history: History) -> None:
    history.do(ExpireSessions())


STEPS: list[Callable[[History], None]] = [
    do_refresh,
    do_refresh,
    do_retry,
    do_reuse,
    do_pass_a_minute,
    do_pass_a_day,
    do_rename,
    do_log_out,
    do_revoke,
    do_expire,
]


@given(
    lives=st.lists(st.lists(st.sampled_from(STEPS), max_size=12), min_size=1, max_size=4),
    named=st.booleans(),
    piece=st.integers(1, 7),
)
def test_whatever_happened_the_fold_of_the_stored_events_is_the_state_that_was_live(
    lives: list[list[Callable[[History], None]]], named: bool, piece: int
) -> None:
    ids = [FamilyId(f"0195513a-0000-7000-8000-{number:012x}") for number in range(len(lives))]
    histories = [History(each, "my laptop" if named else None) for each in ids]
    for history, steps in zip(histories, lives, strict=True):
        for step in steps:
            step(history)
    log = [event for history in histories for event in history.events]
    pieces = [log[start : start + piece] for start in range(0, len(log), piece)]

    states = fold(FAMILIES, *pieces)

    opened = [open_family(state, KEY.open) for state in states if isinstance(state, Family)]
    assert opened == [history.state for history in histories]


@given(cut=st.integers(0, 6), overlap=st.integers(0, 6), piece=st.integers(1, 7))
def test_a_fold_goes_on_from_rows_that_were_written_in_the_middle(
    cut: int, overlap: int, piece: int
) -> None:
    history = History(device_name="my laptop")
    for step in (do_refresh, do_rename, do_refresh, do_retry, do_refresh, do_log_out):
        step(history)
    begun, rest = history.events[:cut], history.events[max(0, cut - overlap) :]
    known: dict[str, Family] = {}
    if begun:
        half_way = open_family(only_family(begun), KEY.open)
        known[FAMILY_ID] = family_of(rows_of(half_way))

    folding = Fold(FAMILIES)
    pieces = [rest[start : start + piece] for start in range(0, len(rest), piece)]
    states = [state for part in pieces for state in folding.feed(part, known)]
    (state,) = [*states, *folding.finish()]

    assert isinstance(state, Family)
    assert open_family(state, KEY.open) == history.state


def test_a_known_state_has_no_part_in_a_stream_that_is_already_under_way() -> None:
    history = History()
    for _ in range(3):
        history.refresh()
    folding = Fold(FAMILIES)
    assert list(folding.feed(history.events[:2])) == []

    known: dict[str, Family] = {FAMILY_ID: replace(history.state, version=99)}
    (state,) = [*folding.feed(history.events[2:], known), *folding.finish()]

    assert isinstance(state, Family)
    assert open_family(state, KEY.open) == history.state


def test_an_empty_log_has_no_states() -> None:
    assert fold(FAMILIES, []) == []


def test_the_fold_of_a_user_is_the_state_that_was_live() -> None:
    user, log = registered(RegisterUser(origin=UserOrigin.LOCAL, username="ada@example.com"))
    commands: list[UserCommand] = [
        ChangePassword(0),
        ChangeRoles((Role.ADMIN,)),
        DisableUser(),
        EnableUser(),
    ]
    for version, command in enumerate(commands, 2):
        decided = decide_user(user, command).events
        user = fold_new_user(user, USER_ID, decided, NOW)
        log += stored(user_stream(USER_ID), decided, NOW, version)

    (state,) = fold(USERS, log)

    assert isinstance(state, User)
    assert open_user(state, KEY.open) == user


def registered(command: RegisterUser) -> tuple[User, list[StoredEvent]]:
    decided = decide_user(None, command).events
    user = fold_new_user(None, USER_ID, decided, NOW)
    return user, stored(user_stream(USER_ID), decided)


# ---------------------------------------------------------------------------------- personal data


class CountingOpener:
    """Opens, and remembers how often."""

    def __init__(self) -> None:
        self.opened: list[Sealed] = []

    def __call__(self, sealed: Sealed) -> Personal:
        self.opened.append(sealed)
        return KEY.open(sealed)


def test_personal_data_stays_sealed_while_a_stream_is_folded() -> None:
    state = only_family(History(device_name="my laptop").events)

    assert isinstance(state.sessions[0].client, Sealed)
    assert isinstance(state.sessions[0].device_name, Sealed)
    with pytest.raises(StillSealedError):
        rows_of(state)


def test_of_a_long_life_only_what_is_left_at_its_end_is_opened() -> None:
    history = History(device_name="my laptop")
    for _ in range(50):
        history.refresh()
    opener = CountingOpener()

    family = open_family(only_family(history.events), opener)

    assert family == history.state
    assert len(opener.opened) == 2  # the client of the last refresh, the name from the sign-in


def test_a_client_and_a_name_that_came_in_one_box_are_opened_together() -> None:
    opener = CountingOpener()

    family = open_family(only_family(History(device_name="my laptop").events), opener)

    assert (family.sessions[0].client, family.sessions[0].device_name) == (LAPTOP, "my laptop")
    assert len(opener.opened) == 1


def test_a_name_that_was_given_later_replaces_the_first() -> None:
    history = History(device_name="my laptop")
    history.do(RENAME)

    family = open_family(only_family(history.events), KEY.open)

    assert (family.sessions[0].client, family.sessions[0].device_name) == (LAPTOP, "kitchen laptop")


def test_what_is_in_clear_already_stays_as_it_is() -> None:
    history = History(device_name="my laptop")
    history.refresh()

    assert open_family(history.state, nothing_left) == history.state


def test_of_an_erased_user_nothing_personal_is_left() -> None:
    family = open_family(only_family(History(device_name="my laptop").events), nothing_left)
    _, log = registered(RegisterUser(origin=UserOrigin.LOCAL, username="ada@example.com"))
    (user,) = fold(USERS, log)

    assert (family.sessions[0].client, family.sessions[0].device_name) == (None, None)
    assert isinstance(user, User)
    assert open_user(user, nothing_left).username is None


def test_the_name_that_a_backend_gave_its_user_is_opened_too() -> None:
    command = RegisterUser(origin=UserOrigin.EXTERNAL, external_subject="customer-17")
    user, log = registered(command)

    (state,) = fold(USERS, log)

    assert isinstance(state, User)
    assert isinstance(state.external_subject, Sealed)
    assert open_user(state, KEY.open) == user


def test_what_does_not_open_is_not_passed_over() -> None:
    state = only_family(History().events)

    with pytest.raises(UnsealError):
        open_family(state, DataKey(bytes(range(32))).open)


# --------------------------------------------------------------------------------- damaged streams


def long_history(family_id: FamilyId = FAMILY_ID) -> History:
    history = History(family_id)
    for _ in range(4):
        history.refresh()
    return history


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (1, "version 2 where version 1 is due"),
        (2, "version 3 where version 2 is due"),
        (4, "version 5 where version 4 is due"),
    ],
)
def test_a_gap_in_the_versions_is_a_fault(missing: int, says: str) -> None:
    events = [event for event in long_history().events if event[1] != missing]

    damaged = only_fault(FAMILIES, events)

    assert damaged == DamagedStream(family_stream(FAMILY_ID), says)


def test_a_version_that_comes_twice_is_a_fault() -> None:
    events = long_history().events

    damaged = only_fault(FAMILIES, [*events[:3], events[2], *events[3:]])

    assert damaged.fault == "version 3 where version 4 is due"


def test_a_gap_behind_a_known_state_is_a_fault() -> None:
    history = long_history()
    known: dict[str, Family] = {FAMILY_ID: open_family(only_family(history.events[:2]), KEY.open)}

    folding = Fold(FAMILIES)
    (damaged,) = [*folding.feed(history.events[3:], known), *folding.finish()]

    assert isinstance(damaged, DamagedStream)
    assert damaged.fault == "version 4 where version 3 is due"


def test_a_damaged_stream_leaves_those_around_it_whole() -> None:
    first, second, third = (
        long_history(FamilyId(f"0195513a-0000-7000-8000-{number:012x}")) for number in range(3)
    )
    log = [*first.events, *second.events[:1], *second.events[2:], *third.events]

    states = fold(FAMILIES, log[:8], log[8:])

    whole = [open_family(state, KEY.open) for state in states if isinstance(state, Family)]
    assert whole == [first.state, third.state]
    assert [each.stream for each in states if isinstance(each, DamagedStream)] == [second.stream]


def rewritten(event: StoredEvent, **changes: object) -> StoredEvent:
    data = msgspec.json.decode(event[5]) | changes
    return (*event[:5], msgspec.json.encode(data), *event[6:])


def damaged_by(change: Callable[[Sequence[StoredEvent]], Sequence[StoredEvent]]) -> str:
    return only_fault(FAMILIES, change(long_history().events)).fault


def test_data_that_does_not_fit_its_type_is_a_fault() -> None:
    fault = damaged_by(lambda log: [log[0], rewritten(log[1], generation="two"), *log[2:]])

    assert fault.startswith("version 2: data of a 'RefreshTokenRotated' event does not fit")


def test_an_event_of_a_session_that_the_family_does_not_have_is_a_fault() -> None:
    fault = damaged_by(lambda log: [log[0], rewritten(log[1], session=1), *log[2:]])

    assert fault.startswith("version 2: RefreshTokenRotated names session 1")


def test_a_second_start_is_a_fault() -> None:
    fault = damaged_by(lambda log: [log[0], (log[0][0], 2, *log[0][2:])])

    assert fault.startswith("version 2: family")


def test_times_beyond_the_calendar_are_a_fault() -> None:
    fault = damaged_by(lambda log: [rewritten(log[0], absolute_lifetime_s=10**12), *log[1:]])

    assert fault.startswith("version 1: ")


def test_an_event_of_another_kind_of_stream_is_a_fault() -> None:
    _, users_log = registered(RegisterUser(origin=UserOrigin.LOCAL, username="ada@example.com"))
    history = long_history()

    in_family = only_fault(FAMILIES, with_stream(users_log, history.stream))
    in_user = only_fault(USERS, with_stream(history.events, user_stream(USER_ID)))

    assert in_family.fault == "version 1: UserRegistered does not belong there"
    assert in_user.fault == "version 1: SessionStarted does not belong there"


@pytest.mark.parametrize(
    "stream", ["family-", "family-x", "family-" + FAMILY_ID.upper(), "families-" + FAMILY_ID]
)
def test_a_stream_whose_name_holds_no_id_is_a_fault(stream: str) -> None:
    damaged = only_fault(FAMILIES, with_stream(long_history().events, stream))

    assert damaged == DamagedStream(Stream(stream), "its name holds no id")


def test_an_event_of_a_newer_build_stops_the_fold() -> None:
    events = long_history().events
    newer: StoredEvent = (*events[1][:2], "SessionMoved", *events[1][3:])

    with pytest.raises(UnknownEventError, match="SessionMoved"):
        fold(FAMILIES, [events[0], newer])
