"""The console's own stylesheet, script and icon: named by their content, so cached for good."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Response

from api.problems import ProblemError, ProblemKind

router = APIRouter(prefix="/console/static", include_in_schema=False)

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    path: str
    media_type: str
    body: bytes


@cache
def assets() -> dict[str, Asset]:
    """Every asset by the name of its file, such as ``console.css``."""
    found = {}
    for file in sorted(_FOLDER.iterdir()):
        if file.suffix in _TYPES:
            body = file.read_bytes()
            named = f"{file.stem}.{sha256(body).hexdigest()[:16]}{file.suffix}"
            found[file.name] = Asset(f"/console/static/{named}", _TYPES[file.suffix], body)
    return found


@cache
def _by_path() -> dict[str, Asset]:
    return {asset.path: asset for asset in assets().values()}


@router.get("/{name}")
async def asset(name: str) -> Response:
    """One of them. Any other name, such as that of an older build, is unknown."""
    found = _by_path().get(f"/console/static/{name}")
    if found is None:
        raise ProblemError(ProblemKind.NOT_FOUND)
    return Response(found.body, media_type=found.media_type, headers=_FOREVER)
