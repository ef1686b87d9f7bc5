"""``sessiontrail detect``: the detector's worker."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.table import Table

from infra.detector_metrics import DetectorMetrics
from infra.detector_set_aside import read_set_aside
from infra.postgres import transaction
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from sessiontrail.collector import spare_the_collector
from sessiontrail.commands.backtest import backtest as play_history
from sessiontrail.commands.beside import ensure_current, metrics_served
from sessiontrail.commands.context import CommandError, print_table, run, say, store
from sessiontrail.commands.public_data import play_public_data
from sessiontrail.companions import run_until_stopped
from sessiontrail.databases import DatabaseAccess, database
from sessiontrail.detector import detect as run_detector
from sessiontrail.keys import key_ring
from sessiontrail.store import open_store


def detect(
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port of HOST"),
    ] = None,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Play the stored history instead, changing nothing")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="With --backtest: a policy file instead of the one in force")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="With --backtest: from when on, in UTC")
    ] = None,
    rba: Annotated[
        Path | None, typer.Option(help="With --backtest: the public RBA data set's CSV instead")
    ] = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="List the events that detectors went on without")
    ] = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Read the log, flag what is suspicious, and do what the policy says; until Ctrl-C."""
    if set_aside:
        run(_list_set_aside)
        return
    if backtest and rba is not None:
        if policy is not None or since is not None:
            msg = "--policy and --since are about stored history, not --rba"
            raise CommandError(msg)
        play_public_data(rba)
        return
    if backtest:
        play_history(policy, None if since is None else since.replace(tzinfo=UTC))
        return
    if any(each is not None for each in (policy, since, rba)):
        msg = "--policy, --since and --rba go with --backtest"
        raise CommandError(msg)
    settings = load_settings()
    configure_logging(settings.log_level.upper())
    metrics = DetectorMetrics()
    with (
        database(settings) as access,
        metrics_served(settings.host, metrics_port, metrics.registry),
    ):
        uvloop.run(_until_stopped(settings, access, metrics, with_parent=with_parent))


async def _list_set_aside() -> None:
    async with store() as opened, transaction(opened.engine) as connection:
        kept = await read_set_aside(connection)
    if not kept:
        say("No event was set aside.")
        return
    table = Table("set aside", "stage", "position", "type", "stream", "event", "reason")
    for each in kept:
        at = each.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        stage = each.stage.name.lower()
        table.add_row(
            at, stage, str(each.position), each.type, each.stream, each.event_id, each.reason
        )
    print_table(table)


async def _until_stopped(
    settings: Settings, access: DatabaseAccess, metrics: DetectorMetrics, *, with_parent: bool
) -> None:
    await ensure_current(settings, access)
    spare_the_collector()
    async with open_store(settings, access.service, key_ring(settings)) as opened:
        working = asyncio.ensure_future(run_detector(settings, opened, metrics))
        if not with_parent:
            say("The detector reads the log.")
        await run_until_stopped(working, with_parent=with_parent)
