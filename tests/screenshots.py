"""Pictures of every page of the console: `make screenshots`.

It plays the demo on a database of its own and looks at its pages at three widths, light and dark.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.e2e.accounts import Account
from tests.e2e.browsing import chromium_running, sign_in
from tests.e2e.service import environment, free_port

WIDTHS = {360: 780, 1280: 860, 2560: 1300}
"""Of the window, each with its height."""
SCHEMES = ("light", "dark")
_ANALYST = re.compile(r"Analyst (\S+), password: (\S+)")
_IN_README = {("alert-device-light", 1280), ("alerts-dark", 1280), ("account-light", 1280)}
_DEADLINE_S = 240.0
_PAGES = {
    "alerts": "/console/alerts",
    "people": "/console/people",
    "overview": "/console/overview",
    "rules": "/console/rules",
    "rule": "/console/rules/device-change",
    "audit": "/console/audit",
    "audit-diff": "/console/audit/diff",
    "audit-exports": "/console/audit/exports",
    "account": "/account",
}
_ALERTS = {
    "alert-device": "Another device within a session",
    "alert-reuse": "Refresh token reuse",
    "alert-travel": "Impossible travel",
}


@contextmanager
def demo_running() -> Iterator[tuple[str, Account]]:
    """The demo, once its scenes are over: its URL, and who may look at everything."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="sessiontrail-screenshots-") as made:
        log = Path(made) / "demo.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "sessiontrail", "demo", "--pace", "0"],
                env=environment(Path(made) / "data", None) | {"PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield f"http://127.0.0.1:{port}", _analyst(process, log)
        finally:
            process.terminate()
            process.wait(30)


def _analyst(process: "subprocess.Popen[bytes]", log: Path) -> Account:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        said = log.read_text()
        found = _ANALYST.search(said)
        if found is not None:
            return Account("", found[1], found[2])
        assert process.poll() is None, said
        time.sleep(0.2)
    raise AssertionError(f"the demo did not come to its end:\n{log.read_text()}")


def take(browser: Browser, url: str, analyst: Account, folder: Path) -> int:
    """Take all pictures; how many there are."""
    taken = 0
    for scheme in SCHEMES:
        with browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]  # one of both
        ) as context:
            page = context.new_page()
            page.goto(url + "/console/sign-in")
            taken += _at_every_width(page, folder, f"sign-in-{scheme}")
            sign_in(page, url, analyst)
            addresses = {name: url + path for name, path in _PAGES.items()}
            for name, title in _ALERTS.items():
                page.goto(url + "/console/alerts?view=all")
                page.get_by_role("link", name=title).first.click()
                page.wait_for_url("**/console/alerts/*-*")
                addresses[name] = page.url
            page.goto(url + "/console/people")
            page.get_by_label("User name, subject or id").fill("ingrid@example.com")
            page.get_by_role("button", name="Find").click()
            page.wait_for_url("**/console/people/*-*")
            addresses["person"] = page.url
            addresses["revoke"] = addresses["alert-travel"] + "/revoke?what=all"
            addresses["allow"] = addresses["alert-device"] + "/allow"
            addresses["audit-event"] = _event_of_family(page, url, addresses["alert-device"])
            for name, address in addresses.items():
                page.goto(address)
                assert "/sign-in" not in page.url, "the demo's analyst was signed out"
                taken += _at_every_width(page, folder, f"{name}-{scheme}")
    return taken


def _event_of_family(page: Page, url: str, alert: str) -> str:
    """The address of the newest event of an alert's session family."""
    page.goto(alert)
    family = page.locator("dt:has-text('Family') + dd").inner_text()
    page.goto(f"{url}/console/audit")
    page.get_by_role("link", name="The event there").click()
    page.wait_for_url("**/console/audit/events/*")
    while family not in page.locator("pre").inner_text():
        address = page.get_by_role("link", name="Previous event").get_attribute("href")
        page.goto(url + str(address))
    return page.url


def _at_every_width(page: Page, folder: Path, name: str) -> int:
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{page.url} is {wider} px wider than {width} px"
        page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)
        if (name, width) in _IN_README:
            page.screenshot(path=folder / f"readme-{name}.png")
    return len(WIDTHS)


def main() -> None:
    """Take the pictures into the folder that is given, or ``build/screenshots``."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/screenshots")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with demo_running() as (url, analyst), chromium_running() as browser:
        taken = take(browser, url, analyst, folder)
    sys.stdout.write(f"{taken} pictures in {folder}\n")


if __name__ == "__main__":
    main()
