"""The demo: a user to sign in as, and what to paste next."""

from domain.events.envelope import Cause
from domain.events.users import UserOrigin
from domain.ids import UserId
from domain.texts import normalise_username
from domain.user import RegisterUser
from infra.ids import new_uuid
from infra.password_hashing import PasswordHashing
from infra.user_commands import PostgresUserCommands

DEMO_USERNAME = "ada@example.com"
DEMO_PASSWORD = "correct horse battery staple"


async def ensure_demo_user(
    users: PostgresUserCommands, passwords: PasswordHashing, cause: Cause
) -> None:
    """Create the demo user unless it is there."""
    username = normalise_username(DEMO_USERNAME)
    if await users.find_for_sign_in(username) is None:
        await users.register(
            UserId(new_uuid()),
            RegisterUser(origin=UserOrigin.LOCAL, username=username),
            await passwords.hash(DEMO_PASSWORD),
            cause,
        )


def commands(url: str) -> str:
    """What to paste into a terminal; README.md shows the same.

    For bash, zsh and dash, typed or pasted as a whole: no comments, which an interactive zsh takes
    for commands, and no files. ``call`` is curl, ``pick`` takes one member out of a JSON answer.
    """
    return f"""\
call() {{ curl -sS -H 'Content-Type: application/json' "{url}$@"; echo; }}
pick() {{ sed -n 's/.*"'"$1"'":"\\([^"]*\\)".*/\\1/p'; }}
ADA='{{"username":"{DEMO_USERNAME}","password":"{DEMO_PASSWORD}",
  "token_delivery":"body","device_name":"laptop"}}'

echo '1. Ada signs in on her laptop.'
LOGIN=$(call /v1/login -d "$ADA")
FIRST=$(echo "$LOGIN" | pick refresh_token)
ACCESS=$(echo "$LOGIN" | pick access_token)

echo '2. Her client refreshes: the first refresh token is exchanged for a second.'
SECOND=$(call /v1/refresh -d "{{\\"refresh_token\\":\\"$FIRST\\"}}" | pick refresh_token)

echo '3. She lists her devices.'
call /v1/sessions -H "Authorization: Bearer $ACCESS"

echo '4. A thief presents a copy of the first token, and is refused ...'
call /v1/refresh -A Thief/1.0 -d "{{\\"refresh_token\\":\\"$FIRST\\"}}"

echo '5. ... and since nobody can tell the two apart, so is her second: the session is over.'
call /v1/refresh -d "{{\\"refresh_token\\":\\"$SECOND\\"}}"

echo '6. She signs in again, and then revokes all her sessions, wherever they are.'
ACCESS=$(call /v1/login -d "$ADA" | pick access_token)
call /v1/logout-all -X POST -H "Authorization: Bearer $ACCESS"
"""


def walk(url: str) -> str:
    """What to do next, printed once the service answers."""
    return f"""
Paste this into another terminal:

{commands(url)}
Ctrl-C stops everything; the data stays.
"""
