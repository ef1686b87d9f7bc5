"""Cross-origin access for the pages of the origins named in the settings, and no others."""

from api.asgi import App, Message, Receive, Send
from api.requests import Scope

_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, x-request-id"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
]


class Cors:
    """Wraps an application: answers preflights and marks answers to allowed origins."""

    def __init__(self, app: App, allowed_origins: frozenset[str]) -> None:
        """Allow these origins (scheme, host and port), with cookies."""
        self._app = app
        self._allowed = {origin.encode("latin-1") for origin in allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        origin = _origin(scope) if scope["type"] == "http" else None
        if origin not in self._allowed or origin is None:
            await self._app(scope, receive, send)
            return
        allowance = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"origin"),
        ]
        if scope["method"] == "OPTIONS":
            headers = [*allowance, *_PREFLIGHT]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def marked_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *allowance]
            await send(message)

        await self._app(scope, receive, marked_send)


def _origin(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"origin":
            found: bytes = value
            return found
    return None
