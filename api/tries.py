"""Tries at a password that were let in and are not judged yet, so that none slips past a limit."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from domain.rate_limiting import LimitName, RateLimiter

LimitKey = tuple[LimitName, tuple[str, ...]]
"""A limit, and whom it is counted for."""

_MAX_WAITING = 64
"""How many may wait for one limit: whoever sends more at once is told to come back."""
_FULL_S = 1


class LimitReachedError(Exception):
    """A try is turned away."""

    def __init__(self, name: LimitName, wait: int) -> None:
        """Say why.

        Args:
            name: The limit.
            wait: Whole seconds until it may be let in.
        """
        super().__init__(name.value)
        self.name = name
        self.wait = wait


class TriesUnderWay:
    """Lets no more tries in at once than the limits have room for, should they all fail.

    A failure is known, and counted, only after the hashing. Whoever sends many guesses at once
    would have all of them let in before the first one counts. So what is under way counts as a
    failure until it is over; a try for which that leaves no room waits, and is not refused: all of
    an office may sign in at nine. For one process; others see a failure once it is counted.
    """

    def __init__(self) -> None:
        """Nothing is under way."""
        self._tries: Counter[LimitKey] = Counter()
        self._waiting: Counter[LimitKey] = Counter()
        self._over: dict[LimitKey, asyncio.Event] = {}
        self._letting_in = asyncio.Lock()

    @asynccontextmanager
    async def let_in(self, limits: RateLimiter, keys: Sequence[LimitKey]) -> AsyncIterator[None]:
        """One try: it is under way for as long as the block lasts. Count its failure in there.

        Args:
            limits: What was counted.
            keys: Everything that its failure would count against.

        Raises:
            LimitReachedError: Failures have used a limit up, or too many wait already.
        """
        while (full := await self._enter(limits, keys)) is not None:
            await self._one_over(full)
        try:
            yield
        finally:
            for key in keys:
                self._leave(key)

    async def _enter(self, limits: RateLimiter, keys: Sequence[LimitKey]) -> LimitKey | None:
        """Let a try in, or name the limit in which those under way leave no room."""
        async with self._letting_in:
            for key in keys:
                if not await self._has_room(limits, key):
                    return key
            self._tries.update(keys)
        return None

    async def _has_room(self, limits: RateLimiter, limit: LimitKey) -> bool:
        """Whether one more may fail; False only while there is one to wait for."""
        name, key = limit
        while under_way := self._tries[limit]:
            if await limits.check(name, *key, under_way=under_way) is None:
                return True
            await self._refuse_if_used_up(limits, limit)
            if self._tries[limit]:  # Redis takes its time: the last may have ended meanwhile
                return False
        await self._refuse_if_used_up(limits, limit)
        return True

    async def _refuse_if_used_up(self, limits: RateLimiter, limit: LimitKey) -> None:
        name, key = limit
        wait = await limits.check(name, *key)
        if wait is not None:
            raise LimitReachedError(name, wait)

    async def _one_over(self, key: LimitKey) -> None:
        if self._waiting[key] >= _MAX_WAITING:
            raise LimitReachedError(key[0], _FULL_S)
        self._waiting[key] += 1
        try:
            await self._over.setdefault(key, asyncio.Event()).wait()
        finally:
            _one_less(self._waiting, key)

    def _leave(self, key: LimitKey) -> None:
        _one_less(self._tries, key)
        over = self._over.pop(key, None)
        if over is not None:
            over.set()


def _one_less(counts: Counter[LimitKey], key: LimitKey) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
