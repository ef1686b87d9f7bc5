"""Carrying out commands on loaded families: decide each in turn, fold, append what came of it."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from domain.events.envelope import Cause, NewEvent
from domain.family import fold_new
from domain.family_decisions import Decision, FamilyCommand, decide
from domain.ids import FamilyId, UserId
from domain.ports import Executed
from infra.event_store import FamilyAppend, LoadedFamily, load_families, update_families
from infra.postgres import Connection
from infra.sealing import DataKeys, UnsealError


def carry_out(
    loaded: LoadedFamily,
    commands: Sequence[tuple[FamilyCommand, Cause]],
    clock: datetime,
    data_keys: DataKeys,
) -> tuple[list[Executed], FamilyAppend | None]:
    """Decide commands on one family, each on the state that the one before left.

    Args:
        loaded: The family as read.
        commands: In order, each with its cause.
        clock: The database's clock at the read.
        data_keys: Opens the subject's data key.

    Of a user who was erased nothing personal is kept: it is left out of what is noted of somebody
    who presents a token of theirs.

    Returns:
        What was decided for each, and what is to be appended, if anything.

    Raises:
        UnsealError: Something personal is to be appended and the subject's data key does not open,
            or is gone although they were not erased.
    """
    before = family = loaded.family
    at = max(clock, before.last_event_at())  # a clock that stepped back revives nothing
    outcomes = []
    events: list[tuple[NewEvent, Cause]] = []
    for command, cause in commands:
        decision = decide(family, command, at)
        if loaded.wrapped_key is None:
            decision = _of_erased(decision, family.user_id)
        if decision.events:
            family = fold_new(family, family.family_id, decision.events, at)
            events.extend((new, cause) for new in decision.events)
        outcomes.append(Executed(family, loaded.subject, decision, at))
    if not events:
        return outcomes, None
    data_key = None
    if loaded.wrapped_key is not None:
        data_key = data_keys.unwrap(loaded.wrapped_key, family.user_id)
    append = FamilyAppend(before=before, after=family, events=events, data_key=data_key, at=at)
    return outcomes, append


def _of_erased(decision: Decision, user_id: UserId) -> Decision:
    """What is left of a decision where there is no key to seal with.

    Raises:
        UnsealError: It is not refused, as everything is once the user was erased.
    """
    if all(new.personal is None for new in decision.events):
        return decision
    if decision.refusal is None:
        msg = f"user {user_id} has no data key, and was not erased"
        raise UnsealError(msg)
    events = tuple(replace(new, personal=None) for new in decision.events)
    return replace(decision, events=events)


async def hold_families(connection: Connection, family_ids: Sequence[FamilyId]) -> None:
    """Lock the families' rows until the transaction ends, in the order that everyone locks in."""
    await connection.execute(
        "SELECT 1 FROM sessions WHERE family_id = ANY(%s::uuid[])"
        " ORDER BY family_id, session_id FOR UPDATE",
        (list(family_ids),),
    )


async def command_held_families(
    connection: Connection,
    family_ids: Sequence[FamilyId],
    command: FamilyCommand,
    cause: Cause,
    data_keys: DataKeys,
) -> int:
    """Give one command to families whose rows this transaction holds locked.

    Returns:
        How many of them it had an effect on.
    """
    if not family_ids:
        return 0
    loaded, clock = await load_families(connection, family_ids)
    appends = []
    for each in loaded.values():
        _, append = carry_out(each, [(command, cause)], clock, data_keys)
        if append is not None:
            appends.append(append)
    if not appends:
        return 0
    accepted = await update_families(connection, appends)
    if len(accepted) != len(appends):
        msg = "a family moved on although its rows were locked"
        raise RuntimeError(msg)
    return len(accepted)
