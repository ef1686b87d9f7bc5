"""``sessiontrail audit diff``: what became different between two moments."""

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import msgspec
import typer

from domain.as_of import AsOf
from infra.replay import Whose, in_parts, replaying
from projections.replaying import StateKind
from projections.state_diffs import Change, ChangeKind, FieldChange, changes_between
from sessiontrail.commands.audit_replay import (
    FromStart,
    UserOption,
    as_of_in,
    known_user,
    told_in_a_line,
)
from sessiontrail.commands.context import CommandError, run, say, store
from sessiontrail.commands.progress import progress_bar

_KINDS = tuple(StateKind)
_ENCODER = msgspec.json.Encoder()
_NOTHING = "nothing"


def diff(
    before: Annotated[str, typer.Argument(help="A moment, as --as-of of audit sessions")],
    after: Annotated[str, typer.Argument(help="A later one")],
    user: UserOption = None,
    json: Annotated[bool, typer.Option(help="As JSON lines")] = False,
    from_start: FromStart = False,
) -> None:
    """Show what became different of sessions, users and alerts between two moments."""
    moments = as_of_in(before), as_of_in(after)
    found = 0

    async def work() -> list[str]:
        nonlocal found
        damaged: list[str] = []
        async for changes, faults in _differences(moments, user, from_snapshots=not from_start):
            damaged += faults
            for change in changes:
                found += 1
                sys.stdout.write(_ENCODER.encode(change).decode() + "\n" if json else _text(change))
        return damaged

    with told_in_a_line():
        damaged = run(work)
    if not json:
        say(f"{found} changes between {moments[0]} and {moments[1]}.")
    if damaged:
        msg = f"the log is damaged: {'; '.join(damaged[:5])}"
        raise CommandError(msg)


async def _differences(
    moments: tuple[AsOf, AsOf], user: str | None, *, from_snapshots: bool
) -> AsyncIterator[tuple[Iterator[Change], list[str]]]:
    """Some users at a time: what is different, and what is wrong with streams of theirs."""
    async with store() as opened:
        whose = None if user is None else await known_user(opened, user)
        async with replaying(opened.engine) as replay:
            first, second = [
                await replay.moment(each, from_snapshots=from_snapshots) for each in moments
            ]
            parts: list[Whose] = [*in_parts(second)] if whose is None else [whose]
            with progress_bar("replaying") as progress:
                total = done = 0
                for part in parts:
                    for each in (first, second):
                        total += await replay.count(each, _KINDS, part)

                def counted(events: int) -> None:
                    nonlocal done
                    done += events
                    progress(done, total)

                for part in parts:
                    old = await replay.fold(first, _KINDS, part, counted)
                    new = await replay.fold(second, _KINDS, part, counted)
                    faults = {f"{each.stream}: {each.fault}" for each in old.damaged + new.damaged}
                    yield (
                        changes_between(old.states, first.at, new.states, second.at),
                        sorted(faults),
                    )


def _text(change: Change) -> str:
    head = f"{change.what} {change.id} of user {change.user_id} {change.kind}\n"
    if change.kind is ChangeKind.GONE:
        return head
    return head + "".join(f"  {_field(change.kind, field)}\n" for field in change.fields)


def _field(kind: ChangeKind, field: FieldChange) -> str:
    if field.before is None and field.after is None:
        return f"{field.name}: recorded anew (personal)"
    if kind is ChangeKind.APPEARED:
        return f"{field.name}: {_value(field.after)}"
    return f"{field.name}: {_value(field.before)} -> {_value(field.after)}"


def _value(value: object) -> str:
    if value is None:
        return _NOTHING
    return value if isinstance(value, str) else _ENCODER.encode(value).decode()
