"""A real browser: what its pages may do with the refresh cookie, over plain HTTP on this machine.

Chromium takes ``__Host-`` and ``Secure`` cookies on loopback addresses, so `make run` works in a
browser without a weaker cookie than in production.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from tests.e2e.clients import (
    DEMO_PASSWORD,
    DEMO_USERNAME,
    DEVICE_COOKIE,
    REFRESH_COOKIE,
    Json,
    assert_no_secret_in,
    used_secrets,
)
from tests.e2e.service import RunningService

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOGIN: Json = {
    "username": DEMO_USERNAME,
    "password": DEMO_PASSWORD,
    "token_delivery": "cookie",
}
PAGE = "/problems/not-found"
FETCH = """async ([path, method, body, headers]) => {
  const answer = await fetch(path, {
    method, credentials: "include", body: body === null ? undefined : JSON.stringify(body),
    headers: body === null ? headers : {"Content-Type": "application/json", ...headers},
  });
  const text = await answer.text();
  return {status: answer.status, body: text ? JSON.parse(text) : null};
}"""
NO_CORS = """([url, method, body]) =>
  fetch(url, {method, mode: "no-cors", credentials: "include", body}).then(() => "sent")"""
FORM = """([url]) => {
  const form = document.createElement("form");
  form.method = "POST"; form.action = url; document.body.append(form); form.submit();
}"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on this machine: install your system's package `chromium`",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert CHROMIUM is not None, "CI has to have Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser profile of the test's own."""
    opened = chromium.new_context()
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


@dataclass(frozen=True, slots=True)
class OtherSite:
    """Pages of an origin that is not the service's."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/page.html"

    @property
    def url_on_localhost(self) -> str:
        return f"http://localhost:{self.port}/page.html"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        pass


@pytest.fixture(scope="module")
def other_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherSite]:
    folder: Path = tmp_path_factory.mktemp("other-site")
    folder.joinpath("page.html").write_text("<!doctype html><title>another site</title>")
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield OtherSite(server.server_address[1])
        server.shutdown()
        serving.join()


def localhost(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


def page_of(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    return page


def call(
    page: Page,
    path: str,
    body: Json | None = None,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Json:
    """What a page's own script gets to see."""
    seen: Json = page.evaluate(FETCH, [path, method, body, headers or {}])
    return seen


def signed_in(page: Page) -> str:
    """Signs in from a page; the access token."""
    answer = call(page, "/v1/login", LOGIN)
    assert answer["status"] == 200, answer
    assert "refresh_token" not in answer["body"]
    used_secrets.add(answer["body"]["access_token"])
    token: str = answer["body"]["access_token"]
    return token


def kept(context: BrowserContext) -> dict[str, Any]:
    """The cookies that the browser keeps, with their attributes. Any: of many types."""
    return {str(cookie["name"]): cookie for cookie in context.cookies()}


@pytest.mark.parametrize("named", [str, localhost], ids=["127.0.0.1", "localhost"])
def test_a_page_signs_in_refreshes_and_signs_out_by_a_cookie_that_it_cannot_see(
    shared_service: RunningService,
    context: BrowserContext,
    named: Callable[[str], str],
) -> None:
    page = page_of(context, named(shared_service.url) + PAGE)

    access_token = signed_in(page)

    first = kept(context)[REFRESH_COOKIE]
    assert (first["httpOnly"], first["secure"], first["path"]) == (True, True, "/")
    assert first["sameSite"] == "Strict"
    assert first["expires"] > 0
    assert kept(context)[DEVICE_COOKIE]["httpOnly"]
    assert page.evaluate("document.cookie") == ""

    values = [first["value"]]
    no_token: tuple[Json | None, ...] = (None, {})
    for body in no_token:
        refreshed = call(page, "/v1/refresh", body)
        assert refreshed["status"] == 200, refreshed
        assert "refresh_token" not in refreshed["body"]
        access_token = refreshed["body"]["access_token"]
        values.append(kept(context)[REFRESH_COOKIE]["value"])
    assert len(set(values)) == 3
    used_secrets.update({*values, access_token, kept(context)[DEVICE_COOKIE]["value"]})

    bearer = {"Authorization": f"Bearer {access_token}"}
    listed = call(page, "/v1/sessions", method="GET", headers=bearer)
    assert [one["current"] for one in listed["body"]["sessions"]].count(True) == 1
    current = next(one for one in listed["body"]["sessions"] if one["current"])
    assert "Chrom" in current["device"]["description"]

    assert call(page, "/v1/logout")["status"] == 204
    assert REFRESH_COOKIE not in kept(context)
    assert DEVICE_COOKIE in kept(context), "the device is still known at the next sign-in"
    assert call(page, "/v1/refresh")["status"] == 401
    assert call(page, "/v1/sessions", method="GET", headers=bearer)["status"] == 401


def test_the_cookie_goes_with_every_tab_of_the_browser_and_with_no_other_browser(
    shared_service: RunningService, chromium: Browser, context: BrowserContext
) -> None:
    signed_in(page_of(context, shared_service.url + PAGE))

    other_tab = page_of(context, shared_service.url + PAGE)
    assert call(other_tab, "/v1/refresh")["status"] == 200

    with chromium.new_context() as other_browser:
        alone = page_of(other_browser, shared_service.url + PAGE)
        assert call(alone, "/v1/refresh")["status"] == 401


def test_two_tabs_that_refresh_at_once_stay_signed_in(
    shared_service: RunningService, context: BrowserContext
) -> None:
    page = page_of(context, shared_service.url + PAGE)
    signed_in(page)

    statuses = page.evaluate(
        """() => Promise.all(Array.from({length: 6}, () =>
             fetch("/v1/refresh", {method: "POST"}).then(answer => answer.status)))"""
    )

    assert statuses == [200] * 6
    assert call(page, "/v1/refresh")["status"] == 200


def test_an_unremembered_session_ends_with_the_browser(
    shared_service: RunningService, context: BrowserContext
) -> None:
    page = page_of(context, shared_service.url + PAGE)

    assert call(page, "/v1/login", LOGIN | {"remember_me": False})["status"] == 200

    assert kept(context)[REFRESH_COOKIE]["expires"] == -1


def test_names_of_one_machine_do_not_share_a_cookie(
    shared_service: RunningService, context: BrowserContext
) -> None:
    """``__Host-``: the cookie belongs to the very host that set it."""
    signed_in(page_of(context, shared_service.url + PAGE))

    elsewhere = page_of(context, localhost(shared_service.url) + PAGE)

    assert call(elsewhere, "/v1/refresh")["status"] == 401


def statuses_of(page: Page, path: str, act: Callable[[], object]) -> Response:
    """What the service answered to a request that a page made, seen from outside the page."""
    with page.expect_response(lambda answer: answer.url.endswith(path)) as caught:
        act()
    answer: Response = caught.value
    return answer


@pytest.mark.parametrize("path", ["/v1/refresh", "/v1/logout"])
@pytest.mark.parametrize("way", ["no-cors", "form"])
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_a_page_of_another_origin_can_neither_refresh_nor_sign_out(
    shared_service: RunningService,
    other_site: OtherSite,
    context: BrowserContext,
    path: str,
    way: str,
    site: str,
) -> None:
    """Another port is another origin, but the same site: the browser does send the cookie.

    403 says that it came and was refused, 401 that it did not come.
    """
    own = page_of(context, shared_service.url + PAGE)
    signed_in(own)
    before = kept(context)[REFRESH_COOKIE]["value"]
    foreign_url = other_site.url if site == "same-site" else other_site.url_on_localhost
    foreign = page_of(context, foreign_url)
    target = shared_service.url + path

    def attack() -> None:
        if way == "form":
            foreign.evaluate(FORM, [target])
        else:
            foreign.evaluate(NO_CORS, [target, "POST", None])

    answer = statuses_of(foreign, path, attack)

    assert answer.status == (403 if site == "same-site" else 401)
    assert kept(context)[REFRESH_COOKIE]["value"] == before
    assert call(own, "/v1/refresh")["status"] == 200


def test_a_page_of_another_origin_cannot_read_an_answer_or_sign_somebody_in(
    shared_service: RunningService,
    other_site: OtherSite,
    context: BrowserContext,
) -> None:
    foreign = page_of(context, other_site.url)
    body = json.dumps(LOGIN)

    read = foreign.evaluate(
        "url => fetch(url).then(() => 'read', error => error.name)",
        f"{shared_service.url}/.well-known/jwks.json",
    )
    answer = statuses_of(
        foreign,
        "/v1/login",
        lambda: foreign.evaluate(NO_CORS, [f"{shared_service.url}/v1/login", "POST", body]),
    )

    assert read == "TypeError"
    assert answer.status in {403, 415}
    assert kept(context) == {}


def test_an_allowed_origin_uses_the_cookie_and_reads_the_answers(
    private_service: Callable[..., RunningService], other_site: OtherSite, context: BrowserContext
) -> None:
    """A single-page application on a port of its own, named in the settings."""
    origin = other_site.url.removesuffix("/page.html")
    running = private_service(SESSIONTRAIL_ALLOWED_ORIGINS=origin)
    page = page_of(context, other_site.url)

    assert call(page, f"{running.url}/v1/login", LOGIN)["status"] == 200
    refreshed = call(page, f"{running.url}/v1/refresh", {})
    assert refreshed["status"] == 200
    bearer = {"Authorization": f"Bearer {refreshed['body']['access_token']}"}
    sessions = f"{running.url}/v1/sessions"
    listed = call(page, sessions, method="GET", headers=bearer)
    assert listed["status"] == 200
    session_id = listed["body"]["sessions"][0]["session_id"]
    renamed = call(
        page, f"{sessions}/{session_id}", {"device_name": "SPA"}, method="PATCH", headers=bearer
    )
    assert renamed["status"] == 204
    assert call(page, f"{running.url}/v1/logout")["status"] == 204
    assert REFRESH_COOKIE not in kept(context)
    foreign = page_of(context, other_site.url_on_localhost)
    refused = statuses_of(
        foreign,
        "/v1/refresh",
        lambda: foreign.evaluate(NO_CORS, [f"{running.url}/v1/refresh", "POST", None]),
    )
    assert refused.status == 401


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
