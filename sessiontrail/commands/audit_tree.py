"""``audit key``, ``audit checkpoint`` and proofs from the transparency log."""

import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.merkle import ProofError, verify_consistency
from audit.proving import InvalidReferenceError, NotInTreeError, prove_consistency
from audit.proving import prove_inclusion as prove_event_of
from audit.signed_notes import NoteError
from audit.tlog_proofs import verify_proof
from audit.tree_ports import TreeReader
from domain.transparency import TreeDamagedError
from infra.postgres import create_engine
from infra.settings import load_settings
from infra.tree_store import StoredTree
from sessiontrail.commands.context import CommandError, ensure_current, run, say
from sessiontrail.databases import database
from sessiontrail.tree_keys import make_tree_key, tree_verifier

_ResultT = TypeVar("_ResultT")

KeyOption = Annotated[
    str | None, typer.Option(help="The log's public key; else it is derived from tree.key")
]


def key(
    new: Annotated[
        bool, typer.Option("--new", help="Make a key if there is none yet; only for a new log")
    ] = False,
) -> None:
    """Print the log's public key: what its heads are checked with."""
    settings = load_settings()
    if new:
        make_tree_key(settings)
    say(str(tree_verifier(settings)))


def checkpoint(key: KeyOption = None) -> None:
    """Print the newest signed head, to be kept where nobody who runs this database can change it.

    Its signature is checked first.
    """
    verifier = tree_verifier(load_settings(), key)

    async def newest(tree: TreeReader) -> str:
        head = await tree.newest_head()
        if head is None:
            msg = "nothing was signed yet: run `sessiontrail sequence`"
            raise NotInTreeError(msg)
        return head.note

    note = _ask(newest)
    try:
        open_checkpoint(note, verifier)
    except NoteError as error:
        raise CommandError(str(error)) from error
    sys.stdout.write(note)


def prove_inclusion(
    event: Annotated[str, typer.Argument(help="An event's id, its position in the log, or leaf:N")],
    key: KeyOption = None,
    leaf_file: Annotated[
        Path | None,
        typer.Option("--leaf", help="Also write the event's canonical bytes to this file"),
    ] = None,
) -> None:
    """Print the proof that an event is in the newest signed tree, as C2SP tlog-proof has it.

    It is checked first.
    """
    verifier = tree_verifier(load_settings(), key)
    proof = _ask(lambda tree: prove_event_of(tree, event))
    if proof.extra is None:
        msg = f"leaf {proof.index} is in the tree, and its event is no longer in the database"
        raise CommandError(msg)
    try:
        verify_proof(proof, proof.extra, verifier)
    except (NoteError, ProofError) as error:
        raise CommandError(str(error)) from error
    if leaf_file is not None:
        leaf_file.write_bytes(proof.extra)
    sys.stdout.write(str(proof))


def prove_consistency_of(
    old: Annotated[str, typer.Argument(help="A size, or a file with a saved checkpoint")],
    new: Annotated[
        int | None, typer.Argument(min=0, help="A size that was signed; else the newest")
    ] = None,
    key: KeyOption = None,
) -> None:
    """Print the proof that a signed tree begins with an older one, a hash a line in base64.

    Given a saved checkpoint, the proof is checked against it first.
    """
    saved: Checkpoint | None = None
    if not old.isdecimal():
        saved = kept_head(Path(old), key)
    size = int(old) if saved is None else saved.size
    proof = _ask(lambda tree: prove_consistency(tree, size, new))
    root = proof.old_root if saved is None else saved.root
    try:
        verify_consistency(size, root, proof.new.size, proof.new.root, proof.hashes)
    except ProofError as error:
        raise CommandError(str(error)) from error
    for each in proof.hashes:
        say(b64encode(each).decode())


def kept_head(path: Path, key: str | None) -> Checkpoint:
    """A head that somebody kept in a file, its signature checked.

    Args:
        path: The file.
        key: The log's public key; None for that of the settings.

    Raises:
        CommandError: It cannot be read, or is not signed by the log.
    """
    try:
        return open_checkpoint(path.read_bytes(), tree_verifier(load_settings(), key))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CommandError(msg) from error
    except NoteError as error:
        msg = f"{path}: {error}"
        raise CommandError(msg) from error


def _ask(question: Callable[[TreeReader], Awaitable[_ResultT]]) -> _ResultT:
    async def asked() -> _ResultT:
        async with _tree() as tree:
            return await question(tree)

    try:
        return run(asked)
    except (InvalidReferenceError, NotInTreeError, TreeDamagedError) as error:
        raise CommandError(str(error)) from error


@asynccontextmanager
async def _tree() -> AsyncIterator[TreeReader]:
    settings = load_settings()
    with database(settings) as access:
        await ensure_current(settings, access)
        engine = create_engine(access.service, max_connections=1, wait_s=settings.database_wait)
        try:
            yield StoredTree(engine)
        finally:
            await engine.dispose()
