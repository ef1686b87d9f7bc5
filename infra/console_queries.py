"""Reads that only the console's pages ask for, in SQLAlchemy Core; each goes by an index."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert import AlertStatus
from domain.detection import Severity, Verdict
from domain.events.users import Role
from domain.ids import FamilyId, UserId
from domain.ports import SessionPage
from infra.postgres import queries
from infra.schema import alerts, sessions, users
from infra.session_queries import CLOCK, SESSION, families_of, rows_of

_TO_DO = [AlertStatus.OPEN.value, AlertStatus.ACKNOWLEDGED.value]
_TRIAGERS = {Role.ANALYST.value, Role.ADMIN.value}
_MOST_STAFF = 1_000
_NAME = func.coalesce(users.c.external_subject, users.c.username).label("name")


class PostgresConsoleQueries:
    """``api.console.ports.ConsoleQueries`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Read through this pool."""
        self._engine = engine

    async def alert_counts(self) -> Mapping[AlertStatus, Mapping[Severity, int]]:
        """See ``ConsoleQueries.alert_counts``: from the index of the queue alone."""
        columns = alerts.c
        statement = (
            select(columns.status, columns.severity_rank, func.count())
            .where(columns.status.in_(_TO_DO))
            .group_by(columns.status, columns.severity_rank)
        )
        counts: dict[AlertStatus, dict[Severity, int]] = {}
        severities = list(Severity)
        async with queries(self._engine) as connection:
            for status, rank, count in await connection.execute(statement):
                counts.setdefault(AlertStatus(status), {})[severities[rank]] = count
        return counts

    async def alerts_by_rule(self, since: datetime) -> Mapping[str, Mapping[Verdict | None, int]]:
        """See ``ConsoleQueries.alerts_by_rule``."""
        columns = alerts.c
        statement = (
            select(columns.rule, columns.verdict, func.count())
            .where(columns.last_at >= since)
            .group_by(columns.rule, columns.verdict)
        )
        counts: dict[str, dict[Verdict | None, int]] = {}
        async with queries(self._engine) as connection:
            for rule, verdict, count in await connection.execute(statement):
                counts.setdefault(rule, {})[Verdict(verdict) if verdict else None] = count
        return counts

    async def names(self, user_ids: Collection[UserId]) -> Mapping[UserId, str]:
        """See ``ConsoleQueries.names``."""
        if not user_ids:
            return {}
        statement = select(users.c.user_id, _NAME).where(users.c.user_id.in_(user_ids))
        async with queries(self._engine) as connection:
            rows = (await connection.execute(statement)).all()
        return {UserId(user_id): name for user_id, name in rows if name is not None}

    async def user_of_subject(self, subject: str) -> UserId | None:
        """See ``ConsoleQueries.user_of_subject``."""
        statement = select(users.c.user_id).where(users.c.external_subject == subject)
        async with queries(self._engine) as connection:
            found: str | None = (await connection.execute(statement)).scalar_one_or_none()
        return None if found is None else UserId(found)

    async def families(
        self, user_id: UserId, *, limit: int, before: FamilyId | None
    ) -> SessionPage:
        """See ``ConsoleQueries.families``."""
        chosen = (
            select(sessions.c.family_id)
            .distinct()
            .where(sessions.c.user_id == user_id)
            .order_by(sessions.c.family_id.desc())
            .limit(limit + 1)
        )
        if before is not None:
            chosen = chosen.where(sessions.c.family_id < before)
        async with queries(self._engine) as connection:
            at: datetime = (await connection.execute(select(CLOCK))).scalar_one()
            ids = (await connection.execute(chosen)).scalars().all()
            rows = await rows_of(
                connection,
                select(*SESSION)
                .where(sessions.c.family_id.in_(ids[:limit]))
                .order_by(sessions.c.family_id.desc(), sessions.c.ordinal),
            )
        following = FamilyId(ids[limit - 1]) if len(ids) > limit else None
        return SessionPage(families_of(rows), following, at)

    async def triagers(self) -> Mapping[UserId, str]:
        """See ``ConsoleQueries.triagers``: by the index of those who have roles."""
        statement = (
            select(users.c.user_id, _NAME, users.c.roles)
            .where(users.c.roles != [], users.c.disabled_at.is_(None))
            .limit(_MOST_STAFF)
        )
        async with queries(self._engine) as connection:
            rows = (await connection.execute(statement)).all()
        return {
            UserId(user_id): name or user_id
            for user_id, name, roles in rows
            if _TRIAGERS & set(roles)
        }
