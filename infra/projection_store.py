"""Proving that ``users``, ``sessions`` and ``alerts`` are the fold of the log."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.archived_folds import folded_whole
from infra.log_archives import newest_archive
from infra.postgres import Connection
from infra.projection_folds import (
    PROJECTIONS,
    AnyProjection,
    Progress,
    counter,
    rows_of_owners,
    snapshot,
    statement,
)
from infra.sealing import DataKeys
from projections.comparison import Difference, damage, differences, extra_row
from projections.folding import DamagedStream

_ROWS_WITHOUT_STREAM = """
SELECT {key}::text, {owner}::text FROM {table} t
 WHERE NOT EXISTS (
   SELECT FROM events e WHERE e.stream = %(prefix)s || t.{owner}
      AND hashtextextended(e.stream, 0) = hashtextextended(%(prefix)s || t.{owner}, 0))
"""


async def verify_projections(
    engine: AsyncEngine, data_keys: DataKeys, progress: Progress
) -> AsyncGenerator[Difference, None]:
    """Compare ``users``, ``sessions`` and ``alerts`` with the fold of the log, in one snapshot.

    Nobody waits for it. Run it to its end, or close it (``contextlib.aclosing``).

    Args:
        engine: Any role that may read.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log.

    Yields:
        Whatever differs, and every stream that cannot be folded; nothing if all is well.

    Raises:
        UnknownEventError: A newer build wrote to the log.
        StoreUnavailableError: The database went away.
    """
    async with snapshot(engine) as reader:
        counted = await counter(reader, progress)
        archive = await newest_archive(reader)
        for projection in PROJECTIONS:
            states = folded_whole(reader, projection, data_keys, counted)
            behind_archive: set[str] = set()
            async with aclosing(states):
                async for batch in states:
                    if archive is not None:
                        behind_archive.update(_owners(projection, batch))
                    for difference in await _compared(reader, projection, batch):
                        yield difference
            async with reader.cursor("rows_without_stream") as cursor:
                await cursor.execute(
                    statement(_ROWS_WITHOUT_STREAM, projection),
                    {"prefix": projection.rules.prefix},
                )
                async for key, owner in cursor:
                    if owner not in behind_archive:
                        yield extra_row(projection.table, key)


def _owners(projection: AnyProjection, batch: Sequence[Any]) -> set[str]:
    """Whose states there are; Any: ``batch`` is as ``folded`` yields it."""
    return {
        getattr(each, projection.owner) for each in batch if not isinstance(each, DamagedStream)
    }


async def _compared(
    reader: Connection, projection: AnyProjection, batch: Sequence[Any]
) -> list[Difference]:
    """What differs; Any: ``batch`` is as ``folded`` yields it."""
    sound = [each for each in batch if not isinstance(each, DamagedStream)]
    owners = [getattr(state, projection.owner) for state in sound]
    found = await rows_of_owners(reader, projection, owners)
    result = [damage(each) for each in batch if isinstance(each, DamagedStream)]
    for owner, state in zip(owners, sound, strict=True):
        result.extend(differences(projection, state, found.get(owner, [])))
    return result
