"""What a session family ought to answer, told a second time and in other words than the rules.

The model keeps the tokens that were handed out, by generation, and compares them as whole texts: it
knows no hash, no event, no fold. Whether two clients are the same is a label on each, not a rule.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import NamedTuple

from domain.client import ClientContext
from domain.policy import SessionPolicy
from tests.unit.domain.builders import (
    KEYED_LAPTOP,
    KEYED_LAPTOP_ELSEWHERE,
    KEYED_THIEF,
    LAPTOP,
    LAPTOP_UPDATED,
    PHONE,
)

NOBODY = ClientContext()
"""A client of whom nothing is known: never the same as any, not even as itself."""


class Caller(NamedTuple):
    """A client as the service sees it, and whose it is."""

    owner: str
    client: ClientContext


CALLERS = [
    Caller("laptop", LAPTOP),
    Caller("laptop", LAPTOP_UPDATED),
    Caller("phone", PHONE),
    Caller("keyed laptop", KEYED_LAPTOP),
    Caller("keyed laptop", KEYED_LAPTOP_ELSEWHERE),
    Caller("keyed thief", KEYED_THIEF),
    Caller("nobody", NOBODY),
]


class Outcome(Enum):
    """What a presented token comes to."""

    WRONG_CLIENT = auto()
    ENDED = auto()
    EXPIRED = auto()
    ROTATED = auto()
    RETRIED = auto()
    RETRIED_LATE = auto()
    UNRECOGNISED = auto()
    STEP_UP = auto()
    REUSED = auto()


@dataclass
class FamilyModel:
    """One family, as an outsider who sees every answer would keep track of it.

    Attributes:
        client_id: The OAuth client that it belongs to.
        idle: How long it may go without a refresh.
        dies_at: When it ends whatever happens.
        tokens: Every token handed out, oldest first; the last is the live one.
        holder: Who the live token was handed to.
        handed_at: When that was.
        seen_at: When a client last got an answer.
        late: When retries were answered after the window.
        on_record_at: When a refusal last went on record.
        unproven: Whether the user has to prove themself again first.
        over: Whether it has ended.
    """

    client_id: str
    idle: timedelta
    dies_at: datetime
    tokens: list[str]
    holder: Caller
    handed_at: datetime
    seen_at: datetime
    late: list[datetime] = field(default_factory=list)
    on_record_at: datetime | None = None
    unproven: bool = False
    over: bool = False

    def out_of_time(self, at: datetime) -> bool:
        """Whether it would have to end by itself."""
        return at >= min(self.dies_at, self.seen_at + self.idle)

    def token_of_age(self, age: int) -> str:
        """The live token at age 0, the one before it at 1; the first where there are no more."""
        return self.tokens[max(len(self.tokens) - 1 - age, 0)]

    def expects(
        self,
        token: str,
        generation: int,
        who: Caller,
        client_id: str | None,
        policy: SessionPolicy,
        at: datetime,
    ) -> Outcome:
        """What the presentation of a token ought to come to.

        Args:
            token: Its text.
            generation: The generation written in it.
            who: Who presents it.
            client_id: The OAuth client that it is presented for.
            policy: In force.
            at: When.
        """
        outcome = self._expects_of_proven(token, generation, who, client_id, policy, at)
        answered = {Outcome.ROTATED, Outcome.RETRIED, Outcome.RETRIED_LATE}
        return Outcome.STEP_UP if self.unproven and outcome in answered else outcome

    def _expects_of_proven(
        self,
        token: str,
        generation: int,
        who: Caller,
        client_id: str | None,
        policy: SessionPolicy,
        at: datetime,
    ) -> Outcome:
        if client_id not in {None, self.client_id}:
            return Outcome.WRONG_CLIENT
        if self.over:
            return Outcome.ENDED
        if self.out_of_time(at):
            return Outcome.EXPIRED
        if token == self.tokens[-1]:
            return Outcome.ROTATED
        if generation >= len(self.tokens):
            return Outcome.UNRECOGNISED
        if [token] == self.tokens[-2:-1] and who.owner == self.holder.owner != "nobody":
            return self._expects_of_predecessor(policy, at)
        return Outcome.REUSED

    def _expects_of_predecessor(self, policy: SessionPolicy, at: datetime) -> Outcome:
        if policy.overlap_window == timedelta(0):
            return Outcome.REUSED
        if at <= self.handed_at + policy.overlap_window:
            return Outcome.RETRIED
        if self.late_within(policy.late_retry_period, at) < policy.late_retry_budget:
            return Outcome.RETRIED_LATE
        return Outcome.REUSED

    def late_within(self, period: timedelta, at: datetime) -> int:
        """How many late retries were answered in the period before an instant."""
        return len([late for late in self.late if late + period > at])

    def goes_on_record(self, at: datetime) -> bool:
        """Whether a refusal at that time ought to be an event."""
        return self.on_record_at is None or at >= self.on_record_at + timedelta(seconds=60)

    def happened(self, outcome: Outcome, at: datetime, who: Caller, answer: str | None) -> None:
        """Take note of an answer.

        Args:
            outcome: What the presentation came to.
            at: When.
            who: Who presented.
            answer: The token that it was handed, if it was.
        """
        match outcome:
            case Outcome.ROTATED:
                assert answer is not None
                self.tokens.append(answer)
                self.holder, self.handed_at, self.seen_at = who, at, at
            case Outcome.RETRIED:
                self.seen_at = at
            case Outcome.RETRIED_LATE:
                self.seen_at = at
                self.late.append(at)
            case Outcome.ENDED | Outcome.UNRECOGNISED:
                if self.goes_on_record(at):
                    self.on_record_at = at
            case Outcome.EXPIRED | Outcome.REUSED:
                self.over = True
            case Outcome.WRONG_CLIENT | Outcome.STEP_UP:
                pass
