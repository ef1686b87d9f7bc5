"""An export as JSON Lines: a header, then bundles, each its proof and its events, then a footer."""

from collections.abc import Iterable, Iterator

import msgspec

from audit.exports import BundleProof, ExportedLeaf, ExportFooter, ExportHeader
from audit.merkle import leaf_hash
from domain.json_reading import UNREADABLE


class ExportedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line that is an event.

    Attributes:
        leaf: Which leaf it is.
        hash: The leaf's hash.
        event: Its canonical bytes (RFC 8785): what the leaf's hash is over.
        personal: What is personal in it, where that was opened. No proof covers it.
    """

    leaf: int
    hash: bytes
    event: msgspec.Raw
    personal: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class MalformedExportError(Exception):
    """A file that is no export; the message says where it stops being one."""


class _Line(msgspec.Struct, omit_defaults=True):
    export: ExportHeader | None = None
    proof: BundleProof | None = None
    leaf: int | None = None
    hash: bytes | None = None
    event: msgspec.Raw = msgspec.Raw()
    personal: msgspec.Raw = msgspec.Raw()
    end: ExportFooter | None = None


ExportPart = ExportHeader | BundleProof | ExportedLeaf | ExportFooter
"""What a reader of an export comes to, one after the other."""

_ENCODER = msgspec.json.Encoder()
_read_line = msgspec.json.Decoder(_Line).decode


def header_line(header: ExportHeader) -> bytes:
    """The first line."""
    return _ENCODER.encode({"export": header}) + b"\n"


def bundle_lines(proof: BundleProof, events: Iterable[ExportedEvent]) -> bytes:
    """A bundle's lines."""
    lines = [_ENCODER.encode({"proof": proof}), *map(_ENCODER.encode, events), b""]
    return b"\n".join(lines)


def footer_line(footer: ExportFooter) -> bytes:
    """The last line."""
    return _ENCODER.encode({"end": footer}) + b"\n"


def read_lines(lines: Iterable[bytes]) -> Iterator[ExportPart]:
    """What the lines of an export hold.

    Raises:
        MalformedExportError: One of them is none.
    """
    for number, text in enumerate(lines, 1):
        where = f"line {number}"
        try:
            line = _read_line(text)
        except UNREADABLE:
            msg = f"{where} is no line of an export"
            raise MalformedExportError(msg) from None
        if not text.endswith(b"\n"):
            msg = f"{where} is cut off"
            raise MalformedExportError(msg)
        # What two readers could read differently (a name that comes twice) or one of them could
        # take for proved (a further name) is refused: a line is as we write it, or none.
        if _ENCODER.encode(line) + b"\n" != text:
            msg = f"{where} is no line of an export"
            raise MalformedExportError(msg)
        match line:
            case _Line(None, None, int(leaf), bytes(stated), event, personal, None) if bytes(event):
                signed = bytes(event)
                is_opened = bool(bytes(personal))
                yield ExportedLeaf(leaf, leaf_hash(signed), stated, where, signed, is_opened)
            case _Line(None, BundleProof() as proof, None, None, _, _, None):
                yield proof
            case _Line(ExportHeader() as header, None, None, None, _, _, None):
                yield header
            case _Line(None, None, None, None, _, _, ExportFooter() as footer):
                yield footer
            case _:
                msg = f"{where} is no line of an export"
                raise MalformedExportError(msg)
