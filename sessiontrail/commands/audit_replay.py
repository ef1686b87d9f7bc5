"""``sessiontrail audit sessions``: the sessions table as it stood at any moment."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from domain.as_of import AlteredHistoryError, AsOf, InvalidAsOfError, UnknownPlaceError, parse_as_of
from domain.events.registry import UnknownEventError
from domain.ids import UserId, parse_uuid
from infra.replay import Whose, in_parts, replaying
from projections.replaying import StateKind
from projections.session_views import SessionStatus, SessionView, views_of
from sessiontrail.commands.context import CommandError, print_table, run, say, store
from sessiontrail.commands.progress import progress_bar
from sessiontrail.commands.user_lookup import find_user, user_of_subject
from sessiontrail.store import Store

_KINDS = (StateKind.FAMILY,)
_ENCODER = msgspec.json.Encoder()

AsOfOption = Annotated[
    str, typer.Option(help="2026-11-25T10:00:00Z (with an offset), position:N or leaf:N")
]
UserOption = Annotated[str | None, typer.Option(help="User name or id; else everybody")]
FromStart = Annotated[bool, typer.Option(help="Use no snapshot: fold everything from the start")]


def sessions(
    as_of: AsOfOption,
    user: UserOption = None,
    live: Annotated[bool, typer.Option(help="Only those that were good for a refresh")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many")] = 100,
    json: Annotated[bool, typer.Option(help="All of them, as JSON lines")] = False,
    from_start: FromStart = False,
) -> None:
    """Show the sessions as they stood at an instant, or after an event of the log."""
    moment = as_of_in(as_of)
    table = Table("session", "family", "user", "status", "generation", "started", "last seen")
    counts: Counter[SessionStatus] = Counter()

    def show(view: SessionView) -> None:
        if live and view.status not in {SessionStatus.LIVE, SessionStatus.STEP_UP}:
            return
        counts[view.status] += 1
        if json:
            sys.stdout.write(_ENCODER.encode(view).decode() + "\n")
        elif counts.total() <= limit:
            table.add_row(
                view.session_id,
                view.family_id,
                view.user_id,
                view.status if view.end_reason is None else f"{view.status}: {view.end_reason}",
                str(view.generation),
                view.started_at.isoformat(timespec="seconds"),
                view.last_seen_at.isoformat(timespec="seconds"),
            )

    with told_in_a_line():
        damaged = run(lambda: _each_session(moment, user, show, from_snapshots=not from_start))
    if not json:
        print_table(table)
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        say(f"{counts.total()} sessions as of {moment}{': ' + told if told else ''}.")
    if damaged:
        msg = f"the log is damaged: {'; '.join(damaged[:5])}"
        raise CommandError(msg)


async def _each_session(
    as_of: AsOf, user: str | None, show: Callable[[SessionView], None], *, from_snapshots: bool
) -> list[str]:
    """Show every session; returns what is wrong with streams that have no state."""
    damaged: list[str] = []
    async with store() as opened:
        whose = None if user is None else await known_user(opened, user)
        async with replaying(opened.engine) as replay:
            moment = await replay.moment(as_of, from_snapshots=from_snapshots)
            parts: list[Whose] = [*in_parts(moment)] if whose is None else [whose]
            with progress_bar("replaying") as progress:
                total = sum([await replay.count(moment, _KINDS, part) for part in parts])
                done = 0

                def counted(events: int) -> None:
                    nonlocal done
                    done += events
                    progress(done, total)

                for part in parts:
                    fold = await replay.fold(moment, _KINDS, part, counted)
                    for view in views_of(fold.states.values(), moment.at):
                        show(view)
                    damaged += [f"{each.stream}: {each.fault}" for each in fold.damaged]
    return damaged


def as_of_in(text: str) -> AsOf:
    """The moment that an option names.

    Raises:
        CommandError: It names none.
    """
    try:
        return parse_as_of(text)
    except InvalidAsOfError as error:
        raise CommandError(str(error)) from error


async def known_user(opened: Store, text: str) -> UserId:
    """The id of a user; an id is taken as it is, for who was erased is still in the log.

    Raises:
        CommandError: Nobody has that name.
    """
    parsed = parse_uuid(text)
    if parsed is None:
        return (await find_user(opened, text)).user_id
    called_so = await user_of_subject(opened, text)
    return UserId(parsed) if called_so is None else called_so.user.user_id


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Turn what keeps the past from being read into one line."""
    try:
        yield
    except (UnknownPlaceError, UnknownEventError, AlteredHistoryError) as error:
        raise CommandError(str(error)) from error
    except (KeyboardInterrupt, BrokenPipeError):
        raise typer.Exit(130) from None
