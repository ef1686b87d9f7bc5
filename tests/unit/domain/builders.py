"""What tests of the rules start from: times, clients, keys, and a family driven command by command.

A builder takes what its test is about and has a plain value for the rest.
"""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from domain.client import ClientContext
from domain.events.families import EndReason, TokenDelivery
from domain.family import Family, Session, fold_new
from domain.family_decisions import (
    Decision,
    EndSession,
    FamilyCommand,
    Refresh,
    RequireStepUp,
    RevokeFamily,
    StartSession,
    decide,
)
from domain.ids import FamilyId, SessionId, UserId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, TokenKeys, encode_bytes, successor_of

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_001, tzinfo=UTC)

FAMILY_ID = FamilyId("0195513a-0000-7000-8000-00000000fa01")
OTHER_FAMILY_ID = FamilyId("0195513a-0000-7000-8000-00000000fa02")
SESSION_ID = SessionId("0195513a-0000-7000-8000-000000005e01")
OTHER_SESSION_ID = SessionId("0195513a-0000-7000-8000-000000005e02")
USER_ID = UserId("0195513a-0000-7000-8000-00000000ada1")
CLIENT_ID = "web"
SECRET = bytes(range(100, 132))
SALT = encode_bytes(bytes(range(16)))
OTHER_SALT = encode_bytes(bytes(range(16, 32)))

KEY_1 = bytes(range(32))
KEY_2 = bytes(range(32, 64))
KEYS = TokenKeys(1, {1: KEY_1})
ROTATED_KEYS = TokenKeys(2, {1: KEY_1, 2: KEY_2})

_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:136.0) Gecko/20100101 Firefox/136.0"
_SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) Version/18.3 Safari/604.1"
LAPTOP = ClientContext(ip="203.0.113.7", user_agent=_FIREFOX)
LAPTOP_UPDATED = ClientContext(
    ip="203.0.113.200", user_agent=_FIREFOX.replace("136.0", "137.0.1"), hints={"sec-ch-ua": "x"}
)
PHONE = ClientContext(ip="198.51.100.9", user_agent=_SAFARI)
KEYED_LAPTOP = ClientContext(ip="203.0.113.7", user_agent=_FIREFOX, device_key="k" * 22)
KEYED_LAPTOP_ELSEWHERE = ClientContext(ip="2001:db8::7", user_agent="", device_key="k" * 22)
KEYED_THIEF = ClientContext(ip="203.0.113.7", user_agent=_FIREFOX, device_key="t" * 22)

POLICY = SessionPolicy()


def start_session(
    *,
    session_id: SessionId = SESSION_ID,
    client: ClientContext = LAPTOP,
    client_id: str = CLIENT_ID,
    device_name: str | None = None,
    persistent: bool = True,
    policy: SessionPolicy = POLICY,
    secret: bytes = SECRET,
    token_key: int = 1,
) -> StartSession:
    return StartSession(
        session_id=session_id,
        user_id=USER_ID,
        client_id=client_id,
        auth_methods=("pwd",),
        delivery=TokenDelivery.COOKIE,
        persistent=persistent,
        secret=secret,
        token_key=token_key,
        client=client,
        device_name=device_name,
        policy=policy,
    )


def refresh(
    presented: RefreshToken,
    *,
    client: ClientContext = LAPTOP,
    client_id: str | None = None,
    keys: TokenKeys = KEYS,
    policy: SessionPolicy = POLICY,
    salt: str = SALT,
) -> Refresh:
    return Refresh(
        presented=presented,
        client=client,
        salt=salt,
        keys=keys,
        policy=policy,
        client_id=client_id,
    )


def first_token(
    *,
    family_id: FamilyId = FAMILY_ID,
    session_id: SessionId = SESSION_ID,
    secret: bytes = SECRET,
    key_id: int = 1,
) -> RefreshToken:
    """The token that a sign-in hands out."""
    return RefreshToken(
        key_id=key_id, family_id=family_id, session_id=session_id, generation=1, secret=secret
    )


def forged(generation: int, secret: bytes = bytes(32)) -> RefreshToken:
    """A token whose MAC held, with a secret that this history never issued."""
    return with_generation(first_token(secret=secret), generation)


def with_generation(token: RefreshToken, generation: int) -> RefreshToken:
    """The same token with another generation written in it, under a MAC that holds."""
    return RefreshToken(token.key_id, token.family_id, token.session_id, generation, token.secret)


def carried_out(
    family: Family | None,
    command: FamilyCommand,
    at: datetime = NOW,
    *,
    family_id: FamilyId = FAMILY_ID,
) -> tuple[Decision, Family]:
    """What the rules say, and the state after; a clock that stepped back is held, as in infra."""
    at = at if family is None else max(at, family.last_event_at())
    decision = decide(family, command, at)
    return decision, fold_new(family, family_id, decision.events, at)


def signed_in(
    command: StartSession | None = None, at: datetime = NOW, *, family_id: FamilyId = FAMILY_ID
) -> tuple[Family, RefreshToken]:
    """A family after its sign-in, and the token that the client was given."""
    command = command or start_session()
    _, family = carried_out(None, command, at, family_id=family_id)
    token = first_token(
        family_id=family_id,
        session_id=command.session_id,
        secret=command.secret,
        key_id=command.token_key,
    )
    return family, token


def refreshed(family: Family, command: Refresh, at: datetime = NOW) -> tuple[Family, RefreshToken]:
    """A family after a refresh that was not refused, and the token that it was answered with."""
    decision, after = carried_out(family, command, at, family_id=family.family_id)
    if decision.refusal is not None:
        msg = f"the refresh was refused: {decision.refusal}"
        raise AssertionError(msg)
    return after, answer_to(after, command.presented, keys=command.keys)


def logged_out(family: Family, at: datetime = NOW) -> Family:
    """The family after its first session was ended."""
    ended = EndSession(family.sessions[0].session_id, EndReason.LOGOUT)
    return carried_out(family, ended, at, family_id=family.family_id)[1]


def revoked(family: Family, at: datetime = NOW) -> Family:
    """The family after it was revoked by staff."""
    return carried_out(family, RevokeFamily(EndReason.STAFF), at, family_id=family.family_id)[1]


def under_step_up(family: Family, at: datetime = NOW) -> Family:
    """The family once its user has to prove themself again."""
    return carried_out(family, RequireStepUp(), at, family_id=family.family_id)[1]


def answer_to(family: Family, presented: RefreshToken, *, keys: TokenKeys = KEYS) -> RefreshToken:
    """The token that an accepted refresh is answered with: derived again from the row."""
    session = only_session(family)
    if session.salt is None:
        msg = "the session never rotated"
        raise AssertionError(msg)
    return successor_of(presented, salt=session.salt, key_id=session.token_key, keys=keys)


def only_session(family: Family) -> Session:
    """The session of a family that has one."""
    (session,) = family.sessions
    return session


def changed(
    family: Family, *, events: int = 1, ordinal: int = 0, **session_fields: object
) -> Family:
    """The family some events later, with these fields of one of its sessions changed."""
    sessions = list(family.sessions)
    sessions[ordinal] = replace(sessions[ordinal], **session_fields)
    return replace(family, version=family.version + events, sessions=tuple(sessions))


def with_second_session(family: Family, **session_fields: object) -> Family:
    """The family with a second session, as token exchange will make one: no event does so yet."""
    first = only_session(family)
    second = replace(first, session_id=OTHER_SESSION_ID, ordinal=1, **session_fields)
    return replace(family, sessions=(first, second))
