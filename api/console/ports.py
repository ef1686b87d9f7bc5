"""What the console needs from outside beside ``api.ports``; ``infra.console_queries`` has it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from domain.activity import Counted, Standing
from domain.alert import AlertStatus
from domain.detection import Severity, Verdict
from domain.events.envelope import Cause, NewEvent
from domain.ids import AlertId, FamilyId, UserId
from domain.ports import SessionPage
from domain.rule_trials import RuleTrial, TrialAsked


class Activity(Protocol):
    """What happens, over time."""

    async def counted(
        self, since: datetime, until: datetime, stretch: timedelta
    ) -> Sequence[Counted]:
        """How much happened within a time, by stretches of this length."""
        ...

    async def standing(self) -> Standing:
        """How far behind the readers of the log are."""
        ...


class AlertReports(Protocol):
    """Puts on record what people report themselves."""

    async def raise_alert(
        self, alert_id: AlertId, events: Sequence[NewEvent], subject: UserId, cause: Cause
    ) -> bool:
        """Raise an alert about a user; whether it is a new one, and not told before."""
        ...


class RuleTrials(Protocol):
    """Back-tests of rules, short enough for somebody who waits."""

    async def tried(self, asked: TrialAsked) -> RuleTrial | None:
        """What a trial came to; None where it would take too long, or another is under way."""
        ...


class ConsoleQueries(Protocol):
    """Reads that only pages ask for, each by an index."""

    async def alert_counts(self) -> Mapping[AlertStatus, Mapping[Severity, int]]:
        """How many alerts are open or being looked into, by severity."""
        ...

    async def alerts_by_rule(self, since: datetime) -> Mapping[str, Mapping[Verdict | None, int]]:
        """How many alerts each rule raised that were last seen since then, by their verdicts."""
        ...

    async def names(self, user_ids: Collection[UserId]) -> Mapping[UserId, str]:
        """What these users are called; those who were erased, or never were, are missing."""
        ...

    async def user_of_subject(self, subject: str) -> UserId | None:
        """The user that a backend calls so."""
        ...

    async def families(
        self, user_id: UserId, *, limit: int, before: FamilyId | None
    ) -> SessionPage:
        """A page of a user's families, ended ones too, newest first."""
        ...

    async def triagers(self) -> Mapping[UserId, str]:
        """Who may triage alerts, by name."""
        ...
