"""The demo's people, their past, and the devices on which they call the HTTP API."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPConnection
from typing import Any

from sessiontrail.demo_places import BERGEN, LISBON, OSLO, Place

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/147.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
)
CURL = "curl/8.14.1"
_TIMEOUT_S = 30
_SIGN_INS = 12


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    name: str
    home: Place
    host: int
    user_agent: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)

    @property
    def username(self) -> str:
        """What they sign in with."""
        return f"{self.name.lower()}@example.com"

    @property
    def address(self) -> str:
        """Where they are at home."""
        return self.home.address(self.host)


_NAMES = (
    *("Astrid", "Bjorn", "Celia", "Dagny", "Einar", "Freja", "Gustav", "Hedda"),
    *("Ines", "Jorge", "Kari", "Lars", "Marta", "Nuno", "Odd", "Pia"),
)
HONEST = tuple(
    Person(name, (OSLO, BERGEN, LISBON)[n % 3], 10 + n, (FIREFOX, CHROME, IPHONE)[n // 3 % 3])
    for n, name in enumerate(_NAMES)
)
INGRID = Person("Ingrid", OSLO, 61, CHROME)
JONAS = Person("Jonas", BERGEN, 62, FIREFOX)
MARIA = Person("Maria", LISBON, 63, IPHONE)
OLAV = Person("Olav", OSLO, 64, FIREFOX)
SVEN = Person("Sven", OSLO, 65, CHROME)
TORA = Person("Tora", BERGEN, 66, CHROME)
PEOPLE = (*HONEST, INGRID, JONAS, MARIA, OLAV, SVEN, TORA)


def history(now: datetime) -> Iterator[str]:
    """Two months of everybody's sign-ins, as ``sessiontrail import`` reads them."""
    for days in range(5 * _SIGN_INS, 0, -5):
        for n, person in enumerate(PEOPLE):
            at = now - timedelta(days=days, minutes=7 * n)
            yield json.dumps(
                {
                    "at": at.isoformat(),
                    "do": "login",
                    "user": person.username,
                    "family": f"{person.name}-{days}",
                    "ip": person.address,
                    "user_agent": person.user_agent,
                }
            )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered."""

    status: int
    body: dict[str, Any]  # Any: JSON

    @property
    def error(self) -> str:
        """What an error is called."""
        return str(self.body.get("error") or self.body.get("title") or self.status)


class Device:
    """A client of the HTTP API, behind the proxy that the service trusts."""

    def __init__(self, port: int, address: str, user_agent: str) -> None:
        """Sit somewhere; nobody is signed in yet."""
        self._port = port
        self.address = address
        self.user_agent = user_agent
        self.refresh_token = ""
        self.device_token: str | None = None
        self.access_token = ""
        self.family_id = ""

    def login(self, username: str, password: str) -> Answer:
        """Sign in."""
        body = {"username": username, "password": password, "token_delivery": "body"}
        return self._kept(self._post("/v1/login", body))

    def refresh(self) -> Answer:
        """Refresh, and keep what comes back."""
        return self._kept(self.present(self.refresh_token))

    def present(self, token: str) -> Answer:
        """Present a refresh token, whoever's it is; keeps nothing."""
        return self._post("/v1/refresh", {"refresh_token": token})

    def reauthenticate(self, password: str) -> Answer:
        """Prove with the password who is there."""
        body = {"refresh_token": self.refresh_token, "password": password}
        return self._kept(self._post("/v1/reauthenticate", body))

    def _kept(self, answer: Answer) -> Answer:
        if "refresh_token" in answer.body:
            self.refresh_token = answer.body["refresh_token"]
            self.access_token = answer.body["access_token"]
            self.family_id = answer.body["session"]["family_id"]
            self.device_token = answer.body.get("device_token", self.device_token)
        return answer

    def _post(self, path: str, body: Mapping[str, object]) -> Answer:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self.user_agent,
            "X-Forwarded-For": self.address,
        }
        if self.device_token is not None:
            headers["Sessiontrail-Device"] = self.device_token
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answered = connection.getresponse()
            return Answer(answered.status, json.loads(answered.read() or b"{}"))
        finally:
            connection.close()
