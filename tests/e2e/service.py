"""A running service for tests: the real command, in a process of its own, on a real database."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.key_files import create_key_file

START_DEADLINE_S = 60.0


@dataclass(slots=True)
class RunningService:
    """One ``sessiontrail serve`` process."""

    url: str
    log_path: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        """Everything that it has printed and logged."""
        return self.log_path.read_text()

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(data_dir: Path, conninfo: str | None, **settings: str) -> dict[str, str]:
    """The environment of a service process: ours without any settings of this machine."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SESSIONTRAIL_")
        and name not in {"PORT", "HOST", "DATABASE_URL", "REDIS_URL"}
    }
    chosen = {
        "SESSIONTRAIL_DATA_DIR": str(data_dir),
        "SESSIONTRAIL_DEMO": "true",
        **({} if conninfo is None else {"DATABASE_URL": conninfo}),
        **settings,
    }
    return inherited | chosen


@contextmanager
def service(data_dir: Path, conninfo: str | None, **settings: str) -> Iterator[RunningService]:
    """A service on a database, stopped at the end.

    Args:
        data_dir: Its data folder; services that share a database share this too (the key file).
        conninfo: The database; None for the embedded one.
        settings: Environment variables, such as ``SESSIONTRAIL_OVERLAP_WINDOW="0"``.
    """
    running = start(data_dir, conninfo, **settings)
    try:
        yield running
    finally:
        running.stop()


def start(data_dir: Path, conninfo: str | None, **settings: str) -> RunningService:
    """Start a service and wait until it is ready.

    Raises:
        AssertionError: It exited, or was not ready in time; with its log.
    """
    port = int(settings.pop("PORT", "0")) or free_port()
    variables = environment(data_dir, conninfo, **settings) | {"PORT": str(port)}
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_keys(data_dir)
    log_path = data_dir / f"service-{port}.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "serve"],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    running = RunningService(f"http://127.0.0.1:{port}", log_path, variables, process)
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the service exited:\n{running.log()}"
        try:
            if httpx.get(running.url + "/readyz", timeout=2).status_code == httpx.codes.OK:
                return running
        except httpx.TransportError:
            time.sleep(0.02)
    running.kill()
    raise AssertionError(f"the service was not ready in time:\n{running.log()}")


def make_keys(data_dir: Path) -> None:
    """A key file in the folder, unless there is one."""
    create_key_file(data_dir / "keys.json")


def command(
    running_environment: Mapping[str, str], *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``sessiontrail ARGUMENTS`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sessiontrail", *arguments],
        env=dict(running_environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def json_of(response: httpx.Response, status: int = 200) -> dict[str, object]:
    """The JSON object of an answer that has this status."""
    assert response.status_code == status, response.text
    body = json.loads(response.text)
    assert isinstance(body, dict)
    return body
