"""``sessiontrail demo``: thefts, played through the real HTTP API, and the alerts they raise."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from domain.events.users import Role, UserOrigin
from domain.ids import UserId
from domain.user import RegisterUser, User
from infra.ids import new_uuid
from infra.password_hashing import PasswordHashing
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from sessiontrail.commands.context import CommandError, operator_cause, say
from sessiontrail.companions import companion
from sessiontrail.databases import DatabaseAccess, bring_up_to_date, database
from sessiontrail.demo_alerts import AlertWatch
from sessiontrail.demo_people import CURL, FIREFOX, PEOPLE, Device, Person, history
from sessiontrail.demo_places import OSLO, write_geoip
from sessiontrail.demo_scenes import DemoFailedError, DemoStoppedError, Stage, play
from sessiontrail.earlier_sign_ins import EarlierSignIns
from sessiontrail.evidence import evidence_of_files
from sessiontrail.keys import key_ring
from sessiontrail.server import serve as serve_http
from sessiontrail.store import Store, open_store
from sessiontrail.tree_keys import make_tree_key

_ANALYST = Person("Analyst", OSLO, 99, FIREFOX)
_HERE = "127.0.0.1"
_GENEROUS = "100000/minute"
_PACE_S = 2.0
_STOPS_WITHIN_S = 10.0
_OURS = ("SESSIONTRAIL_", "DATABASE_URL", "REDIS_URL", "KAFKA_", "HOST")


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the scenes, instead of at Ctrl-C")
    ] = False,
    pace: Annotated[
        float, typer.Option(min=0, help="Seconds to read a line; 0 plays without a rest")
    ] = _PACE_S,
) -> None:
    """Watch thefts being caught: a service of its own, people, thieves, and an analyst's view."""
    data_dir = load_settings().data_dir
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=data_dir))
    try:
        settings = _settings(folder)
        configure_logging("ERROR")
        say("Starting a service of the demo's own, on a database of its own ...")
        with database(settings) as access:
            failure = uvloop.run(_show(settings, access, folder, once=once, pace_s=pace))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failure is not None:
        raise CommandError(failure)


def _settings(folder: Path) -> Settings:
    """The demo's settings, and of what is set here only the port: it must touch nothing real."""
    for name in list(os.environ):
        if name.startswith(_OURS) and name != "SESSIONTRAIL_PORT":
            del os.environ[name]
    city, asn = write_geoip(folder)
    os.environ |= {
        "SESSIONTRAIL_DATA_DIR": str(folder),
        "SESSIONTRAIL_HOST": _HERE,
        "SESSIONTRAIL_DEMO": "false",
        "SESSIONTRAIL_TRUSTED_PROXIES": _HERE,
        "SESSIONTRAIL_GEOIP_CITY": str(city),
        "SESSIONTRAIL_GEOIP_ASN": str(asn),
        "SESSIONTRAIL_ACCESS_LOG": "false",
        "SESSIONTRAIL_LOG_LEVEL": "error",
        "SESSIONTRAIL_LIMIT_LOGIN_PER_NETWORK": _GENEROUS,
        "SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT": _GENEROUS,
        "SESSIONTRAIL_LIMIT_LOGIN_PER_ACCOUNT_AND_NETWORK": _GENEROUS,
        "SESSIONTRAIL_LIMIT_REFRESH_PER_NETWORK": _GENEROUS,
        "SESSIONTRAIL_LIMIT_REFRESH_PER_SESSION": _GENEROUS,
    }
    if "PORT" not in os.environ and "SESSIONTRAIL_PORT" not in os.environ:
        os.environ["PORT"] = str(_free_port())
    return load_settings()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HERE, 0))
        port: int = probe.getsockname()[1]
        return port


async def _show(
    settings: Settings, access: DatabaseAccess, folder: Path, *, once: bool, pace_s: float
) -> str | None:
    """Serve, and play the scenes meanwhile; what went wrong, if anything did."""
    await bring_up_to_date(settings, access)
    async with open_store(settings, access.service, key_ring(settings)) as store:
        names = await _people(store)
        await _past(settings, store, folder)
    show = _Show(settings, names, once=once, pace_s=pace_s)
    environment = {"SESSIONTRAIL_DATABASE_URL": access.service}
    make_tree_key(settings)
    async with companion("detect", environment), companion("sequence", environment):
        playing: list[asyncio.Future[None]] = []

        def started() -> None:
            playing.append(asyncio.ensure_future(asyncio.to_thread(show.run)))

        try:
            await serve_http(settings, access.service, lambda: key_ring(settings), started)
        finally:
            show.stopping.set()
            await asyncio.gather(*playing)
    return show.failure


async def _people(store: Store) -> dict[str, str]:
    """Everybody's accounts; their names by user id."""
    names, hashing = {}, PasswordHashing()
    try:
        for person in (*PEOPLE, _ANALYST):
            user_id = UserId(new_uuid())
            roles = (Role.ADMIN, Role.ANALYST, Role.AUDITOR) if person is _ANALYST else ()
            command = RegisterUser(origin=UserOrigin.LOCAL, username=person.username, roles=roles)
            hashed = await hashing.hash(person.password)
            added = await store.users.register(user_id, command, hashed, operator_cause())
            if not isinstance(added, User):
                msg = f"{person.username} cannot be added: {added.value}"
                raise CommandError(msg)
            names[str(user_id)] = person.name
    finally:
        hashing.close()
    return names


async def _past(settings: Settings, store: Store, folder: Path) -> None:
    """Two months of sign-ins, so that the detector knows everybody."""
    file = folder / "history.jsonl"
    file.write_text("\n".join(history(datetime.now(UTC))) + "\n", encoding="utf-8")
    earlier = EarlierSignIns(
        store, evidence_of_files(settings), operator_cause(), file, known_only=True
    )
    survey = await earlier.survey(lambda _done, _total: None)
    await earlier.teach(survey, lambda _done, _total: None)


class _Narrator:
    """Says lines with the time that has passed."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line; one without words only separates."""
        passed = int(time.monotonic() - self._began)
        say(f"{passed // 60:02}:{passed % 60:02}  {line}" if line else "")


class _Show:
    """The scenes, in a thread beside the service."""

    def __init__(
        self, settings: Settings, names: dict[str, str], *, once: bool, pace_s: float
    ) -> None:
        self._settings = settings
        self._names = names
        self._once = once
        self._pace_s = pace_s
        self.stopping = threading.Event()
        self.failure: str | None = None

    def run(self) -> None:
        """Play; then tell the service to stop, or people how to go on."""
        narrator, port = _Narrator(), self._settings.port
        analyst = Device(port, _HERE, CURL)  # as who tries the API from here next
        watch = None
        try:
            analyst.login(_ANALYST.username, _ANALYST.password)
            watch = AlertWatch(port, analyst.access_token, self._names, narrator.say)
            watch.start()
            play(Stage(port, watch, narrator.say, self._pace_s, self.stopping))
        except DemoStoppedError:
            pass
        except (DemoFailedError, OSError, RuntimeError) as error:
            if not self.stopping.wait(_STOPS_WITHIN_S):  # or it is only that the service stops
                self.failure = str(error)
        if self._once or self.failure is not None:
            signal.raise_signal(signal.SIGINT)
        elif not self.stopping.is_set():
            self._how_to_go_on()
        if watch is not None:
            watch.join()

    def _how_to_go_on(self) -> None:
        say("")
        say(f"The service stays up; look at it: {self._settings.public_issuer}/console")
        say(f"Analyst {_ANALYST.username}, password: {_ANALYST.password}")
        say("Ctrl-C stops everything.")
