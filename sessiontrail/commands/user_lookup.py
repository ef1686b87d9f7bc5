"""Whom a person at the command line means."""

from sqlalchemy import select

from domain.ids import UserId, parse_uuid
from domain.ports import SignIn
from domain.texts import InvalidTextError, normalise_subject, normalise_username
from domain.user import User
from infra.postgres import queries
from infra.schema import users
from sessiontrail.commands.context import CommandError
from sessiontrail.store import Store


async def find_user(opened: Store, text: str) -> User:
    """The user of that name or id; the name that a backend knows them by is one, too.

    Raises:
        CommandError: There is none, or there are two of that name.
    """
    named = await user_of_subject(opened, text)
    parsed = parse_uuid(text)
    if parsed is not None:
        found = named or await opened.users.find(UserId(parsed))
    else:
        found = await _of_name(opened, text) or named
        if found is not None and named is not None and found != named:
            two = f"{found.user.user_id} (local) and {named.user.user_id} (external)"
            msg = f"{text} is the name of {two}: give the id"
            raise CommandError(msg)
    if found is None:
        msg = f"there is no user {text}"
        raise CommandError(msg)
    return found.user


async def user_of_subject(opened: Store, text: str) -> SignIn | None:
    """Whom a backend calls so. It may call them by a UUID, but never by the id of another user."""
    try:
        subject = normalise_subject(text)
    except InvalidTextError:
        return None
    statement = select(users.c.user_id).where(users.c.external_subject == subject)
    async with queries(opened.engine) as connection:
        user_id = (await connection.execute(statement)).scalar_one_or_none()
    return None if user_id is None else await opened.users.find(UserId(user_id))


async def _of_name(opened: Store, text: str) -> SignIn | None:
    try:
        return await opened.users.find_for_sign_in(normalise_username(text))
    except InvalidTextError as error:
        raise CommandError(str(error)) from error
