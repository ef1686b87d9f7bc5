"""How soon a thief is shut out: from a refresh that gives them away to their next one's refusal."""

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from bench.environment import Bench, owned, service, sign_in
from bench.load import HEADERS

_LOAD_PER_S = 500
_LOAD_FAMILIES = 64
_OWNER = HEADERS | {"X-Forwarded-For": "203.0.113.7"}
_THIEF = {
    "Host": "127.0.0.1",
    "Content-Type": "application/json",
    "User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
    "X-Forwarded-For": "198.51.100.9",
}


def shut_out_after(
    on: Bench,
    say: Callable[[str], None],
    database: str,
    thefts: int,
    workers: Mapping[str, Mapping[str, str]],
) -> tuple[float, float]:
    """Milliseconds from a thief's answer to the family refusing.

    Args:
        on: The benchmark.
        say: Tells the person who waits what goes on.
        database: A fresh one.
        thefts: How many, one after the other.
        workers: Commands that run beside the service, with their settings.

    Returns:
        The median and the 99th percentile.
    """
    tokens = asyncio.run(sign_in(on, database, _LOAD_FAMILIES + 1 + thefts))
    say(f"{thefts} thefts among {_LOAD_PER_S} refreshes a second")
    with (
        _proxy_trusted(),
        service(on, database) as serving,
        running(on, database, workers),
        owned(on, database) as connection,
    ):
        took = asyncio.run(_steal(connection, serving.port, tokens))
    took.sort()
    return statistics.median(took), took[len(took) * 99 // 100]


@contextmanager
def _proxy_trusted() -> Iterator[None]:
    os.environ["SESSIONTRAIL_TRUSTED_PROXIES"] = "127.0.0.1/32"
    try:
        yield
    finally:
        del os.environ["SESSIONTRAIL_TRUSTED_PROXIES"]


@contextmanager
def running(on: Bench, database: str, commands: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Run commands of Sessiontrail meanwhile, each with its settings."""
    processes = []
    with (on.folder / "workers.log").open("ab") as log:
        for name, settings in commands.items():
            environment = os.environ | {
                "DATABASE_URL": on.conninfo(database),
                "SESSIONTRAIL_DATA_DIR": str(on.folder),
                **settings,
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "sessiontrail", name],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(30)


async def _steal(
    connection: "psycopg.Connection[tuple[object, ...]]", port: int, tokens: list[str]
) -> list[float]:
    load = [
        asyncio.create_task(_refresh_steadily(port, token)) for token in tokens[:_LOAD_FAMILIES]
    ]
    first, *others = tokens[_LOAD_FAMILIES:]
    await _theft(port, first)  # from then on everybody is at work
    took: list[float] = []
    for token in others:
        # The circuit breaker allows twenty an hour among so few families.
        connection.execute("DELETE FROM detector_actions")
        took.append(await _theft(port, token))
        for task in load:
            if task.done():
                task.result()
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    return took


async def _refresh_steadily(port: int, token: str) -> None:
    client = await _Client.connect(port, _OWNER)
    pause_s = _LOAD_FAMILIES / _LOAD_PER_S
    due = time.perf_counter() + random.uniform(0, pause_s)
    while True:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        due += pause_s
        status, token = await client.refresh(token)
        if status != 200:
            msg = f"a refresh of the load was answered {status}"
            raise RuntimeError(msg)


async def _theft(port: int, token: str) -> float:
    owner = await _Client.connect(port, _OWNER)
    thief = await _Client.connect(port, _THIEF)
    _, token = await owner.refresh(token)
    status, token = await thief.refresh(token)
    began = time.perf_counter()
    while status == 200:
        await asyncio.sleep(0.002)
        status, token = await thief.refresh(token)
    took = time.perf_counter() - began
    owner.close()
    thief.close()
    return took * 1000


class _Client:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: Mapping[str, str],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._head = "POST /v1/refresh HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )

    @classmethod
    async def connect(cls, port: int, headers: Mapping[str, str]) -> "_Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port), headers)

    async def refresh(self, token: str) -> tuple[int, str]:
        """Status and successor of a refresh; the token itself where it is refused."""
        body = json.dumps({"refresh_token": token})
        self._writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answer = json.loads(await self._reader.readexactly(length))
        return int(head.split(" ")[1]), answer.get("refresh_token", token)

    def close(self) -> None:
        self._writer.close()
