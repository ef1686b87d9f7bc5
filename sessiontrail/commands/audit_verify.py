"""``audit verify``: the whole store against its heads, its tree and heads that others hold."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from audit.checkpoints import open_checkpoint
from audit.head_claims import SavedHead
from audit.log_verification import Finding
from audit.signed_notes import NoteError, Verifier
from infra.postgres import create_engine
from infra.settings import Settings, load_settings
from sessiontrail.commands.audit_tree import KeyOption
from sessiontrail.commands.context import CommandError, ensure_current, run, say
from sessiontrail.commands.progress import progress_bars
from sessiontrail.databases import database
from sessiontrail.keys import key_ring
from sessiontrail.table_comparison import ComparisonFailedError, differences_beside
from sessiontrail.tree_keys import tree_verifier
from sessiontrail.verification import Verified, verify_store

_SHOWN = 20
_PUBLISHED = "checkpoint"


def verify(
    key: KeyOption = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A file with a head that was saved earlier; may be given several times"),
    ] = None,
) -> None:
    """Prove that the store is what was signed: every event, the order, the tree, the tables.

    Checks each event against its leaf, the tree against every signed head, the head in the
    published folder and those that you saved, the versions of every stream, the snapshots, and the
    users, sessions, alerts, signing_keys and service_keys tables against the log. Exits with 1
    where anything is altered, missing, inserted or moved, and names it.
    """
    settings = load_settings()
    verifier = tree_verifier(settings, key)
    saved, findings = _saved_heads(settings, verifier, against or [])
    verified = run(lambda: _verified(settings, verifier, saved))
    covered = verified.covered
    findings += verified.findings
    for finding in findings[:_SHOWN]:
        say(str(finding))
    if findings:
        more = f", {len(findings) - _SHOWN} more than shown" if len(findings) > _SHOWN else ""
        msg = f"{len(findings)} findings{more}: this is not the store that was signed"
        raise CommandError(msg)
    if not covered.leaves:
        msg = "nothing was signed yet, so nothing is proved: run `sessiontrail sequence`"
        raise CommandError(msg)
    say(f"{covered.leaves:,} events are as they were signed; the tables are their fold.")
    if covered.archived:
        say(f"Of {covered.archived:,} in archives the hashes are whole; restore one to check it.")
    if covered.beyond:
        since = _since(covered.unsigned_since)
        say(f"{covered.beyond:,} newer events, {since}, are not under a signed head yet.")
    if not saved:
        say(
            "No head from outside the database was compared, so a database that was set back"
            " would pass: keep one, and give it with --against."
        )


def _since(oldest: datetime | None) -> str:
    """When events begin; a time that is none was written by nobody of ours, and hides nothing."""
    return (
        "at no possible time" if oldest is None else f"since {oldest.isoformat(timespec='seconds')}"
    )


def _saved_heads(
    settings: Settings, verifier: Verifier, paths: list[Path]
) -> tuple[list[SavedHead], list[Finding]]:
    """Heads that were kept outside the database, and what is wrong with them."""
    published = settings.tree_path / _PUBLISHED
    heads, findings = [], []
    named = [(path, f"the head in {path}") for path in paths]
    if published.exists():
        named.insert(0, (published, "the published head"))
    for path, whose in named:
        try:
            heads.append(SavedHead(whose, open_checkpoint(path.read_bytes(), verifier)))
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise CommandError(msg) from error
        except NoteError as error:
            findings.append(Finding(f"{whose}: {error}"))
    return heads, findings


async def _verified(settings: Settings, verifier: Verifier, saved: list[SavedHead]) -> Verified:
    key_ring(settings)  # what is wrong with the keys is said before anything is read
    with database(settings) as access:
        await ensure_current(settings, access)
        conninfo = access.owner or access.service
        compare_tables = partial(differences_beside, conninfo)
        engine = create_engine(conninfo, max_connections=1, wait_s=settings.database_wait)
        try:
            with progress_bars() as show:
                return await verify_store(engine, verifier, saved, compare_tables, show)
        except ComparisonFailedError as error:
            raise CommandError(str(error)) from error
        finally:
            await engine.dispose()
