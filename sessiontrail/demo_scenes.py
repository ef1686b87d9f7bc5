"""The demo's scenes: what people and thieves do, through the HTTP API, and what must come of it."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sessiontrail.demo_alerts import Alert, AlertWatch, Say
from sessiontrail.demo_people import (
    CURL,
    FIREFOX,
    HONEST,
    INGRID,
    JONAS,
    MARIA,
    OLAV,
    SVEN,
    TORA,
    Answer,
    Device,
    Person,
)
from sessiontrail.demo_places import BOTNET, DATA_CENTRE, SAO_PAULO, TOKYO

_ALERT_WITHIN_S = 30.0
_STUFFED = 60
_OK = 200


class DemoStoppedError(Exception):
    """Somebody pressed Ctrl-C: the scenes are over."""


class DemoFailedError(Exception):
    """A scene did not end as it has to; the message says how."""


@dataclass(slots=True)
class Stage:
    """What scenes are played on.

    Attributes:
        port: Of the service.
        watch: What the analyst sees.
        say: Prints a line.
        pause_s: How long a scene rests, so that people can follow.
        stopping: Set when it is to end.
    """

    port: int
    watch: AlertWatch
    say: Say
    pause_s: float
    stopping: threading.Event

    def device_of(self, person: Person) -> Device:
        """The device that somebody uses at home."""
        return Device(self.port, person.address, person.user_agent)

    def signed_in(self, person: Person) -> Device:
        """The same, signed in."""
        device = self.device_of(person)
        self.expect(device.login(person.username, person.password), _OK)
        return device

    def expect(self, answer: Answer, status: int) -> None:
        """Go on if that was the answer.

        Raises:
            DemoFailedError: It was another one.
        """
        if answer.status != status:
            msg = f"the service answered {answer.status} ({answer.error}), not {status}"
            raise DemoFailedError(msg)

    def expect_alert(self, wanted: Callable[[Alert], bool], what: str) -> None:
        """Wait for an alert.

        Raises:
            DemoStoppedError: The demo is to end.
            DemoFailedError: It does not come.
        """
        if not self.watch.seen(wanted, _ALERT_WITHIN_S):
            if self.stopping.is_set():
                raise DemoStoppedError
            msg = f"no alert about {what} came within {_ALERT_WITHIN_S:.0f} s"
            raise DemoFailedError(msg)

    def rest(self, times: float = 1.0) -> None:
        """Let people read.

        Raises:
            DemoStoppedError: The demo is to end.
        """
        if self.stopping.wait(self.pause_s * times):
            raise DemoStoppedError


def play(stage: Stage) -> None:
    """All scenes, with honest people in the background.

    Raises:
        DemoStoppedError: The demo is to end.
        DemoFailedError: The detector did not do what it has to.
    """
    everyday = _Everyday(stage)
    for scene in (
        _replay_from_afar,
        _two_tabs,
        _same_browser_in_a_data_centre,
        _impossible_travel,
        _stuffing,
        _reuse,
    ):
        everyday.goes_on()
        stage.say("")
        scene(stage)
        stage.rest(2)
    everyday.goes_on()


class _Everyday:
    """Honest people, who sign in and refresh; nothing must come of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        stage.say(f"{len(HONEST)} people sign in at home, as they did for two months.")
        self._devices = []
        for person in HONEST:
            self._devices.append(stage.signed_in(person))
            stage.rest(0.1)
        self._turn = itertools.cycle(self._devices)

    def goes_on(self) -> None:
        """Half of them refresh."""
        for device in itertools.islice(self._turn, len(self._devices) // 2):
            self._stage.expect(device.refresh(), _OK)
            self._stage.rest(0.1)


def _is_about(device: Device) -> Callable[[Alert], bool]:
    return lambda alert: alert["family_id"] == device.family_id and alert["response"] != "record"


def _has_acted(device: Device) -> Callable[[Alert], bool]:
    return lambda alert: _is_about(device)(alert) and bool(alert["answers"])


def _replay_from_afar(stage: Stage) -> None:
    stage.say("1. Ingrid works in Oslo. Somebody copies her refresh token ...")
    owner = stage.signed_in(INGRID)
    stage.rest()
    stage.say("   ... and uses it in São Paulo, with curl, before she does.")
    thief = Device(stage.port, SAO_PAULO.address(7), CURL)
    thief.refresh_token = owner.refresh_token
    stage.expect(thief.refresh(), _OK)
    stage.expect_alert(_has_acted(owner), "Ingrid's token")
    again = thief.refresh()
    stage.expect(again, 401)
    stage.say("   The thief's next refresh is refused: the whole session family is revoked.")


def _two_tabs(stage: Stage) -> None:
    stage.say("2. Maria's telephone loses an answer and asks again; two tabs refresh at once.")
    device = stage.signed_in(MARIA)
    for _ in range(2):
        token = device.refresh_token
        first, second = device.present(token), device.refresh()
        stage.expect(first, _OK)
        stage.expect(second, _OK)
        stage.rest()
    stage.say("   The same client gets the same successor. No alert: she never notices.")


def _same_browser_in_a_data_centre(stage: Stage) -> None:
    stage.say("3. Malware takes Jonas's token and his user agent to a data centre.")
    owner = stage.signed_in(JONAS)
    stage.expect(owner.refresh(), _OK)
    stage.rest()
    thief = Device(stage.port, DATA_CENTRE.address(9), owner.user_agent)
    thief.refresh_token = owner.refresh_token
    stage.expect(thief.refresh(), _OK)
    stage.expect_alert(_is_about(owner), "Jonas's token")
    stage.say("   Same browser, but he never worked from a machine for rent.")


def _impossible_travel(stage: Stage) -> None:
    stage.say("4. Olav signs in in Oslo, and a few seconds later in Tokyo.")
    stage.signed_in(OLAV)
    stage.rest()
    afar = Device(stage.port, TOKYO.address(5), OLAV.user_agent)
    stage.expect(afar.login(OLAV.username, OLAV.password), _OK)
    stage.expect_alert(_has_acted(afar), "Olav's journey")
    stage.expect(afar.refresh(), 401)
    stage.say("   Until he proves himself again, that session gets no new token (RFC 9470) ...")
    stage.rest()
    stage.expect(afar.reauthenticate(OLAV.password), _OK)
    stage.expect(afar.refresh(), _OK)
    stage.say("   ... and it is him, on his company's network: he types his password, and goes on.")


def _stuffing(stage: Stage) -> None:
    stage.say(f"5. A bot tries {_STUFFED} stolen passwords from one address. One of them fits.")
    bot = Device(stage.port, BOTNET.address(3), FIREFOX)
    names = [person.username for person in HONEST]
    for n in range(_STUFFED):
        name = names[n] if n < len(names) else f"somebody{n}@example.com"
        stage.expect(bot.login(name, "Summer2024!"), 401)
        if n % 10 == 0:
            stage.rest(0.1)
    stage.say("   Failures are counted for a few seconds, and the burst is one alert.")
    stage.expect_alert(lambda alert: alert["rule"] == "credential-stuffing", "the burst")
    stage.expect(bot.login(TORA.username, TORA.password), _OK)
    stage.expect_alert(_is_about(bot), "Tora's account")
    stage.say("   Whose password fitted is what matters: that session is over, or held.")


def _reuse(stage: Stage) -> None:
    stage.say("6. Sven's network is his thief's, too: same city, provider and browser ...")
    owner = stage.signed_in(SVEN)
    thief = stage.device_of(SVEN)
    thief.device_token = owner.device_token
    thief.refresh_token = stolen = owner.refresh_token
    stage.expect(thief.refresh(), _OK)
    stage.expect(thief.refresh(), _OK)
    stage.rest()
    stage.say("   ... so nothing tells them apart, until Sven's own token comes back.")
    stage.expect(owner.present(stolen), 401)
    stage.expect_alert(_is_about(owner), "Sven's token")
    stage.expect(thief.refresh(), 401)
    stage.say("   A token that was replaced: the family is revoked in that very request.")
