"""Which parts of the log are in files, and what that means for whoever reads it.

What is archived and not restored is a prefix of the log's order, so the newest such archive says
it all: its leaves and those before are gone from ``events`` (but for streams that are always read
whole), and folds go on from its snapshot.
"""

from typing import Any

from domain.archives import Archive
from infra.postgres import Connection

_COLUMNS = (
    "archive_id, first_leaf, end_leaf, transaction_id, position, snapshot_id, file_name, sha256"
)
_NEWEST = f"""
SELECT {_COLUMNS} FROM log_archives WHERE restored_at IS NULL ORDER BY end_leaf DESC LIMIT 1
"""  # noqa: S608 (column names are ours)
_OF_LEAF = f"""
SELECT {_COLUMNS} FROM log_archives
 WHERE restored_at IS NULL AND first_leaf <= %s AND end_leaf > %s
"""  # noqa: S608 (column names are ours)


async def newest_archive(connection: Connection) -> Archive | None:
    """The archive that the log in the database begins behind; None where all of it is there."""
    cursor = await connection.execute(_NEWEST, binary=True)
    record = await cursor.fetchone()
    return None if record is None else _archive(record)


async def archive_of_leaf(connection: Connection, leaf: int) -> Archive | None:
    """The archive that a leaf is in; None where its row is in the database."""
    cursor = await connection.execute(_OF_LEAF, (leaf, leaf), binary=True)
    record = await cursor.fetchone()
    return None if record is None else _archive(record)


def _archive(record: tuple[Any, ...]) -> Archive:
    """Any: a row as it came."""
    (
        archive_id, first_leaf, end_leaf, transaction_id, position, snapshot_id, file_name, sha256,
    ) = record  # fmt: skip
    return Archive(
        archive_id=archive_id,
        first_leaf=first_leaf,
        end_leaf=end_leaf,
        transaction_id=transaction_id,
        position=position,
        snapshot_id=snapshot_id,
        file_name=file_name,
        sha256=sha256,
    )
