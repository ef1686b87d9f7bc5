"""Visitors of the console without a browser: they may send whatever an attacker's page sends."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode

import httpx
import pytest

from domain.events.users import Role
from tests.e2e.accounts import Account, add_user
from tests.e2e.browsing import beside
from tests.e2e.clients import set_cookies, used_secrets
from tests.e2e.service import RunningService

_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@dataclass(slots=True)
class Visitor:
    """Somebody with a browser, who may be made to send whatever an attacker's page sends."""

    url: str
    http: httpx.Client
    cookies: dict[str, str] = field(default_factory=dict)

    def sign_in(self, account: Account) -> httpx.Response:
        """Sign in by the form."""
        used_secrets.add(account.password)
        return self.send(
            "/console/sign-in", {"username": account.username, "password": account.password}
        )

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Look at a page."""
        sent = {"Sec-Fetch-Site": "none", **headers, **self._cookie()}
        return self._kept(self.http.get(self.url + path, headers=sent))

    def send(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        """Send a form, as a page of the console would unless told otherwise."""
        sent = {
            "Origin": self.url,
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/x-www-form-urlencoded",
            **headers,
            **self._cookie(),
        }
        sent = {name: value for name, value in sent.items() if value}
        answer = self.http.post(self.url + path, content=urlencode(fields), headers=sent)
        return self._kept(answer)

    def token(self, path: str = "/account") -> str:
        """The token of a page's forms."""
        found = _TOKEN.search(self.get(path).text)
        assert found is not None
        return found[1]

    def _cookie(self) -> dict[str, str]:
        if not self.cookies:
            return {}
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        for name, morsel in set_cookies(answer).items():
            self.cookies[name] = morsel.value
        used_secrets.update(self.cookies.values())
        return answer


Visitors = Callable[..., Visitor]


def signed_in(service: RunningService, http: httpx.Client, *roles: Role) -> Visitor:
    """A visitor of a service who has these roles."""
    one = Visitor(service.url, http)
    answer = one.sign_in(beside(add_user, service, roles=roles))
    assert answer.status_code == 303, answer.text
    return one


@pytest.fixture
def visitor(shared_service: RunningService, http: httpx.Client) -> Visitors:
    """Makes visitors of the module's service."""
    return partial(signed_in, shared_service, http)
