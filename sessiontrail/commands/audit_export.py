"""``audit export`` and ``audit verify-export``."""

from pathlib import Path
from typing import Annotated

import typer

from audit.checkpoints import open_checkpoint
from audit.export_verification import CheckedExport
from audit.signed_notes import NoteError
from domain.as_of import AtInstant, InvalidAsOfError, parse_as_of
from domain.events.registry import registered_types
from domain.exports import ExportedAs, ExportFormat, ExportRequest, NotExportedError, Selection
from domain.texts import InvalidTextError, clean_comment
from infra.settings import load_settings
from sessiontrail.commands.audit_replay import known_user
from sessiontrail.commands.audit_tree import KeyOption
from sessiontrail.commands.context import CommandError, operator_cause, run, say, store
from sessiontrail.commands.progress import progress_bar
from sessiontrail.export_files import check_export_file
from sessiontrail.exporting import LogExports
from sessiontrail.tree_keys import tree_verifier

_SHOWN = 20


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; a new one")],
    format: Annotated[  # noqa: A002 (the option's name)
        ExportFormat, typer.Option(help="jsonl and parquet hold proofs; ocsf is for a SIEM")
    ] = ExportFormat.JSONL,
    since: Annotated[str | None, typer.Option(help="Events from this instant on")] = None,
    until: Annotated[str | None, typer.Option(help="Events before this instant")] = None,
    user: Annotated[str | None, typer.Option(help="About this user: name or id")] = None,
    type: Annotated[  # noqa: A002 (the option's name)
        list[str] | None, typer.Option(help="Of this type; may be given several times")
    ] = None,
    reveal: Annotated[bool, typer.Option(help="Open what is personal; it goes on record")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is opened")] = None,
) -> None:
    """Write events to a file, with the proof that the log holds them so; it goes on record.

    Everything that is in the signed tree and chosen by all of the options.
    """
    if reveal != (reason is not None):
        msg = "--reveal and --reason go together: say why personal data is to be opened"
        raise CommandError(msg)
    for each in type or ():
        if each not in registered_types():
            msg = f"there is no event type {each}: docs/events.md lists them"
            raise CommandError(msg)

    async def work() -> ExportedAs:
        async with store() as opened:
            request = ExportRequest(
                format=format,
                selection=Selection(
                    since=None if since is None else _instant(since).at,
                    until=None if until is None else _instant(until).at,
                    user_id=None if user is None else await known_user(opened, user),
                    types=tuple(type or ()),
                ),
                reason=None if reason is None else clean_comment(reason),
            )
            exports = LogExports(opened.engine, opened.data_keys)
            with progress_bar("exporting") as progress:
                return await exports.export_to(output, request, operator_cause(), progress)

    try:
        made = run(work)
    except (NotExportedError, InvalidTextError, InvalidAsOfError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        msg = f"{output} cannot be written: {error.strerror}"
        raise CommandError(msg) from error
    say(f"{made.events:,} events, proved against the head of {made.head_size:,}, in {output}")
    say(f"SHA-256 {made.sha256}")


def verify_export(
    file: Annotated[Path, typer.Argument(help="An export as jsonl or parquet")],
    head: Annotated[
        Path | None, typer.Option(help="A file with the head that you kept; else the export's own")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Check an export offline: no database, no secret, only the log's public key.

    Exits with 1 where an event was altered, is missing, was inserted or stands elsewhere.
    """
    verifier = tree_verifier(load_settings(), key)
    try:
        saved = None if head is None else open_checkpoint(head.read_bytes(), verifier)
        checked = check_export_file(file, verifier, saved)
    except (NoteError, NotExportedError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        msg = f"{error.filename or file} cannot be read: {error.strerror}"
        raise CommandError(msg) from error
    for finding in checked.findings[:_SHOWN]:
        say(finding)
    if checked.findings:
        msg = f"{len(checked.findings)} findings: this is not what the log has signed"
        raise CommandError(msg)
    say(_told(checked))


def _told(checked: CheckedExport) -> str:
    size = 0 if checked.head is None else checked.head.size
    if not checked.events or checked.first is None:
        return f"The export holds no event, and leads to the head of {size:,}."
    if checked.is_contiguous:
        return (
            f"{checked.events:,} events are leaves {checked.first:,} to {checked.end - 1:,} of the"
            f" {size:,} that were signed: none is altered, and none between them is left out."
        )
    return (
        f"{checked.events:,} events are among the {size:,} that were signed, unaltered. Others"
        " between them are left out: whether all that was chosen is here, only a full export tells."
    )


def _instant(text: str) -> AtInstant:
    at = parse_as_of(text)
    if not isinstance(at, AtInstant):
        msg = "give an instant with its offset, such as 2026-11-25T10:00:00Z"
        raise InvalidAsOfError(msg)
    return at
