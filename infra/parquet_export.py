"""Exports as Parquet: a row an event; what proves them lies in the file's metadata.

pyarrow is an extra (``export``), for it is larger than all the rest together.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.events.canonical import StoredEvent, canonical_stored_bytes
from domain.exports import EventFields, NotExportedError

METADATA = b"sessiontrail"
"""The key of what proves the rows."""
_ROWS_A_GROUP = 20_000
_MISSING = "Parquet needs pyarrow: pip install 'sessiontrail[export]'"


class ParquetWriter:
    """Writes one file, a group of rows at a time."""

    def __init__(self, path: Path) -> None:
        """Begin a file.

        Raises:
            NotExportedError: pyarrow is not installed.
        """
        try:
            import pyarrow as pa  # noqa: PLC0415 (an extra, of 120 MB)
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError as error:
            raise NotExportedError(_MISSING) from error
        self._pa = pa
        self._schema = pa.schema(
            [
                ("leaf", pa.int64()),
                ("position", pa.int64()),
                ("occurred_at", pa.timestamp("us", tz="UTC")),
                ("stream", pa.string()),
                ("version", pa.int64()),
                ("event_id", pa.string()),
                ("type", pa.string()),
                ("schema_version", pa.int32()),
                ("subject_id", pa.string()),
                ("actor", pa.string()),
                ("correlation_id", pa.string()),
                ("causation_id", pa.string()),
                ("data", pa.string()),
                ("personal", pa.binary()),
                ("opened", pa.string()),
            ]
        )
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []  # Any: columns of several types

    def write(self, leaf: int, event: EventFields, opened: bytes | None) -> None:
        """Add a row.

        Args:
            leaf: Which leaf it is.
            event: The event.
            opened: JSON of what is personal in it, where that was opened.
        """
        self._rows.append(
            {
                "leaf": leaf,
                "position": event.position,
                "occurred_at": event.occurred_at,
                "stream": event.stream,
                "version": event.version,
                "event_id": event.event_id,
                "type": event.type,
                "schema_version": event.schema_version,
                "subject_id": event.subject_id,
                "actor": event.actor,
                "correlation_id": event.correlation_id,
                "causation_id": event.causation_id,
                "data": bytes(event.data).decode(),
                "personal": event.personal,
                "opened": None if opened is None else opened.decode(),
            }
        )
        if len(self._rows) == _ROWS_A_GROUP:
            self._flush()

    def close(self, metadata: bytes | None) -> None:
        """End the file; without metadata it is none that anybody can check."""
        if metadata is not None:
            self._flush()
            self._writer.add_key_value_metadata({METADATA: metadata})
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


class UnreadableParquetError(Exception):
    """A file that is no Parquet file, or none of ours."""


def read_parquet(path: Path) -> tuple[bytes, Iterator[tuple[int, bytes]]]:
    """The metadata of an export, and its rows: which leaf each is, and its canonical bytes.

    Raises:
        NotExportedError: pyarrow is not installed.
        UnreadableParquetError: It is no export of ours; also while the rows are read.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 (as above)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise NotExportedError(_MISSING) from error
    try:
        file = pq.ParquetFile(path)
        metadata = (file.metadata.metadata or {}).get(METADATA)
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = "the file is no Parquet file, or is cut off"
        raise UnreadableParquetError(msg) from error
    if metadata is None:
        msg = "the file is no export: it has no proofs in its metadata"
        raise UnreadableParquetError(msg)

    def rows() -> Iterator[tuple[int, bytes]]:
        try:
            for batch in file.iter_batches(batch_size=_ROWS_A_GROUP):
                instants = batch.column("occurred_at").cast(pa.int64()).to_pylist()
                for row, at in zip(batch.to_pylist(), instants, strict=True):
                    yield row["leaf"], _canonical(row, at)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            msg = "a row of the file cannot be read"
            raise UnreadableParquetError(msg) from error

    return metadata, rows()


def _canonical(row: Mapping[str, Any], at: int) -> bytes:  # Any: columns of several types
    columns: Sequence[str] = StoredEvent.__struct_fields__
    values = {name: row[name] for name in columns if name not in {"data", "occurred_at"}}
    return canonical_stored_bytes(StoredEvent(data=row["data"].encode(), occurred_at=at, **values))
