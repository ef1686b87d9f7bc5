"""How attacks fared: which were caught, by which of the thief's requests, and how soon."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from statistics import median

import msgspec

from detector.world.attacks import BURST_KINDS, Kind
from detector.world.playback import Answer, AttackId, Request

BURST_TRIES = 25
"""From so many tries on, a burst is one (the least that published rules ask for)."""
BURST_LIMIT = timedelta(seconds=60)
_TELLING_RESULTS = {"reuse", "revoked", "step_up"}
_LIMITS = {
    Kind.REUSE: 1,
    Kind.FUTURE_GENERATION: 1,
    Kind.IMPOSSIBLE_TRAVEL: 1,
    Kind.LOCKSTEP: 3,
    Kind.LATE_LOCKSTEP: 3,
    Kind.BOT: 60,
}
"""By which of the thief's requests an attack counts as caught in time."""
_USUAL_LIMIT = 2


class AttackRow(msgspec.Struct, frozen=True):
    """How the attacks of one kind and variant fared.

    Attributes:
        kind: What was done.
        variant: Which form of it; empty where there is one.
        attacks: How many.
        in_time: Caught within what is allowed; see ``limit``.
        ever: Caught at all, also when the owner came back.
        limit: What is allowed.
        median_requests: Of those caught: the thief's requests up to then.
        median_seconds: Of those caught: since the thief's first request (of a burst, since it was
            one).
    """

    kind: Kind
    variant: str
    attacks: int
    in_time: int
    ever: int
    limit: str
    median_requests: float | None
    median_seconds: float | None


class _Course(msgspec.Struct):
    """One attack as it goes."""

    attack: AttackId
    began_at: datetime
    requests: int = 0
    caught_at: datetime | None = None
    caught_by_request: int = 0


class CaughtTally:
    """Watches attacks in a playback."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._courses: dict[AttackId, _Course] = {}
        self._by_family: dict[str, list[_Course]] = {}

    def watch_thief(self, attack: AttackId, request: Request, answer: Answer) -> None:
        """Take in a request of an attacker's."""
        course = self._courses.get(attack)
        if course is None:
            course = self._courses[attack] = _Course(attack, request.at)
        course.requests += 1
        if attack.kind in BURST_KINDS and course.requests <= BURST_TRIES:
            course.began_at = request.at
        if request.family:
            courses = self._by_family.setdefault(request.family, [])
            if course not in courses:
                courses.append(course)
        if _tells(answer):
            _catch(course, request.at)

    def watch_owner(self, request: Request, answer: Answer) -> None:
        """Take in a request of somebody honest, which may bring an attack to light."""
        for course in self._by_family.get(request.family, ()):
            if _tells(answer):
                _catch(course, request.at)

    def rows(self) -> list[AttackRow]:
        """The outcome, by kind and variant, in the order of the kinds."""
        grouped: dict[tuple[Kind, str], list[_Course]] = {}
        for course in self._courses.values():
            grouped.setdefault((course.attack.kind, course.attack.variant), []).append(course)
        order = list(Kind)
        keys = sorted(grouped, key=lambda key: (order.index(key[0]), key[1]))
        return [_row(kind, variant, grouped[kind, variant]) for kind, variant in keys]


def victims(requests: Iterable[Request]) -> tuple[set[str], Mapping[str, datetime]]:
    """Families with an attacker in them, and since when each attacked user is one."""
    families: set[str] = set()
    users: dict[str, datetime] = {}
    owners: dict[str, str] = {}
    for request in requests:
        if request.do == "login":
            owners[request.family] = request.user
        if request.is_attack and request.family:
            families.add(request.family)
            owner = owners.get(request.family, "")
            users.setdefault(owner, request.at)
    return families, users


def _tells(answer: Answer) -> bool:
    return answer.result in _TELLING_RESULTS or any(each.is_alert for each in answer.findings)


def _catch(course: _Course, at: datetime) -> None:
    if course.caught_at is None:
        course.caught_at = at
        course.caught_by_request = course.requests


def _in_time(course: _Course) -> bool:
    if course.caught_at is None:
        return False
    kind = course.attack.kind
    if kind in BURST_KINDS:
        return course.caught_at - course.began_at <= BURST_LIMIT
    return kind is Kind.SLOW_THEFT or course.caught_by_request <= _LIMITS.get(kind, _USUAL_LIMIT)


def _row(kind: Kind, variant: str, courses: list[_Course]) -> AttackRow:
    caught = [course for course in courses if course.caught_at is not None]
    delays = [
        max((course.caught_at - course.began_at).total_seconds(), 0.0)
        for course in caught
        if course.caught_at is not None
    ]
    if kind in BURST_KINDS:
        limit = f"{BURST_LIMIT.seconds} s after try {BURST_TRIES}"
    elif kind is Kind.SLOW_THEFT:
        limit = "when the owner is back"
    else:
        limit = f"request {_LIMITS.get(kind, _USUAL_LIMIT)}"
    return AttackRow(
        kind=kind,
        variant=variant,
        attacks=len(courses),
        in_time=sum(_in_time(course) for course in courses),
        ever=len(caught),
        limit=limit,
        median_requests=median(course.caught_by_request for course in caught) if caught else None,
        median_seconds=median(delays) if delays else None,
    )
