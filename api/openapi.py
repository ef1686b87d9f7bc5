"""The OpenAPI document: what FastAPI derives, and the endpoints that do not go through it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.fast import PROBLEMS
from api.problems import PROBLEM_JSON
from api.schemas import OAuthErrorModel, OAuthTokens, Problem, RefreshBody, Tokens

JsonObject = dict[str, Any]
"""A part of an OpenAPI document. Any: JSON of any shape."""

_REF = "#/components/schemas/"


def openapi_of(app: FastAPI) -> JsonObject:
    """The whole document."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        _add_direct_endpoints(document)
        _take_away_fastapi_validation(document)
        app.openapi_schema = document
    return app.openapi_schema


def _add_direct_endpoints(document: JsonObject) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (Tokens, OAuthTokens, OAuthErrorModel, RefreshBody, Problem):
        _add_schema(schemas, model)
    paths = document["paths"]
    paths["/v1/refresh"] = {
        "post": {
            "tags": ["sign-in"],
            "operationId": "refresh",
            "summary": "Refresh",
            "description": "Exchange the refresh token, from the cookie or from the body, for an "
            "access token and the token's successor, which comes back the same way. A retry of the "
            "last exchange by the same client gets the same successor; any other use of a token "
            "that was exchanged before revokes its session family.",
            "requestBody": _body("application/json", RefreshBody, required=False),
            "responses": {
                "200": _answer("The session's new tokens", "application/json", Tokens),
                **_problems(401, 403, 405, 429),
            },
        }
    }
    paths["/oauth/token"] = {
        "post": {
            "tags": ["oauth"],
            "operationId": "token",
            "summary": "Token endpoint (RFC 6749 §6)",
            "description": "`grant_type=refresh_token` for public clients.",
            "requestBody": {
                "required": True,
                "content": {
                    "application/x-www-form-urlencoded": {
                        "schema": {
                            "type": "object",
                            "required": ["grant_type", "refresh_token"],
                            "properties": {
                                "grant_type": {"type": "string"},
                                "refresh_token": {"type": "string"},
                                "client_id": {"type": "string"},
                            },
                        }
                    }
                },
            },
            "responses": {
                **_problems(405, 429),
                "200": _answer("New tokens", "application/json", OAuthTokens),
                "400": _answer("RFC 6749 §5.2", "application/json", OAuthErrorModel),
                "401": _answer("Client not accepted", "application/json", OAuthErrorModel),
            },
        }
    }


def _add_schema(schemas: JsonObject, model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template=_REF + "{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema


def _body(content_type: str, model: type[BaseModel], *, required: bool) -> JsonObject:
    content = {content_type: {"schema": {"$ref": _REF + model.__name__}}}
    return {"required": required, "content": content}


def _answer(description: str, content_type: str, model: type[BaseModel]) -> JsonObject:
    content = {content_type: {"schema": {"$ref": _REF + model.__name__}}}
    return {"description": description, "content": content}


def _problems(*statuses: int) -> JsonObject:
    return {
        str(status): _answer(problem["description"], PROBLEM_JSON, Problem)
        for status, problem in PROBLEMS(*statuses).items()
    }


def _take_away_fastapi_validation(document: JsonObject) -> None:
    """FastAPI documents its own 422 body, which this service never sends."""
    schemas = document["components"]["schemas"]
    problem = {"application/problem+json": {"schema": {"$ref": _REF + "Problem"}}}
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                for described in list(content.values()):
                    if described.get("schema", {}).get("$ref", "").endswith("HTTPValidationError"):
                        response["description"] = "A value is not acceptable"
                        response["content"] = problem
                if int(status) >= 400 and PROBLEM_JSON in content:  # noqa: PLR2004 (errors)
                    response["content"] = problem
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
