"""``sessiontrail sequence``: the log, put into the Merkle tree."""

import asyncio
import os
from typing import Annotated

import typer
import uvloop

from domain.transparency import TreeDamagedError
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from infra.tree_metrics import SequencerMetrics
from sessiontrail.collector import spare_the_collector
from sessiontrail.commands.beside import ensure_current, metrics_served
from sessiontrail.commands.context import CommandError, say
from sessiontrail.companions import run_until_stopped
from sessiontrail.databases import DatabaseAccess, database
from sessiontrail.sequencing import sequence as run_sequencer

_NICER = 5
"""Whoever waits for a refresh comes first; a head that is signed a moment later harms nobody."""


def sequence(
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port of HOST"),
    ] = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Put the log's events into the Merkle tree, sign its heads and publish them, until Ctrl-C."""
    settings = load_settings()
    configure_logging(settings.log_level.upper())
    os.nice(_NICER)
    metrics = SequencerMetrics()
    with (
        database(settings) as access,
        metrics_served(settings.host, metrics_port, metrics.registry),
    ):
        uvloop.run(_until_stopped(settings, access, metrics, with_parent=with_parent))


async def _until_stopped(
    settings: Settings, access: DatabaseAccess, metrics: SequencerMetrics, *, with_parent: bool
) -> None:
    await ensure_current(settings, access)
    spare_the_collector()
    working = asyncio.ensure_future(run_sequencer(settings, access.service, metrics))
    if not with_parent:
        say(f"The sequencer reads the log, and publishes in {settings.tree_path}")
    try:
        await run_until_stopped(working, with_parent=with_parent)
    except ExceptionGroup as group:
        damaged = group.subgroup(TreeDamagedError)
        if damaged is None:
            raise
        msg = f"nothing is signed any more: {damaged.exceptions[0]}; see docs/audit.md"
        raise CommandError(msg) from group
