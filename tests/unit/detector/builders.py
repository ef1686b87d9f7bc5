"""What the tests of the detector are made of: places, devices, and a watch that rules keep."""

from itertools import count

from msgspec.structs import replace

from detector.findings import Finding
from detector.memory import Memory
from detector.observations import Failures, Kind, Observation
from detector.observing import observe
from detector.policy import RulesInForce
from detector.rule import Rule
from detector.rulebook import Rulebook
from domain.client import ClientContext
from domain.detection import Verdict
from domain.detection_policy import NO_POLICY, DetectionPolicy
from domain.evidence import UNKNOWN_NETWORK, Device, Network
from domain.ids import EventId, FamilyId, UserId

START = 1_767_571_200.0
"""2026-01-05T00:00:00Z."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

OSLO = Network(
    prefix="203.0.113.0/24",
    asn=64500,
    as_org="Fjord Broadband",
    country="NO",
    city="Oslo",
    latitude=59.91,
    longitude=10.75,
    radius_km=25,
)
OSLO_MOBILE = replace(OSLO, prefix="198.51.100.0/24", asn=64501, as_org="Fjord Mobile")
BERGEN = replace(
    OSLO, prefix="192.0.2.0/24", asn=64502, city="Bergen", latitude=60.39, longitude=5.32
)
TOKYO = Network(
    prefix="233.252.0.0/24",
    asn=64510,
    as_org="Sakura Net",
    country="JP",
    city="Tokyo",
    latitude=35.68,
    longitude=139.69,
    radius_km=25,
)
VPN = replace(TOKYO, prefix="233.252.1.0/24", asn=64520, as_org="Tunnel", anonymous=True)
HOSTING = replace(TOKYO, prefix="233.252.2.0/24", asn=64530, as_org="Racks", hosting=True)

LAPTOP = Device(
    platform="Windows",
    form="desktop",
    browser="Firefox",
    browser_version=146,
    engine="Gecko",
)
PHONE = Device(
    platform="iOS", form="mobile", browser="Mobile Safari", browser_version=26, engine="WebKit"
)
OTHER_PHONE = Device(
    platform="Android",
    form="mobile",
    browser="Chrome Mobile",
    browser_version=143,
    engine="Blink",
    hinted=True,
)
SCRIPT = Device(form="other", browser="Python Requests", browser_version=2)


class Watch:
    """The detector with some rules, and a clock that tests turn forward."""

    def __init__(self, *rules: Rule, policy: DetectionPolicy = NO_POLICY) -> None:
        self.memory = Memory()
        self.now = START
        self._rules = RulesInForce(Rulebook(rules), policy)
        self._numbers = count(1)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def see(self, seen: Observation) -> list[Finding]:
        return observe(self.memory, seen, self._rules)

    def sign_in(
        self,
        user: str = "ada",
        network: Network = OSLO,
        device: Device = LAPTOP,
        *,
        cookie: str | None = None,
        family: str | None = None,
    ) -> list[Finding]:
        number = next(self._numbers)
        return self.see(
            Observation(
                kind=Kind.SIGN_IN,
                second=self.now,
                event_id=EventId(f"e{number}"),
                user_id=UserId(user),
                family_id=FamilyId(family or f"f{number}"),
                current_generation=1,
                client=client_of(network, device, cookie),
                network=network,
                device=device,
            )
        )

    def refresh(
        self,
        family: str,
        generation: int,
        user: str = "ada",
        network: Network = OSLO,
        device: Device = LAPTOP,
        *,
        cookie: str | None = None,
        kind: Kind = Kind.REFRESH,
    ) -> list[Finding]:
        return self.see(
            Observation(
                kind=kind,
                second=self.now,
                event_id=EventId(f"e{next(self._numbers)}"),
                user_id=UserId(user),
                family_id=FamilyId(family),
                generation=generation,
                current_generation=generation + 1,
                client=client_of(network, device, cookie),
                network=network,
                device=device,
            )
        )

    def failure(self, user: str = "ada", network: Network = HOSTING) -> list[Finding]:
        """One failed sign-in, as the player tells them."""
        return self.failures(network.prefix, {user: 1}, network=network)

    def failures(
        self,
        source: str | None,
        accounts: dict[str, int],
        *,
        unknown: int = 0,
        others: int = 0,
        omitted: int = 0,
        network: Network = UNKNOWN_NETWORK,
    ) -> list[Finding]:
        """Failures of a window, as the service counts them; ``others`` on ``omitted`` accounts."""
        total = sum(accounts.values()) + unknown + others
        named = tuple((UserId(user), tries) for user, tries in accounts.items())
        return self.see(
            Observation(
                kind=Kind.SIGN_IN_FAILURES,
                second=self.now,
                event_id=EventId(f"e{next(self._numbers)}"),
                network=network,
                failures=Failures(source, total, unknown, named, omitted),
            )
        )

    def verdict(self, verdict: Verdict, family: str, user: str = "ada") -> list[Finding]:
        return self.see(
            Observation(
                kind=Kind.VERDICT,
                second=self.now,
                event_id=EventId(f"e{next(self._numbers)}"),
                user_id=UserId(user),
                family_id=FamilyId(family),
                verdict=verdict,
            )
        )

    def settle(
        self,
        user: str = "ada",
        network: Network = OSLO,
        device: Device = LAPTOP,
        *,
        cookie: str | None = None,
        sign_ins: int = 6,
    ) -> None:
        """A user whom the detector comes to know, over as many days; then another day passes."""
        for _ in range(sign_ins):
            self.sign_in(user, network, device, cookie=cookie)
            self.wait(DAY)

    def populate(self, users: int = 40) -> None:
        """Others, here and elsewhere, so that something is known of what people have."""
        places = (OSLO, OSLO_MOBILE, BERGEN, TOKYO)
        devices = (LAPTOP, PHONE, OTHER_PHONE)
        for number in range(users):
            for _ in range(3):
                self.sign_in(f"other{number}", places[number % 4], devices[number % 3])


def client_of(network: Network, device: Device, cookie: str | None) -> ClientContext:
    """A client in a network, on a device."""
    prefix = network.prefix
    ip = None if prefix is None else prefix.partition("/")[0].removesuffix("0") + "7"
    agent = f"{device.browser}/{device.browser_version} ({device.platform}; {device.form})"
    return ClientContext(ip=ip, user_agent=agent, device_key=cookie)


def moved(network: Network, number: int) -> Network:
    """The same carrier and city, another network."""
    return replace(network, prefix=f"10.{number // 256}.{number % 256}.0/24")
