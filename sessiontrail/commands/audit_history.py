"""``sessiontrail audit history``: every event of a user, session, family or alert."""

import sys
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
import typer

from domain.audit_history import (
    AuditEntry,
    HistoryOf,
    HistoryPage,
    HistoryScope,
    NothingToRevealError,
    UnknownHistoryError,
)
from domain.ids import parse_uuid
from domain.texts import InvalidTextError, clean_comment
from infra.event_history import AuditHistories
from sessiontrail.commands.audit_replay import known_user, told_in_a_line
from sessiontrail.commands.context import CommandError, operator_cause, run, store

_PAGE = 1_000
_ENCODER = msgspec.json.Encoder()


def history(
    user: Annotated[str | None, typer.Option(help="User name or id")] = None,
    session: Annotated[str | None, typer.Option(help="Session id: its family's history")] = None,
    family: Annotated[str | None, typer.Option(help="Session family id")] = None,
    alert: Annotated[str | None, typer.Option(help="Alert id")] = None,
    reveal: Annotated[bool, typer.Option(help="Open what is personal; it goes on record")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is opened")] = None,
    json: Annotated[bool, typer.Option(help="As JSON lines")] = False,
) -> None:
    """Show every event of exactly one thing, with its actor, its request and its data."""
    given = {
        scope: text
        for scope, text in zip(HistoryScope, (user, session, family, alert), strict=True)
        if text is not None
    }
    if len(given) != 1:
        msg = "give exactly one of --user, --session, --family and --alert"
        raise CommandError(msg)
    if reveal != (reason is not None):
        msg = "--reveal and --reason go together: say why personal data is to be opened"
        raise CommandError(msg)
    ((scope, text),) = given.items()

    async def work() -> None:
        async for page in _pages(scope, text, reason):
            for entry in page.entries:
                sys.stdout.write((_ENCODER.encode(entry).decode() if json else _line(entry)) + "\n")
        sys.stdout.flush()

    try:
        with told_in_a_line():
            run(work)
    except (UnknownHistoryError, NothingToRevealError, InvalidTextError) as error:
        raise CommandError(str(error)) from error


async def _pages(scope: HistoryScope, text: str, reason: str | None) -> AsyncIterator[HistoryPage]:
    async with store() as opened:
        histories = AuditHistories(opened.engine, opened.data_keys)
        if scope is HistoryScope.USER:
            of = HistoryOf(scope, await known_user(opened, text))
        else:
            parsed = parse_uuid(text)
            if parsed is None:
                msg = f"{text} is not an id"
                raise CommandError(msg)
            of = HistoryOf(scope, parsed)
        on_record = None
        if reason is not None:
            why = clean_comment(reason, "reason")
            on_record = await histories.record_reveal(of, why, operator_cause())
        after: str | None = None
        while True:
            if on_record is None:
                page = await histories.page(of, after=after, limit=_PAGE)
            else:
                page = await histories.revealed_page(on_record, after=after, limit=_PAGE)
            if after is None and page.archived:
                files = ", ".join(page.archived)
                sys.stderr.write(f"sessiontrail: earlier events may be in {files}\n")
            yield page
            after = page.next_after
            if after is None:
                return


def _line(entry: AuditEntry) -> str:
    data = (
        "(not readable: of a newer build, or altered)" if entry.data is None else _json(entry.data)
    )
    personal = " sealed" if entry.sealed else ""
    if entry.personal is not None:
        personal = " " + _json(entry.personal)
    return (
        f"{entry.at.isoformat()} {entry.position} {entry.stream}#{entry.version} {entry.type}"
        f" by {entry.actor}, request {entry.correlation_id}: {data}{personal}"
    )


def _json(value: object) -> str:
    return _ENCODER.encode(value).decode()
