"""The demo: a user to sign in as, and what to paste next."""

from domain.events.users import UserOrigin
from domain.ids import UserId
from domain.texts import normalise_username
from domain.user import RegisterUser
from infra.ids import new_uuid
from infra.key_files import KeyRing
from infra.password_hashing import PasswordHashing
from infra.settings import Settings
from sessiontrail.composition import cause_of, open_store

DEMO_USERNAME = "ada@example.com"
DEMO_PASSWORD = "correct horse battery staple"


async def ensure_demo_user(settings: Settings, conninfo: str, keys: KeyRing) -> None:
    """Create the demo user unless it is there."""
    username = normalise_username(DEMO_USERNAME)
    async with open_store(settings, conninfo, keys) as store:
        if await store.users.find_for_sign_in(username) is not None:
            return
        hashing = PasswordHashing()
        try:
            password_hash = await hashing.hash(DEMO_PASSWORD)
        finally:
            hashing.close()
        await store.users.register(
            UserId(new_uuid()),
            RegisterUser(origin=UserOrigin.LOCAL, username=username),
            password_hash,
            cause_of("demo"),
        )


def walk(url: str) -> str:
    """Commands to paste: sign in, refresh, list, steal and reuse, see the family revoked."""
    return f"""
Paste these into another terminal (they need curl and python3):

  # A small helper: one member of the last answer.
  get() {{ python3 -c 'import json,sys; print(json.load(open("/tmp/trail.json"))["'$1'"])'; }}

  # 1. Sign in; the answer holds an access token and a refresh token.
  curl -s {url}/v1/login -H 'Content-Type: application/json' -o /tmp/trail.json \\
    -d '{{"username":"{DEMO_USERNAME}","password":"{DEMO_PASSWORD}","token_delivery":"body","device_name":"laptop"}}'
  FIRST=$(get refresh_token); ACCESS=$(get access_token)

  # 2. Refresh: the token is exchanged for its successor.
  curl -s {url}/v1/refresh -H 'Content-Type: application/json' -o /tmp/trail.json \\
    -d "{{\\"refresh_token\\":\\"$FIRST\\"}}"; SECOND=$(get refresh_token)

  # 3. List your devices.
  curl -s {url}/v1/sessions -H "Authorization: Bearer $ACCESS"; echo

  # 4. Steal: somebody else presents the token that was already exchanged ...
  curl -s {url}/v1/refresh -A 'Thief/1.0' -H 'Content-Type: application/json' \\
    -d "{{\\"refresh_token\\":\\"$FIRST\\"}}"; echo

  # 5. ... and the whole family is revoked: your own token is refused too. Sign in again.
  curl -s {url}/v1/refresh -H 'Content-Type: application/json' \\
    -d "{{\\"refresh_token\\":\\"$SECOND\\"}}"; echo

Ctrl-C stops everything; the data stays.
"""
