"""States that the detector keeps, to and from their store."""

import logging
from collections.abc import Iterable

import msgspec

from detector.crowd_context import CrowdContext
from detector.memory import Key, Memory, Scope, State, decode_state, encode_state
from detector.ports import States
from detector.profile import FamilyTrace
from domain.detection_work import StoredState
from domain.ids import UserId

_log = logging.getLogger(__name__)


async def loaded(store: States, keys: Iterable[Key]) -> Memory:
    """The states of keys, as far as there are any."""
    memory = Memory()
    await hold(memory, store, keys)
    return memory


async def hold(memory: Memory, store: States, keys: Iterable[Key]) -> None:
    """Load the states of keys that are not at hand.

    One that cannot be read counts as none: the detector learns anew, rather than be blind to a user
    for ever.
    """
    missing = memory.missing(keys)
    if not missing:
        return
    stored = await store.load([(int(scope), key) for scope, key in missing])
    states: dict[Key, State] = {}
    for (number, key), state in stored.items():
        scope = Scope(number)
        try:
            states[scope, key] = decode_state(scope, state)
        except msgspec.MsgspecError as error:
            _log.error(
                "a state cannot be read and is begun anew: %s %s: %s", scope.name, key, error
            )
    memory.hold(states)


async def save(store: States, memory: Memory) -> None:
    """Keep what was replaced."""
    await store.save([_stored(key, state) for key, state in memory.changes()])


def _stored(key: Key, state: State | None) -> StoredState:
    scope, name = key
    encoded = None if state is None else encode_state(state)
    return StoredState((int(scope), name), subject_of(key, state), encoded)


def subject_of(key: Key, state: State | None) -> UserId | None:
    """Whose erasure takes a state along; None where it is about no one user."""
    scope, name = key
    match scope:
        case Scope.PROFILE | Scope.ACCOUNT:
            return UserId(name)
        case Scope.TRACE if isinstance(state, FamilyTrace):
            return state.user_id
        case Scope.CONTEXT if isinstance(state, CrowdContext):
            return state.user_id
        case _:
            return None
