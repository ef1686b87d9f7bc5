"""A real Apache Kafka broker in a folder: one process, KRaft, on the loopback interface only.

For tests and for a person at their own machine. One broker keeps one copy of each message and
talks without TLS unless it is told otherwise, so it is no place for anybody else's data.
"""

import base64
import contextlib
import fcntl
import logging
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import kafka
from kafka.errors import KafkaError

from infra.kafka_access import KafkaAccess
from infra.kafka_clients import connect
from infra.kafka_distribution import jars, java

logger = logging.getLogger(__name__)

_PATIENCE_S: Final = 60.0
_STOP_S: Final = 15.0
_GUARDED: Final = "SASL_SSL"
_MECHANISM: Final = "SCRAM-SHA-512"
_PORTS: Final = range(20_000, 30_000)
"""Below those that the kernel gives to outgoing connections: a port that a killed broker left must
still be free when it comes back."""


class LocalKafkaError(Exception):
    """The broker does not start; the message says why."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What a broker asks of its clients: TLS, and to authenticate with SCRAM-SHA-512.

    Attributes:
        key_file: Its private key and certificate, PEM, for 127.0.0.1.
        ca_file: Who vouches for that certificate.
        username: The one account that there is; made with the data folder.
        password: Proves it.
    """

    key_file: Path
    ca_file: Path
    username: str
    password: str = field(repr=False)

    def settings(self) -> dict[str, str]:
        """The broker's settings for it."""
        login = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required"
            f' username="{self.username}" password="{self.password}";'
        )
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.key_file),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "security.inter.broker.protocol": _GUARDED,
            "sasl.enabled.mechanisms": _MECHANISM,
            "sasl.mechanism.inter.broker.protocol": _MECHANISM,
            f"listener.name.sasl_ssl.{_MECHANISM.lower()}.sasl.jaas.config": login,
        }

    def account(self) -> str:
        """How the account is made with the data folder."""
        return f"{_MECHANISM}=[name={self.username},password={self.password}]"


@dataclass(slots=True)
class LocalKafka:
    """A broker that lives in a folder, and its process while it runs.

    Attributes:
        folder: Its data, settings and log.
        port: Where clients connect, on 127.0.0.1.
        controller_port: Where it talks to itself.
        heap_mb: The most that Java takes for objects; the process takes about half as much again.
        guard: What it asks of clients; None lets everybody in, without TLS.
    """

    folder: Path
    port: int
    controller_port: int
    heap_mb: int = 384
    guard: Guard | None = field(default=None, kw_only=True)
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def bootstrap_servers(self) -> str:
        """What ``KAFKA_BOOTSTRAP_SERVERS`` has to be for this broker."""
        return f"127.0.0.1:{self.port}"

    def access(self, topic: str, partitions: int = 8) -> KafkaAccess:
        """How our clients reach a topic on it."""
        plain = KafkaAccess(self.bootstrap_servers, topic, partitions)
        if self.guard is None:
            return plain
        return replace(
            plain,
            security_protocol=_GUARDED,
            ca_file=self.guard.ca_file,
            sasl_mechanism=_MECHANISM,
            username=self.guard.username,
            password=self.guard.password,
        )

    @property
    def log_path(self) -> Path:
        """What it logs, from warnings on."""
        return self.folder / "broker.log"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def start(self) -> None:
        """Start it, on the data that is there or on none, and wait until it serves.

        Raises:
            NoKafkaError: There is no Java, or no way to the broker's jars.
            LocalKafkaError: It does not start, or another one runs in this folder.
        """
        program = [java(), "-cp", str(jars() / "*")]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        alive = self._hold()
        try:
            self._write_settings()
            self._format(program)
            self._process = self._spawn(
                *program[:1],
                *(f"-Xmx{self.heap_mb}m", "-Xms96m", "-XX:+UseSerialGC"),
                "-XX:TieredStopAtLevel=1",  # starts in half the time, and is fast enough here
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                *program[1:],
                "kafka.Kafka",
                str(self._settings_path),
                alive=alive,
            )
        finally:
            os.close(alive)
        self._wait_until_ready()

    def kill(self) -> None:
        """``kill -9``: the data stays as it lies there."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut down cleanly; killed if it has not ended after 15 seconds."""
        self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it ends by itself; returns its exit code."""
        return 0 if self._process is None else self._process.wait()

    @property
    def _settings_path(self) -> Path:
        return self.folder / "server.properties"

    def _end(self, request: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        process.send_signal(request)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _hold(self) -> int:
        """A lock that every process of the broker inherits: unlike a pid, no stranger has it."""
        descriptor = os.open(self.folder / "alive", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            msg = f"a broker runs in {self.folder} already: end it first"
            raise LocalKafkaError(msg) from error
        return descriptor

    def _write_settings(self) -> None:
        protocol = "PLAINTEXT" if self.guard is None else _GUARDED
        listeners = (
            f"{protocol}://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}"
        )
        chosen = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{protocol}:{protocol}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            # One that was killed may come back as soon as its registration has lapsed.
            "broker.session.timeout.ms": "1500",
            "broker.heartbeat.interval.ms": "300",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            **({} if self.guard is None else self.guard.settings()),
        }
        lines = "".join(f"{name}={value}\n" for name, value in chosen.items())
        self._settings_path.touch(0o600)
        self._settings_path.write_text(lines, encoding="utf-8")

    def _format(self, program: list[str]) -> None:
        """Make the data folder, unless it is there."""
        if (self.folder / "data" / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        format_tool = ("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id)
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        settings = ["-c", str(self._settings_path)]
        if self.guard is not None:
            settings += ["-S", self.guard.account()]
        if self._spawn(*program[:1], quiet, *program[1:], *format_tool, *settings).wait() != 0:
            raise self._failure("the broker's data folder could not be made")

    def _spawn(self, *command: str, alive: int | None = None) -> "subprocess.Popen[bytes]":
        """Run Java out of reach of our terminal: it ends when we say so."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if alive is None else (alive,),
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if self.pid is None:
                raise self._failure("the broker ended at its start")
            if self._answers():
                return
            time.sleep(0.05)
        self.kill()
        raise self._failure(f"the broker was not ready within {_PATIENCE_S:.0f} s")

    def _answers(self) -> bool:
        """Whether clients can connect and find the one broker there is."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            with contextlib.suppress(KafkaError):
                admin = connect(self.access("any"), kafka.KafkaAdminClient)
                try:
                    return bool(admin.describe_cluster()["brokers"])
                finally:
                    admin.close()
        return False

    def _failure(self, what: str) -> LocalKafkaError:
        said = self.log_path.read_text(errors="replace").splitlines()[-8:]
        return LocalKafkaError("\n".join([f"{what}; {self.log_path} ends:", *said]))


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on, outside the range of outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)  # noqa: S311 (no secret: only to stay out of others' way)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found
