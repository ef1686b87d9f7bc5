"""Verifying the whole store: the log, its tree and heads, its snapshots, and the tables."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from audit.log_verification import Covered, Finding, LogVerification, SavedHead
from audit.signed_notes import Verifier
from domain.as_of import AlteredHistoryError
from domain.events.registry import MalformedEventError, UnknownEventError
from infra.projection_store import verify_projections
from infra.sealing import DataKeys
from infra.snapshot_store import altered_snapshots
from infra.verified_log import verified_log

MAX_FINDINGS = 1_000
"""After so many of one kind nobody needs another."""

Progress = Callable[[int, int], None]
ShowProgress = Callable[[str], AbstractContextManager[Progress]]
"""Shows how far something is that it is given a name for."""


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
    data_keys: DataKeys,
    verifier: Verifier,
    saved: Collection[SavedHead],
    show: ShowProgress,
) -> Verified:
    """Verify everything that a database holds of the log and what is made of it.

    Args:
        engine: Any role that may read everything.
        data_keys: Opens the subjects' data keys, to compare the tables.
        verifier: The log's public key.
        saved: Heads that were kept outside the database.
        show: Shows progress.

    Raises:
        StoreUnavailableError: The database went away.
    """
    with show("events and tree") as progress:
        async with verified_log(engine) as log:
            verification = LogVerification(log, verifier, saved)
            findings = verification.findings
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
    with show("tables") as progress:
        others += await _differences(engine, data_keys, progress)
    return Verified(covered, [*findings, *map(Finding, others)])


async def _differences(engine: AsyncEngine, data_keys: DataKeys, progress: Progress) -> list[str]:
    found: list[str] = []
    async with aclosing(verify_projections(engine, data_keys, progress)) as differences:
        try:
            async for difference in differences:
                found.append(str(difference))
                if len(found) == MAX_FINDINGS:
                    break
        except (UnknownEventError, MalformedEventError, AlteredHistoryError) as error:
            found.append(f"the tables cannot be compared with the log: {error}")
    return found
