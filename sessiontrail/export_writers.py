"""The formats of exports: JSON Lines, Parquet, and OCSF."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from audit.export_lines import ExportedEvent, bundle_lines, footer_line, header_line
from audit.exports import BundleProof, ExportFooter, ExportHeader
from audit.ocsf import RaisedAlert, ocsf_event
from domain.events.canonical import EventFields
from domain.events.personal import Personal
from domain.exports import ExportFormat
from infra.parquet_export import ParquetWriter

_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class ChosenEvent:
    """An event of the selection.

    Attributes:
        index: Which leaf it is.
        hashed: The leaf's hash.
        leaf: Its canonical bytes.
        fields: What these say.
        personal: What is personal in it, where that was opened.
        raised: Of an event of an alert, in OCSF, what that is.
    """

    index: int
    hashed: bytes
    leaf: bytes
    fields: EventFields
    personal: Personal | None
    raised: RaisedAlert | None


class ExportWriter(Protocol):
    """Writes one export."""

    def begin(self, header: ExportHeader) -> None:
        """Write what comes first."""
        ...

    def bundle(self, proof: BundleProof, events: Sequence[ChosenEvent]) -> None:
        """Write a bundle."""
        ...

    def end(self, footer: ExportFooter) -> None:
        """Write what comes last."""
        ...

    def close(self) -> None:
        """Close the file, whole or not."""
        ...


def writer_of(path: Path, form: ExportFormat) -> ExportWriter:
    """The writer of a format.

    Raises:
        NotExportedError: It is Parquet, and pyarrow is not installed.
    """
    match form:
        case ExportFormat.JSONL:
            return _LinesWriter(path)
        case ExportFormat.PARQUET:
            return _ParquetWriter(path)
        case ExportFormat.OCSF:
            return _OcsfWriter(path)


class _LinesWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def begin(self, header: ExportHeader) -> None:
        self._file.write(header_line(header))

    def bundle(self, proof: BundleProof, events: Sequence[ChosenEvent]) -> None:
        lines = [
            ExportedEvent(
                each.index, each.hashed, msgspec.Raw(each.leaf), _opened_part(each) or msgspec.UNSET
            )
            for each in events
        ]
        self._file.write(bundle_lines(proof, lines))

    def end(self, footer: ExportFooter) -> None:
        self._file.write(footer_line(footer))

    def close(self) -> None:
        self._file.close()


class _OcsfWriter(_LinesWriter):
    """Lines of another schema, that nothing is proved of."""

    def begin(self, header: ExportHeader) -> None:
        """OCSF has no place for it."""

    def bundle(self, proof: BundleProof, events: Sequence[ChosenEvent]) -> None:
        for each in events:
            made = ocsf_event(each.fields, each.personal, each.raised)
            if made is not None:
                self._file.write(_ENCODER.encode(made) + b"\n")

    def end(self, footer: ExportFooter) -> None:
        """As ``begin``."""


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self._writer = ParquetWriter(path)
        self._header: ExportHeader | None = None
        self._proofs: list[BundleProof] = []
        self._metadata: bytes | None = None

    def begin(self, header: ExportHeader) -> None:
        self._header = header

    def bundle(self, proof: BundleProof, events: Sequence[ChosenEvent]) -> None:
        self._proofs.append(proof)
        for each in events:
            part = _opened_part(each)
            opened = None if part is None else bytes(part)
            self._writer.write(each.index, each.hashed, each.fields, opened)

    def end(self, footer: ExportFooter) -> None:
        self._metadata = _ENCODER.encode(
            {"export": self._header, "proofs": self._proofs, "end": footer}
        )

    def close(self) -> None:
        self._writer.close(self._metadata)


def _opened_part(event: ChosenEvent) -> msgspec.Raw | None:
    return None if event.personal is None else msgspec.Raw(_ENCODER.encode(event.personal))
