"""Playing requests: what the service would have answered, found and done, one request at a time."""

from collections import deque
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from detector.breaker import PERIOD_S, REST_S, Breaker
from detector.findings import Finding
from detector.memory import Memory
from detector.observations import Failures, Kind, Observation
from detector.observing import observe
from detector.policy import RulesInForce
from detector.rulebook import Rulebook
from detector.simulation.evidence import Evidence
from detector.simulation.families import Families, PlayedFamily
from detector.simulation.policy_file import PlayedPolicy
from detector.simulation.requests import (
    Login,
    LoginFailed,
    Logout,
    Refresh,
    Request,
    VerdictGiven,
    client_of,
    instant_of,
)
from detector.simulation.results import Played, Result, after_the_end, result_of
from domain.detection import Response
from domain.events.families import EndReason
from domain.family_decisions import EndSession, RequireStepUp, RevokeFamily
from domain.ids import EventId, FamilyId, UserId
from domain.refusals import Refusal


class _Acting(msgspec.Struct):
    """What one rule has ended lately."""

    ended: deque[tuple[float, int]] = msgspec.field(default_factory=deque)
    total: int = 0


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
        self._rulebook = rules
        self._rules = RulesInForce(rules, policy.detection)
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
        for played in self._families.expire(self._clock):
            self._ended(event_id, played)
        match request:
            case Refresh():
                return self._refresh(event_id, request)
            case Login():
                return self._login(event_id, request)
            case LoginFailed():
                return self._login_failed(event_id, request)
            case Logout():
                return self._logout(event_id, request)
            case VerdictGiven():
                return self._verdict(event_id, request)

    # --------------------------------------------------------------------------- the requests

    def _login(self, event_id: EventId, request: Login) -> Played:
        client = client_of(request)
        surplus = self._families.start(request.family, request.user, client, self._clock)
        if surplus is None:
            return Played(Result.REFUSED, [])
        for played in surplus:
            self._ended(event_id, played)
        return Played(
            Result.OK,
            self._observe(
                Observation(
                    kind=Kind.SIGN_IN,
                    second=self._clock.timestamp(),
                    event_id=event_id,
                    user_id=UserId(request.user),
                    family_id=FamilyId(request.family),
                    current_generation=1,
                    client=client,
                    network=self._evidence.network(client.ip, request.geo),
                    device=self._evidence.device(client),
                )
            ),
        )

    def _login_failed(self, event_id: EventId, request: LoginFailed) -> Played:
        client = client_of(request)
        network = self._evidence.network(client.ip, request.geo)
        return Played(
            Result.REFUSED,
            self._observe(
                Observation(
                    kind=Kind.SIGN_IN_FAILURES,
                    second=self._clock.timestamp(),
                    event_id=event_id,
                    client=client,
                    network=network,
                    device=self._evidence.device(client),
                    failures=Failures(network.prefix, 1, accounts=((UserId(request.user), 1),)),
                )
            ),
        )

    def _refresh(self, event_id: EventId, request: Refresh) -> Played:
        played = self._families.get(request.family)
        if played is None:
            return Played(Result.REFUSED, [])
        family = played.family
        if not family.is_live:
            return Played(after_the_end(played.family), [])
        generation = request.generation
        if family.step_up_required_at is not None:
            # The file's client thinks that it went on: what it has in fact is the current token.
            generation = min(generation, family.sessions[0].generation)
        client = client_of(request)
        decision = self._families.refresh(played, generation, client, self._clock)
        if decision.refusal is Refusal.STEP_UP_REQUIRED:
            return Played(Result.STEP_UP, [])
        if not decision.events:
            return Played(Result.REFUSED, [])
        event = decision.events[0].event
        kind, result = result_of(event)
        findings = self._observe(
            Observation(
                kind=kind,
                second=self._clock.timestamp(),
                event_id=event_id,
                user_id=family.user_id,
                family_id=family.family_id,
                generation=generation,
                current_generation=played.family.sessions[0].generation,
                client=client,
                network=self._evidence.network(client.ip, request.geo),
                device=self._evidence.device(client),
            )
        )
        if kind is Kind.REUSE:
            self._ended(event_id, played)
        return Played(result, findings)

    def _logout(self, event_id: EventId, request: Logout) -> Played:
        played = self._families.get(request.family)
        if played is None:
            return Played(Result.REFUSED, [])
        if not played.family.is_live:
            return Played(after_the_end(played.family), [])
        session_id = played.family.sessions[0].session_id
        self._families.command(played, EndSession(session_id, EndReason.LOGOUT), self._clock)
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
                self._families.command(played, RequireStepUp(), self._clock)
            case Response.REVOKE_SESSION | Response.REVOKE_FAMILY:
                self._end(finding, [played])
            case Response.REVOKE_ALL:
                self._end(finding, self._families.of_user(played.family.user_id))

    def _end(self, finding: Finding, doomed: list[PlayedFamily]) -> None:
        """End families, unless the rule has ended too many lately."""
        live = [played for played in doomed if played.family.is_live]
        if not live or not self._may_end(finding, len(live)):
            return
        for played in live:
            self._families.command(played, RevokeFamily(EndReason.RULE), self._clock)
            self._ended(finding.event_id, played)

    def _may_end(self, finding: Finding, more: int) -> bool:
        """The circuit breaker: where it says no, the rule only alerts for a while."""
        acting = self._acting.setdefault(finding.rule, _Acting())
        now = finding.second
        while acting.ended and acting.ended[0][0] <= now - PERIOD_S:
            acting.total -= acting.ended.popleft()[1]
        if not self._breaker.allows(acting.total, more, self._families.live):
            self._hold_back(finding.rule)
            return False
        acting.ended.append((now, more))
        acting.total += more
        return True

    def _hold_back(self, rule: str) -> None:
        policy = self._rules.policy
        until = self._clock + timedelta(seconds=REST_S)
        held_back = {**policy.held_back, rule: until}
        self._rules = RulesInForce(self._rulebook, replace(policy, held_back=held_back))

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
