"""Requests of a file, rules that speak when a client says so, and a player of both."""

from collections.abc import Callable, Iterable

import msgspec

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, Rule, UserRule
from detector.rulebook import Rulebook
from detector.sighting import Sighting
from detector.simulation.evidence import Evidence
from detector.simulation.player import Player
from detector.simulation.policy_file import PlayedPolicy
from detector.simulation.requests import read_request
from detector.simulation.results import Played
from domain.client import ClientContext, network_of
from domain.detection import Response, Severity
from domain.evidence import Device, Network

NO_POLICY = PlayedPolicy()


def login(at: str, *, user: str = "ada", family: str = "f1", **more: object) -> dict[str, object]:
    return request(at, "login", user=user, family=family, **more)


def refresh(at: str, generation: int, *, family: str = "f1", **more: object) -> dict[str, object]:
    return request(at, "refresh", family=family, generation=generation, **more)


def request(at: str, do: str, **more: object) -> dict[str, object]:
    return {"at": at, "do": do, "ip": "203.0.113.7", "user_agent": "Firefox", **more}


class ByName:
    """Takes the user agent for the browser's name, and an address for its network's."""

    def device(self, client: ClientContext) -> Device:
        return Device(browser=client.user_agent)

    def network(self, ip: str | None) -> Network:
        return Network(prefix=None if ip is None else network_of(ip))


def as_told(network: Network) -> Network:
    return network


def rule(name: str, response: Response) -> Rule:
    """A rule that asks for this response whenever the client's browser has the rule's name."""

    def look(sighting: Sighting, parameters: Parameters) -> Signal | None:
        is_named = sighting.seen.device.browser == name
        return Signal((Fact("named", parameters["points"]),)) if is_named else None

    return _rule(name, response, frozenset({Kind.SIGN_IN, Kind.REFRESH}), look)


def new_device_rule() -> Rulebook:
    """One rule, which alerts at every sign-in on a device that its user never had."""

    def look(sighting: Sighting, _: Parameters) -> Signal | None:
        return Signal((Fact("new_device", 50),)) if sighting.device_is_new else None

    return Rulebook([_rule("new-device", Response.ALERT, frozenset({Kind.SIGN_IN}), look)])


def rules_and_listener(
    heard: list[str | None], *names_and_responses: tuple[str, Response]
) -> Rulebook:
    """Such rules, and one that takes down the families whose end it is told of."""

    def look(sighting: Sighting, _: Parameters) -> Signal | None:
        heard.append(sighting.seen.family_id)
        return None

    others = (rule(name, response) for name, response in names_and_responses)
    return Rulebook([_rule("listener", Response.RECORD, frozenset({Kind.ENDED}), look), *others])


def _rule(
    name: str,
    response: Response,
    kinds: frozenset[Kind],
    look: Callable[[Sighting, Parameters], Signal | None],
) -> Rule:
    return UserRule(
        about=Description(
            name=name,
            title=name,
            looks_for="Its own name.",
            why="For tests.",
            techniques=(),
            false_positives=(),
            severity=Severity.HIGH,
            response=response,
            subject=Subject.FAMILY,
            parameters={"points": 50},
        ),
        kinds=kinds,
        look=look,
        quiet=True,
    )


def rules(*names_and_responses: tuple[str, Response]) -> Rulebook:
    return Rulebook(rule(name, response) for name, response in names_and_responses)


class Playing:
    """A player that is given requests as the file has them."""

    def __init__(self, rulebook: Rulebook | None = None, policy: PlayedPolicy = NO_POLICY) -> None:
        evidence = Evidence(ByName(), ByName(), as_told)
        self._player = Player(rulebook or Rulebook(()), policy, evidence)
        self._line = 0

    def play(self, line: dict[str, object]) -> Played:
        self._line += 1
        return self._player.play(self._line, read_request(msgspec.json.encode(line)))

    def play_bytes(self, number: int, line: bytes) -> Played:
        return self._player.play(number, read_request(line))

    def results(self, lines: Iterable[dict[str, object]]) -> list[str]:
        return [self.play(line).result.value for line in lines]


def encoded(**members: object) -> bytes:
    return msgspec.json.encode(members)
