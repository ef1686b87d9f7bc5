"""Archiving and restoring: the log's rows, the tree's proofs and the file, brought together."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.archive_files import (
    ArchiveFileError,
    ArchiveHeader,
    ArchiveWriter,
    hash_texts,
    read_header,
    verified_leaves,
)
from audit.merkle import consistency_nodes, consistency_proof, nodes_between, root_at
from audit.signed_notes import Verifier
from audit.tree_reading import node_reader
from domain.archives import Archive, NotArchivedError
from domain.as_of import AtInstant
from domain.events.envelope import Cause
from domain.transparency import TreeDamagedError
from infra.ids import new_uuid
from infra.log_archives import newest_archive
from infra.log_archiving import (
    ArchivePlan,
    entries_of,
    note_restored,
    one_at_a_time,
    plan_archive,
    put_back,
    remove_archived,
)
from infra.postgres import transaction
from infra.projection_folds import own_connection
from infra.tree_store import StoredTree

Progress = Callable[[int, int], None]
_LEAVES_AT_ONCE = 2_000
_READ_BYTES = 1 << 20


async def archive_log(
    engine: AsyncEngine,
    verifier: Verifier,
    before: AtInstant,
    folder: Path,
    cause: Cause,
    progress: Progress,
) -> tuple[Path, Archive, int]:
    """Write the oldest part of the log to a file, check that, and remove the rows.

    Args:
        engine: As the owner of the tables.
        verifier: The log's key.
        before: Nothing that happened then or later is archived.
        folder: Where the file goes.
        cause: By whom.
        progress: Told how many leaves are dealt with, and of how many: each is written and read.

    Returns:
        The file, what is in it, and how many rows were removed.

    Raises:
        NotArchivedError: There is nothing to archive, or the log or the tree is damaged; nothing
            was removed.
        ArchiveFileError: What was written does not read back; nothing was removed.
    """
    async with own_connection(engine) as lock, one_at_a_time(lock):
        plan = await plan_archive(engine, before.at)
        path = folder / f"log-{plan.first_leaf:012d}-{plan.end_leaf:012d}.gz"
        part = path.with_suffix(".part")
        await asyncio.to_thread(_make_room, part)
        leaves = plan.end_leaf - plan.first_leaf
        try:
            header = await _header(engine, plan)
            with ArchiveWriter(part, header) as file:
                written = 0
                async for entries in entries_of(engine, plan):
                    for entry in entries:
                        file.add(entry.place[0], entry.leaf)
                    written += len(entries)
                    progress(written, 2 * leaves)
            await asyncio.to_thread(_settle, part, path)
        finally:
            part.unlink(missing_ok=True)
        await _check(path, verifier, lambda read: progress(leaves + read, 2 * leaves))
        archive = Archive(
            archive_id=new_uuid(),
            first_leaf=plan.first_leaf,
            end_leaf=plan.end_leaf,
            transaction_id=plan.last[0],
            position=plan.last[1],
            snapshot_id=plan.snapshot.snapshot_id,
            file_name=path.name,
            sha256=await asyncio.to_thread(_sha256, path),
            kept=plan.kept,
        )
        return path, archive, await remove_archived(engine, archive, plan, cause)


async def restore_log(
    engine: AsyncEngine, verifier: Verifier, path: Path, cause: Cause, progress: Progress
) -> Archive:
    """Put the rows of an archive back; it has to be the newest that is not restored.

    Args:
        engine: As the owner of the tables.
        verifier: The log's key.
        path: The file.
        cause: By whom.
        progress: Told how many leaves are dealt with, and of how many.

    Returns:
        What was restored.

    Raises:
        NotArchivedError: It is not that archive; nothing was put back.
        ArchiveFileError: The file was altered; nothing was put back.
    """
    async with own_connection(engine) as lock, one_at_a_time(lock):
        header = read_header(path)
        async with transaction(engine) as connection:
            archive = await newest_archive(connection)
        if archive is None:
            msg = "nothing is archived that was not restored"
            raise NotArchivedError(msg)
        if (header.first_leaf, header.end_leaf) != (archive.first_leaf, archive.end_leaf):
            msg = f"restore {archive.file_name} first: the newest part comes back first"
            raise NotArchivedError(msg)
        if await asyncio.to_thread(_sha256, path) != archive.sha256:
            msg = f"{path} is not the file that was written: its SHA-256 differs"
            raise ArchiveFileError(msg)
        await _check(path, verifier, lambda read: progress(read, 2 * archive.leaves))
        batch: list[tuple[int, bytes]] = []
        first = (0, 0)
        done = 0
        for leaf in verified_leaves(path, verifier):
            if not done and not batch:
                first = (leaf.transaction_id, _position_of(leaf.leaf))
            batch.append((leaf.transaction_id, leaf.leaf))
            if len(batch) == _LEAVES_AT_ONCE:
                await put_back(engine, batch)
                done += len(batch)
                progress(archive.leaves + done, 2 * archive.leaves)
                batch = []
        await put_back(engine, batch)
        await note_restored(engine, archive, first, cause)
        return archive


async def _header(engine: AsyncEngine, plan: ArchivePlan) -> ArchiveHeader:
    """The header, with the proof from the stored tree."""
    tree = StoredTree(engine)
    head = await tree.newest_head()
    if head is None or head.size < plan.end_leaf:
        msg = "no head is signed over all of it yet: run `sessiontrail sequence`"
        raise NotArchivedError(msg)
    wanted = [
        *nodes_between(0, plan.first_leaf),
        *nodes_between(0, plan.end_leaf),
        *consistency_nodes(plan.end_leaf, head.size),
    ]
    try:
        read = await node_reader(tree, wanted)
        return ArchiveHeader(
            first_leaf=plan.first_leaf,
            end_leaf=plan.end_leaf,
            snapshot_id=plan.snapshot.snapshot_id,
            edge=hash_texts(read(node) for node in nodes_between(0, plan.first_leaf)),
            root=hash_texts([root_at(plan.end_leaf, read)])[0],
            consistency=hash_texts(consistency_proof(plan.end_leaf, head.size, read)),
            checkpoint=head.note,
        )
    except TreeDamagedError as error:
        raise NotArchivedError(str(error)) from error


async def _check(path: Path, verifier: Verifier, counted: Callable[[int], None]) -> None:
    """Read a file whole, and prove that it holds what it says."""
    for read, _ in enumerate(verified_leaves(path, verifier), 1):
        if read % _LEAVES_AT_ONCE == 0:
            counted(read)
            await asyncio.sleep(0)


def _make_room(part: Path) -> None:
    """Make the folder, and do away with what an attempt left there half done."""
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)


def _settle(part: Path, path: Path) -> None:
    """Make a file outlast a power cut, and give it its name."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sha256(path: Path) -> bytes:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            hashed.update(block)
    return hashed.digest()


class _Positioned(msgspec.Struct):
    position: int


def _position_of(leaf: bytes) -> int:
    return msgspec.json.decode(leaf, type=_Positioned).position
