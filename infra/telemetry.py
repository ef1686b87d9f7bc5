"""What the service says of itself: JSON logs, the access log, Prometheus metrics.

No secret ever in a log: code does not log them, and a last line of defence takes out whatever looks
like one, from messages, fields and exceptions alike.
"""

import logging
import re
import sys
import time
import traceback
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import accumulate
from typing import BinaryIO, Final, TextIO

import orjson
from prometheus_client import (
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""The id that ties what this task logs to its request and the events of that request."""

REDACTED: Final = "[redacted]"

# ---------------------------------------------------------------------------------- redaction

_TOKEN = re.compile(r"(?:str|stk)_[A-Za-z0-9_-]{16,}")
"""Refresh tokens and service keys."""
_DOTTED_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_SECRET_NAME = re.compile(r"password|token|secret|authorization|cookie", re.IGNORECASE)
# A name and its value, as code, headers, forms, JSON and representations of them spell it. Every
# repetition is bounded or has one way to match, so that no input makes it slow.
_NAMED_SECRET = re.compile(
    r"""
    ((?:password|token|secret|authorization|cookie)[\w-]{0,32}
     (?: ["']?\s{0,4}[:=]\s{0,4} | ["'],\s{0,4}(?=b?["']) ))
    (?: b?"(?:[^"\\]|\\.)*" | b?'(?:[^'\\]|\\.)*'
      | (?:bearer|basic|dpop)\s{1,4}[^\s"',;&)}\]]+
      | [^\s"',;&)}\]]+ )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SECRET_HEADER = re.compile(
    r"((?:authorization|cookie)[\w-]{0,32}\s{0,4}:\s{0,4})[^\s\"'][^\r\n\"']*", re.IGNORECASE
)
_MAX_DEPTH = 4
_MAX_CHARS = 32_768


def redact(text: str) -> str:
    """A text without what looks like a secret, cut at 32,768 characters.

    >>> redact("login failed for password=hunter2 (eyJh.eyJz.c2ln)")
    'login failed for password=[redacted] ([redacted])'
    """
    text = _without_tokens(text)
    if _SECRET_NAME.search(text) is None:
        return text
    text = _SECRET_HEADER.sub(r"\1" + REDACTED, text)
    return _NAMED_SECRET.sub(r"\1" + REDACTED, text)


def _without_tokens(text: str) -> str:
    if len(text) > _MAX_CHARS:
        text = f"{text[:_MAX_CHARS]}... ({len(text) - _MAX_CHARS} more characters)"
    text = _TOKEN.sub(REDACTED, text)
    return _DOTTED_WORD.sub(_without_jwt, text) if "eyJ" in text else text


def _without_jwt(word: re.Match[str]) -> str:
    # A pattern for a JWT itself would look from each of many starts to the end of a long word.
    before, begins, after = word[0].partition("eyJ")
    return before + REDACTED if begins and "." in after else word[0]


def _loggable(value: object, depth: int = 0) -> object:
    """A value that orjson can write, without secrets."""
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case str():
            return _writable(redact(value))
        case Mapping() if depth < _MAX_DEPTH:
            return {str(name): _field(str(name), kept, depth + 1) for name, kept in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
            return [_loggable(kept, depth + 1) for kept in value]
        case _:
            return _writable(redact(str(value)))


def _field(name: str, value: object, depth: int) -> object:
    return REDACTED if _SECRET_NAME.search(name) else _loggable(value, depth)


def _writable(text: str) -> str:
    """Text that UTF-8 can spell: lone surrogates escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


# ---------------------------------------------------------------------------------- JSON logs

_RECORD_ATTRIBUTES: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, message, correlation_id, exception, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record, without its line feed."""
        line: dict[str, object] = {
            "ts": _instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _loggable(_message(record)),
        }
        current = correlation_id.get()
        if current is not None:
            line["correlation_id"] = current
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _writable(_exception_text(record.exc_info[1]))
        if record.stack_info:
            line["stack"] = _writable(_without_tokens(record.stack_info))
        for name, value in vars(record).items():
            if name not in _RECORD_ATTRIBUTES and name not in line:
                line[name] = _field(name, value, 0)
        return orjson.dumps(line).decode()


def configure_logging(level: int | str = logging.INFO, stream: TextIO | None = None) -> None:
    """Send everything that is logged, and Python's warnings, to one stream as JSON lines.

    Args:
        level: The least level that is written.
        stream: Where to; None for standard error.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it names each of its parts


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 (an argument's own code may raise anything; a line is not lost for it)
        return f"{record.msg} (its arguments do not fit it)"


def _exception_text(error: BaseException) -> str:
    """The traceback, without secrets. Source lines name them often, but hold none."""
    return "".join(
        _without_tokens(part) if part.lstrip(" |+-").startswith('File "') else redact(part)
        for part in traceback.TracebackException.from_exception(error).format()
    ).rstrip("\n")


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


# --------------------------------------------------------------------------------- access log

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)


class AccessLog:
    """One JSON line a request: its route, never its path, query, headers or body."""

    def __init__(self, stream: BinaryIO) -> None:
        """Write to a buffered stream. The owner calls ``flush`` every second and at the end."""
        self._stream = stream
        self._lost = 0
        self._second = -1
        self._second_text = ""

    def write(
        self,
        method: str,
        route: str,
        status: int,
        duration_us: int,
        correlation_id: str,
        client_network: str | None = None,
    ) -> None:
        """Add a line. A stream that cannot take it costs the line, not the request.

        Args:
            method: As the client sent it.
            route: The template of the path, such as ``/v1/sessions/{sid}``.
            status: Of the answer.
            duration_us: From the first byte in to the last byte out, in microseconds.
            correlation_id: The request's.
            client_network: The prefix that the client is in, where that may be logged.
        """
        line: dict[str, object] = {
            "ts": self._now(),
            "level": "info",
            "logger": "access",
            "method": method if method in _METHODS else "OTHER",
            "route": route,
            "status": status,
            "duration_us": duration_us,
            "correlation_id": correlation_id,
        }
        if client_network is not None:
            line["client_network"] = client_network
        try:
            self._stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except (OSError, ValueError):  # ValueError: closed
            self._lost += 1

    def flush(self) -> None:
        """Hand what is buffered to the system; says in the log if lines were lost."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            logger.warning("the access log cannot be written: %s", error)
        if self._lost:
            logger.warning("lines of the access log were lost", extra={"lines": self._lost})
            self._lost = 0

    def _now(self) -> str:
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if seconds != self._second:
            self._second = seconds
            self._second_text = _instant(seconds)[:-4]
        return f"{self._second_text}{nanoseconds // 1_000_000:03d}Z"


# ------------------------------------------------------------------------------------ metrics

_DURATION_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)


class _Children(dict[str, Counter]):
    """A counter's children by their only label: looking one up through prometheus costs more."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self._counter = counter

    def __missing__(self, label: str) -> Counter:
        child = self[label] = self._counter.labels(label)
        return child


class _Requests(Collector):
    """Requests and how long they took, summed by hand: a third of what prometheus' own cost."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, list[float]] = {}  # a count for each bucket, then the sum

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (route, method, status)
        try:
            self._counts[key] += 1
            durations = self._durations[route]
        except KeyError:
            key = (route, method if method in _METHODS else "OTHER", status)
            self._counts[key] = self._counts.get(key, 0) + 1
            durations = self._durations.setdefault(route, [0.0] * (len(_DURATION_BUCKETS_S) + 2))
        durations[bisect_left(_DURATION_BUCKETS_S, seconds)] += 1
        durations[-1] += seconds

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "sessiontrail_http_requests", "Requests answered.", labels=["route", "method", "status"]
        )
        for (route, method, status), count in self._counts.items():
            requests.add_metric([route, method, str(status)], count)
        durations = HistogramMetricFamily(
            "sessiontrail_http_request_duration_seconds",
            "From request to answer.",
            labels=["route"],
        )
        for route, (*counts, total) in self._durations.items():
            bounds = (*map(str, _DURATION_BUCKETS_S), "+Inf")
            durations.add_metric(
                [route], list(zip(bounds, accumulate(counts), strict=True)), sum_value=total
            )
        return requests, durations


class Metrics:
    """Prometheus metrics in a registry of their own.

    Labels come from closed sets of ours: routes, event types, outcomes, never from a client.
    """

    def __init__(self) -> None:
        """Register everything, at zero."""
        # A second series a counter, saying when it began: nothing here asks for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, label: str) -> _Children:
            return _Children(Counter(f"sessiontrail_{name}", text, [label], registry=registry))

        self._requests = _Requests()
        registry.register(self._requests)
        self._refreshes = counter("refreshes", "Refreshes, by what they came to.", "outcome")
        self._logins = counter("logins", "Sign-ins, by what they came to.", "outcome")
        self._swept = Counter(
            "sessiontrail_families_swept", "Families that the sweep ended.", registry=registry
        )
        self._limited = counter("rate_limited", "Requests refused by a rate limit.", "limit")
        self._limiter_degraded = Counter(
            "sessiontrail_rate_limiter_degraded",
            "Attempts counted in process because the shared storage was away.",
            registry=registry,
        )

    @property
    def registry(self) -> CollectorRegistry:
        """For what other parts of the process register."""
        return self._registry

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered.

        Args:
            method: As the client sent it.
            route: The template of the path; ``unmatched`` where there is none.
            status: Of the answer.
            seconds: How long it took.
        """
        self._requests.note(method, route, status, seconds)

    def refresh(self, outcome: str) -> None:
        """One refresh came to this."""
        self._refreshes[outcome].inc()

    def login(self, outcome: str) -> None:
        """One sign-in came to this."""
        self._logins[outcome].inc()

    def swept(self, count: int) -> None:
        """The sweep ended so many families."""
        self._swept.inc(count)

    def rate_limited(self, name: str) -> None:
        """One request was turned away by that limit."""
        self._limited[name].inc()

    def rate_limiter_degraded(self) -> None:
        """One attempt was counted in process because the shared storage was away."""
        self._limiter_degraded.inc()

    def render(self) -> tuple[bytes, str]:
        """The Prometheus text exposition and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class Telemetry(Metrics):
    """Metrics and access log as the HTTP layer wants them: one call a request."""

    def __init__(self, access_log: AccessLog) -> None:
        """Count, and write a line a request to ``access_log``."""
        super().__init__()
        self._access_log = access_log

    def request(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        correlation_id: str,
    ) -> None:
        """One request was answered: see ``http_request`` and ``AccessLog.write``."""
        self.http_request(method, route, status, seconds)
        self._access_log.write(method, route, status, int(seconds * 1_000_000), correlation_id)
