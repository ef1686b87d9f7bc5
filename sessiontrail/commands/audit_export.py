"""``audit export`` and ``audit verify-export``."""

import sys
from base64 import b64decode
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from audit.checkpoints import Checkpoint
from audit.export_verification import CheckedExport
from domain.as_of import AtInstant, InvalidAsOfError, parse_as_of
from domain.events.registry import registered_types
from domain.exports import (
    ExportedAs,
    ExportFormat,
    ExportRequest,
    LeafSpan,
    NotExportedError,
    OlderTree,
    Selection,
)
from domain.texts import InvalidTextError, clean_comment
from infra.settings import load_settings
from sessiontrail.commands.audit_replay import known_user
from sessiontrail.commands.audit_tree import KeyOption, kept_head
from sessiontrail.commands.context import CommandError, operator_cause, run, say, store
from sessiontrail.commands.progress import progress_bar
from sessiontrail.export_files import check_export_file
from sessiontrail.exporting import LogExports
from sessiontrail.tree_keys import published_key, tree_verifier

_SHOWN = 20
_MAX_DIGITS = 15
_UNPROVED = 3
"""What the command exits with where the saved head is neither proved nor disproved."""


def export(  # noqa: PLR0913, PLR0917 (an option each)
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
    leaves: Annotated[
        str | None,
        typer.Option(
            help="FIRST:END, leaves of the tree from one up to another; FIRST: for the rest"
        ),
    ] = None,
    extends: Annotated[
        list[Path] | None,
        typer.Option(help="Prove that the log extends the head in this file; several times too"),
    ] = None,
    key: KeyOption = None,
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
    if extends and format is ExportFormat.OCSF:
        msg = "ocsf holds no proofs: --extends is for jsonl and parquet"
        raise CommandError(msg)
    if str(output) == "-":
        msg = "an export goes to a file, which then is on record: name one"
        raise CommandError(msg)
    settings = load_settings()
    log_key = published_key(settings) if key is None else partial(tree_verifier, settings, key)
    kept = [kept_head(each, key) for each in extends or ()]

    async def work() -> ExportedAs:
        async with store() as opened:
            request = ExportRequest(
                format=format,
                selection=Selection(
                    leaves=None if leaves is None else _span(leaves),
                    since=None if since is None else _instant(since).at,
                    until=None if until is None else _instant(until).at,
                    user_id=None if user is None else await known_user(opened, user),
                    types=tuple(type or ()),
                ),
                reason=None if reason is None else clean_comment(reason, "reason"),
                extends=tuple(OlderTree(each.size, each.root) for each in kept),
            )
            exports = LogExports(opened.engine, opened.data_keys, log_key)
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
    consistency: Annotated[
        Path | None,
        typer.Option(help="A file with what prove-consistency says of that head and the export's"),
    ] = None,
) -> None:
    """Check an export offline: no database, no secret, only the log's public key.

    Exits with 1 where an event was altered, is missing, was inserted, stands elsewhere or was not
    chosen, or the head is of another log; with 3 where all is well but nothing tells whether the
    head is of the same log.
    """
    verifier = tree_verifier(load_settings(), key)
    saved = None if head is None else kept_head(head, key)
    if consistency is not None and saved is None:
        msg = "--consistency is about the head that you kept: give it with --head"
        raise CommandError(msg)
    proof = None if consistency is None else _hashes(consistency)
    try:
        checked = check_export_file(file, verifier, saved, proof)
    except NotExportedError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise CommandError(msg) from error
    for finding in checked.findings[:_SHOWN]:
        say(finding)
    if checked.findings:
        msg = f"{len(checked.findings)} findings: this is not what the log has signed"
        raise CommandError(msg)
    say(_told(checked))
    if checked.archived:
        say(f"It says that the leaves before {checked.archived:,} were archived when it was made.")
    if checked.opened:
        say(
            f"{checked.opened:,} events have opened personal data beside them, which nothing"
            " proves: only the sealed form was signed."
        )
    if checked.unproved is not None:
        sys.stderr.write(f"sessiontrail: {checked.unproved}\n")
        raise typer.Exit(_UNPROVED)
    if saved is not None and checked.head is not None:
        say(_joined(saved, checked.head))


def _span(text: str) -> LeafSpan:
    first, colon, end = text.partition(":")
    if not (colon and all(_is_leaf(each) for each in (first, end or "0"))):
        msg = f"{text} is no span of leaves: give FIRST:END, such as 1000:2000, or FIRST:"
        raise CommandError(msg)
    return LeafSpan(int(first), int(end) if end else None)


def _is_leaf(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _hashes(path: Path) -> Sequence[bytes]:
    """The hashes of a proof, one a line in base64."""
    try:
        return [b64decode(line, validate=True) for line in path.read_bytes().split()]
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CommandError(msg) from error
    except ValueError as error:
        msg = f"{path} is no proof: it has hashes in base64, one a line"
        raise CommandError(msg) from error


def _joined(saved: Checkpoint, head: Checkpoint) -> str:
    if saved.size == head.size:
        return f"Its head is the one that you kept, of {saved.size:,} events."
    if saved.size < head.size:
        return (
            f"Its tree begins with that of the head that you kept, of {saved.size:,} events: none"
            " of those was altered or dropped since."
        )
    return f"The head that you kept, of {saved.size:,} events, is of a tree that begins with its."


def _told(checked: CheckedExport) -> str:
    size = 0 if checked.head is None else checked.head.size
    chosen = not checked.selection.is_whole
    if not checked.events or checked.first is None:
        return f"The export holds no event, and leads to the head of {size:,}." + (
            " Whether the log has any that were to be chosen, only a full export tells."
            if chosen
            else ""
        )
    if checked.is_contiguous:
        return (
            f"{checked.events:,} events are leaves {checked.first:,} to {checked.end - 1:,} of the"
            f" {size:,} that were signed: none is altered, and none between them is left out."
        ) + (
            " Each is of the selection; whether others before or behind them are too, only a full"
            " export tells."
            if chosen
            else ""
        )
    return (
        f"{checked.events:,} events are among the {size:,} that were signed, unaltered, and each is"
        " of the selection. Others between them are left out: whether all that was chosen is here,"
        " only a full export tells."
    )


def _instant(text: str) -> AtInstant:
    at = parse_as_of(text)
    if not isinstance(at, AtInstant):
        msg = "give an instant with its offset, such as 2026-11-25T10:00:00Z"
        raise InvalidAsOfError(msg)
    return at
