"""Checking an export in a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from audit.checkpoints import Checkpoint
from audit.export_lines import ExportPart, MalformedExportError, read_lines
from audit.export_verification import CheckedExport, check_export
from audit.exports import BundleProof, ExportedLeaf, ExportFooter, ExportHeader
from audit.merkle import leaf_hash
from audit.signed_notes import Verifier
from domain.json_reading import UNREADABLE
from domain.transparency import BUNDLE_WIDTH
from infra.parquet_export import UnreadableParquetError, read_parquet

_PARQUET = b"PAR1"


class _Metadata(msgspec.Struct):
    export: ExportHeader
    proofs: Sequence[BundleProof]
    end: ExportFooter


def check_export_file(
    path: Path,
    verifier: Verifier,
    saved: Checkpoint | None,
    consistency: Sequence[bytes] | None = None,
) -> CheckedExport:
    """Check an export of either format.

    Args:
        path: The file.
        verifier: The log's public key.
        saved: A head that somebody kept.
        consistency: The proof between that head and the export's, where somebody has one.

    Raises:
        OSError: It cannot be read.
        NotExportedError: It is a Parquet file and pyarrow is not installed.
    """
    with path.open("rb") as file:
        if file.read(len(_PARQUET)) != _PARQUET:
            file.seek(0)
            return check_export(read_lines(file), verifier, saved, consistency)
    return check_export(_parquet_parts(path), verifier, saved, consistency)


def _parquet_parts(path: Path) -> Iterator[ExportPart]:
    try:
        text, rows = read_parquet(path)
        metadata = msgspec.json.decode(text, type=_Metadata)
        yield metadata.export
        proofs = iter(metadata.proofs)
        bundle = -1
        for number, (leaf, stated, canonical, is_opened) in enumerate(rows, 1):
            while bundle < leaf // BUNDLE_WIDTH and (proof := next(proofs, None)) is not None:
                bundle = proof.bundle
                yield proof
            hashed = leaf_hash(canonical)
            yield ExportedLeaf(leaf, hashed, stated, f"row {number}", canonical, is_opened)
        yield from proofs
        yield metadata.end
    except UnreadableParquetError as error:
        raise MalformedExportError(str(error)) from error
    except UNREADABLE as error:
        msg = "the file's proofs cannot be read"
        raise MalformedExportError(msg) from error
