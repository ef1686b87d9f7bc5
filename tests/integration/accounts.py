"""Users and sessions on a real database, driven through the commands that the service uses."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.client import ClientContext
from domain.erasure import Erasure
from domain.events.envelope import USER, Actor, ActorKind, Cause
from domain.events.families import TokenDelivery
from domain.events.users import UserOrigin
from domain.family_decisions import FamilyCommand, Refresh, StartSession
from domain.ids import CorrelationId, FamilyId, SessionId, UserId
from domain.policy import SessionPolicy
from domain.ports import Executed
from domain.refresh_token import (
    SALT_BYTES,
    SECRET_BYTES,
    RefreshToken,
    TokenKeys,
    encode_bytes,
    successor_of,
)
from domain.refusals import Refusal
from domain.user import EraseUser, RegisterUser, User
from infra.detection_policy_store import DetectionPolicyStore
from infra.erasure import PostgresErasure
from infra.ids import new_uuid
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys
from infra.user_commands import PostgresUserCommands

LAPTOP = ClientContext(
    ip="203.0.113.7",
    user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    hints={"sec-ch-ua-platform": '"Linux"'},
)
PHONE = ClientContext(
    ip="198.51.100.9",
    user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) Safari/604.1",
)
POLICY = SessionPolicy()
KEYS = TokenKeys(1, {1: bytes(range(32, 64))})

_numbers = itertools.count(1)


def cause() -> Cause:
    """A user's own request."""
    return Cause(USER, CorrelationId(new_uuid()))


def by_operator() -> Cause:
    """What somebody does at the command line."""
    return Cause(Actor(ActorKind.OPERATOR, "tests"), CorrelationId(new_uuid()))


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session as its client sees it."""

    family_id: FamilyId
    user: User
    token: RefreshToken

    @property
    def session_id(self) -> SessionId:
        """The session's id."""
        return self.token.session_id


class Accounts:
    """Makes users and signs them in."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        self.users = PostgresUserCommands(engine, data_keys)
        self.erasure = PostgresErasure(engine, self.users, DetectionPolicyStore(engine, data_keys))

    async def user(self, username: str | None = None) -> User:
        """A new local user."""
        command = RegisterUser(
            origin=UserOrigin.LOCAL, username=username or f"user-{next(_numbers)}@example.com"
        )
        added = await self.users.register(UserId(new_uuid()), command, "a hash", by_operator())
        assert isinstance(added, User), added
        return added

    async def erase(self, user: User, reason: str | None = None) -> Erasure:
        """Erase a user, as an operator does."""
        erased = await self.erasure.erase(user.user_id, EraseUser(reason), by_operator())
        assert isinstance(erased, Erasure), erased
        return erased

    async def sign_in(
        self,
        user: User | None = None,
        *,
        client: ClientContext = LAPTOP,
        device_name: str | None = None,
        policy: SessionPolicy = POLICY,
    ) -> SignedIn:
        """A new session: of a new user unless one is given."""
        user = user or await self.user()
        family_id, command, by = start_session(
            user.user_id, client=client, device_name=device_name, policy=policy
        )
        opened = await self.users.open_session(user.credential_epoch, family_id, command, by)
        assert not isinstance(opened, Refusal), opened
        token = RefreshToken(1, family_id, command.session_id, 1, command.secret)
        return SignedIn(family_id, user, token)


def start_session(
    user_id: UserId,
    *,
    client: ClientContext = LAPTOP,
    device_name: str | None = None,
    policy: SessionPolicy = POLICY,
) -> tuple[FamilyId, StartSession, Cause]:
    """What opens a session: its family's id, the command, and why."""
    command = StartSession(
        session_id=SessionId(new_uuid()),
        user_id=user_id,
        client_id="web",
        auth_methods=("pwd",),
        delivery=TokenDelivery.BODY,
        persistent=True,
        secret=os.urandom(SECRET_BYTES),
        token_key=KEYS.current_id,
        client=client,
        device_name=device_name,
        policy=policy,
    )
    return FamilyId(new_uuid()), command, cause()


def refresh(
    token: RefreshToken,
    *,
    client: ClientContext = LAPTOP,
    policy: SessionPolicy = POLICY,
    keys: TokenKeys = KEYS,
) -> Refresh:
    """A refresh with fresh salt."""
    return Refresh(
        presented=token,
        client=client,
        salt=encode_bytes(os.urandom(SALT_BYTES)),
        keys=keys,
        policy=policy,
    )


def itself(executed: Executed) -> Executed:
    """The ``finish`` of tests that look at everything."""
    return executed


async def present(
    lanes: RefreshLanes,
    token: RefreshToken,
    *,
    client: ClientContext = LAPTOP,
    policy: SessionPolicy = POLICY,
) -> RefreshToken | Refusal:
    """Present a token: the successor, or why it was refused."""
    executed = await lanes.execute(
        token.family_id, refresh(token, client=client, policy=policy), cause(), itself
    )
    return answer_of(executed, token)


def answer_of(executed: Executed, presented: RefreshToken) -> RefreshToken | Refusal:
    """What the client gets: the successor as derived again from the session, or the refusal."""
    if executed.decision.refusal is not None or executed.family is None:
        assert executed.decision.refusal is not None
        return executed.decision.refusal
    session = executed.family.session(presented.session_id)
    assert session is not None
    assert session.salt is not None
    return successor_of(presented, salt=session.salt, key_id=session.token_key, keys=KEYS)


async def carry_out(
    lanes: RefreshLanes, family_id: FamilyId, command: FamilyCommand
) -> Refusal | None:
    """Give a command to a family; returns why it was refused, if it was."""
    executed = await lanes.execute(family_id, command, cause(), itself)
    return executed.decision.refusal


@asynccontextmanager
async def at_work(lanes: RefreshLanes) -> AsyncIterator[RefreshLanes]:
    """The lanes, working for as long as the block lasts."""
    work = asyncio.create_task(lanes.run())
    try:
        yield lanes
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
