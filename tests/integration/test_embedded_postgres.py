"""The embedded PostgreSQL against real servers, real signals and real second processes."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra.embedded_postgres import EmbeddedPostgresError, RunningPostgres, start

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
# It looks up every moment: a signal right before a read that blocks is heard after it only.
USER_OF_THE_FOLDER = """
import pathlib, select, sys
from infra.embedded_postgres import start
print("ready", flush=True)
sys.stdin.readline()
server = start(pathlib.Path(sys.argv[1]))
try:
    print(server.pid, flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
except KeyboardInterrupt:
    pass
print(server.stop(), flush=True)
"""

Start = Callable[..., RunningPostgres]
Process = subprocess.Popen[str]


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that is not in pytest's own, which the next pytest shuts to root's servers."""
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        yield Path(folder).resolve()


@pytest.fixture
def data_dir(place: Path) -> Path:
    return place / ".sessiontrail" / "postgres"


@pytest.fixture
def started(place: Path) -> Iterator[Start]:
    """Start servers that end with the test and before their folder, whatever becomes of it."""
    holds: list[RunningPostgres] = []

    def begin(data_dir: Path, **settings: str) -> RunningPostgres:
        holds.append(start(data_dir, settings=settings))
        return holds[-1]

    yield begin
    for hold in holds:
        hold.stop("immediate")


@contextlib.contextmanager
def waiting_process(data_dir: Path, groups: list[int] | None = None) -> Iterator[Process]:
    """Run a process that starts the server when told to, and stops it when its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", USER_OF_THE_FOLDER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        start_new_session=True,
        extra_groups=groups,
    ) as process:
        try:
            assert next_line(process) == "ready"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def another_process(data_dir: Path, groups: list[int] | None = None) -> Iterator[Process]:
    """Run a process that uses the folder until its input ends."""
    with waiting_process(data_dir, groups) as process:
        tell_to_start(process)
        yield process


def tell_to_start(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def next_line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end_of_input(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def query(server: RunningPostgres, sql: str) -> str:
    with psycopg.connect(server.conninfo()) as connection:
        row = connection.execute(sql.encode()).fetchone()
    return "" if row is None else str(row[0])


def write_note(server: RunningPostgres, note: str) -> None:
    with psycopg.connect(server.conninfo()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (note text)")
        connection.execute("INSERT INTO notes VALUES (%s)", [note])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def lend_to_server(path: Path, server_files: Path) -> None:
    owner = server_files.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def test_a_new_folder_gets_a_server_that_answers(data_dir: Path, started: Start) -> None:
    server = started(data_dir)

    assert server.is_running()
    assert query(server, "SHOW server_encoding") == "UTF8"
    assert query(server, "SELECT datlocale FROM pg_database LIMIT 1") == "C.UTF-8"
    assert query(server, "SHOW data_checksums") == "on"
    assert query(server, "SHOW fsync") == "on"
    assert query(server, "SELECT current_user") == "postgres"
    assert query(server, "SELECT pg_current_logfile() IS NULL") == "True"


def test_nothing_listens_on_tcp_whatever_the_settings_say(data_dir: Path, started: Start) -> None:
    server = started(data_dir, listen_addresses="*", fsync="off", work_mem="5MB")

    assert query(server, "SHOW listen_addresses") == ""
    assert query(server, "SHOW fsync") == "on"
    assert query(server, "SHOW work_mem") == "5MB"


def test_the_url_and_the_connection_string_lead_to_the_same_server(
    data_dir: Path, started: Start
) -> None:
    server = started(data_dir)
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute('CREATE ROLE "al/ice" LOGIN')

    with psycopg.connect(server.url("al/ice", "template1")) as connection:
        named = connection.execute("SELECT current_user, current_database()").fetchone()

    assert named == ("al/ice", "template1")


def test_a_second_start_finds_the_data_and_makes_nothing_anew(
    data_dir: Path, started: Start
) -> None:
    first = started(data_dir)
    write_note(first, "kept")
    assert first.stop() is True
    assert not first.is_running()
    inode = data_dir.stat().st_ino

    second = started(data_dir)

    assert query(second, "SELECT note FROM notes") == "kept"
    assert second.pid != first.pid
    assert data_dir.stat().st_ino == inode
    log = data_dir.with_name("postgres.log").read_text()
    assert log.count("running bootstrap script") == 1


def test_a_killed_server_recovers_with_every_commit(data_dir: Path, started: Start) -> None:
    first = started(data_dir)
    write_note(first, "committed")
    os.kill(first.pid, signal.SIGKILL)

    second = started(data_dir)

    assert second.pid != first.pid
    assert query(second, "SELECT note FROM notes") == "committed"
    assert "was not properly shut down" in data_dir.with_name("postgres.log").read_text()


def test_a_server_killed_under_another_process_is_started_by_the_next_user(
    data_dir: Path, started: Start
) -> None:
    with another_process(data_dir) as other:
        killed = int(next_line(other))
        os.kill(killed, signal.SIGKILL)  # a zombie now: the other process does not reap it

        server = started(data_dir)

        assert server.pid != killed
        assert query(server, "SELECT 1") == "1"


def test_an_immediate_stop_recovers_too(data_dir: Path, started: Start) -> None:
    first = started(data_dir)
    write_note(first, "committed")

    first.stop("immediate")

    assert query(started(data_dir), "SELECT note FROM notes") == "committed"


def test_a_pid_file_of_a_dead_process_is_no_obstacle(data_dir: Path, started: Start) -> None:
    started(data_dir).stop()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = data_dir / "postmaster.pid"
    left.write_text(f"{dead.pid}\n{data_dir}\n1\n5432\n.\n\n  1  1\nready   \n")
    lend_to_server(left, data_dir)

    server = started(data_dir)

    assert query(server, "SELECT 1") == "1"


def test_a_pid_file_that_names_a_strangers_process_is_no_obstacle(
    data_dir: Path, started: Start
) -> None:
    started(data_dir).stop()
    owner = data_dir.stat().st_uid  # PostgreSQL itself would respect a pid of its own account
    with subprocess.Popen(["/bin/sleep", "600"], user=owner) as stranger:
        left = data_dir / "postmaster.pid"
        left.write_text(f"{stranger.pid}\n{data_dir}\n1\n5432\n.\n\n  1  1\nready   \n")
        lend_to_server(left, data_dir)

        server = started(data_dir)

        assert query(server, "SELECT 1") == "1"
        assert stranger.poll() is None
        stranger.kill()


def test_a_path_too_long_for_a_socket_gets_a_private_folder_with_a_short_name(
    place: Path, started: Start
) -> None:
    data_dir = place / ("long" * 25) / "postgres"

    server = started(data_dir)

    assert server.socket_dir.parent != data_dir.parent
    assert server.socket_dir.name.startswith("sessiontrail-")
    assert mode(server.socket_dir) == 0o700
    assert server.socket_dir.stat().st_uid == data_dir.stat().st_uid
    assert query(server, "SELECT 1") == "1"
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert started(data_dir).socket_dir == server.socket_dir


def test_a_socket_folder_that_is_a_link_or_open_to_others_is_refused(
    place: Path, started: Start
) -> None:
    data_dir = place / ("long" * 25) / "postgres"
    first = started(data_dir)
    first.stop()
    taken = first.socket_dir
    assert not taken.exists()

    taken.symlink_to(place)
    with pytest.raises(EmbeddedPostgresError, match="not a folder of ours alone"):
        start(data_dir)
    taken.unlink()
    taken.mkdir()
    lend_to_server(taken, data_dir)
    taken.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="not a folder of ours alone"):
        start(data_dir)

    taken.chmod(0o700)
    assert query(started(data_dir), "SELECT 1") == "1"


def test_a_comma_in_the_path_does_not_confuse_the_client(place: Path, started: Start) -> None:
    server = started(place / "a, b" / "postgres")

    assert query(server, "SELECT 1") == "1"


def test_processes_that_start_at_once_share_one_server(data_dir: Path) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(waiting_process(data_dir)) for _ in range(4)]
        for user in users:
            tell_to_start(user)
        pids = {next_line(user) for user in users}
        for user in users:
            end_of_input(user)
        stopped = [next_line(user) for user in users]

    assert len(pids) == 1
    assert pids != {""}
    assert sorted(stopped) == ["False", "False", "False", "True"]


def test_the_last_one_out_stops_the_server(data_dir: Path, started: Start) -> None:
    with another_process(data_dir) as other:
        pid = int(next_line(other))
        server = started(data_dir)
        assert server.pid == pid

        end_of_input(other)

        assert next_line(other) == "False"
        assert other.wait() == 0
    assert query(server, "SELECT 1") == "1"
    assert server.stop() is True
    assert not server.is_running()


def test_two_holds_in_one_process_count_as_two(data_dir: Path, started: Start) -> None:
    first, second = started(data_dir), started(data_dir)

    assert first.pid == second.pid
    assert first.stop() is False
    assert second.is_running()
    assert second.stop() is True
    assert not first.is_running()


def test_a_server_whose_user_was_killed_is_adopted_and_then_stopped(
    data_dir: Path, started: Start
) -> None:
    with another_process(data_dir) as other:
        pid = int(next_line(other))
        other.kill()
        other.wait()

        server = started(data_dir)

    assert server.pid == pid
    assert server.stop() is True
    assert not server.is_running()


def test_a_user_killed_while_the_server_starts_leaves_it_to_the_next(
    data_dir: Path, started: Start
) -> None:
    started(data_dir).stop()
    log = data_dir.with_name("postgres.log")
    before = log.stat().st_size
    with another_process(data_dir) as other:
        wait_until(lambda: log.stat().st_size > before)
        other.kill()
        other.wait()

        server = started(data_dir)

    assert query(server, "SELECT 1") == "1"
    assert server.stop() is True


def test_an_initdb_killed_half_way_is_done_again(data_dir: Path, started: Start) -> None:
    with another_process(data_dir) as other:
        wait_until((data_dir.with_name("postgres.new") / "PG_VERSION").exists)
        other.kill()
        other.wait()
    assert not data_dir.exists()

    server = started(data_dir)

    assert query(server, "SELECT 1") == "1"
    assert not data_dir.with_name("postgres.new").exists()


def test_leftovers_of_an_initdb_that_lost_power_are_cleared(data_dir: Path, started: Start) -> None:
    half = data_dir.with_name("postgres.new")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    server = started(data_dir)

    assert query(server, "SELECT 1") == "1"
    assert not half.exists()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / "thesis.txt").write_text("years of work")

    with pytest.raises(EmbeddedPostgresError, match="not empty"):
        start(data_dir)

    assert [file.name for file in data_dir.iterdir()] == ["thesis.txt"]


def test_only_the_servers_account_may_look_into_its_folder(data_dir: Path, started: Start) -> None:
    server = started(data_dir)

    assert mode(data_dir) == 0o700
    assert mode(server.socket_dir) == 0o700
    assert {mode(file) for file in data_dir.parent.glob("postgres.*")} == {0o600}
    assert mode(data_dir.parent) == (0o701 if AS_ROOT else 0o700)


@pytest.mark.skipif(not AS_ROOT, reason="only root has an account to lend")
def test_root_lends_the_server_an_account_without_root_and_opens_paths_for_passage_only(
    place: Path, started: Start, caplog: pytest.LogCaptureFixture
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o750)

    server = started(closed / "postgres")

    assert mode(closed) == 0o751
    assert f"may now pass through {closed}" in caplog.text
    ids = subprocess.check_output(["ps", "-o", "uid=,ruid=,gid=,rgid=", "-p", str(server.pid)])
    assert b"0" not in ids.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_server_inherits_its_log_and_its_sign_of_life_and_nothing_else(
    data_dir: Path, place: Path, started: Start
) -> None:
    with (place / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        server = started(data_dir)

    opened = {link.readlink().name for link in Path(f"/proc/{server.pid}/fd").iterdir()}
    assert {"postgres.log", "postgres.alive"} <= opened
    assert not {"ours", "postgres.users", "postgres.turn"} & opened


@pytest.mark.skipif(not (AS_ROOT and sys.platform.startswith("linux")), reason="reads /proc")
def test_the_server_keeps_no_group_of_root(data_dir: Path) -> None:
    with another_process(data_dir, groups=[0, 4]) as other:
        status = Path(f"/proc/{next_line(other)}/status").read_text()
        end_of_input(other)
        assert next_line(other) == "True"

    groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
    assert groups.split() == ["Groups:"]


def test_a_server_that_we_started_and_stopped_leaves_no_zombie(
    data_dir: Path, started: Start
) -> None:
    server = started(data_dir)

    server.stop()

    with pytest.raises(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)


@pytest.mark.skipif(not AS_ROOT, reason="only root may take over another account's folder")
def test_root_serves_a_folder_as_the_account_that_owns_it(data_dir: Path, started: Start) -> None:
    started(data_dir).stop()
    owner = 65534  # nobody
    subprocess.check_call(["chown", "-R", str(owner), str(data_dir)])

    server = started(data_dir)

    assert query(server, "SELECT 1") == "1"
    assert (data_dir / "postmaster.pid").stat().st_uid == owner


def test_ctrl_c_reaches_us_and_not_the_server(data_dir: Path) -> None:
    with another_process(data_dir) as other:
        pid = int(next_line(other))

        os.killpg(other.pid, signal.SIGINT)

        assert os.getsid(pid) == pid
        assert next_line(other) == "True"
        assert other.wait() == 0
    log = data_dir.with_name("postgres.log").read_text()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log


def test_a_server_that_cannot_start_says_why_in_one_message(data_dir: Path, started: Start) -> None:
    with pytest.raises(EmbeddedPostgresError, match="did not start") as refusal:
        start(data_dir, settings={"shared_buffers": "a lot"})

    assert 'invalid value for parameter "shared_buffers"' in str(refusal.value)
    assert query(started(data_dir), "SELECT 1") == "1"


def test_missing_programs_are_named(data_dir: Path, place: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="nowhere"):
        start(data_dir, binaries=lambda: place / "nowhere")


def test_a_log_grown_too_long_is_set_aside_once(data_dir: Path, started: Start) -> None:
    started(data_dir).stop()
    log = data_dir.with_name("postgres.log")
    os.truncate(log, 10 * 1024 * 1024 + 1)

    started(data_dir)

    assert log.stat().st_size < 100_000
    assert data_dir.with_name("postgres.log.1").stat().st_size > 10 * 1024 * 1024
