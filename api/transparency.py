"""The transparency log: its head, its tiles, its entries, and proofs."""

from base64 import b64encode
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from api.fast import PROBLEMS
from api.problems import ProblemError, ProblemKind
from api.proofs import checked_proof, refuse_archived
from api.security import Auditor, ServicesIn
from audit.merkle import HASH_BYTES
from audit.proving import NotInTreeError, prove_consistency
from audit.tiles import TILE_WIDTH, TilePath, encode_bundle, parse_tile_path
from domain.as_of import AlteredHistoryError
from domain.transparency import TileId

router = APIRouter(tags=["transparency log"])

Size = Annotated[int, Query(ge=0, lt=2**63)]
_FOR_EVER = "public, max-age=31536000, immutable"
_FOR_EVER_PRIVATE = "private, max-age=31536000, immutable"
_OCTETS = "application/octet-stream"
# Any: FastAPI's own type for it.
_TILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {_OCTETS: {}}, "description": "The tile"}
}


class InclusionProofModel(BaseModel):
    """That an event is in a signed tree."""

    index: int = Field(description="Which leaf it is, from 0")
    leaf: str = Field(description="The event's canonical bytes, in base64")
    proof: str = Field(description="C2SP tlog-proof: the path, and the checkpoint it leads to")


class ConsistencyProofModel(BaseModel):
    """That a signed tree begins with an older one."""

    old_size: int
    old_root: str = Field(description="In base64, by the stored tree: compare it with yours")
    hashes: list[str] = Field(description="RFC 6962 §2.1.2, in base64")
    checkpoint: str = Field(description="The signed head of the newer tree")


@router.get("/tlog/checkpoint", response_class=PlainTextResponse, responses=PROBLEMS(404, 503))
async def checkpoint(services: ServicesIn) -> Response:
    """The newest signed head, as C2SP tlog-checkpoint has it."""
    head = await services.tree.newest_head()
    if head is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "nothing was signed yet")
    return PlainTextResponse(head.note, headers={"Cache-Control": "no-store"})


@router.get(
    "/tlog/tile/entries/{name:path}",
    response_class=Response,
    responses=_TILE | PROBLEMS(401, 403, 404, 500, 503),
)
async def entries(services: ServicesIn, _caller: Auditor, name: Annotated[str, Path()]) -> Response:
    """Events of the log as their leaves hash them, as C2SP tlog-tiles bundles them."""
    asked = _asked(f"entries/{name}")
    first = asked.number * TILE_WIDTH
    held = await services.tree.entries(first, asked.width)
    if len(held) < asked.width:
        await refuse_archived(services, first)
        raise _no_tile()
    bundle = encode_bundle(entry.leaf for entry in held)
    return Response(bundle, headers={"Cache-Control": _FOR_EVER_PRIVATE}, media_type=_OCTETS)


@router.get(
    "/tlog/tile/{level}/{name:path}",
    response_class=Response,
    responses=_TILE | PROBLEMS(404, 503),
)
async def tile(
    services: ServicesIn, level: Annotated[str, Path()], name: Annotated[str, Path()]
) -> Response:
    """Hashes of the tree, as C2SP tlog-tiles cuts it."""
    asked = _asked(f"{level}/{name}")
    if asked.level is None:
        raise _no_tile()
    wanted = TileId(asked.level, asked.number)
    held = (await services.tree.tiles([wanted])).get(wanted, b"")
    hashes = held[: asked.width * HASH_BYTES]
    if len(hashes) < asked.width * HASH_BYTES:
        raise _no_tile()
    return Response(hashes, headers={"Cache-Control": _FOR_EVER}, media_type=_OCTETS)


@router.get("/v1/audit/proofs/inclusion", responses=PROBLEMS(401, 403, 404, 422, 500, 503))
async def inclusion(
    services: ServicesIn,
    _caller: Auditor,
    event: Annotated[
        str, Query(max_length=64, description="An event's id, its position in the log, or leaf:N")
    ],
) -> InclusionProofModel:
    """The proof that an event is in the newest signed tree, checked first."""
    checked = await checked_proof(services, event)
    if checked.flaw is not None:
        raise AlteredHistoryError(checked.flaw)
    return InclusionProofModel(
        index=checked.proof.index,
        leaf=b64encode(checked.leaf).decode(),
        proof=str(checked.proof),
    )


@router.get("/v1/audit/proofs/consistency", responses=PROBLEMS(401, 403, 404, 422, 500, 503))
async def consistency(
    services: ServicesIn,
    _caller: Auditor,
    old: Size,
    new: Annotated[int | None, Query(ge=0, lt=2**63, description="Else the newest")] = None,
) -> ConsistencyProofModel:
    """The proof that a signed tree begins with the one of an older size."""
    try:
        proof = await prove_consistency(services.tree, old, new)
    except NotInTreeError as error:
        raise ProblemError(ProblemKind.NOT_FOUND, str(error)) from error
    return ConsistencyProofModel(
        old_size=proof.old,
        old_root=b64encode(proof.old_root).decode(),
        hashes=[b64encode(each).decode() for each in proof.hashes],
        checkpoint=proof.new.note,
    )


def _asked(path: str) -> TilePath:
    asked = parse_tile_path(path)
    if asked is None:
        raise _no_tile()
    return asked


def _no_tile() -> ProblemError:
    return ProblemError(ProblemKind.NOT_FOUND, "the tree has no such tile")
