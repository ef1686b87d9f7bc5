"""Folding the whole log for verify and rebuild, also where its beginning is archived.

Then the fold goes on from the snapshot that the archive ends at, some users at a time, so that
memory stays bounded; states come in another order than that of the streams' hashes.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import islice
from typing import Any

from infra.log_archives import newest_archive
from infra.log_moments import END, Moment, Range
from infra.postgres import Connection
from infra.projection_folds import AnyProjection, folded, opened_states
from infra.replay import Replay
from infra.sealing import DataKeys
from infra.snapshot_store import boundary_snapshot
from projections.replaying import StateKind
from projections.snapshot_states import parts_of

_BATCH = 2_000


async def folded_whole(
    reader: Connection,
    projection: AnyProjection,
    data_keys: DataKeys,
    counted: Callable[[int], None],
) -> AsyncGenerator[list[Any], None]:
    """Fold every event of one kind of stream, those in archives as their snapshot has them.

    Args:
        reader: Sees one instant of the database.
        projection: What to fold.
        data_keys: Opens the subjects' data keys.
        counted: Told how many events were folded, after each piece.

    Yields:
        As ``infra.projection_folds.folded``; in no order where something is archived.

    Raises:
        UnknownEventError: A newer build wrote to the log.
        TamperedSnapshotError: The snapshot that the log goes on from was altered.
    """
    archive = await newest_archive(reader)
    if archive is None:
        async with aclosing(folded(reader, projection, data_keys, counted)) as batches:
            async for batch in batches:
                yield batch
        return
    start = await boundary_snapshot(reader, archive)
    moment = Moment(start, (Range(start.place, END),), None, start.latest_at)
    kind = StateKind(projection.rules.prefix.rstrip("-"))
    for part in parts_of(start.states, start.chunks):
        fold = await Replay(reader).fold(moment, (kind,), part, counted)
        found = iter([*fold.states.values(), *fold.damaged])
        while batch := list(islice(found, _BATCH)):
            yield await opened_states(reader, projection, data_keys, batch)
