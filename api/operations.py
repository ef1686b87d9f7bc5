"""Health, readiness, metrics, and the pages behind problem types."""

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from api.fast import PROBLEMS
from api.problems import ProblemError, ProblemKind
from api.schemas import ProblemPage, Readiness
from api.security import ServicesIn

router = APIRouter(tags=["operations"])

_KINDS = {kind.slug: kind for kind in ProblemKind}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive; nothing else is looked at."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"description": "Names what is not ready", "model": Readiness}},
)
async def readyz(services: ServicesIn) -> Response:
    """Whether the service can do its work, and if not, which part of it is not ready.

    What it does without is told beside that, and changes nothing.
    """
    missing = await services.not_ready()
    body = {
        "ready": not missing,
        "not_ready": dict(missing),
        "optional": dict(services.optional()),
    }
    return Response(
        msgspec.json.encode(body),
        503 if missing else 200,
        {"Cache-Control": "no-store"},
        "application/json",
    )


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(services: ServicesIn) -> Response:
    """Counters for Prometheus."""
    body, content_type = services.telemetry.render()
    return Response(body, 200, media_type=content_type)


@router.get("/problems/{slug}", responses={404: PROBLEMS(404)[404]})
async def problem_page(slug: str) -> ProblemPage:
    """What a problem type means."""
    kind = _KINDS.get(slug)
    if kind is None:
        raise ProblemError(ProblemKind.NOT_FOUND, "no such problem type")
    return ProblemPage(type=kind.uri, title=kind.title, status=kind.status)
