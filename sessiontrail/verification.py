"""Verifying the whole store: the log, its tree and heads, its snapshots, and the tables."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from audit.head_claims import SavedHead
from audit.log_verification import Covered, Finding, LogVerification
from audit.signed_notes import Verifier
from domain.as_of import AlteredHistoryError
from infra.snapshot_store import altered_snapshots
from infra.verified_log import verified_log

Progress = Callable[[int, int], None]
"""Told how far something is: how much of how much."""
ShowProgress = Callable[[str], Progress]
"""Shows how far something is that it is given a name for."""
CompareTables = Callable[[Progress], Awaitable[list[str]]]
"""Says how the tables differ from the fold of the log, a line each."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification came to.

    Attributes:
        covered: What it looked at.
        findings: Whatever is not as it was signed; none if all is well.
    """

    covered: Covered
    findings: list[Finding]


async def verify_store(
    engine: AsyncEngine,
    verifier: Verifier,
    saved: Collection[SavedHead],
    compare_tables: CompareTables,
    show: ShowProgress,
) -> Verified:
    """Verify everything that a database holds of the log and what is made of it.

    Args:
        engine: Any role that may read everything.
        verifier: The log's public key.
        saved: Heads that were kept outside the database.
        compare_tables: Goes on beside the rest.
        show: Shows progress.

    Raises:
        StoreUnavailableError: The database went away.
        Exception: Whatever ``compare_tables`` raises.
    """
    comparing = asyncio.ensure_future(compare_tables(show("tables")))
    try:
        verified = await _verify_log(engine, verifier, saved, show("events and tree"))
        differences = await comparing
    finally:
        comparing.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await comparing
    return Verified(verified.covered, [*verified.findings, *map(Finding, differences)])


async def _verify_log(
    engine: AsyncEngine, verifier: Verifier, saved: Collection[SavedHead], progress: Progress
) -> Verified:
    async with verified_log(engine) as log:
        verification = LogVerification(log, verifier, saved)
        covered = Covered(0, 0, 0, None)
        try:
            covered = await verification.run(progress)
            others = [
                *await log.broken_streams(),
                *await log.impossible(),
                *await altered_snapshots(log.connection),
            ]
        except AlteredHistoryError as error:
            others = [str(error)]
    return Verified(covered, [*verification.findings, *map(Finding, others)])
