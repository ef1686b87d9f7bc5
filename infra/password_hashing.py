"""argon2id in processes of its own (OWASP parameters), and the passwords that everybody tries."""

import asyncio
import logging
import os
import subprocess
import sys
from base64 import b64encode
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import argon2

from domain.ports import StoreUnavailableError
from domain.texts import MIN_PASSWORD_CODE_POINTS

logger = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("hashing_worker.py")
_READ_BYTES = 65_536
_ASKED_AHEAD = 2
_ATTEMPTS = 2
"""How many workers may be lost over one request: it may be what ends them."""


class HashingBusyError(StoreUnavailableError):
    """Passwords cannot be hashed just now, mostly since too many wait already; try again later.

    A ``StoreUnavailableError``, so that the HTTP layer, which knows no more of us than the ports of
    the domain, answers 503.
    """


_LANES = 1
"""libsodium's argon2id has one lane, as OWASP asks for."""


@dataclass(frozen=True, slots=True)
class HashingCost:
    """Argon2id parameters; the defaults are OWASP's (Password Storage Cheat Sheet, 2025).

    Attributes:
        memory_kib: Memory in KiB.
        passes: Passes over it.
    """

    memory_kib: int = 19_456
    passes: int = 2


class _WorkerLostError(Exception):
    """The worker ended before it answered: something killed it."""


@dataclass(slots=True, eq=False)
class _Job:
    """What a worker is asked, and who waits for the answer."""

    request: bytes
    answer: asyncio.Future[str]
    attempts: int = 0


class _Worker:
    """One process of ``infra/hashing_worker.py``, which answers in the order it was asked."""

    def __init__(self, cost: HashingCost) -> None:
        parameters = map(str, (cost.memory_kib, cost.passes))
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), *parameters],  # -P: our folder is no place to
            stdin=subprocess.PIPE,  # look the standard library's modules up
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.under_way: deque[_Job] = deque()
        self._unread = b""

    @property
    def output(self) -> int:
        """The file descriptor that its answers come from."""
        return self._process.stdout.fileno() if self._process.stdout is not None else -1

    def ask(self, job: _Job) -> None:
        """Send a request. It is short, and a pipe holds several: this does not wait.

        Raises:
            _WorkerLostError: The process has ended.
        """
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(job.request)
        except OSError as error:
            raise _WorkerLostError from error
        self.under_way.append(job)

    def answers(self) -> list[tuple[_Job, str]]:
        """What there is to read, each answer with its job.

        Raises:
            _WorkerLostError: There is nothing, and there will be nothing.
        """
        came = os.read(self.output, _READ_BYTES)
        if not came:
            raise _WorkerLostError
        *lines, self._unread = (self._unread + came).split(b"\n")
        return [(self.under_way.popleft(), line.decode()) for line in lines]

    def close(self) -> None:
        """Let it finish what it is at, and wait for its end."""
        self._process.communicate()


class PasswordHashing:
    """Hashes and verifies passwords in processes that have a lower priority than this one.

    Each is asked the next before it has answered the last, so none waits for the event loop, which
    has other things to do.
    """

    def __init__(
        self,
        processes: int | None = None,
        max_waiting: int = 64,
        cost: HashingCost = HashingCost(),
    ) -> None:
        """Start a first process; it takes about a tenth of a second until it answers.

        Args:
            processes: How many hash at once; None for one per processor that we may use. Each is
                of 13 MB, started when it is first needed, and takes ``cost.memory_kib`` more.
            max_waiting: How many may wait for them before ``HashingBusyError``.
            cost: What new hashes cost.
        """
        self._processes = processes or _usable_processors()
        self._cost = cost
        self._parameters = argon2.PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=_LANES
        )
        self._workers = [_Worker(cost)]
        self._followed_by: dict[_Worker, asyncio.AbstractEventLoop] = {}
        self._waiting: deque[_Job] = deque()
        self._places = self._processes + max_waiting
        self._computations = 0

    @property
    def computations(self) -> int:
        """How many times argon2 ran for a caller so far."""
        return self._computations

    async def hash(self, password: str) -> str:
        """Hash a password with a fresh salt.

        Args:
            password: As ``domain.texts.accept_new_password`` returned it.

        Raises:
            HashingBusyError: Too many wait already; nothing was done.
        """
        return await self._ask(b"hash", password.encode())

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is the one that was hashed.

        Args:
            stored: The hash, or None where there is no such user: argon2 runs all the same, with
                the parameters of new hashes, and the answer is no.
            password: As ``domain.texts.normalise_password`` returned it.

        Raises:
            HashingBusyError: Too many wait already; nothing was done.
        """
        answer = await self._ask(b"verify", (stored or "").encode(), password.encode())
        if answer == "unreadable" and stored is not None:
            logger.error("a stored password hash cannot be read; its owner cannot sign in")
        return answer == "fits"

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash has other parameters than new ones get."""
        return self._parameters.check_needs_rehash(stored)

    def close(self) -> None:
        """End the processes. Whoever still waits is cancelled."""
        for job in (*self._waiting, *(job for one in self._workers for job in one.under_way)):
            job.answer.cancel()
        self._waiting.clear()
        for worker in (*self._workers,):
            self._dismiss(worker)

    async def _ask(self, kind: bytes, *words: bytes) -> str:
        under_way = sum(len(worker.under_way) for worker in self._workers)
        if under_way + len(self._waiting) >= self._places:
            msg = "too many passwords wait to be verified; try again in a moment"
            raise HashingBusyError(msg)
        request = b" ".join([kind, *map(b64encode, words)]) + b"\n"
        job = _Job(request, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._hand_out()
        return await job.answer

    def _hand_out(self) -> None:
        """Give what waits to the workers, at most two each: one to do and one to go on with."""
        while self._waiting:
            worker = min(self._workers, key=lambda one: len(one.under_way), default=None)
            busy = worker is None or worker.under_way
            if worker is None or (busy and len(self._workers) < self._processes):
                worker = _Worker(self._cost)
                self._workers.append(worker)
            if len(worker.under_way) >= _ASKED_AHEAD:
                return
            job = self._waiting.popleft()
            if job.answer.done():  # its caller gave up
                continue
            self._follow(worker)
            try:
                worker.ask(job)
            except _WorkerLostError:
                worker.under_way.append(job)
                self._lost(worker)

    def _follow(self, worker: _Worker) -> None:
        if worker not in self._followed_by:
            loop = self._followed_by[worker] = asyncio.get_running_loop()
            loop.add_reader(worker.output, self._answered, worker)

    def _answered(self, worker: _Worker) -> None:
        try:
            answers = worker.answers()
        except _WorkerLostError:
            self._lost(worker)
        else:
            for job, answer in answers:
                self._computations += 1
                if not job.answer.done():
                    job.answer.set_result(answer)
        self._hand_out()

    def _lost(self, worker: _Worker) -> None:
        """Have another do what a worker that was killed did not get to."""
        jobs = list(worker.under_way)
        self._dismiss(worker)
        for job in reversed(jobs):
            job.attempts += 1
            if job.attempts <= _ATTEMPTS:
                self._waiting.appendleft(job)
            elif not job.answer.done():
                msg = "the process that hashes passwords ends at once; is there memory for it?"
                job.answer.set_exception(HashingBusyError(msg))

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        loop = self._followed_by.pop(worker, None)
        if loop is not None and not loop.is_closed():
            loop.remove_reader(worker.output)
        worker.under_way.clear()
        worker.close()


def load_blocklist() -> frozenset[str]:
    """Common passwords that are long enough to be asked for, in lower case.

    The list is zxcvbn's (30,000 from leaks; 11,600 have 8 characters or more). Only its data file
    is executed: importing the package would build and keep dictionaries of all its lists. About
    7 MB while it loads, of which 1.2 MB stay.

    Raises:
        RuntimeError: zxcvbn is not installed, or keeps its list elsewhere now.
    """
    package = find_spec("zxcvbn")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        msg = "the list of common passwords is missing: pip install zxcvbn"
        raise RuntimeError(msg)
    data = spec_from_file_location("_common_passwords", Path(folders[0], "frequency_lists.py"))
    if data is None or data.loader is None:
        msg = "zxcvbn keeps no list of common passwords in frequency_lists.py"
        raise RuntimeError(msg)
    module = module_from_spec(data)
    data.loader.exec_module(module)
    passwords: list[str] = module.FREQUENCY_LISTS["passwords"]
    return frozenset(word.lower() for word in passwords if len(word) >= MIN_PASSWORD_CODE_POINTS)


def _usable_processors() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))  # what a container or taskset leaves us
    else:  # noqa: RET505 (mypy follows platforms through branches only)
        return os.cpu_count() or 1
