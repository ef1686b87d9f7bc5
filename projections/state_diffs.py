"""What became different between two moments: of sessions, users and alerts, field by field.

Secrets are left out. Of what is personal it is told that it changed, not how.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import asdict

from domain.alert import Alert
from domain.family import Family
from domain.ids import Stream, UserId
from domain.user import User
from projections.replaying import AnyState, subject_of
from projections.session_views import view_of
from projections.snapshot_states import bucket_of, personal_of

_PERSONAL = {
    "session": ("client", "device_name"),
    "user": ("username", "external_subject"),
    "alert": ("client", "fact_texts"),
}


class ChangeKind(StrEnum):
    """How something is different."""

    APPEARED = "appeared"
    CHANGED = "changed"
    GONE = "gone"
    """It was there at the first moment and not at the second: the second lies before the first."""


class FieldChange(msgspec.Struct, frozen=True):
    """One field that is different; both values are None where it is personal."""

    name: str
    before: object = None
    after: object = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is different.

    Attributes:
        kind: How.
        what: ``session``, ``user`` or ``alert``.
        id: Its id.
        stream: The stream that it is the fold of.
        user_id: The user that it is about.
        fields: What of it is different; all of it where it appeared.
    """

    kind: ChangeKind
    what: str
    id: str
    stream: Stream
    user_id: UserId
    fields: Sequence[FieldChange]


class ChangesPage(msgspec.Struct, frozen=True):
    """Some of the changes between two moments.

    Attributes:
        changes: By user, then stream.
        next_after: Pass as ``after`` for the next page; None on the last.
        damaged: What is wrong with streams that cannot be folded.
    """

    changes: Sequence[Change]
    next_after: str | None
    damaged: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Part:
    """A row's worth of a state: what may be shown, and what is personal."""

    what: str
    id: str
    shown: Mapping[str, object]
    personal: tuple[object, object]


def place_of_change(change: Change) -> tuple[int, UserId, Stream]:
    """Where a change stands in lists."""
    return bucket_of(change.user_id), change.user_id, change.stream


def changes_between(
    before: Mapping[Stream, AnyState],
    before_at: datetime,
    after: Mapping[Stream, AnyState],
    after_at: datetime,
) -> Iterator[Change]:
    """What is different, in the order of ``place_of_change``.

    Args:
        before: States by stream at the first moment.
        before_at: The instant of that; what had expired is judged by it.
        after: Likewise at the second moment.
        after_at: Likewise.
    """
    owners = {stream: subject_of(state) for stream, state in [*before.items(), *after.items()]}
    for stream in sorted(owners, key=lambda each: (bucket_of(owners[each]), owners[each], each)):
        old = {part.id: part for part in _parts(before.get(stream), before_at)}
        new = {part.id: part for part in _parts(after.get(stream), after_at)}
        for key in {**old, **new}:
            change = _change(stream, owners[stream], old.get(key), new.get(key))
            if change is not None:
                yield change


def _change(stream: Stream, user_id: UserId, old: _Part | None, new: _Part | None) -> Change | None:
    present = new or old
    if present is None:
        return None
    kind = ChangeKind.CHANGED
    if old is None or new is None:
        kind = ChangeKind.APPEARED if old is None else ChangeKind.GONE
    fields = [
        FieldChange(name, *values)
        for name in present.shown
        if (values := (_shown(old, name), _shown(new, name)))[0] != values[1]
    ]
    if old is not None and new is not None:
        pairs = zip(_PERSONAL[present.what], old.personal, new.personal, strict=True)
        fields += [FieldChange(name) for name, one, other in pairs if one != other]
    if not fields:
        return None
    return Change(
        kind=kind, what=present.what, id=present.id, stream=stream, user_id=user_id, fields=fields
    )


def _shown(part: _Part | None, name: str) -> object:
    return None if part is None else part.shown[name]


def _parts(state: AnyState | None, at: datetime) -> Iterator[_Part]:
    match state:
        case None:
            return
        case Family():
            for session in state.sessions:
                shown = msgspec.to_builtins(view_of(state, session, at))
                yield _Part("session", session.session_id, shown, personal_of(session))
        case User():
            yield _Part("user", state.user_id, _without_personal("user", state), personal_of(state))
        case Alert():
            shown = _without_personal("alert", state)
            yield _Part("alert", state.alert_id, shown, personal_of(state))


def _without_personal(what: str, state: User | Alert) -> Mapping[str, object]:
    fields = {name: value for name, value in asdict(state).items() if name not in _PERSONAL[what]}
    shown: Mapping[str, object] = msgspec.to_builtins(fields)
    return shown
