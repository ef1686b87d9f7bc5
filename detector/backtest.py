"""The back-test: what the rules would have found in stored history, beside what analysts said.

The same pure functions as everywhere; nothing is changed. Alerts of the history are not read, but
for the verdicts on them: the crowd hears of what these rules find.
"""

from datetime import datetime

import msgspec

from detector.findings import Finding
from detector.groups import GroupState, Raise, group_key, grouped
from detector.memory import Memory
from detector.observing import observe
from detector.policy import RulesInForce
from detector.reading import EventReader
from domain.detection import Verdict
from domain.events.alerts import AlertRaised, AlertReopened, AlertResolved
from domain.events.envelope import RecordedEvent
from domain.events.personal import Personal
from domain.ids import SYSTEM_SUBJECT, Stream

_DAY_S = 86400.0
_SOURCE = "source:"

JUDGED_BY = (AlertRaised, AlertResolved, AlertReopened)
"""What tells of the verdicts that analysts gave."""


class RuleRecord(msgspec.Struct):
    """How one rule did.

    Attributes:
        findings: Whatever it said.
        alerts: Groups of findings above ``record``: what an analyst would have seen.
        confirmed: Of these, about what an analyst called a true positive.
        refuted: About what an analyst called a false positive or benign.
    """

    findings: int = 0
    alerts: int = 0
    confirmed: int = 0
    refuted: int = 0

    @property
    def precision(self) -> float | None:
        """Confirmed among those that were judged; None where none was."""
        judged = self.confirmed + self.refuted
        return self.confirmed / judged if judged else None


class BacktestReport(msgspec.Struct, frozen=True):
    """What a back-test came to.

    Attributes:
        events: How many were read.
        users: Users seen.
        days: From the first event to the last.
        rules: By rule.
        true_positives: Subjects that analysts called true positives.
        caught: Of these, how many were found.
        alerts_per_1000_users_a_day: None for less than a day or without users.
    """

    events: int
    users: int
    days: float
    rules: dict[str, RuleRecord]
    true_positives: int
    caught: int
    alerts_per_1000_users_a_day: float | None

    @property
    def recall(self) -> float | None:
        """Caught among the true positives; None where there are none."""
        return self.caught / self.true_positives if self.true_positives else None


class Backtest:
    """Takes history in, event by event, in the log's order."""

    def __init__(self, rules: RulesInForce, reader: EventReader) -> None:
        """Start with nobody known.

        Args:
            rules: The rules under the policy to be tried.
            reader: Makes observations of events.
        """
        self._rules = rules
        self._reader = reader
        self._memory = Memory()
        self._groups: dict[str, GroupState] = {}
        self._alerts: list[tuple[str, str]] = []
        self._records: dict[str, RuleRecord] = {}
        self._subject_of_alert: dict[Stream, str] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._users: set[str] = set()
        self._events = 0
        self._first: datetime | None = None
        self._last: datetime | None = None

    def take(self, recorded: RecordedEvent) -> None:
        """Take one event in."""
        self._events += 1
        self._first = self._first or recorded.occurred_at
        self._last = recorded.occurred_at
        self._hear(recorded)
        if isinstance(recorded.event, AlertRaised):
            return  # what these rules find is told to the crowd instead
        seen = self._reader.read(recorded)
        if seen is None:
            return
        if seen.user_id is not None:
            self._users.add(seen.user_id)
        for finding in observe(self._memory, seen, self._rules):
            self._note(finding)

    def report(self) -> BacktestReport:
        """What it came to so far."""
        caught = set()
        for record in self._records.values():
            record.confirmed = record.refuted = 0
        for rule, subject in self._alerts:
            verdict = self._verdicts.get(subject)
            if verdict is Verdict.TRUE_POSITIVE:
                self._records[rule].confirmed += 1
                caught.add(subject)
            elif verdict is not None:
                self._records[rule].refuted += 1
        days = self._days()
        per_day = None
        if self._users and days >= 1:
            per_day = len(self._alerts) / len(self._users) / days * 1000
        true = [s for s, verdict in self._verdicts.items() if verdict is Verdict.TRUE_POSITIVE]
        return BacktestReport(
            self._events, len(self._users), days, self._records, len(true), len(caught), per_day
        )

    def _hear(self, recorded: RecordedEvent) -> None:
        """Take down what an analyst said; the last word counts."""
        event = recorded.event
        if isinstance(event, AlertRaised):
            self._subject_of_alert[recorded.stream] = _subject_of_alert(recorded, event)
            return
        subject = self._subject_of_alert.get(recorded.stream)
        if subject is None:
            return  # it was raised before the history that is played
        if isinstance(event, AlertResolved):
            self._verdicts[subject] = event.verdict
        elif isinstance(event, AlertReopened):
            self._verdicts.pop(subject, None)

    def _note(self, finding: Finding) -> None:
        record = self._records.setdefault(finding.rule, RuleRecord())
        record.findings += 1
        key = group_key(finding)
        self._groups[key], told = grouped(self._groups.get(key), finding)
        if isinstance(told, Raise) and finding.response.rank:
            record.alerts += 1
            self._alerts.append((finding.rule, _subject_of(finding)))

    def _days(self) -> float:
        if self._first is None or self._last is None:
            return 0.0
        return (self._last - self._first).total_seconds() / _DAY_S


def _subject_of(finding: Finding) -> str:
    """What a finding is about, as a verdict can be: a family, a user, a source, or its rule."""
    if finding.user_id is not None:
        return str(finding.family_id or finding.user_id)
    return finding.group if finding.group.startswith(_SOURCE) else f"rule:{finding.rule}"


def _subject_of_alert(recorded: RecordedEvent, raised: AlertRaised) -> str:
    """The same, of an alert."""
    if recorded.subject_id not in {None, SYSTEM_SUBJECT}:
        return str(raised.family_id or recorded.subject_id)
    personal = recorded.personal
    networks = personal.networks if isinstance(personal, Personal) else None
    return f"{_SOURCE}{networks[0]}" if networks else f"rule:{raised.rule}"
