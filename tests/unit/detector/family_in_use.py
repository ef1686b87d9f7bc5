"""A session family in use, refresh by refresh, for the tests of rules about families."""

from detector.findings import Finding
from detector.memory import Scope
from detector.observations import Kind
from detector.profile import FamilyTrace, UserProfile
from detector.rule import Rule
from detector.rulebook import rulebook
from domain.detection import Response
from domain.evidence import Device, Network
from tests.unit.detector.builders import LAPTOP, OSLO, Watch

TOKEN_S = 605.0
"""A little more than an access token lives."""
_JITTER = (0, 23, 7, 41, 12, 34, 3)


class FamilyInUse:
    """One family. What a refresh does not say is as at the one before."""

    def __init__(
        self,
        watch: Watch,
        network: Network = OSLO,
        device: Device = LAPTOP,
        *,
        cookie: str | None = None,
        user: str = "ada",
        family: str = "ada-1",
    ) -> None:
        self.watch = watch
        self.user = user
        self.family = family
        self.generation = 1
        self._network = network
        self._device = device
        self._cookie = cookie
        self.at_sign_in = watch.sign_in(user, network, device, cookie=cookie, family=family)

    def refresh(
        self,
        network: Network | None = None,
        device: Device | None = None,
        *,
        after: float = TOKEN_S,
        kind: Kind = Kind.REFRESH,
        cookie: str | None = "as before",
    ) -> list[Finding]:
        self.watch.wait(after)
        self._network = network or self._network
        self._device = device or self._device
        if cookie != "as before":
            self._cookie = cookie
        presented = self.generation - (kind in {Kind.RETRY, Kind.LATE_RETRY})
        if kind is Kind.REFRESH:
            self.generation += 1
        return self.watch.refresh(
            self.family,
            presented,
            self.user,
            self._network,
            self._device,
            cookie=self._cookie,
            kind=kind,
        )

    def use(self, refreshes: int = 8, network: Network | None = None) -> list[Finding]:
        """Refresh at the pace of a person; what was found on the way."""
        found = []
        for count in range(refreshes):
            found += self.refresh(network, after=TOKEN_S + _JITTER[count % len(_JITTER)])
        return found

    def use_for_days(self, days: int = 6, network: Network | None = None) -> list[Finding]:
        """Use it a little every day, so that its user is known."""
        found = []
        for _ in range(days):
            found += self.use(4, network)
            self.watch.wait(86_400 - 4 * TOKEN_S)
        return found

    @property
    def trace(self) -> FamilyTrace:
        trace = self.watch.memory.get((Scope.TRACE, self.family), FamilyTrace)
        assert trace is not None
        return trace

    @property
    def profile(self) -> UserProfile:
        profile = self.watch.memory.get((Scope.PROFILE, self.user), UserProfile)
        assert profile is not None
        return profile


def in_use(
    *rules: Rule,
    network: Network = OSLO,
    device: Device = LAPTOP,
    cookie: str | None = None,
    days: int = 6,
) -> FamilyInUse:
    """A family that was used every day, so that its user is known, and again just now."""
    family = FamilyInUse(Watch(*rules), network, device, cookie=cookie)
    if days:
        family.use_for_days(days)
    family.use(2)
    return family


def rule_named(name: str) -> Rule:
    return rulebook().by_name[name]


def all_rules() -> tuple[Rule, ...]:
    return tuple(rulebook().by_name.values())


def responses(found: list[Finding]) -> list[tuple[str, Response]]:
    return [(finding.rule, finding.response) for finding in found]


def codes(found: list[Finding]) -> set[str]:
    return {fact.code for finding in found for fact in finding.facts}
