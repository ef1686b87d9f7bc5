"""Forgetting a user who was erased.

What is about them alone goes whole, by the store's own index. Where many are counted together, only
they are taken out: that a network was tried is true of somebody else as well.
"""

from typing import Final

from msgspec.structs import replace

from detector.crowd_states import OriginState, SourceState, SprayState
from detector.loading import hold, subject_of
from detector.memory import Memory, Scope, State
from detector.ports import Work
from detector.tries import Tries
from domain.detection_work import Stage
from domain.ids import UserId

_OF_ONE: Final = {
    Stage.CROWD: (Scope.ACCOUNT, Scope.CONTEXT),
    Stage.USERS: (Scope.PROFILE, Scope.TRACE),
}
"""What each stage keeps of one user. Neither touches the other's, so neither waits for it."""
_OF_MANY: Final = (Scope.SOURCE, Scope.SPRAY, Scope.ORIGIN)
"""What names users among others; kept by the crowd's stage."""


async def forget(work: Work, memory: Memory, stage: Stage, user_id: UserId) -> None:
    """Forget a user, in a batch that comes to their erasure.

    What later events of the batch say of them is not kept: the store keeps nothing of the erased.

    Args:
        work: The batch.
        memory: Its states.
        stage: Whose states to go through.
        user_id: Who.
    """
    of_one = _OF_ONE[stage]
    await work.forget(user_id, [int(scope) for scope in of_one])
    for key, state in memory.of(of_one):
        if subject_of(key, state) == user_id:
            memory.forget(key)
    if stage is Stage.CROWD:
        for scope in _OF_MANY:
            named = await work.naming(user_id, int(scope))
            await hold(memory, work, [(scope, key) for key in named])
        for key, state in memory.of(_OF_MANY):
            memory.put(key, without(state, user_id))


def without(state: State, user_id: UserId) -> State:
    """A state that many share, without one of them.

    The numbers stay: they name nobody.
    """
    match state:
        case SourceState():
            if user_id not in state.visitors and not _names(state.tries, user_id):
                return state
            visitors = tuple(each for each in state.visitors if each != user_id)
            return replace(state, visitors=visitors, tries=_without(state.tries, user_id))
        case SprayState() if _names(state.accounts, user_id):
            return replace(state, accounts=_without(state.accounts, user_id))
        case OriginState():
            users = tuple(each for each in state.users if each[0] != user_id)
            return state if len(users) == len(state.users) else OriginState(users)
        case _:
            return state


def _names(tries: Tries, user_id: UserId) -> bool:
    return any(each.key == user_id for each in tries.tried)


def _without(tries: Tries, user_id: UserId) -> Tries:
    return replace(tries, tried=tuple(each for each in tries.tried if each.key != user_id))
