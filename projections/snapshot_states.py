"""How a snapshot lies in chunks: states of one kind, of some of the users, packed.

What is personal stays in its sealed boxes, so a snapshot outlives the erasure of whomever it is
about without holding them. A user belongs to a bucket by the last sixteen bits of their id, which
are random; a chunk holds a range of buckets, so that one user's states are in one chunk of a kind.
"""

import zlib
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import asdict
from msgspec.structs import fields as get_fields

from domain.alert import Alert
from domain.events.personal import Sealed
from domain.family import Family, Session
from domain.ids import UserId
from domain.user import User
from projections.replaying import AnyState, StateKind, kind_of, stream_of

FORMAT = 1
"""Raise it when a state gets other fields, or ``evolve`` makes something else of an old event:
snapshots of another format are passed over, and new ones are taken."""

ALL_BUCKETS = 65_536
DIGEST_BYTES = 32
STATES_A_CHUNK = 1_000
"""About 300 kB unpacked: what a look at one user costs to unpack, some ten milliseconds."""

STATES_AT_ONCE = 100_000
"""Everybody is dealt with some users at a time, so that memory stays bounded: about 200 MB."""

_KINDS = tuple(StateKind)
_COMPRESSION = 1
_ENCODER = msgspec.msgpack.Encoder()


class Buckets(NamedTuple):
    """A range of buckets, the second bound outside it."""

    first: int
    beyond: int


EVERYBODY = Buckets(0, ALL_BUCKETS)


class UnreadableChunkError(Exception):
    """A chunk that does not unpack into states."""


def bucket_of(user_id: UserId) -> int:
    """The bucket that a user's states are in.

    >>> bucket_of("0195513a-0000-7000-8000-00000000beef") == 0xBEEF
    True
    """
    return int(user_id[-4:], 16)


def chunks_for(states: int) -> int:
    """How many chunks of each kind a snapshot of so many states has: a power of two.

    >>> chunks_for(10), chunks_for(2_500)
    (1, 4)
    """
    return min(_power_of_two(-(-states // STATES_A_CHUNK)), ALL_BUCKETS)


def chunk_of(bucket: int, chunks: int) -> int:
    """The chunk, of so many, that a bucket lies in."""
    return bucket * chunks // ALL_BUCKETS


def buckets_of(chunk: int, chunks: int) -> Buckets:
    """The buckets of a chunk, of so many.

    >>> buckets_of(1, 4)
    Buckets(first=16384, beyond=32768)
    """
    width = ALL_BUCKETS // chunks
    return Buckets(chunk * width, (chunk + 1) * width)


def parts_of(states: int, chunks: int) -> list[Buckets]:
    """Everybody, some whole chunks at a time.

    Args:
        states: How many states there are.
        chunks: How many chunks of each kind they lie in.
    """
    parts = min(chunks, _power_of_two(-(-states // STATES_AT_ONCE)))
    return [buckets_of(part, parts) for part in range(parts)]


def pack(states: Iterable[AnyState]) -> bytes:
    """States of one kind, as a chunk's bytes.

    Raises:
        TypeError: One of them holds personal data in clear: a snapshot must not.
    """
    ordered = sorted(states, key=stream_of)
    return zlib.compress(_ENCODER.encode([_stored(state) for state in ordered]), _COMPRESSION)


def unpack(kind: StateKind, packed: bytes) -> list[AnyState]:
    """What ``pack`` was given.

    Raises:
        UnreadableChunkError: It is no chunk of that kind.
    """
    try:
        found = _DECODERS[kind].decode(zlib.decompress(packed))
    except (zlib.error, msgspec.MsgspecError) as error:
        msg = f"a chunk of {kind} states does not unpack"
        raise UnreadableChunkError(msg) from error
    return [_state(kind, each) for each in found]


def digest(packed: bytes) -> bytes:
    """SHA-256 of a chunk."""
    return sha256(packed).digest()


def digest_index(kind: StateKind, chunk: int, chunks: int) -> int:
    """Which of a snapshot's digests is a chunk's: they lie by kind, then by chunk."""
    return _KINDS.index(kind) * chunks + chunk


def chunks_in(digests: bytes) -> int:
    """How many chunks of each kind a snapshot with these digests has; 0 where they are damaged."""
    chunks, rest = divmod(len(digests), DIGEST_BYTES * len(_KINDS))
    whole = not rest and 0 < chunks <= ALL_BUCKETS and chunks & (chunks - 1) == 0
    return chunks if whole else 0


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def _form(cls: type[msgspec.Struct], changed: dict[str, object]) -> Any:  # noqa: ANN401 (a type that mypy cannot know)
    """The stored form of a state: its fields in order, without names, some of other types."""
    fields = [(each.name, changed.get(each.name, each.type)) for each in get_fields(cls)]
    return msgspec.defstruct(f"Stored{cls.__name__}", fields, frozen=True, array_like=True)


_SEALED = Sealed | None
# Any: what ``_form`` returns, and a decoder for each of the three.
_StoredSession: Any = _form(Session, {"client": _SEALED, "device_name": _SEALED})
_FORMS: dict[StateKind, Any] = {
    StateKind.FAMILY: _form(Family, {"sessions": tuple[_StoredSession, ...]}),
    StateKind.USER: _form(User, {"username": _SEALED, "external_subject": _SEALED}),
    StateKind.ALERT: _form(Alert, {"client": _SEALED, "fact_texts": _SEALED}),
}
_DECODERS: dict[StateKind, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(list[form])  # type: ignore[valid-type]  # made at run time
    for kind, form in _FORMS.items()
}


def _stored(state: AnyState) -> object:
    fields = asdict(state)
    match state:
        case Family():
            _check_sealed(*(part for each in state.sessions for part in personal_of(each)))
            fields["sessions"] = tuple(_StoredSession(**asdict(each)) for each in state.sessions)
        case User() | Alert():
            _check_sealed(*personal_of(state))
    return _FORMS[kind_of(state)](**fields)


def _state(kind: StateKind, stored: Any) -> AnyState:  # noqa: ANN401 (a form)
    fields = asdict(stored)
    match kind:
        case StateKind.FAMILY:
            fields["sessions"] = tuple(Session(**asdict(each)) for each in stored.sessions)
            return Family(**fields)
        case StateKind.USER:
            return User(**fields)
        case StateKind.ALERT:
            return Alert(**fields)


def personal_of(state: Session | User | Alert) -> tuple[object, object]:
    """What of a state is personal."""
    match state:
        case Session():
            return state.client, state.device_name
        case User():
            return state.username, state.external_subject
        case Alert():
            return state.client, state.fact_texts


def _check_sealed(*parts: object) -> None:
    if not all(part is None or isinstance(part, Sealed) for part in parts):
        msg = "a snapshot holds what is personal sealed, or not at all"
        raise TypeError(msg)
