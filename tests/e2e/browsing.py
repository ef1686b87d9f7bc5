"""A real Chromium that looks at pages, and what it must never see."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    sync_playwright,
)

from tests.e2e.accounts import Account, add_user
from tests.e2e.clients import Device
from tests.e2e.service import RunningService

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MAX_PAGE_BYTES = 100_000
Opened = Callable[..., Page]
"""Opens a page in a browser profile of its own; takes Playwright's settings of a context."""
_P = ParamSpec("_P")
_ResultT = TypeVar("_ResultT")
_AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on this machine: install your system's package `chromium`",
)


@contextmanager
def chromium_running() -> Iterator[Browser]:
    """A headless Chromium."""
    assert CHROMIUM is not None, "CI has to have Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass  # without slots: Playwright hangs things on whom it calls back
class Watch:
    """What a page did that it must not do.

    Attributes:
        url: The service's.
        complaints: Console errors, policy violations and scripts' errors.
        elsewhere: Requests to other hosts.
        too_large: Pages over the budget.
    """

    url: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    too_large: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        """Watch a page."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)
        page.on("response", self._answered)

    def assert_quiet(self) -> None:
        """Assert that nothing of the kind was seen."""
        assert (self.complaints, self.elsewhere, self.too_large) == ([], [], [])

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "the server responded" not in message.text:
            self.complaints.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "about:")):
            self.elsewhere.append(request.url)

    def _answered(self, response: Response) -> None:
        length = response.headers.get("content-length")
        if length is not None and int(length) > MAX_PAGE_BYTES:
            self.too_large.append(f"{response.url}: {length}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with chromium_running() as browser:
        yield browser


@pytest.fixture
def opened(chromium: Browser, shared_service: RunningService) -> Iterator[Opened]:
    """Opens pages of the module's service; at the end nothing bad was seen in any."""
    contexts: list[BrowserContext] = []
    watch = Watch(shared_service.url)

    def open_page(**settings: object) -> Page:
        context = chromium.new_context(**settings)  # type: ignore[arg-type]  # Playwright's own names
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        watch.over(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    watch.assert_quiet()


@pytest.fixture
def victim(shared_service: RunningService, http: httpx.Client) -> Device:
    """A user who is signed in on a device."""
    account = beside(add_user, shared_service)
    device = Device(shared_service.url, http)
    assert device.login(account.username, account.password).status_code == 200
    return device


def sign_in(page: Page, url: str, account: Account, following: str = "/console/alerts") -> None:
    """Sign in by the page that asks for it, as people do."""
    page.goto(url + following)
    page.get_by_label("User name").fill(account.username)
    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(url + following)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page, one line each."""
    # Any: axe answers with JSON.
    found: dict[str, Any] = (
        Axe().run(page, options={"runOnly": _AXE_TAGS, "resultTypes": ["violations"]}).response
    )
    return [
        f"{each['id']}: {node['html'][:160]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def beside(work: Callable[_P, _ResultT], *args: _P.args, **kwargs: _P.kwargs) -> _ResultT:
    """Do something that runs an event loop of its own: Playwright has one in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *args, **kwargs).result()
