"""What is told of the difference between two moments."""

from typing import cast

from msgspec.structs import replace

from domain.events.users import Role, UserOrigin
from domain.family import Family
from domain.ids import Stream, family_stream, user_stream
from domain.user import User
from projections.replaying import AnyState, LogFold
from projections.state_diffs import Change, ChangeKind, FieldChange, changes_between
from tests.unit.domain.builders import DAY, NOW, USER_ID
from tests.unit.test_folding import LOG_OUT, RENAME, History

USER = User(user_id=USER_ID, version=1, origin=UserOrigin.LOCAL, registered_at=NOW)
Moment = dict[Stream, AnyState]


def at(history: History, events: int | None = None) -> Moment:
    fold = LogFold()
    fold.feed(history.events[:events])
    return dict(fold.states)


def changes(before: Moment, after: Moment) -> list[Change]:
    return list(changes_between(before, NOW, after, NOW))


def fields(change: Change) -> dict[str, tuple[object, object]]:
    return {field.name: (field.before, field.after) for field in change.fields}


def test_between_a_moment_and_itself_nothing_is_different() -> None:
    history = History()

    assert changes(at(history), at(history)) == []


def test_a_session_that_came_to_be_is_told_whole_and_without_secrets() -> None:
    history = History(device_name="my laptop")

    (change,) = changes({}, at(history))

    assert (change.kind, change.what, change.user_id) == (ChangeKind.APPEARED, "session", USER_ID)
    assert fields(change)["generation"] == (None, 1)
    assert fields(change)["status"] == (None, "live")
    assert not [name for name in fields(change) if "hash" in name or "salt" in name]
    assert not {"client", "device_name"} & fields(change).keys()


def test_of_a_session_that_changed_only_what_is_different_is_told() -> None:
    history = History()
    history.refresh()
    history.do(LOG_OUT)

    (change,) = changes(at(history, 2), at(history))

    assert change.kind is ChangeKind.CHANGED
    assert fields(change) == {
        "status": ("live", "ended"),
        "family_version": (2, 3),
        "ended_at": (None, NOW.isoformat().replace("+00:00", "Z")),
        "end_reason": (None, "logout"),
    }


def test_that_something_personal_changed_is_told_but_not_how() -> None:
    history = History(device_name="my laptop")
    history.do(RENAME)

    (change,) = changes(at(history, 1), at(history))

    assert change.fields[-1] == FieldChange("device_name")
    assert "kitchen" not in str(change)


def test_a_session_that_ran_out_of_time_between_two_moments_is_different() -> None:
    history = History()

    (change,) = changes_between(at(history), NOW, at(history), NOW + 365 * DAY)

    assert fields(change) == {"status": ("live", "expired")}


def test_users_are_compared_too() -> None:
    stream = user_stream(USER_ID)
    later = replace(USER, version=2, roles=(Role.ADMIN,), username=None)

    (change,) = changes({stream: USER}, {stream: later})

    assert change.what == "user"
    assert fields(change) == {"version": (1, 2), "roles": ((), ("admin",))}


def test_what_is_there_only_at_the_first_moment_is_gone() -> None:
    history = History()

    (change,) = changes(at(history), {})

    assert change.kind is ChangeKind.GONE


def test_changes_come_by_user() -> None:
    others = [f"0195513a-0000-7000-8000-00000000{end}" for end in ("ffff", "0001", "1000")]
    family = cast("Family", next(iter(at(History()).values())))
    after: Moment = {
        family_stream(other): replace(family, family_id=other, user_id=other)  # type: ignore[arg-type]
        for other in others
    }

    assert [change.user_id[-4:] for change in changes({}, after)] == ["0001", "1000", "ffff"]
