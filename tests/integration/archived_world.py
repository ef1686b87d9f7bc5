"""A database whose log was archived in part: for tests of archives."""

from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.archives import Archive
from domain.as_of import AtInstant
from domain.ids import Stream
from infra.replay import replaying
from infra.sealing import DataKeys
from infra.snapshot_taking import take_snapshot
from projections.replaying import AnyState, StateKind
from projections.snapshot_states import EVERYBODY
from sessiontrail.archiving import archive_log, restore_log
from tests.generated_history import GeneratedHistory
from tests.integration.accounts import cause
from tests.integration.projection_world import World, no_progress
from tests.integration.tree_world import SIGNER, sequencing, until


class Kept(World):
    """A database with a generated history, its tree, and a folder for archives."""

    def __init__(
        self, conninfo: str, owner_conninfo: str, data_keys: DataKeys, folder: Path
    ) -> None:
        super().__init__(conninfo, owner_conninfo, data_keys)
        self.folder = folder
        self.history = GeneratedHistory(self.engine, data_keys, seed=7)

    async def grow(self, events: int) -> None:
        """More events, a snapshot, a few more, and all of it in the tree."""
        await self.history.write(events)
        await self.history.write_out_of_turn()
        assert await take_snapshot(self.engine, cause()) is not None
        await self.history.write(60)
        async with sequencing(self.conninfo, self.folder / "tree"):
            await until(self.is_sequenced)

    def is_sequenced(self) -> bool:
        """Whether the tree has the log's newest event."""
        return bool(self.sql(
            "SELECT 1 FROM checkpoints WHERE reader = 'sequencer' AND (transaction_id, position) ="
            " (SELECT transaction_id, position FROM events"
            "   ORDER BY transaction_id DESC, position DESC LIMIT 1)"
        ))  # fmt: skip

    async def archive(self, before: datetime | None = None) -> tuple[Path, Archive, int]:
        at = before or self.history.lives.at + timedelta(days=1)
        return await archive_log(
            self.owner,
            SIGNER.verifier,
            AtInstant(at),
            self.folder / "archive",
            cause(),
            no_progress,
        )

    async def restore(self, path: Path) -> Archive:
        return await restore_log(self.owner, SIGNER.verifier, path, cause(), no_progress)

    async def states(self, engine: AsyncEngine | None = None) -> dict[Stream, AnyState]:
        """Of now, folded from where the log begins."""
        async with replaying(engine or self.engine) as replay:
            moment = await replay.moment(
                AtInstant(self.history.lives.at + timedelta(days=1)), from_snapshots=False
            )
            return dict((await replay.fold(moment, tuple(StateKind), EVERYBODY)).states)

    def rows(self) -> list[tuple[object, ...]]:
        """Every row of the log, whole, but for those that archives brought about."""
        return self.sql("SELECT e::text FROM events e WHERE stream !~ '^audit-' ORDER BY position")
