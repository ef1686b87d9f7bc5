"""Closed-loop HTTP load: some connections, each with one request under way at all times.

Runs as a process of its own (``python -m bench.load``), on plain sockets with prepared bytes, so
that it takes little of the two cores that it shares with what it measures.
"""

import itertools
import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/147.0.0.0 Safari/537.36"
)
HEADERS = {
    "Host": "127.0.0.1",
    "Content-Type": "application/json",
    "User-Agent": USER_AGENT,
    "Sec-CH-UA": '"Chromium";v="147", "Not/A)Brand";v="8", "Google Chrome";v="147"',
    "Sec-CH-UA-Mobile": "?0",
    "Sec-CH-UA-Platform": '"Windows"',
}
_TOKEN = b'"refresh_token":"'


@dataclass(frozen=True, slots=True)
class Load:
    """What a load run came to: answers a second and latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    answers: int


def run_load(
    kind: str, port: int, seconds: float, payloads: Sequence[str], connections: int | None = None
) -> Load:
    """Run one load in a process of its own and wait for it.

    Args:
        kind: ``refresh`` (payloads are refresh tokens, followed as they rotate), ``forged``
            (payloads are tokens too, but are not followed), ``login`` (payloads are request
            bodies) or ``healthz``.
        port: Of the service on 127.0.0.1.
        seconds: How long.
        payloads: What is sent, by turns.
        connections: How many share the payloads; None for one each.
    """
    return finish_load(start_load(kind, port, seconds, payloads, connections))


def start_load(
    kind: str, port: int, seconds: float, payloads: Sequence[str], connections: int | None = None
) -> "subprocess.Popen[str]":
    """Start a load without waiting for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    plan = {
        "kind": kind,
        "port": port,
        "seconds": seconds,
        "payloads": list(payloads),
        "connections": connections or len(payloads),
    }
    if process.stdin is not None:
        process.stdin.write(json.dumps(plan))
        process.stdin.close()
    return process


def finish_load(process: "subprocess.Popen[str]") -> Load:
    """Wait for a load and read what it came to.

    Raises:
        RuntimeError: It failed: the service answered with something else than success.
    """
    output = process.stdout.read() if process.stdout is not None else ""
    if process.wait() != 0:
        msg = "the load failed; see above"
        raise RuntimeError(msg)
    return Load(**json.loads(output))


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items())
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _refresh_request(token: bytes) -> bytes:
    return _post("/v1/refresh", b'{"refresh_token":"' + token + b'"}')


class _RefreshFrame:
    """All refresh requests have one length: only the token within them changes."""

    def __init__(self, token_chars: int) -> None:
        placeholder = b"x" * token_chars
        self._chars = token_chars
        self._before, _, self._after = _refresh_request(placeholder).partition(placeholder)

    def following(self, answer: bytes) -> bytes:
        at = answer.find(_TOKEN) + len(_TOKEN)
        return self._before + answer[at : at + self._chars] + self._after


class _Connection:
    __slots__ = ("request", "sent_at", "socket")

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = request
        self.sent_at = 0.0

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self) -> bytes:
        answer = self.socket.recv(65536)
        while answer and not answer.endswith(b"}"):
            more = self.socket.recv(65536)
            if not more:
                break
            answer += more
        return answer


def _request(kind: str, payload: str) -> bytes:
    match kind:
        case "refresh" | "forged":
            return _refresh_request(payload.encode())
        case "login":
            return _post("/v1/login", payload.encode())
        case "healthz":
            return b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    msg = f"there is no load {kind}"
    raise ValueError(msg)


def _drive(kind: str, port: int, seconds: float, payloads: Sequence[str], connections: int) -> Load:
    selector = selectors.DefaultSelector()
    requests = itertools.cycle([_request(kind, payload) for payload in payloads])
    for _ in range(connections):
        connection = _Connection(port, next(requests))
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send()
    expected = b"HTTP/1.1 401" if kind == "forged" else b"HTTP/1.1 200"
    frame = _RefreshFrame(len(payloads[0]))
    latencies: list[float] = []
    began = time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        for key, _ in selector.select(1):
            connection = key.data
            answer = connection.receive()
            if not answer.startswith(expected):
                sys.stderr.write(answer.decode("utf-8", "replace") + "\n")
                raise SystemExit(1)
            latencies.append(time.perf_counter() - connection.sent_at)
            connection.request = frame.following(answer) if kind == "refresh" else next(requests)
            connection.send()
    elapsed = time.perf_counter() - began
    latencies.sort()
    return Load(
        len(latencies) / elapsed,
        latencies[len(latencies) // 2] * 1000,
        latencies[len(latencies) * 99 // 100] * 1000,
        len(latencies),
    )


def _main() -> None:
    plan = json.load(sys.stdin)
    load = _drive(**plan)
    json.dump(
        {
            "per_second": load.per_second,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "answers": load.answers,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    _main()
