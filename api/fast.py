"""What the FastAPI routes share: finished answers, documented problems."""

from collections.abc import Mapping
from typing import Any, cast

from fastapi import Request, Response

from api.answers import Answer
from api.problems import PROBLEM_JSON
from api.requests import ClientReader
from api.schemas import Problem
from domain.ports import Executed
from domain.refusals import Refusal

SCHEMA_REF = "#/components/schemas/"
_MEANINGS = {
    400: "The request cannot be read",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "This address does not take that method",
    409: "The state does not allow that",
    413: "Too large",
    415: "A content type that is not read",
    422: "A value is not acceptable",
    429: "Too many requests; see Retry-After",
    500: "Something went wrong here",
    503: "Cannot answer just now; see Retry-After",
}


def PROBLEMS(*statuses: int) -> dict[int | str, dict[str, Any]]:  # noqa: N802 (reads as a constant)
    """The ``responses`` of a route: these problems and those that any route can answer with.

    Any: FastAPI's own type for the argument.
    """
    return {
        status: {
            "description": _MEANINGS[status],
            "model": Problem,
            "content": {PROBLEM_JSON: {}},
        }
        for status in sorted({400, 413, 415, 503, *statuses})
    }


def body_of(content_type: str, schema: str, *, required: bool) -> dict[str, Any]:
    """The ``requestBody`` of an operation that reads its body itself.

    Any: a part of an OpenAPI document.
    """
    content = {content_type: {"schema": {"$ref": SCHEMA_REF + schema}}}
    return {"required": required, "content": content}


def answered_with(answer: Answer, extra: Mapping[str, str] | None = None) -> Response:
    """A finished answer as Starlette's response."""
    response = Response(answer.body, answer.status)
    response.raw_headers = [
        *answer.headers,
        (b"content-length", b"%d" % len(answer.body)),
        *((k.lower().encode("ascii"), v.encode("latin-1")) for k, v in (extra or {}).items()),
    ]
    return response


def client_reader(request: Request) -> ClientReader:
    """Tells who sent a request, as the application was told to."""
    return cast("ClientReader", request.app.state.client_reader)


def refusal_of(executed: Executed) -> Refusal | None:
    """What remains of a command for a route that only asks whether it was refused."""
    return executed.decision.refusal
