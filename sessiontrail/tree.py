"""Wiring of the transparency log: its key, and the sequencer."""

import asyncio
import logging
import os
from datetime import timedelta

from audit.publication import Publication
from audit.sequencer import Sequencer
from audit.signed_notes import NoteKeyError, Signer, Verifier, parse_signer, parse_verifier
from infra.key_files import KeyRingError
from infra.postgres import create_engine
from infra.settings import Settings, SettingsError
from infra.snapshot_taking import run_snapshots
from infra.tree_files import TreeFolder
from infra.tree_growth import SequencerTurns
from infra.tree_key import create_tree_key, read_tree_key
from infra.tree_metrics import SequencerMetrics
from sessiontrail.composition import cause_of

_SEED_BYTES = 32
_SNAPSHOT_EVERY = timedelta(seconds=30)
"""How often it is asked whether one is due."""
_log = logging.getLogger(__name__)


def tree_origin(settings: Settings) -> str:
    """The log's name as set, else the address that it is read under, without its scheme."""
    if settings.tree_origin is not None:
        return settings.tree_origin
    return settings.public_issuer.partition("://")[2] + "/tlog"


def tree_signer(settings: Settings) -> Signer:
    """The key that the settings name.

    Raises:
        KeyRingError: There is none, or it is malformed or readable by others.
        SettingsError: It is another log's.
    """
    try:
        if settings.tree_key is not None:
            return _of_origin(settings, parse_signer(settings.tree_key.strip()))
        kept = read_tree_key(settings.tree_key_path)
        if kept is None:
            msg = (
                f"there is no tree key {settings.tree_key_path}: restore it,"
                " or make one with `sessiontrail audit key --new`"
            )
            raise KeyRingError(msg)
        return _of_origin(settings, parse_signer(kept))
    except NoteKeyError as error:
        where = "SESSIONTRAIL_TREE_KEY" if settings.tree_key else str(settings.tree_key_path)
        msg = f"{where} holds no key of a tree: {error}"
        raise KeyRingError(msg) from None


def make_tree_key(settings: Settings) -> bool:
    """Make a key in the settings' file, unless there is one.

    Returns:
        Whether there was none.

    Raises:
        KeyRingError: It cannot be written.
        SettingsError: The log's name cannot be one.
    """
    try:
        signer = Signer(tree_origin(settings), os.urandom(_SEED_BYTES))
    except NoteKeyError as error:
        msg = f"SESSIONTRAIL_TREE_ORIGIN: {error}"
        raise SettingsError(msg) from error
    made = create_tree_key(settings.tree_key_path, signer.exported())
    if made:
        _log.warning(
            "made a new tree key in %s: back this file up; a log whose key is lost cannot go on",
            settings.tree_key_path,
        )
    return made


def tree_verifier(settings: Settings, key: str | None = None) -> Verifier:
    """The key that signatures are checked with.

    Args:
        settings: The settings.
        key: A public key that somebody gave; None to derive it from the tree's key.

    Raises:
        KeyRingError: It is no public key, or there is no key of the tree.
        SettingsError: As ``tree_signer``.
    """
    if key is None:
        return tree_signer(settings).verifier
    try:
        return parse_verifier(key.strip())
    except NoteKeyError as error:
        raise KeyRingError(str(error)) from error


async def sequence(settings: Settings, conninfo: str, metrics: SequencerMetrics) -> None:
    """Run the sequencer, and beside it what takes snapshots, until cancelled.

    Args:
        settings: The settings.
        conninfo: The database.
        metrics: Told what it does.

    Raises:
        KeyRingError: As ``tree_signer``.
        TreeDamagedError: The stored tree is not the one that was signed or published.
    """
    if settings.tree_key is None and settings.is_embedded:
        make_tree_key(settings)
    signer = tree_signer(settings)
    publication = Publication(TreeFolder(settings.tree_path), signer.verifier)
    sequencer = Sequencer(SequencerTurns(conninfo), signer, publication, metrics)
    engine = create_engine(conninfo, max_connections=2, wait_s=settings.database_wait)
    snapshots = run_snapshots(engine, cause_of, _SNAPSHOT_EVERY, settings.snapshot_events)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sequencer.run(), name="sequencer")
            tasks.create_task(snapshots, name="snapshots")
    finally:
        await engine.dispose()


def _of_origin(settings: Settings, signer: Signer) -> Signer:
    name = signer.verifier.name
    if settings.tree_origin is not None and settings.tree_origin != name:
        msg = f"SESSIONTRAIL_TREE_ORIGIN: the tree's key is of {name!r}, not of that log"
        raise SettingsError(msg)
    return signer
