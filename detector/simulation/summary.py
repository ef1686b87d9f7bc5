"""What a played file came to: by result, and by rule and response."""

from collections import Counter
from datetime import datetime

from detector.simulation.requests import Login, Request
from detector.simulation.results import Played, Result
from domain.detection import Response


class Summary:
    """Counts while a file is played."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.requests = 0
        self.bad_lines = 0
        self.results: Counter[Result] = Counter()
        self.findings: Counter[tuple[str, Response]] = Counter()
        self._users: set[str] = set()
        self._first: datetime | None = None
        self._last: datetime | None = None

    def note(self, request: Request, played: Played) -> None:
        """Count one request."""
        self.requests += 1
        self.results[played.result] += 1
        for finding in played.findings:
            self.findings[finding.rule, finding.response] += 1
        if isinstance(request, Login):
            self._users.add(request.user)
        self._first = self._first or request.at
        self._last = request.at

    @property
    def users(self) -> int:
        """Users who signed in."""
        return len(self._users)

    @property
    def days(self) -> float:
        """From the first request to the last, in days."""
        if self._first is None or self._last is None:
            return 0.0
        return (self._last - self._first).total_seconds() / 86400

    def alerts_per_1000_users_a_day(self) -> float | None:
        """Findings above ``record``; None where there are no users, or it is less than a day."""
        if not self.users or self.days < 1:
            return None
        alerts = sum(n for (_, response), n in self.findings.items() if response.rank)
        return alerts / self.users / self.days * 1000
