"""Playing requests: what the service would have answered, found and done, one request at a time."""

from collections import deque
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from detector.breaker import PERIOD_S, REST_S, Breaker
from detector.findings import Finding
from detector.memory import Memory
from detector.observations import Failures, Kind, Observation
from detector.observing import observe
from detector.policy import RulesInForce
from detector.rulebook import Rulebook
from detector.simulation.evidence import Evidence
from detector.simulation.families import Families, PlayedFamily, end_session, require_step_up
from detector.simulation.policy_file import PlayedPolicy
from detector.simulation.requests import (
    Login,
    LoginFailed,
    Logout,
    Refresh,
    Request,
    VerdictGiven,
    instant_of,
)
from domain.detection import Response
from domain.events.families import (
    EndReason,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
)
from domain.family_decisions import RevokeFamily
from domain.ids import EventId, FamilyId, UserId
from domain.refusals import Refusal


class Result(StrEnum):
    """What a request was answered."""

    OK = "ok"
    RETRY = "retry"
    REUSE = "reuse"
    REVOKED = "revoked"
    EXPIRED = "expired"
    STEP_UP = "step_up"
    REFUSED = "refused"


class Played(msgspec.Struct, frozen=True):
    """What became of one request.

    Attributes:
        result: The answer.
        findings: What the rules said of it.
    """

    result: Result
    findings: list[Finding]


class _Acting(msgspec.Struct):
    """What one rule has ended lately."""

    ended: deque[tuple[float, int]] = msgspec.field(default_factory=deque)
    total: int = 0
    rests_until: float = 0.0


class Player:
    """The service and the detector, on a virtual clock that the requests turn."""

    def __init__(
        self,
        rules: Rulebook,
        policy: PlayedPolicy,
        evidence: Evidence,
    ) -> None:
        """Start with nobody known.

        Args:
            rules: The rules.
            policy: What to play under.
            evidence: Tells what is known of clients.
        """
        self._rules = RulesInForce(rules, policy.detection)
        self._session_policy = policy.session
        self._evidence = evidence
        self._memory = Memory()
        self._families = Families(policy.session)
        self._breaker = Breaker()
        self._acting: dict[str, _Acting] = {}
        self._clock = datetime.min.replace(tzinfo=UTC)

    def play(self, number: int, request: Request) -> Played:
        """Play one request.

        Args:
            number: Its line, which names its event.
            request: The request. One that is earlier than the one before happens at its instant.
        """
        self._clock = max(self._clock, instant_of(request))
        event_id = EventId(str(number))
        match request:
            case Login():
                return self._login(event_id, request)
            case LoginFailed():
                return self._login_failed(event_id, request)
            case Refresh():
                return self._refresh(event_id, request)
            case Logout():
                return self._logout(event_id, request)
            case VerdictGiven():
                return self._verdict(event_id, request)

    # --------------------------------------------------------------------------- the requests

    def _login(self, event_id: EventId, request: Login) -> Played:
        seen = self._seen(Kind.SIGN_IN, event_id, request, request.user, request.family)
        surplus = self._families.start(request.family, request.user, seen.client, self._clock)
        if surplus is None:
            return Played(Result.REFUSED, [])
        for played in surplus:
            self._ended(event_id, played)
        return Played(Result.OK, self._observe(seen))

    def _login_failed(self, event_id: EventId, request: LoginFailed) -> Played:
        seen = self._seen(Kind.SIGN_IN_FAILURES, event_id, request, None, None)
        failures = Failures(seen.network.prefix, 1, accounts=((UserId(request.user), 1),))
        seen = msgspec.structs.replace(seen, failures=failures)
        return Played(Result.REFUSED, self._observe(seen))

    def _refresh(self, event_id: EventId, request: Refresh) -> Played:
        played = self._families.get(request.family)
        if played is None:
            return Played(Result.REFUSED, [])
        family = played.family
        if not family.is_live:
            return Played(_after_the_end(played), [])
        if (
            family.step_up_required_at is not None
            and request.generation >= family.sessions[0].generation
        ):
            # The file's client thinks that it went on; what it presents was never issued.
            return Played(Result.STEP_UP, [])
        client = request.client
        decision = played.refresh(request.generation, client, self._session_policy, self._clock)
        if decision.refusal is Refusal.STEP_UP_REQUIRED:
            return Played(Result.STEP_UP, [])
        if not decision.events:
            return Played(Result.REFUSED, [])
        kind, result = _OUTCOMES.get(type(decision.events[0].event), (None, Result.REFUSED))
        event = decision.events[0].event
        if isinstance(event, RefreshRetried) and event.late:
            kind = Kind.LATE_RETRY
        if kind is None:
            self._over(event_id, played)
            return Played(_after_the_end(played), [])
        seen = self._seen(
            kind, event_id, request, family.user_id, request.family, request.generation
        )
        seen = msgspec.structs.replace(seen, current_generation=family.sessions[0].generation)
        findings = self._observe(seen)
        if kind is Kind.REUSE:
            self._over(event_id, played)
        return Played(result, findings)

    def _logout(self, event_id: EventId, request: Logout) -> Played:
        played = self._families.get(request.family)
        if played is None:
            return Played(Result.REFUSED, [])
        if not played.family.is_live:
            return Played(_after_the_end(played), [])
        if self._families.end(played, end_session(played, EndReason.LOGOUT), self._clock):
            self._ended(event_id, played)
        return Played(Result.OK, [])

    def _verdict(self, event_id: EventId, request: VerdictGiven) -> Played:
        played = self._families.get(request.family)
        if played is None:
            return Played(Result.REFUSED, [])
        self._observe(
            Observation(
                kind=Kind.VERDICT,
                second=self._clock.timestamp(),
                event_id=event_id,
                user_id=played.family.user_id,
                family_id=played.family.family_id,
                verdict=request.verdict,
            )
        )
        return Played(Result.OK, [])

    # --------------------------------------------------------------------------- the detector

    def _observe(self, seen: Observation) -> list[Finding]:
        findings = observe(self._memory, seen, self._rules)
        for finding in findings:
            if finding.response.acts:
                self._respond(finding)
        return findings

    def _respond(self, finding: Finding) -> None:
        played = None if finding.family_id is None else self._families.get(finding.family_id)
        if played is None:
            return
        match finding.response:
            case Response.STEP_UP:
                played.command(require_step_up(), self._clock)
            case Response.REVOKE_SESSION:
                self._end(finding, [played])
            case Response.REVOKE_FAMILY:
                self._end(finding, [played])
            case Response.REVOKE_ALL:
                self._end(finding, self._families.of_user(played.family.user_id))

    def _end(self, finding: Finding, doomed: list[PlayedFamily]) -> None:
        """End families, unless the rule has ended too many lately."""
        live = [played for played in doomed if played.family.is_live]
        if not live or not self._may_end(finding, len(live)):
            return
        for played in live:
            if self._families.end(played, RevokeFamily(EndReason.RULE), self._clock):
                self._ended(finding.event_id, played)

    def _may_end(self, finding: Finding, more: int) -> bool:
        acting = self._acting.setdefault(finding.rule, _Acting())
        now = finding.second
        while acting.ended and acting.ended[0][0] <= now - PERIOD_S:
            acting.total -= acting.ended.popleft()[1]
        if now < acting.rests_until:
            return False
        if not self._breaker.allows(acting.total, more, self._families.live):
            acting.rests_until = now + REST_S
            return False
        acting.ended.append((now, more))
        acting.total += more
        return True

    def _over(self, event_id: EventId, played: PlayedFamily) -> None:
        """Note that the domain ended a family by itself."""
        self._families.live -= 1
        self._ended(event_id, played)

    def _ended(self, event_id: EventId, played: PlayedFamily) -> None:
        """Tell the detector that a family is over."""
        family = played.family
        observe(
            self._memory,
            Observation(
                kind=Kind.ENDED,
                second=self._clock.timestamp(),
                event_id=event_id,
                user_id=family.user_id,
                family_id=family.family_id,
            ),
            self._rules,
        )

    # --------------------------------------------------------------------------- the evidence

    def _seen(
        self,
        kind: Kind,
        event_id: EventId,
        request: Request,
        user: str | None,
        family: str | None,
        generation: int = 0,
    ) -> Observation:
        client = request.client
        return Observation(
            kind=kind,
            second=self._clock.timestamp(),
            event_id=event_id,
            user_id=None if user is None else UserId(user),
            family_id=None if family is None else FamilyId(family),
            generation=generation,
            client=client,
            network=self._evidence.network(client.ip, request.geo),
            device=self._evidence.device(client),
        )


_OUTCOMES: dict[type, tuple[Kind, Result]] = {
    RefreshTokenRotated: (Kind.REFRESH, Result.OK),
    RefreshRetried: (Kind.RETRY, Result.RETRY),
    RefreshTokenReused: (Kind.REUSE, Result.REUSE),
    RefreshTokenUnrecognised: (Kind.UNRECOGNISED, Result.REFUSED),
}


def _after_the_end(played: PlayedFamily) -> Result:
    """What a family that is over answers: why it is."""
    reason = played.family.sessions[0].end_reason
    if reason is None or reason.startswith("expired"):
        return Result.EXPIRED
    if reason == EndReason.LOGOUT.value:
        return Result.REFUSED
    return Result.REVOKED
