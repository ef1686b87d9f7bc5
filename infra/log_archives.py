"""Which parts of the log are in files, and what that means for whoever reads it.

What is archived and not restored is a prefix of the log's order, so the newest such archive says
it all: its leaves and those before are gone from ``events`` (but for streams that are always read
whole), and folds go on from its snapshot.
"""

from typing import Any

import msgspec

from domain.archives import Archive
from domain.as_of import AlteredHistoryError
from domain.events.archives import LogArchived
from domain.ids import ARCHIVES_STREAM
from domain.json_reading import UNREADABLE
from infra.postgres import Connection

_ARCHIVES = """
SELECT a.archive_id, a.first_leaf, a.end_leaf, a.transaction_id, a.position, a.snapshot_id,
       a.file_name, a.sha256, convert_to(e.data::text, 'UTF8')
  FROM log_archives a
  LEFT JOIN events e ON hashtextextended(e.stream, 0) = hashtextextended(%(stream)s, 0)
                    AND e.stream = %(stream)s AND e.type = %(type)s
                    AND e.data ->> 'archive_id' = a.archive_id::text
 WHERE a.restored_at IS NULL
"""
_NEWEST = f"{_ARCHIVES} ORDER BY a.end_leaf DESC LIMIT 1"
_OF_LEAF = f"{_ARCHIVES} AND a.first_leaf <= %(leaf)s AND a.end_leaf > %(leaf)s"
_EVENT = {"stream": ARCHIVES_STREAM, "type": LogArchived.TYPE}


async def newest_archive(connection: Connection) -> Archive | None:
    """The archive that the log in the database begins behind; None where all of it is there.

    Raises:
        AlteredHistoryError: It is not as the log's event says.
    """
    cursor = await connection.execute(_NEWEST.encode(), _EVENT, binary=True)
    record = await cursor.fetchone()
    return None if record is None else _archive(record)


async def archives(connection: Connection) -> list[Archive]:
    """Every archive that is not restored, the oldest first.

    Raises:
        AlteredHistoryError: One is not as the log's event says.
    """
    query = f"{_ARCHIVES} ORDER BY a.first_leaf"
    cursor = await connection.execute(query.encode(), _EVENT, binary=True)
    return [_archive(record) for record in await cursor.fetchall()]


async def archived_files(connection: Connection) -> list[str]:
    """The names of the files that have what is not in the database, the oldest first."""
    cursor = await connection.execute(
        "SELECT file_name FROM log_archives WHERE restored_at IS NULL ORDER BY first_leaf"
    )
    return [name for (name,) in await cursor.fetchall()]


async def archive_of_leaf(connection: Connection, leaf: int) -> Archive | None:
    """The archive that a leaf is in; None where its row is in the database.

    Raises:
        AlteredHistoryError: It is not as the log's event says.
    """
    cursor = await connection.execute(_OF_LEAF.encode(), {**_EVENT, "leaf": leaf}, binary=True)
    record = await cursor.fetchone()
    return None if record is None else _archive(record)


def _archive(record: tuple[Any, ...]) -> Archive:
    """Any: a row as it came."""
    (
        archive_id, first_leaf, end_leaf, transaction_id, position, snapshot_id, file_name, sha256,
        announced,
    ) = record  # fmt: skip
    said = None if announced is None else _read_event(announced)
    made = LogArchived(
        archive_id=archive_id,
        first_leaf=first_leaf,
        end_leaf=end_leaf,
        snapshot_id=snapshot_id,
        file_name=file_name,
        sha256=sha256.hex(),
        kept=said.kept if said else 0,
    )
    if said != made:
        msg = f"archive {archive_id} is not as the log says that it was made"
        raise AlteredHistoryError(msg)
    return Archive(
        archive_id=archive_id,
        first_leaf=first_leaf,
        end_leaf=end_leaf,
        transaction_id=transaction_id,
        position=position,
        snapshot_id=snapshot_id,
        file_name=file_name,
        sha256=sha256,
        kept=made.kept,
    )


def _read_event(announced: bytes) -> LogArchived | None:
    try:
        return msgspec.json.decode(announced, type=LogArchived)
    except UNREADABLE:
        return None
