"""Reads of sessions and users for lists, staff and introspection, in SQLAlchemy Core."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.family import Family
from domain.ids import FamilyId, SessionId, UserId
from domain.ports import SessionPage
from domain.user import User
from infra.postgres import queries
from infra.schema import sessions, users
from infra.user_rows import USER_COLUMNS, user_of
from projections.session_rows import SESSION_COLUMNS, SessionRow, family_of

SESSION = [
    cast(sessions.c.client, Text) if name == "client" else sessions.c[name]
    for name in SESSION_COLUMNS
]
_USER = [users.c[name] for name in USER_COLUMNS]
CLOCK: Any = func.clock_timestamp()  # Any: SQLAlchemy leaves a generic function's type open


class PostgresSessionQueries:
    """``domain.ports.SessionQueries`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Read through this pool."""
        self._engine = engine

    async def live_families(
        self, user_id: UserId, *, limit: int, before: FamilyId | None
    ) -> SessionPage:
        """See ``domain.ports.SessionQueries.live_families``."""
        async with queries(self._engine) as connection:
            at: datetime = (await connection.execute(select(CLOCK))).scalar_one()
            chosen = (
                select(sessions.c.family_id)
                .distinct()
                .where(
                    sessions.c.user_id == user_id,
                    sessions.c.ended_at.is_(None),
                    sessions.c.idle_expires_at > at,
                    sessions.c.expires_at > at,
                )
                .order_by(sessions.c.family_id.desc())
                .limit(limit + 1)
            )
            if before is not None:
                chosen = chosen.where(sessions.c.family_id < before)
            ids = (await connection.execute(chosen)).scalars().all()
            rows = await rows_of(
                connection,
                select(*SESSION)
                .where(sessions.c.family_id.in_(ids[:limit]))
                .order_by(sessions.c.family_id.desc(), sessions.c.ordinal),
            )
        following = FamilyId(ids[limit - 1]) if len(ids) > limit else None
        return SessionPage(families_of(rows), following, at)

    async def family_of_session(
        self, session_id: SessionId
    ) -> tuple[Family, User, datetime] | None:
        """See ``domain.ports.SessionQueries.family_of_session``."""
        of_session = select(sessions.c.family_id).where(sessions.c.session_id == session_id)
        return await self._family(sessions.c.family_id == of_session.scalar_subquery())

    async def family(self, family_id: FamilyId) -> tuple[Family, User, datetime] | None:
        """See ``domain.ports.SessionQueries.family``."""
        return await self._family(sessions.c.family_id == family_id)

    async def _family(self, which: ColumnElement[bool]) -> tuple[Family, User, datetime] | None:
        statement = (
            select(*SESSION, *_USER, CLOCK)
            .join(users, users.c.user_id == sessions.c.user_id)
            .where(which)
            .order_by(sessions.c.ordinal)
        )
        async with queries(self._engine) as connection:
            rows = await rows_of(connection, statement)
        if not rows:
            return None
        first = rows[0]
        width = len(SESSION_COLUMNS)
        return families_of(rows)[0], user_of(tuple(first[width:-1])), first[-1]


async def rows_of(connection: AsyncConnection, statement: Select[Any]) -> Sequence[Row[Any]]:
    """Any: the rows have the columns of the statement."""
    rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
    return rows


def families_of(rows: Sequence[Row[Any]]) -> list[Family]:
    """Any: as ``rows_of``. Rows of one family lie together."""
    by_family: dict[str, list[SessionRow]] = {}
    for row in rows:
        session = SessionRow(*row[: len(SESSION_COLUMNS)])
        by_family.setdefault(session.family_id, []).append(session)
    return [family_of(group) for group in by_family.values()]
