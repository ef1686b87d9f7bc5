"""Exports: reading the log, proving each bundle, putting the file on record."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.checkpoints import flaw_of_head
from audit.exports import (
    BundleProof,
    ExportedLeaf,
    ExportFooter,
    ExportHeader,
    Extension,
    bounds_of,
    check_bundle,
    outer_nodes,
    prove_bundle,
)
from audit.merkle import (
    ProofError,
    consistency_nodes,
    consistency_proof,
    leaf_hash,
    verify_consistency,
)
from audit.ocsf import RaisedAlert, alert_of
from audit.signed_notes import Verifier
from audit.tree_reading import node_reader, stored_root
from domain.as_of import AlteredHistoryError
from domain.events.canonical import EventFields
from domain.events.envelope import Cause
from domain.events.personal import Personal, Sealed
from domain.exports import (
    ExportedAs,
    ExportFormat,
    ExportRequest,
    ExportTooLargeError,
    NotExportedError,
    OlderTree,
    Selection,
)
from domain.ids import UserId
from domain.json_reading import UNREADABLE
from domain.transparency import BUNDLE_WIDTH, LogPlace, TileId, TreeDamagedError, TreeHead
from infra.log_export import (
    bundles_with,
    count_chosen,
    entries_of_bundle,
    opened,
    raised_alerts,
    reading_since,
    record_export,
)
from infra.sealing import DataKeys
from infra.verified_log import VerifiedLog, verified_log
from sessiontrail.export_writers import ChosenEvent, writer_of
from sessiontrail.spooled_exports import SpooledExport

_read_fields = msgspec.json.Decoder(EventFields).decode
_TILES_KEPT = 1_000


class LogExports:
    """``api.audit_ports.Exports``; what the command line exports with."""

    def __init__(
        self,
        engine: AsyncEngine,
        data_keys: DataKeys,
        key: Callable[[], Verifier | None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            engine: The pool.
            data_keys: Opens what is personal.
            key: Says the log's public key, where it is known: the head is checked with it.
        """
        self._engine = engine
        self._data_keys = data_keys
        self._key = key
        self._one_at_a_time = asyncio.Lock()

    async def export(self, request: ExportRequest, cause: Cause, most: int) -> SpooledExport:
        """See ``api.audit_ports.Exports.export``."""
        # Each takes a connection, and of the processor what it can get: two would take both twice.
        async with self._one_at_a_time:
            with tempfile.TemporaryDirectory(prefix="sessiontrail-export-") as folder:
                path = Path(folder) / "export"
                await self.export_to(path, request, cause, lambda _done, _total: None, most=most)
                return SpooledExport(path)

    async def export_to(
        self,
        path: Path,
        request: ExportRequest,
        cause: Cause,
        progress: Callable[[int, int], None],
        *,
        most: int | None = None,
    ) -> ExportedAs:
        """Export into a file, which is there whole and on record, or not at all.

        Args:
            path: Where; it must not exist.
            request: What.
            cause: Who.
            progress: Told how many leaves have been passed, and of how many.
            most: Events at most; None for no bound.

        Raises:
            NotExportedError: Nothing was signed yet, or the file is there.
            AlteredHistoryError: The store is not what was signed.
            ExportTooLargeError: There are more.
            OSError: The file cannot be written.
        """
        beside = _fresh_file_for(path)
        try:
            events, head, since = await self._write(beside, request, progress, most)
            sha256 = await asyncio.to_thread(_written, beside)
            made = ExportedAs(events=events, sha256=sha256, head_size=head.size, read_since=since)
            await record_export(self._engine, self._data_keys, request, made, cause)
            _put(beside, path)
        finally:
            _remove(beside)
        return made

    def _check(self, head: TreeHead) -> None:
        """Make sure that the newest head is one that others can check."""
        flaw = flaw_of_head(head, self._key())
        if flaw is not None:
            msg = f"the newest head is not signed by the log: {flaw}"
            raise AlteredHistoryError(msg)

    async def _write(
        self,
        path: Path,
        request: ExportRequest,
        progress: Callable[[int, int], None],
        most: int | None,
    ) -> tuple[int, TreeHead, int]:
        async with verified_log(self._engine) as log:
            since = await reading_since(log.connection)
            head = await log.newest_head()
            archived, behind = await log.archived()
            if head is None:
                msg = "nothing was signed yet: run `sessiontrail sequence`"
                raise NotExportedError(msg)
            self._check(head)
            leaves = request.selection.leaves
            if leaves is not None and leaves.first >= head.size:
                msg = f"no leaf {leaves.first} was signed yet: the newest head is of {head.size}"
                raise NotExportedError(msg)
            extends = [await _extension(log, each, head) for each in request.extends]
            writer = writer_of(path, request.format)
            try:
                header = ExportHeader(
                    checkpoint=head.note,
                    selection=request.selection,
                    first_leaf=archived,
                    extends=extends or msgspec.UNSET,
                )
                writer.begin(header)
                events = bundles = 0
                reading = _Reading(log, self._data_keys, request, head)
                async for proof, chosen in reading.bundles(archived // BUNDLE_WIDTH):
                    events, bundles = events + len(chosen), bundles + 1
                    if most is not None and events > most:
                        msg = f"there are more than {most} such events"
                        raise ExportTooLargeError(msg)
                    writer.bundle(proof, chosen)
                    progress((proof.bundle + 1) * BUNDLE_WIDTH, head.size)
                if request.selection.leaves is None:
                    await _check_count(log, request.selection, behind, events)
                writer.end(ExportFooter(events=events, bundles=bundles))
            finally:
                writer.close()
            progress(head.size, head.size)
        return events, head, since


async def _check_count(
    log: VerifiedLog, selection: Selection, behind: LogPlace, found: int
) -> None:
    """Make sure that the tree's index, which nothing is signed over, hid none of the events."""
    chosen = await count_chosen(log.connection, selection, behind, await log.sequenced())
    if chosen != found:
        msg = (
            f"the log has {chosen} such events, and the tree's index leads to {found}: run"
            " `sessiontrail audit verify`"
        )
        raise AlteredHistoryError(msg)


async def _extension(log: VerifiedLog, older: OlderTree, head: TreeHead) -> Extension:
    """The proof that a head extends an older tree, checked."""
    if older.size > head.size:
        msg = f"the newest head is of {head.size} events, and extends none of {older.size}"
        raise NotExportedError(msg)
    try:
        root = await stored_root(log, older.size) if older.root is None else older.root
        read = await node_reader(log, consistency_nodes(older.size, head.size))
        hashes = consistency_proof(older.size, head.size, read)
        verify_consistency(older.size, root, head.size, head.root, hashes)
    except (ProofError, TreeDamagedError) as error:
        msg = f"{error}: run `sessiontrail audit verify`, against the head that was kept"
        raise NotExportedError(msg) from error
    return Extension(older.size, hashes)


def _fresh_file_for(path: Path) -> Path:
    """A file beside another one, of mode 0600."""
    if path.exists():
        raise _there_already(path)
    descriptor, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    os.close(descriptor)
    return Path(name)


def _written(path: Path) -> str:
    """Wait until a file is on the disk; returns its SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return file_digest(file, "sha256").hexdigest()


def _put(beside: Path, path: Path) -> None:
    try:
        os.link(beside, path)  # unlike a rename, never over a file that came meanwhile
    except FileExistsError as error:
        raise _there_already(path) from error


def _remove(path: Path) -> None:
    path.unlink()


def _there_already(path: Path) -> NotExportedError:
    return NotExportedError(f"{path} is there already: give another name")


class _Reading:
    """Reads a selection bundle by bundle, each with its proof, which is checked."""

    def __init__(
        self, log: VerifiedLog, data_keys: DataKeys, request: ExportRequest, head: TreeHead
    ) -> None:
        self._log = log
        self._data_keys = data_keys
        self._request = request
        self._head = head
        self._tiles = _KeptTiles(log)

    async def bundles(self, archived: int) -> AsyncIterator[tuple[BundleProof, list[ChosenEvent]]]:
        async for bundle in self._numbers(archived):
            read = await self._bundle(bundle)
            if read is not None:
                yield read

    async def _numbers(self, archived: int) -> AsyncIterator[int]:
        """Which bundles to look into; of a span of leaves it is each, whatever the index says."""
        chosen = self._request.selection
        if chosen.leaves is None and not chosen.is_whole:
            async for bundle in bundles_with(self._log.connection, chosen, archived):
                yield bundle
            return
        leaves = chosen.span(self._head.size)
        first, end = leaves.start // BUNDLE_WIDTH, -(-leaves.stop // BUNDLE_WIDTH)
        for bundle in range(max(archived, first), end):
            yield bundle

    async def _bundle(self, bundle: int) -> tuple[BundleProof, list[ChosenEvent]] | None:
        size = self._head.size
        first, end = bounds_of(bundle, size)
        entries = await entries_of_bundle(self._log.connection, bundle, end - first)
        hashes = [leaf_hash(entry.leaf) for entry in entries]
        found = [
            (first + place, entry.leaf, fields)
            for place, entry in enumerate(entries)
            if self._request.selection.holds(first + place, fields := _fields_of(entry.leaf))
        ]
        if not found and len(entries) == end - first:
            return None
        indices = [index for index, _, _ in found]
        try:
            read = await node_reader(self._tiles, outer_nodes(bundle, size))
            proof = prove_bundle(bundle, size, hashes, indices, read)
        except (TreeDamagedError, IndexError) as error:
            raise _not_signed(bundle) from error
        leaves = [
            ExportedLeaf(index, hashes[index - first], hashes[index - first], "")
            for index in indices
        ]
        if check_bundle(proof, size, self._head.root, leaves) is not None:
            raise _not_signed(bundle)
        personal = await self._opened([fields for _, _, fields in found])
        alerts = await self._raised([fields for _, _, fields in found])
        return proof, [
            ChosenEvent(
                index,
                hashes[index - first],
                leaf,
                fields,
                personal.get(fields.event_id),
                alerts.get(fields.stream),
            )
            for index, leaf, fields in found
        ]

    async def _raised(self, events: Sequence[EventFields]) -> Mapping[str, RaisedAlert]:
        """What the alerts are that events are of, by stream: most of these do not say it."""
        if self._request.format is not ExportFormat.OCSF:
            return {}
        streams = {alert: each.stream for each in events if (alert := alert_of(each)) is not None}
        if not streams:
            return {}
        found = await raised_alerts(self._log.connection, streams)
        return {streams[alert]: RaisedAlert(*raised) for alert, raised in found.items()}

    async def _opened(self, events: Sequence[EventFields]) -> Mapping[str, Personal]:
        if self._request.reason is None:
            return {}
        sealed = [
            (UserId(each.subject_id), Sealed(each.event_id, each.personal))
            for each in events
            if each.subject_id is not None and each.personal is not None
        ]
        return await opened(self._log.connection, self._data_keys, sealed)


class _KeptTiles:
    """Tiles that were read once: those above the leaves' are asked for again and again."""

    def __init__(self, log: VerifiedLog) -> None:
        self._log = log
        self._kept: dict[TileId, bytes] = {}

    async def tiles(self, wanted: Collection[TileId]) -> Mapping[TileId, bytes]:
        """See ``TileReader.tiles``."""
        lacking = [tile for tile in wanted if tile not in self._kept]
        if lacking:
            if len(self._kept) > _TILES_KEPT:
                self._kept.clear()
                lacking = list(wanted)
            self._kept.update(await self._log.tiles(lacking))
        return {tile: self._kept[tile] for tile in wanted if tile in self._kept}


def _fields_of(leaf: bytes) -> EventFields:
    try:
        return _read_fields(leaf)
    except UNREADABLE as error:
        msg = "an event is not what any build writes: run `sessiontrail audit verify`"
        raise AlteredHistoryError(msg) from error


def _not_signed(bundle: int) -> AlteredHistoryError:
    return AlteredHistoryError(
        f"the events of bundle {bundle} are not what was signed: run `sessiontrail audit verify`"
    )
