"""A deployment of its own and somebody unmistakable in it: what tests of erasure look for."""

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from domain.events.users import Role
from infra import embedded_postgres
from infra.kafka_access import KafkaAccess
from infra.local_kafka import LocalKafka
from tests.e2e.accounts import Account, add_user
from tests.e2e.clients import FIREFOX, Device
from tests.e2e.conftest import GENEROUS
from tests.e2e.database import EventLog, wait_for
from tests.e2e.service import RunningService, command, service
from tests.e2e.test_kafka_relay import relay

USERNAME = "zephyrine.quux-4471@example.org"
ADDRESS = "203.0.113.197"
MARKS = {
    "user name": USERNAME,
    "address": ADDRESS,
    "network": "203.0.113.",
    "user agent": "ZephyrBrowser/77.4471",
    "hint": "Zephyr-Model-4471",
    "device name": "Zephyrine's lacquered typewriter",
    "new device name": "Zephyrine's gilded abacus",
    "comment": "she rang from Quuxholm about it",
}
"""What nothing else in the deployment looks like."""
HEADERS = {
    "X-Forwarded-For": ADDRESS,
    "Sec-CH-UA-Model": f'"{MARKS["hint"]}"',
    "Sec-CH-UA-Platform": '"Android"',
    "Sec-CH-UA": f'"ZephyrBrowser";v="{MARKS["hint"]}"',
}
PASSWORD = "seven herons on the ice"
AGENT = f"Mozilla/5.0 (Android 14; K) {MARKS['user agent']}"


@dataclass(slots=True)
class Deployment:
    """A service with detector, perhaps a relay, on a PostgreSQL of its own.

    Attributes:
        folder: All that it writes lies in there, the database included.
        service: The running service.
        conninfo: The database, as its superuser.
        http: For clients.
        log: The event log.
    """

    folder: Path
    service: RunningService
    conninfo: str
    http: httpx.Client
    log: EventLog
    broker_folder: Path | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def device(self, **headers: str) -> Device:
        """A device that is not signed in yet."""
        return Device(self.service.url, self.http, AGENT if headers else FIREFOX, dict(headers))

    def asked(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """What is in the database."""
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def time_passes(self) -> None:
        """What PostgreSQL does by and by: statistics, and old WAL files renamed for later use."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for statement in ("ANALYZE", "SELECT pg_switch_wal()", "CHECKPOINT", "CHECKPOINT"):
                connection.execute(statement)

    def run(self, *arguments: str) -> str:
        """What a command prints; it has to succeed."""
        done = command(self.service.environment, *arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def stop(self) -> None:
        """Stop all of it; the database is shut down with its last user."""
        self._stack.close()

    def all_judged(self) -> None:
        """Wait until the detector has come to the newest erasure, in both of its stages."""
        (erased,) = self.asked("SELECT max(position) FROM events WHERE type = 'UserErased'")
        wait_for(
            lambda: (
                len(
                    self.asked(
                        "SELECT DISTINCT stage FROM detector_partitions WHERE position >= %s",
                        erased[0],
                    )
                )
                == 2
            ),
            within_s=60,
        )

    def found(self, marks: Mapping[str, bytes]) -> set[tuple[str, str]]:
        """Which marks lie in which files, once it has stopped."""
        roots = [self.folder] if self.broker_folder is None else [self.folder, self.broker_folder]
        return {
            (name, str(path.relative_to(root)))
            for root in roots
            for path in files_under(root)
            for name, mark in marks.items()
            if mark in path.read_bytes()
        }


def files_under(root: Path) -> Iterator[Path]:
    """Every file, whatever its name."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


@contextmanager
def deployment(access: KafkaAccess | None, broker: LocalKafka | None) -> Iterator[Deployment]:
    """A deployment, stopped at the end; on Kafka where there is a topic."""
    with (
        # Not pytest's own folder: as root, PostgreSQL runs as another account.
        tempfile.TemporaryDirectory(prefix="sessiontrail-erasure-") as name,
        ExitStack() as stack,
        httpx.Client(timeout=30) as http,
    ):
        folder = Path(name)
        more = dict(GENEROUS)
        if access is not None:
            more |= {
                "SESSIONTRAIL_DETECTOR_TRANSPORT": "kafka",
                "KAFKA_BOOTSTRAP_SERVERS": access.bootstrap_servers,
                "SESSIONTRAIL_KAFKA_TOPIC": access.topic,
                "SESSIONTRAIL_KAFKA_GROUP": f"group-{access.topic}",
            }
        running = stack.enter_context(
            service(
                folder,
                None,
                SESSIONTRAIL_DEMO="false",
                SESSIONTRAIL_TRUSTED_PROXIES="127.0.0.1",
                SESSIONTRAIL_LOG_LEVEL="debug",
                **more,
            )
        )
        server = embedded_postgres.start(folder / "postgres")
        stack.callback(server.stop)
        conninfo = server.conninfo(dbname="sessiontrail")
        as_service = server.conninfo(user="sessiontrail", dbname="sessiontrail")
        running.environment = {**running.environment, "DATABASE_URL": as_service} | {
            "SESSIONTRAIL_MIGRATION_DATABASE_URL": conninfo
        }
        if access is not None:
            stack.enter_context(relay(folder, as_service, access))
        yield Deployment(
            folder,
            running,
            conninfo,
            http,
            EventLog(conninfo),
            None if broker is None else broker.folder,
            stack,
        )


class Life:
    """Somebody's life in a deployment, as far as a test lets it go."""

    def __init__(self, where: Deployment) -> None:
        """They are registered; somebody tries the same name in vain."""
        self.where = where
        self.account: Account = add_user(where.service, USERNAME, password=PASSWORD)
        again = command(where.service.environment, "users", "add", USERNAME, stdin="long enough\n")
        assert again.returncode == 1
        self.phone = where.device(**HEADERS)
        self.tablet = where.device(**HEADERS)

    @property
    def user_id(self) -> str:
        """Who they are."""
        return self.account.user_id

    def secrets(self) -> dict[str, bytes]:
        """What must be nowhere afterwards: their marks, their key and what their password left."""
        (wrapped,) = self.where.asked(
            "SELECT wrapped_key FROM data_keys WHERE subject_id = %s", self.user_id
        )
        (hashed,) = self.where.asked(
            "SELECT sealed_hash FROM credentials WHERE user_id = %s", self.user_id
        )
        key, password = wrapped[0], hashed[0]
        assert isinstance(key, bytes)
        assert isinstance(password, bytes)
        return {name: mark.encode() for name, mark in MARKS.items()} | {
            "wrapped key": key,
            "wrapped key, as text": key.hex().encode(),
            "sealed password hash": password,
            "sealed password hash, as text": password.hex().encode(),
        }

    def sign_in(self) -> None:
        """Two devices, a wrong password before, names for both, refreshes."""
        wrong = self.phone.login(USERNAME, "not the password")
        assert wrong.status_code == httpx.codes.UNAUTHORIZED
        for device in (self.phone, self.tablet):
            signed_in = device.login(
                USERNAME, self.account.password, device_name=MARKS["device name"]
            )
            assert signed_in.status_code == httpx.codes.OK, signed_in.text
        session_id = self.phone.session["session_id"]
        named = self.phone.patch(
            f"/v1/sessions/{session_id}", {"device_name": MARKS["new device name"]}
        )
        assert named.status_code == httpx.codes.NO_CONTENT
        for _ in range(3):
            assert self.phone.refresh().status_code == httpx.codes.OK
            assert self.tablet.refresh().status_code == httpx.codes.OK

    def be_robbed(self, analyst: Device) -> str:
        """A token of theirs comes twice; an alert, on which an analyst writes. Returns its id."""
        stolen = self.tablet.refresh_token
        for _ in range(2):
            assert self.tablet.refresh().status_code == httpx.codes.OK
        assert self.tablet.present(stolen).status_code == httpx.codes.UNAUTHORIZED
        ((alert_id,),) = wait_for(
            lambda: self.where.asked(
                "SELECT alert_id::text FROM alerts WHERE subject_id = %s"
                " AND rule = 'refresh-token-reuse'",
                self.user_id,
            ),
            within_s=60,
        )
        written = analyst.post(f"/v1/alerts/{alert_id}/comment", {"comment": MARKS["comment"]})
        assert written.status_code == httpx.codes.OK, written.text
        return str(alert_id)


def staff_device(where: Deployment, name: str, *roles: Role) -> Device:
    """A member of staff, signed in."""
    account = add_user(where.service, name, roles=roles)
    device = where.device()
    assert device.login(account.username, account.password).status_code == httpx.codes.OK
    return device


class Clamour:
    """Clients of somebody who go on all the while, and what they are answered."""

    def __init__(self, life: Life) -> None:
        """Not yet."""
        self._life = life
        self._over = threading.Event()
        self.statuses: set[int] = set()
        self.seen = 0

    @contextmanager
    def going_on(self) -> Iterator["Clamour"]:
        """Sign-ins, refreshes and stale tokens from several threads at once."""
        work = [self._signing_in, self._signing_in, self._failing, *[self._refreshing] * 3]
        threads = [threading.Thread(target=each) for each in work]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _refreshing(self) -> None:
        with httpx.Client(timeout=30) as http:
            device = self._device(http)
            device.login(USERNAME, self._life.account.password)
            stale = device.refresh_token
            while not self._over.is_set() and device.refresh_token:
                self._note(device.refresh())
            self._note(device.present(stale))

    def _signing_in(self) -> None:
        with httpx.Client(timeout=30) as http:
            while not self._over.is_set():
                device = self._device(http)
                name = MARKS["device name"]
                self._note(device.login(USERNAME, self._life.account.password, device_name=name))

    def _failing(self) -> None:
        with httpx.Client(timeout=30) as http:
            while not self._over.is_set():
                self._note(self._device(http).login(USERNAME, "not the password"))

    def _device(self, http: httpx.Client) -> Device:
        return Device(self._life.where.service.url, http, AGENT, dict(HEADERS))

    def _note(self, answer: httpx.Response) -> None:
        self.statuses.add(answer.status_code)
        self.seen += 1
