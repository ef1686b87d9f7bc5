"""Exports as Parquet: a row an event; what proves them lies in the file's metadata.

pyarrow is an extra (``export``), for it is larger than all the rest together.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from domain.events.canonical import EventFields
from domain.exports import NotExportedError

METADATA = b"sessiontrail"
"""The key of what proves the rows."""
_ROWS_A_GROUP = 20_000
_encode = msgspec.json.Encoder().encode
_MISSING = "Parquet needs the package pyarrow, which is not installed here: pip install pyarrow"


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
        self._schema = _schema()
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []  # Any: columns of several types

    def write(self, leaf: int, hashed: bytes, event: EventFields, opened: bytes | None) -> None:
        """Add a row.

        Args:
            leaf: Which leaf it is.
            hashed: The leaf's hash.
            event: The event.
            opened: JSON of what is personal in it, where that was opened.
        """
        self._rows.append(
            {
                "leaf": leaf,
                "leaf_hash": hashed,
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


def read_parquet(path: Path) -> tuple[bytes, Iterator[tuple[int, bytes, bytes, bool]]]:
    """The metadata of an export, and its rows.

    Of each row, which leaf it is, what it says that the leaf's hash is, its canonical bytes, and
    whether what is personal was opened.

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
    # Neither columns that nothing is proved of, nor values where an event always has some.
    if not file.schema_arrow.equals(_schema()):
        msg = "the file's columns are not those of an export"
        raise UnreadableParquetError(msg)

    def rows() -> Iterator[tuple[int, bytes, bytes, bool]]:
        place = file.schema_arrow.get_field_index("occurred_at")
        try:
            for batch in file.iter_batches(batch_size=_ROWS_A_GROUP):
                # As numbers: Python has no time for each that a column can hold.
                instants = batch.column(place).cast(pa.int64())
                counted = batch.set_column(place, pa.field("occurred_at", pa.int64()), instants)
                for row in counted.to_pylist():
                    is_opened = row["opened"] is not None
                    yield row["leaf"], row["leaf_hash"], _canonical(row), is_opened
        except (pa.ArrowException, OSError, ValueError) as error:
            msg = "a row of the file cannot be read"
            raise UnreadableParquetError(msg) from error

    return metadata, rows()


def _schema() -> Any:  # noqa: ANN401 (pyarrow has no types)
    """The columns; those that every event has are never null."""
    import pyarrow as pa  # noqa: PLC0415 (as above)

    always = [
        ("leaf", pa.int64()),
        ("leaf_hash", pa.binary(32)),
        ("position", pa.int64()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("stream", pa.string()),
        ("version", pa.int64()),
        ("event_id", pa.string()),
        ("type", pa.string()),
        ("schema_version", pa.int32()),
        ("actor", pa.string()),
        ("correlation_id", pa.string()),
        ("data", pa.string()),
    ]
    sometimes = [
        ("subject_id", pa.string()),
        ("causation_id", pa.string()),
        ("personal", pa.binary()),
        ("opened", pa.string()),
    ]
    return pa.schema(
        [
            *(pa.field(name, kind, nullable=False) for name, kind in always),
            *(pa.field(name, kind) for name, kind in sometimes),
        ]
    )


def _canonical(row: Mapping[str, Any]) -> bytes:  # Any: columns of several types
    """The bytes that were hashed, the data as it stands there: its fields are in their order."""
    values = {name: row[name] for name in EventFields.__struct_fields__ if name != "data"}
    return _encode(EventFields(data=msgspec.Raw(row["data"].encode()), **values))
