"""The OpenAPI document: what FastAPI derives, and the endpoints that do not go through it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.fast import PROBLEMS, SCHEMA_REF, body_of
from api.problems import PROBLEM_JSON
from api.requests import REFRESH_COOKIE
from api.schemas import OAuthErrorModel, OAuthTokens, Problem, RefreshBody, Tokens

JsonObject = dict[str, Any]
"""A part of an OpenAPI document. Any: JSON of any shape."""

_SECURITY_SCHEMES = {
    "accessToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a session",
    },
    "refreshCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": REFRESH_COOKIE,
        "description": "The refresh token of a browser",
    },
    "serviceKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "The key of a trusted backend",
    },
    "serviceKeyBasic": {
        "type": "http",
        "scheme": "basic",
        "description": "The key of a trusted backend: its id, and all of it as the password",
    },
}


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
        document["components"]["securitySchemes"] = _SECURITY_SCHEMES
        for path in document["paths"].values():
            for operation in path.values():
                _correct_responses(operation)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
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
            "requestBody": body_of("application/json", "RefreshBody", required=False),
            "security": [{"refreshCookie": []}, {}],  # or in the body
            "responses": {
                "200": _answer("The session's new tokens", "application/json", Tokens),
                **_problems(401, 403, 415, 429),
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
                **_problems(429),
                "200": _answer("New tokens", "application/json", OAuthTokens),
                "400": _answer("RFC 6749 §5.2", "application/json", OAuthErrorModel),
                "401": _answer("Client not accepted", "application/json", OAuthErrorModel),
            },
        }
    }


def _add_schema(schemas: JsonObject, model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template=SCHEMA_REF + "{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema


def _answer(description: str, content_type: str, model: type[BaseModel]) -> JsonObject:
    content = {content_type: {"schema": {"$ref": SCHEMA_REF + model.__name__}}}
    return {"description": description, "content": content}


def _problems(*statuses: int) -> JsonObject:
    return {
        str(status): _answer(problem["description"], PROBLEM_JSON, Problem)
        for status, problem in PROBLEMS(*statuses).items()
    }


def _correct_responses(operation: JsonObject) -> None:
    """Put this service's problems where FastAPI documents its own, and one it cannot know of."""
    responses = operation["responses"]
    if _takes_any_text(operation):
        responses.pop("422", None)
    problem = {PROBLEM_JSON: {"schema": {"$ref": SCHEMA_REF + "Problem"}}}
    for response in responses.values():
        content = response.get("content", {})
        schemas = [described.get("schema", {}).get("$ref", "") for described in content.values()]
        if any(schema.endswith("HTTPValidationError") for schema in schemas):
            response["description"] = "A value is not acceptable"
            response["content"] = problem
        elif PROBLEM_JSON in content:
            response["content"] = problem
    # Whatever the operation: a body is read before it is ignored.
    responses.setdefault("413", _problems()["413"])


def _takes_any_text(operation: JsonObject) -> bool:
    """Whether no value is ever unacceptable: parts of the path that name nothing are not found."""
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    return "requestBody" not in operation and places <= {"path"}
