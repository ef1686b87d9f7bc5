"""Rate limits over the rules and the Redis storage of ``limits``; in process by default.

Both places count by a sliding window: the attempts of the window that runs, plus those of the one
before, weighted by how much of it the last ``window`` seconds still cover. A fixed window would let
twice the limit through around its edge.

In process the counts are ours, not ``limits``'s ``MemoryStorage``: that one keeps a lock for every
key, never bounds their number, and starts a thread that walks all of them up to a hundred times a
second (it stays a few microseconds a hit only while there are few keys).
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from limits import RateLimitItem, parse
from limits.errors import StorageError

from domain.rate_limiting import LimitName

if TYPE_CHECKING:
    from limits.aio.storage import RedisStorage
    from redis.asyncio import BlockingConnectionPool

logger = logging.getLogger(__name__)

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_REDIS_CONNECTIONS = 32
_REDIS_ANSWERS_WITHIN_S = 0.25
_REDIS_DEADLINE_S = 0.5
"""For everything that an attempt asks of Redis, name resolution included."""
_REDIS_REST_S = 5.0
"""How long Redis is left alone after a failure: a hit must not wait for it each time."""
_WARN_EVERY_S = 60.0
_HASHED_KEY_CHARS = 32

_KeyT = TypeVar("_KeyT")
_Counting = Callable[..., Awaitable[int | None]]


class InvalidRulesError(ValueError):
    """A rate limit that cannot be read, or is missing; the message says which."""


class NoRedisClientError(ValueError):
    """Rate limits are to be kept in Redis, and its client is not installed."""


def rate_limits(
    storage_url: str | None,
    rules: Mapping[LimitName, str],
    key: bytes,
    on_degraded: Callable[[], None] = lambda: None,
) -> "InProcessRateLimits | RedisRateLimits":
    """The rate limiter that a deployment asks for.

    Args:
        storage_url: ``redis://``, ``rediss://`` or ``unix://`` URL; None counts in process.
        rules: How much of each, such as ``10/5minutes``.
        key: The deployment's secret, under which keys are hashed before they leave the process.
        on_degraded: Called for each attempt that is counted in process because Redis is away.

    Raises:
        InvalidRulesError: A rule is missing or cannot be read.
        NoRedisClientError: The ``redis`` package is not installed.
        ValueError: Another kind of URL.
    """
    local = InProcessRateLimits(rules)
    if storage_url is None:
        return local
    return RedisRateLimits(storage_url, rules, key, local, on_degraded=on_degraded)


def drop_least(counts: dict[_KeyT, int]) -> int:
    """Forget at least half of the keys: all that were counted no more often than the median.

    What stays is what is close to a limit, so a flood of keys that are seen once pushes out itself.

    Returns:
        How many were forgotten.
    """
    median = sorted(counts.values())[(len(counts) - 1) // 2]
    least = [key for key, count in counts.items() if count <= median]
    for key in least:
        del counts[key]
    return len(least)


class InProcessRateLimits:
    """``RateLimiter`` in this process alone. For one event loop; no locks, no threads."""

    def __init__(
        self,
        rules: Mapping[LimitName, str],
        max_keys: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start counting.

        Args:
            rules: How much of each.
            max_keys: The most keys that are counted apart for one limit in one window. About
                100 bytes each, and two windows a limit: 25 MB at the very worst.
            clock: Seconds, never backwards.

        Raises:
            InvalidRulesError: A rule is missing or cannot be read.
        """
        self._clock = clock
        self._windows = {
            name: _Windows(rule.amount, rule.get_expiry(), max_keys, clock())
            for name, rule in _parsed(rules).items()
        }

    async def hit(self, name: LimitName, *key: str) -> int | None:
        """See ``domain.rate_limiting.RateLimiter.hit``."""
        return self._windows[name].hit(hash(key), self._clock())

    async def check(self, name: LimitName, *key: str, under_way: int = 0) -> int | None:
        """See ``domain.rate_limiting.RateLimiter.check``."""
        return self._windows[name].check(hash(key), self._clock(), under_way)

    async def close(self) -> None:
        """Nothing to close."""


class _Windows:
    """The counts of one limit: the window that runs and the one before, the same for all keys.

    A window that is over goes as a whole, so nothing has to look for keys that expired. Keys are
    hashes (64 bits, seeded by Python at each start): smaller, and no network stays in memory.
    """

    __slots__ = ("_amount", "_before", "_counts", "_ends", "_max_keys", "_seconds")

    def __init__(self, amount: int, seconds: int, max_keys: int, now: float) -> None:
        self._amount = amount
        self._seconds = seconds
        self._max_keys = max_keys
        self._ends = now + seconds
        self._counts: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def hit(self, key: int, now: float) -> int | None:
        wait = self.check(key, now)
        if wait is not None:
            return wait
        counts = self._counts
        if key in counts:
            counts[key] += 1
            return None
        if len(counts) >= self._max_keys:
            drop_least(counts)
        counts[key] = 1
        return None

    def check(self, key: int, now: float, under_way: int = 0) -> int | None:
        if now >= self._ends:
            self._turn(now)
        count = self._counts.get(key, 0) + under_way
        before = self._before.get(key, 0)
        remaining = self._ends - now
        if count + before * remaining / self._seconds < self._amount:
            return None
        return _wait(self._amount, self._seconds, before, count, remaining)

    def _turn(self, now: float) -> None:
        passed = int((now - self._ends) // self._seconds) + 1
        self._before = self._counts if passed == 1 else {}
        self._counts = {}
        self._ends += passed * self._seconds


def _wait(amount: int, seconds: int, before: int, count: int, remaining: float) -> int:
    """Whole seconds until another attempt fits, if none is counted meanwhile.

    Args:
        amount: The limit.
        seconds: Length of a window.
        before: Attempts in the window before.
        count: Attempts in the window that runs.
        remaining: Seconds until it ends.
    """
    if count < amount:
        # The weight of the window before must fall below what is left.
        wait = remaining - (amount - count) * seconds / before if before else 0.0
    else:
        # This window must end, and then weigh less than the limit.
        wait = remaining + seconds - amount * seconds / count
    return max(1, int(wait) + 1)


class RedisRateLimits:
    """``RateLimiter`` shared by all replicas through Redis.

    While Redis is away each replica counts for itself: an attacker gets the limit once from every
    replica, which beats refusing everybody and limiting nobody. It says so in the log once a
    minute, and through ``on_degraded``.
    """

    def __init__(
        self,
        url: str,
        rules: Mapping[LimitName, str],
        key: bytes,
        local: InProcessRateLimits,
        *,
        on_degraded: Callable[[], None] = lambda: None,
        rest_s: float = _REDIS_REST_S,
    ) -> None:
        """Connect at the first hit.

        Args:
            url: Of the Redis server.
            rules: How much of each.
            key: Secret under which keys are hashed: networks are personal data.
            local: Counts while Redis is away.
            on_degraded: Called for each attempt that ``local`` counts.
            rest_s: Seconds that Redis is left alone after a failure.

        Raises:
            InvalidRulesError: A rule is missing or cannot be read.
            NoRedisClientError: The ``redis`` package is not installed.
            ValueError: Another kind of URL.
        """
        self._rules = _parsed(rules)
        self._key = key
        self._local = local
        self._on_degraded = on_degraded
        self._rest_s = rest_s
        self._away_until: float | None = None
        self._warn_from = 0.0
        self._warned = False
        self._pool = _redis_pool(url)
        self._storage = _redis_storage(self._pool)

    async def hit(self, name: LimitName, *key: str) -> int | None:
        """See ``domain.rate_limiting.RateLimiter.hit``."""
        return await self._first_answer(self._hit_redis, self._local.hit, name, key)

    async def check(self, name: LimitName, *key: str, under_way: int = 0) -> int | None:
        """See ``domain.rate_limiting.RateLimiter.check``."""
        return await self._first_answer(
            partial(self._check_redis, under_way=under_way),
            partial(self._local.check, under_way=under_way),
            name,
            key,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _first_answer(
        self, redis: _Counting, local: _Counting, name: LimitName, key: tuple[str, ...]
    ) -> int | None:
        if self._may_ask():
            try:
                async with asyncio.timeout(_REDIS_DEADLINE_S):
                    answer = await redis(name, *key)
            except (StorageError, OSError) as error:
                self._note_failure(error)
            else:
                self._note_success()
                return answer
        self._on_degraded()
        return await local(name, *key)

    async def _hit_redis(self, name: LimitName, *key: str) -> int | None:
        rule = self._rules[name]
        redis_key = self._redis_key(name, key)
        if await self._storage.acquire_sliding_window_entry(
            redis_key, rule.amount, rule.get_expiry()
        ):
            return None
        return await self._check_redis(name, *key) or 1  # it may have become free since

    async def _check_redis(self, name: LimitName, *key: str, under_way: int = 0) -> int | None:
        rule = self._rules[name]
        seconds = rule.get_expiry()
        before, before_ttl, count, count_ttl = await self._storage.get_sliding_window(
            self._redis_key(name, key), seconds
        )
        remaining = before_ttl if before else max(0.0, count_ttl - seconds)
        count += under_way
        if count + before * remaining / seconds < rule.amount:
            return None
        return _wait(rule.amount, seconds, before, count, remaining)

    def _redis_key(self, name: LimitName, key: tuple[str, ...]) -> str:
        # Each part with its length: no two keys are joined to the same bytes.
        message = "".join(f"{len(part)}:{part}" for part in (name.value, *key))
        hashed = hmac.digest(self._key, message.encode(), "sha256").hex()[:_HASHED_KEY_CHARS]
        return self._rules[name].key_for(name.value, hashed)

    def _may_ask(self) -> bool:
        if self._away_until is None:
            return True
        now = time.monotonic()
        if now < self._away_until:
            return False
        self._away_until = now + self._rest_s  # one attempt probes; the others do not wait for it
        return True

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        self._away_until = now + self._rest_s
        if now >= self._warn_from:
            self._warn_from = now + _WARN_EVERY_S
            self._warned = True
            logger.warning(
                "Redis does not answer; rate limits are counted in each process alone: %r",
                error.__cause__ or error,  # the library's own error says little
            )

    def _note_success(self) -> None:
        self._away_until = None
        if self._warned:
            self._warned = False
            logger.info("Redis answers again; rate limits are shared")


def _redis_pool(url: str) -> "BlockingConnectionPool":
    if not url.startswith(_REDIS_SCHEMES):
        msg = f"rate limits are kept in {', '.join(_REDIS_SCHEMES)} or in process, not in {url!r}"
        raise ValueError(msg)
    try:
        from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 (an optional extra)
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
    except ImportError as error:
        msg = "rate limits in Redis need its client: pip install 'sessiontrail[redis]'"
        raise NoRedisClientError(msg) from error
    return BlockingConnectionPool.from_url(
        url,
        max_connections=_REDIS_CONNECTIONS,
        timeout=_REDIS_DEADLINE_S,
        socket_timeout=_REDIS_ANSWERS_WITHIN_S,
        socket_connect_timeout=_REDIS_ANSWERS_WITHIN_S,
        retry=Retry(NoBackoff(), 1),  # a connection that was closed while it lay idle
    )


def _redis_storage(pool: "BlockingConnectionPool") -> "RedisStorage":
    from limits.aio.storage import RedisStorage  # noqa: PLC0415 (only where it is asked for)

    return RedisStorage(
        "redis://",
        wrap_exceptions=True,
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]  # documented, but not in its type
    )


def _parsed(rules: Mapping[LimitName, str]) -> dict[LimitName, RateLimitItem]:
    return {name: _rule(name, rules.get(name)) for name in LimitName}


def _rule(name: LimitName, text: str | None) -> RateLimitItem:
    if text is None:
        msg = f"there is no rate limit {name.value}"
        raise InvalidRulesError(msg)
    try:
        rule = parse(text)
    except ValueError as error:
        msg = f"rate limit {name.value} is like 10/5minutes, not {text!r}"
        raise InvalidRulesError(msg) from error
    if rule.amount < 1:
        msg = f"rate limit {name.value} allows nothing: {text!r}"
        raise InvalidRulesError(msg)
    return rule
