"""What the detector did to the honest: alerts, step-ups and revocations, by trap."""

from datetime import datetime, timedelta

import msgspec

from detector.world.playback import Answer, Finding, Request

REPEATS_WITHIN = timedelta(minutes=60)
"""One alert for each user, rule and family within so long (detection.md)."""


class TrapRow(msgspec.Struct, frozen=True):
    """What befell the honest of one label.

    Attributes:
        label: Their label; ``all`` for everybody.
        users: How many users.
        families: How many families without an attacker in them.
        revoked: Families among these that were revoked.
        stepped_up: Families among these that were asked to prove themselves.
        alerts: Alerts, repeats within an hour counted once.
        sign_ins: Successful sign-ins.
        sign_in_alerts: Sign-ins with an alert.
        rules: Alerts by rule.
        days: How long it all took.
    """

    label: str
    users: int
    families: int
    revoked: int
    stepped_up: int
    alerts: int
    sign_ins: int
    sign_in_alerts: int
    rules: dict[str, int]
    days: float

    @property
    def revoked_per_10_000(self) -> float:
        """Wrongful revocations per 10,000 families."""
        return 10_000 * self.revoked / self.families if self.families else 0.0

    @property
    def alerts_per_1_000_a_day(self) -> float:
        """Alerts per 1,000 users a day."""
        return 1_000 * self.alerts / (self.users * self.days) if self.users and self.days else 0.0

    @property
    def alerts_per_1_000_sign_ins(self) -> float:
        """Sign-ins with an alert, per 1,000."""
        return 1_000 * self.sign_in_alerts / self.sign_ins if self.sign_ins else 0.0


class _Trap(msgspec.Struct):
    users: set[str] = msgspec.field(default_factory=set)
    families: set[str] = msgspec.field(default_factory=set)
    revoked: set[str] = msgspec.field(default_factory=set)
    stepped_up: set[str] = msgspec.field(default_factory=set)
    alerts: int = 0
    sign_ins: int = 0
    sign_in_alerts: int = 0
    rules: dict[str, int] = msgspec.field(default_factory=dict)


class FalseAlarmTally:
    """Watches the honest in a playback. Users count until they are attacked, not after."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._traps: dict[str, _Trap] = {}
        self._owners: dict[str, str] = {}
        self._alerted: dict[tuple[str, str, str], datetime] = {}
        self._bursts: dict[str, datetime] = {}
        self._days: set[datetime] = set()

    def watch_attacker(self, request: Request, answer: Answer) -> None:
        """Take in a request of an attacker's: an alert about a burst is rightly under way then."""
        for finding in answer.findings:
            if finding.is_alert and finding.is_about_many:
                self._bursts[finding.rule] = request.at

    def watch(self, request: Request, answer: Answer) -> None:
        """Take in a request of somebody honest who has not been attacked."""
        trap = self._traps.setdefault(request.label, _Trap())
        if request.do == "login":
            self._owners[request.family] = request.user
            trap.sign_ins += 1
        user = request.user or self._owners.get(request.family, "")
        trap.users.add(user)
        self._days.add(request.at.replace(hour=0, minute=0, second=0, microsecond=0))
        if request.family:
            trap.families.add(request.family)
            if answer.result in {"revoked", "reuse"}:
                trap.revoked.add(request.family)
            elif answer.result == "step_up":
                trap.stepped_up.add(request.family)
        told = [each for each in answer.findings if each.is_alert]
        if told and request.do == "login":
            trap.sign_in_alerts += 1
        for finding in told:
            if finding.revokes and request.family:
                trap.revoked.add(request.family)
            elif finding.response == "step_up" and request.family:
                trap.stepped_up.add(request.family)
            if not self._is_repeat(finding, user, request):
                trap.alerts += 1
                trap.rules[finding.rule] = trap.rules.get(finding.rule, 0) + 1

    def _is_repeat(self, finding: Finding, user: str, request: Request) -> bool:
        """Whether it belongs to an alert that was raised before; a burst's lasts as long as it."""
        if finding.is_about_many:
            before = self._bursts.get(finding.rule)
            self._bursts[finding.rule] = request.at
            return before is not None and request.at - before <= REPEATS_WITHIN
        key = (user, finding.rule, request.family)
        before = self._alerted.get(key)
        if before is not None and request.at - before <= REPEATS_WITHIN:
            return True
        self._alerted[key] = request.at
        return False

    def rows(self) -> list[TrapRow]:
        """Everybody first, then by label."""
        days = float(self._busy_days())
        everybody = _Trap()
        for trap in self._traps.values():
            everybody.users |= trap.users
            everybody.families |= trap.families
            everybody.revoked |= trap.revoked
            everybody.stepped_up |= trap.stepped_up
            everybody.alerts += trap.alerts
            everybody.sign_ins += trap.sign_ins
            everybody.sign_in_alerts += trap.sign_in_alerts
            for rule, count in trap.rules.items():
                everybody.rules[rule] = everybody.rules.get(rule, 0) + count
        rows = [_row("all", everybody, days)]
        return rows + [_row(label, self._traps[label], days) for label in sorted(self._traps)]

    def _busy_days(self) -> int:
        """Days of the world, without the long quiet before it."""
        if not self._days:
            return 0
        last = max(self._days)
        count = 0
        while last - timedelta(days=count) in self._days:
            count += 1
        return count


def _row(label: str, trap: _Trap, days: float) -> TrapRow:
    return TrapRow(
        label=label,
        users=len(trap.users),
        families=len(trap.families),
        revoked=len(trap.revoked),
        stepped_up=len(trap.stepped_up),
        alerts=trap.alerts,
        sign_ins=trap.sign_ins,
        sign_in_alerts=trap.sign_in_alerts,
        rules=trap.rules,
        days=days,
    )
