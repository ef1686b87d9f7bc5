"""Users and service keys, made as the command line makes them, and the keys of a service."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import argon2
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.users import Role, UserOrigin
from domain.ids import CorrelationId, UserId
from domain.service_keys import ServiceScope
from domain.texts import normalise_password, normalise_username
from domain.user import RegisterUser, User
from infra.ids import new_uuid
from infra.key_files import KeyRing, load_key_ring
from infra.postgres import create_engine
from infra.sealing import DataKeys
from infra.service_keys import NewServiceKey, ServiceKeyStore
from infra.signing_key_set import SigningKeySet
from infra.signing_keys import SigningKeyStore
from infra.user_commands import PostgresUserCommands
from tests.e2e.clients import used_secrets
from tests.e2e.service import RunningService

PASSWORD = "two ravens over the fjord"

_ResultT = TypeVar("_ResultT")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in."""

    user_id: str
    username: str
    password: str


def key_ring_of(service: RunningService) -> KeyRing:
    """The keys that the service runs with."""
    return load_key_ring(
        Path(service.environment["SESSIONTRAIL_DATA_DIR"], "keys.json"), None, None
    )


def conninfo_of(service: RunningService) -> str:
    """The database that the service runs on, as the role that it runs as."""
    return service.environment["DATABASE_URL"]


def add_user(
    service: RunningService,
    username: str | None = None,
    *,
    roles: tuple[Role, ...] = (),
    password: str = PASSWORD,
) -> Account:
    """A new user: nobody else's sessions and events are in the way of the test's."""
    name = username or f"user-{next(_numbers)}@example.com"
    used_secrets.add(password)
    command = RegisterUser(origin=UserOrigin.LOCAL, username=normalise_username(name), roles=roles)

    async def work(engine: AsyncEngine) -> User:
        users = PostgresUserCommands(engine, DataKeys(key_ring_of(service).masters))
        added = await users.register(UserId(new_uuid()), command, _hashed(password), _cause())
        assert isinstance(added, User), added
        return added

    return Account(_on_engine(service, work).user_id, name, password)


def add_service_key(service: RunningService, *scopes: ServiceScope) -> NewServiceKey:
    """A new service key."""

    async def work(engine: AsyncEngine) -> NewServiceKey:
        keys = ServiceKeyStore(engine, key_ring_of(service).masters)
        return await keys.add("a backend", scopes, _cause())

    added = _on_engine(service, work)
    used_secrets.add(added.text)
    return added


def signing_keys_of(service: RunningService) -> SigningKeySet:
    """The keys that the service signs access tokens with: what nobody outside it ever has."""

    async def work(engine: AsyncEngine) -> SigningKeySet:
        return await SigningKeyStore(engine, key_ring_of(service).masters).load()

    return _on_engine(service, work)


@cache
def _hashed(password: str) -> str:
    """As the service hashes it, so that a sign-in finds nothing to renew."""
    return argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(
        normalise_password(password)
    )


def _cause() -> Cause:
    return Cause(Actor(ActorKind.OPERATOR, "tests"), CorrelationId(new_uuid()))


def _on_engine(
    service: RunningService, work: Callable[[AsyncEngine], Awaitable[_ResultT]]
) -> _ResultT:
    async def main() -> _ResultT:
        async with _engine(conninfo_of(service)) as engine:
            return await work(engine)

    return asyncio.run(main())


@asynccontextmanager
async def _engine(conninfo: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(conninfo, max_connections=1, wait_s=5)
    try:
        yield engine
    finally:
        await engine.dispose()
