"""What the detector keeps between events: small states by scope and key.

The pure code reads and replaces them here. The worker loads the states that a batch of events needs
before, and writes those that were replaced after, in one transaction with its checkpoint; the
player and the back-test keep everything in this dict.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import TypeVar

import msgspec

from detector.crowd_context import CrowdContext
from detector.crowd_states import AccountState, OriginState, SourceState, SprayState
from detector.features import FeatureState
from detector.groups import GroupState
from detector.profile import FamilyTrace, UserProfile


class Scope(IntEnum):
    """What a state is about. The numbers are stored."""

    PROFILE = 1
    """A user, by id."""
    TRACE = 2
    """A session family, by id."""
    ACCOUNT = 3
    """Failed sign-ins on one account, by user id."""
    SOURCE = 4
    """Failed sign-ins from one network, by prefix."""
    SPRAY = 5
    """Failed sign-ins from everywhere; one key."""
    ORIGIN = 6
    """Findings about many users from one network and device."""
    FEATURE = 7
    """How often a feature value was seen at sign-in, by all users."""
    GROUP = 8
    """The latest alert of a rule and subject."""
    CONTEXT = 9
    """What the crowd's counts say of a sign-in, by event id, until it is judged."""


Key = tuple[Scope, str]
State = (
    UserProfile
    | FamilyTrace
    | AccountState
    | SourceState
    | SprayState
    | OriginState
    | FeatureState
    | GroupState
    | CrowdContext
)
_TYPES: Mapping[Scope, type[State]] = {
    Scope.PROFILE: UserProfile,
    Scope.TRACE: FamilyTrace,
    Scope.ACCOUNT: AccountState,
    Scope.SOURCE: SourceState,
    Scope.SPRAY: SprayState,
    Scope.ORIGIN: OriginState,
    Scope.FEATURE: FeatureState,
    Scope.GROUP: GroupState,
    Scope.CONTEXT: CrowdContext,
}
KEPT_FOR: Mapping[Scope, timedelta] = MappingProxyType(
    {
        Scope.PROFILE: timedelta(days=400),
        Scope.TRACE: timedelta(days=120),
        Scope.ACCOUNT: timedelta(days=120),
        Scope.SOURCE: timedelta(days=7),
        Scope.ORIGIN: timedelta(days=7),
        Scope.FEATURE: timedelta(days=400),
        Scope.GROUP: timedelta(days=7),
        Scope.CONTEXT: timedelta(days=30),
    }
)
"""How long a state is kept after it last changed. Each is longer than anything looks back."""
_StateT = TypeVar("_StateT", bound=msgspec.Struct)
_encoder = msgspec.msgpack.Encoder()
_decoders = {scope: msgspec.msgpack.Decoder(kind) for scope, kind in _TYPES.items()}


def encode_state(state: State) -> bytes:
    """The stored form of a state (MessagePack arrays)."""
    return _encoder.encode(state)


def decode_state(scope: Scope, stored: bytes) -> State:
    """A state as it was stored; fields that later builds added take their defaults.

    Raises:
        msgspec.MsgspecError: It is not a state of that scope.
    """
    return _decoders[scope].decode(stored)


class Memory:
    """States at hand."""

    def __init__(self, loaded: Mapping[Key, State] | None = None) -> None:
        """Start with what was loaded."""
        self._states: dict[Key, State] = dict(loaded or {})
        self._replaced: set[Key] = set()

    def get(self, key: Key, kind: type[_StateT]) -> _StateT | None:
        """The state of a key, or None where there is none.

        Raises:
            TypeError: The key holds another kind of state.
        """
        state = self._states.get(key)
        if state is not None and not isinstance(state, kind):
            msg = f"{key} holds a {type(state).__name__}, not a {kind.__name__}"
            raise TypeError(msg)
        return state

    def put(self, key: Key, state: State) -> None:
        """Replace the state of a key."""
        if self._states.get(key) is not state:
            self._states[key] = state
            self._replaced.add(key)

    def forget(self, key: Key) -> None:
        """Drop the state of a key."""
        if self._states.pop(key, None) is not None:
            self._replaced.add(key)

    def hold(self, loaded: Mapping[Key, State]) -> None:
        """Take in states that were loaded later; those at hand stay."""
        for key, state in loaded.items():
            self._states.setdefault(key, state)

    def of(self, scopes: Collection[Scope]) -> list[tuple[Key, State]]:
        """The states of some scopes that are at hand."""
        return [(key, state) for key, state in self._states.items() if key[0] in scopes]

    def missing(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the keys that nothing is at hand for."""
        return {key for key in keys if key not in self._states}

    def changes(self) -> Iterator[tuple[Key, State | None]]:
        """What was replaced (or, with None, dropped) since the start or the last ``settle``."""
        for key in sorted(self._replaced):
            yield key, self._states.get(key)

    def settle(self) -> None:
        """Forget what was replaced: it has been written."""
        self._replaced.clear()
