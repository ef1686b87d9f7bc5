"""The outermost layer, pure ASGI: correlation, access log, faults, the short way to refresh.

The refresh path and the token endpoint skip FastAPI's routing and validation, which would cost them
more than their own work; ``api.openapi`` documents them all the same.
"""

import asyncio
import logging
import time
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    MutableMapping,
)
from typing import Any

from api.answers import Answer
from api.ports import Services
from api.problems import PROBLEM_JSON, ProblemError, ProblemKind, unavailable
from api.requests import Headers, Scope, correlation_of, headers_of
from domain.as_of import AlteredHistoryError
from domain.ids import CorrelationId
from domain.ports import ConcurrencyError, StoreUnavailableError
from domain.transparency import TreeDamagedError

Message = MutableMapping[str, Any]
"""An ASGI message. Any: as ``Scope``."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]
"""Any: what coroutines yield and are sent is the event loop's own business."""

MAX_BODY_BYTES = 64 * 1024
_MAX_DISCARDED_BYTES = 8 * 1024 * 1024
"""What is read of a body that is too large, so that a client still sending it sees the answer."""

BODY_WITHIN_S = 10.0
"""The longest that a body may take to arrive: whoever sends it drop by drop holds a connection."""

ANSWER_WITHIN_S = 10.0
"""The longest that a client waits for the application, whatever the database does."""

_log = logging.getLogger(__name__)
_COMMON_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_SAID_BY_PAGES = b"referrer-policy"
"""What an answer may say for itself: two of these headers would be one list, and the last holds."""


_NOT_STORED = [(b"cache-control", b"no-store")]
"""For answers that do not say how they may be cached: most are about one person's sessions."""


class Request:
    """What a direct endpoint is given."""

    __slots__ = ("_receive", "correlation_id", "headers", "scope")

    def __init__(
        self, scope: Scope, receive: Receive, headers: Headers, correlation_id: CorrelationId
    ) -> None:
        """Wrap one ASGI request."""
        self.scope = scope
        self.headers = headers
        self.correlation_id = correlation_id
        self._receive = receive

    @property
    def method(self) -> str:
        """The request method, upper case."""
        method: str = self.scope["method"]
        return method

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            ProblemError: It is larger than anything we accept, or the client went away.
        """
        return await read_body(self._receive)


Endpoint = Callable[[Request], Awaitable[Answer]]


async def read_body(receive: Receive) -> bytes:
    """Read a request's body whole.

    Raises:
        ProblemError: It is larger than anything we accept, it does not arrive in time, or the
            client went away.
    """
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await _whole_body(receive)
    except TimeoutError:
        late = f"the body did not arrive within {BODY_WITHIN_S:g} s"
        raise ProblemError(ProblemKind.MALFORMED, late) from None


async def _whole_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    size = len(body)
    while message.get("more_body", False) and size <= _MAX_DISCARDED_BYTES:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            body += chunk
    if message["type"] == "http.disconnect":
        raise ProblemError(ProblemKind.MALFORMED, "the client went away")
    if size > MAX_BODY_BYTES:
        raise ProblemError(ProblemKind.TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes are accepted")
    return body


class Front:
    """The ASGI application that the server calls."""

    def __init__(
        self,
        services: Services,
        direct: Mapping[str, Endpoint],
        app: App,
        enter_correlation: Callable[[str], object],
    ) -> None:
        """Answer ``direct`` paths here and leave the rest to ``app``.

        Args:
            services: Where counts and log lines go.
            direct: Endpoints by exact path.
            app: FastAPI.
            enter_correlation: Told the correlation id of the request that this task works on.
        """
        self._services = services
        self._direct = direct
        self._app = app
        self._enter_correlation = enter_correlation
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        method = scope["method"]
        headers = headers_of(scope)
        correlation_id = CorrelationId(correlation_of(headers, self._services.new_id()))
        self._enter_correlation(correlation_id)
        endpoint = self._direct.get(scope["path"])
        if endpoint is not None:
            request = Request(scope, receive, headers, correlation_id)
            answer = await answered(endpoint, request)
            await send_answer(send, answer, correlation_id)
            status, route, at = answer.status, scope["path"], time.perf_counter()
        else:
            status, route, at = await self._through_app(
                scope, receive, send, headers, correlation_id
            )
        self._services.telemetry.request(method, route, status, at - began, correlation_id)

    async def _through_app(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Headers,
        correlation_id: CorrelationId,
    ) -> tuple[int, str, float]:
        """The status, the route, and when it was answered: a stream of events, when it began."""
        status = 0
        answered_at: float | None = None
        finished = overdue = False
        streams = asyncio.Event()

        async def tagged_send(message: Message) -> None:
            nonlocal status, finished, answered_at
            if overdue:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", ())
                if _is_event_stream(own):
                    streams.set()
                    answered_at = time.perf_counter()
                cacheable = any(name == b"cache-control" for name, _ in own)
                says_so = any(name == _SAID_BY_PAGES for name, _ in own)
                message["headers"] = [
                    *own,
                    *(each for each in _COMMON_HEADERS if not says_so or each[0] != _SAID_BY_PAGES),
                    *(() if cacheable else _NOT_STORED),
                    (b"x-request-id", correlation_id.encode("ascii")),
                ]
            else:
                finished = not message.get("more_body", False)
            await send(message)

        scope["sessiontrail.headers"] = headers
        scope["sessiontrail.correlation_id"] = correlation_id
        try:
            body = await read_body(receive)
            answering = self._app(_as_routed(scope), _replay(body, receive), tagged_send)
            await self._in_time(answering, streams)
        except Exception as error:
            if not status:
                overdue = True
                answer = answer_to_fault(error)
                await send_answer(send, answer, correlation_id)
                status = answer.status
            else:
                _log.error("a request failed", exc_info=error)  # the server would not say so
                if not finished:
                    raise  # too late for another answer: the server cuts the connection
        route = scope.get("route")
        return status, getattr(route, "path", "unmatched"), answered_at or time.perf_counter()

    async def _in_time(self, answering: Coroutine[Any, Any, None], streams: asyncio.Event) -> None:
        """Wait for the application, not for ever. Any: as ``App``.

        What is given up is cancelled, and may take a while to end: a database that hangs does not
        hear of a cancellation either. A stream of events only has to begin in time: it bounds
        itself, message by message (``api.event_stream``).

        Args:
            answering: The application at work.
            streams: Set once its answer has begun and is a stream of events.

        Raises:
            StoreUnavailableError: It did not answer in time.
        """
        application = asyncio.create_task(answering)
        begun = asyncio.create_task(streams.wait())
        self._under_way.add(application)
        application.add_done_callback(self._under_way.discard)
        try:
            await asyncio.wait(
                {application, begun},
                timeout=ANSWER_WITHIN_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if streams.is_set():
                await asyncio.wait({application})
        finally:
            begun.cancel()
            application.cancel()
        if not application.done():
            msg = f"no answer within {ANSWER_WITHIN_S:g} s"
            raise StoreUnavailableError(msg)
        application.result()


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


def _as_routed(scope: Scope) -> Scope:
    """HEAD is GET whose body the server leaves out (RFC 9110 §9.3.2); routes know GET only."""
    if scope["method"] == "HEAD":
        scope["method"] = "GET"
    return scope


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out a body that was read already."""
    delivered = False

    async def replayed() -> Message:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def answered(endpoint: Endpoint, request: Request) -> Answer:
    """An endpoint's answer, or the answer to what went wrong in it."""
    try:
        return await endpoint(request)
    except Exception as error:  # noqa: BLE001 (the one place where faults become answers)
        return answer_to_fault(error)


def answer_to_fault(error: Exception) -> Answer:
    """The answer to an exception."""
    return problem_answer(problem_of_fault(error))


def problem_of_fault(error: Exception) -> ProblemError:
    """Problems as they are, outages as 503, the rest as 500; operators read of it in the log."""
    match error:
        case ProblemError():
            return error
        case StoreUnavailableError() | ConcurrencyError():
            _log.warning("answered 503: %s", error)
            return unavailable()
        case AlteredHistoryError() | TreeDamagedError():
            _log.error("the past is not as it was written: %s", error)
            return ProblemError(ProblemKind.ALTERED_HISTORY, str(error))
        case _:
            _log.error("a request failed", exc_info=error)
            return ProblemError(ProblemKind.INTERNAL)


def problem_answer(problem: ProblemError) -> Answer:
    """A problem, encoded."""
    headers = [
        (b"content-type", PROBLEM_JSON.encode("ascii")),
        (b"cache-control", b"no-store"),
        *((k.lower().encode("ascii"), v.encode("latin-1")) for k, v in problem.headers.items()),
    ]
    return Answer(problem.kind.status, headers, problem.body())


async def send_answer(send: Send, answer: Answer, correlation_id: CorrelationId) -> None:
    """Send an answer whole."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                *answer.headers,
                *_COMMON_HEADERS,
                (b"content-length", b"%d" % len(answer.body)),
                (b"x-request-id", correlation_id.encode("ascii")),
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})
