"""The store: the database, and the keys that open it. What commands need, without the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Actor, ActorKind, Cause
from domain.ids import CorrelationId
from infra.ids import new_uuid
from infra.key_files import KeyRing
from infra.postgres import create_engine
from infra.sealing import DataKeys
from infra.service_keys import ServiceKeyStore
from infra.settings import Settings
from infra.signing_keys import SigningKeyStore
from infra.user_commands import PostgresUserCommands


def cause_of(job: str) -> Cause:
    """The cause of what the service does by itself."""
    return Cause(Actor(ActorKind.SYSTEM, job), CorrelationId(new_uuid()))


@dataclass(frozen=True, slots=True)
class Store:
    """The database and the keys that open it: what the command line needs."""

    engine: AsyncEngine
    data_keys: DataKeys
    users: PostgresUserCommands
    signing_keys: SigningKeyStore
    service_keys: ServiceKeyStore


@asynccontextmanager
async def open_store(settings: Settings, conninfo: str, keys: KeyRing) -> AsyncIterator[Store]:
    """The store, for as long as the block lasts."""
    engine = create_engine(
        conninfo, max_connections=settings.database_connections, wait_s=settings.database_wait
    )
    data_keys = DataKeys(keys.masters)
    try:
        yield Store(
            engine,
            data_keys,
            PostgresUserCommands(engine, data_keys),
            SigningKeyStore(engine, keys.masters),
            ServiceKeyStore(engine, keys.masters),
        )
    finally:
        await engine.dispose()
