"""Wiring of the sequencer of the transparency log."""

import asyncio
from datetime import timedelta

from audit.publication import Publication
from audit.sequencer import Sequencer
from infra.postgres import create_engine
from infra.settings import Settings
from infra.snapshot_taking import run_snapshots
from infra.tree_files import TreeFolder
from infra.tree_growth import SequencerTurns
from infra.tree_metrics import SequencerMetrics
from sessiontrail.store import cause_of
from sessiontrail.tree_keys import make_tree_key, tree_signer

_SNAPSHOT_EVERY = timedelta(seconds=30)
"""How often it is asked whether one is due."""


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
