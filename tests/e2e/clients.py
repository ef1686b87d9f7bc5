"""Clients of the API, as tests drive it: one object a device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx

DEMO_USERNAME = "ada@example.com"
DEMO_PASSWORD = "correct horse battery staple"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/147.0.0.0 Safari/537.36"
)

REFRESH_COOKIE = "__Host-sessiontrail"
DEVICE_COOKIE = "__Host-sessiontrail-device"
DEVICE_HEADER = "Sessiontrail-Device"

Json = dict[str, Any]
"""A JSON object. Any: of whatever shape the answer has."""

used_secrets: set[str] = set()
"""Every token and password that clients of this process sent or were given: no log may hold one."""


@dataclass(slots=True)
class Device:
    """A native client on one device: tokens in the body.

    ``refresh`` keeps the new token, unlike ``present``, which only shows what would come back.
    """

    url: str
    http: httpx.Client
    user_agent: str = FIREFOX
    headers: dict[str, str] = field(default_factory=dict)
    access_token: str = ""
    refresh_token: str = ""
    session: Json = field(default_factory=dict)

    def login(
        self, username: str = DEMO_USERNAME, password: str = DEMO_PASSWORD, **more: object
    ) -> httpx.Response:
        """Sign in; keeps the tokens where it is accepted."""
        used_secrets.add(password)
        body = {"username": username, "password": password, "token_delivery": "body", **more}
        answer = self.http.post(f"{self.url}/v1/login", json=body, headers=self._headers())
        self._keep(answer)
        return answer

    def refresh(self) -> httpx.Response:
        """Refresh; keeps the tokens where it is accepted."""
        answer = self.present(self.refresh_token)
        self._keep(answer)
        return answer

    def present(self, token: str) -> httpx.Response:
        """Present a refresh token, whoever's it is; keeps nothing."""
        used_secrets.add(token)
        return self.http.post(
            f"{self.url}/v1/refresh", json={"refresh_token": token}, headers=self._headers()
        )

    def reauthenticate(self, password: str = DEMO_PASSWORD) -> httpx.Response:
        """Prove again that the user is there; keeps the tokens where it is accepted."""
        used_secrets.add(password)
        answer = self.http.post(
            f"{self.url}/v1/reauthenticate",
            json={"password": password, "refresh_token": self.refresh_token},
            headers=self._headers(),
        )
        self._keep(answer)
        return answer

    def get(self, path: str) -> httpx.Response:
        """GET with the access token."""
        return self.http.get(self.url + path, headers=self._headers() | self._bearer())

    def post(self, path: str, body: object = None) -> httpx.Response:
        """POST with the access token."""
        return self.http.post(self.url + path, json=body, headers=self._headers() | self._bearer())

    def patch(self, path: str, body: object) -> httpx.Response:
        """PATCH with the access token."""
        return self.http.patch(self.url + path, json=body, headers=self._headers() | self._bearer())

    def delete(self, path: str) -> httpx.Response:
        """DELETE with the access token."""
        return self.http.delete(self.url + path, headers=self._headers() | self._bearer())

    def _headers(self) -> dict[str, str]:
        return {"User-Agent": self.user_agent, **self.headers}

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}

    def _keep(self, answer: httpx.Response) -> None:
        if answer.status_code == httpx.codes.OK:
            body = answer.json()
            self.access_token = body["access_token"]
            self.refresh_token = body["refresh_token"]
            self.session = body["session"]
            used_secrets.update({self.access_token, self.refresh_token})


@dataclass(slots=True)
class Browser:
    """A browser on one device: tokens in cookies, which it sends back as it was given them.

    It sends what a page of the service's own origin makes a browser send, unless told otherwise.
    """

    url: str
    http: httpx.Client
    cookies: dict[str, str] = field(default_factory=dict)
    access_token: str = ""

    def login(
        self, username: str = DEMO_USERNAME, password: str = DEMO_PASSWORD, **more: object
    ) -> httpx.Response:
        """Sign in with delivery by cookie."""
        used_secrets.add(password)
        return self.post("/v1/login", {"username": username, "password": password, **more})

    def post(
        self, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """POST with the cookies; keeps those that the answer sets, and its access token."""
        own = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", "User-Agent": FIREFOX}
        sent = own if headers is None else {"User-Agent": FIREFOX, **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.http.post(self.url + path, json=body, headers=sent)
        for name, morsel in set_cookies(answer).items():
            self.cookies[name] = morsel.value
        if answer.status_code == httpx.codes.OK and "access_token" in answer.text:
            self.access_token = answer.json()["access_token"]
        used_secrets.update({*self.cookies.values(), self.access_token} - {""})
        return answer


def set_cookies(answer: httpx.Response) -> dict[str, "Morsel[str]"]:
    """The cookies that an answer sets, by name, with their attributes."""
    jar: SimpleCookie = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        jar.load(line)
    return dict(jar)


def assert_no_secret_in(log: str) -> None:
    """Assert that a service's log holds nothing that a client of this process sent or was given.

    The demo user's password is announced on purpose, before the first JSON line.
    """
    assert used_secrets, "nothing secret was used: this would find nothing"
    found = [secret for secret in used_secrets - {DEMO_PASSWORD, ""} if secret in log]
    assert not found, f"{len(found)} of {len(used_secrets)} secrets are in the log"
    assert not [line for line in log.splitlines() if line[:1] == "{" and DEMO_PASSWORD in line]
