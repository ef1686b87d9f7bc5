"""Comparing a build with ``users``, ``sessions`` and ``alerts``, byte for byte, at one instant."""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres import Connection
from infra.projection_build import catch_up_closely, part_since, sound
from infra.projection_folds import (
    PROJECTIONS,
    ROWS,
    AnyProjection,
    Progress,
    folded,
    rows_of_owners,
    scalar,
    snapshot,
    statement,
)
from infra.projection_swap import ROWS_THAT_DIFFER
from infra.rebuild_session import rebuilding, require_build, since_build
from infra.sealing import DataKeys
from projections.comparison import AnyRow, Difference, DifferenceKind, differences, row_differences

_BATCH = 2_000

_LIVE_ROWS = ROWS.replace("{owner}", "{key}", 1)
_REBUILT_ROWS = _LIVE_ROWS.replace("{table}", "rebuilt_{table}")


@dataclass(slots=True)
class TableComparison:
    """How a table and its build compare.

    Attributes:
        table: Which.
        rows: How many rows it has.
        missing: Rows that the build has and the table has not.
        extra: Rows that the table has and the build has not.
        differing: Rows that both have, not the same byte for byte.
    """

    table: str
    rows: int
    missing: int = 0
    extra: int = 0
    differing: int = 0

    def count(self, kind: DifferenceKind) -> None:
        """Count one row."""
        match kind:
            case DifferenceKind.MISSING_ROW:
                self.missing += 1
            case DifferenceKind.EXTRA_ROW:
                self.extra += 1
            case _:
                self.differing += 1


@dataclass(slots=True)
class Comparison:
    """How the tables and the build compare.

    Attributes:
        first: What differs, as far as it is to be shown; what is personal is not said.
        shown: How much that is at most.
        tables: Each with its counts.
    """

    shown: int
    first: list[Difference] = field(default_factory=list)
    tables: list[TableComparison] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether a swap would find nothing to replace."""
        return not any(each.missing or each.extra or each.differing for each in self.tables)

    def show(self, found: list[Difference]) -> None:
        """Show these too, as long as there is room."""
        self.first.extend(found[: self.shown - len(self.first)])


async def compare_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress, shown: int
) -> Comparison:
    """Catch the build up, then compare it with the tables as one snapshot has both.

    Nobody waits for it. What happens between the catching up and the snapshot is folded within the
    snapshot.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log that the build is caught up with.
        shown: How many differences are spelled out at most.

    Raises:
        NoBuildError: There is none.
        DamagedLogError: A stream cannot be folded any more.
        NotTheOwnerError: The role may not write the build.
        RebuildUnderWayError: Somebody else is at it.
        UnknownEventError: A newer build wrote to the log.
        StoreUnavailableError: The database went away.
    """
    comparison = Comparison(shown)
    async with rebuilding(engine, data_keys) as at:
        await require_build(at)
        await catch_up_closely(at, progress)
        async with snapshot(engine) as reader:
            since = await since_build(reader)
            for projection in PROJECTIONS:
                query = f"SELECT count(*) FROM {projection.table}"  # noqa: S608 (ours)
                table = TableComparison(projection.table, await scalar(reader, query))
                comparison.tables.append(table)
                moved = await _compare_moved(reader, projection, data_keys, since, comparison)
                await _compare_standing(reader, projection, moved, comparison)
    return comparison


async def _compare_moved(
    reader: Connection,
    projection: AnyProjection,
    data_keys: DataKeys,
    since: str,
    comparison: Comparison,
) -> set[str]:
    """Compare what the build is not caught up with; returns whose rows these are."""
    moved: set[str] = set()
    part = part_since(reader, since)
    async for batch in sound(folded(reader, projection, data_keys, lambda _: None, part)):
        owners = [getattr(state, projection.owner) for state in batch]
        found = await rows_of_owners(reader, projection, owners)
        for owner, state in zip(owners, batch, strict=True):
            different = differences(projection, state, found.get(owner, []))
            comparison.show(different)
            for kind in {each.key: each.kind for each in different}.values():
                comparison.tables[-1].count(kind)
        moved.update(owners)
    return moved


async def _compare_standing(
    reader: Connection, projection: AnyProjection, moved: set[str], comparison: Comparison
) -> None:
    """Compare the rest, in the database."""
    async with reader.cursor("differing") as cursor:
        await cursor.execute(statement(ROWS_THAT_DIFFER, projection), binary=True)
        while records := await cursor.fetchmany(_BATCH):
            keys = []
            for key, live_owner, rebuilt_owner in records:
                if (rebuilt_owner or live_owner) not in moved:
                    keys.append(key)
                    comparison.tables[-1].count(_kind(live_owner, rebuilt_owner))
            room = comparison.shown - len(comparison.first)
            if room > 0:
                comparison.show(await _spelled_out(reader, projection, keys[:room]))


def _kind(live_owner: str | None, rebuilt_owner: str | None) -> DifferenceKind:
    if live_owner is None:
        return DifferenceKind.MISSING_ROW
    return DifferenceKind.EXTRA_ROW if rebuilt_owner is None else DifferenceKind.DIFFERS


async def _spelled_out(
    reader: Connection, projection: AnyProjection, keys: list[str]
) -> list[Difference]:
    expected = await _by_key(reader, projection, keys, _REBUILT_ROWS)
    found = await _by_key(reader, projection, keys, _LIVE_ROWS)
    different = row_differences(projection.table, expected, found)
    told = {each.key for each in different}
    different.extend(
        Difference(kind=DifferenceKind.DIFFERS, table=projection.table, key=key)
        for key in keys
        if key not in told
    )
    return different


async def _by_key(
    reader: Connection, projection: AnyProjection, keys: list[str], query: str
) -> dict[str, AnyRow]:
    rows = await rows_of_owners(reader, projection, keys, query)
    return {getattr(row, projection.key): row for each in rows.values() for row in each}
