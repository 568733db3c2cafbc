"""A limit of requests for each key, counted in Redis for all pricers together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import redis as redis_py
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis as AsyncRedis

from scraperkit.api.problems import ProblemError
from scraperkit.connection import async_client
from scraperkit.keys import RATE_LIMITS

_TIMEOUT = 0.5
_ALONE = 5.0  # seconds for which this process counts alone before it tries Redis again


class RateLimit:
    """Counts the requests of each key in a sliding minute.

    While Redis is unreachable, each pricer counts by itself, so a limit still holds.

    Parameters
    ----------
    a_minute : int
        Requests a minute; 0 means no limit.
    client : callable
        Returns the client for Redis, or ``None`` while there is none yet.
    namespace : str
        Pricers of the same namespace count together.
    """

    def __init__(self, a_minute: int, client: Callable[[], redis_py.Redis | None], namespace: str) -> None:
        self._item = RateLimitItemPerMinute(a_minute) if a_minute else None
        self._client = client
        self._namespace = namespace
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared: SlidingWindowCounterRateLimiter | None = None
        self._connection: AsyncRedis | None = None
        self._alone_until = -math.inf

    async def count(self, owner: str) -> None:
        """Count one request.

        Raises
        ------
        ProblemError
            429, if it exceeds the limit; says when to try again.
        """
        if self._item is None:
            return
        wait = await self._hit(self._item, owner)
        if wait is not None:
            raise ProblemError(
                "too-many",
                f"this key may make {self._item.amount} requests a minute; try again in {wait} s",
                headers={"Retry-After": str(wait)},
            )

    async def _hit(self, item: RateLimitItemPerMinute, owner: str) -> int | None:
        limiter = self._limiter()
        try:
            return await _wait(limiter, item, self._namespace, owner)
        except (redis_py.RedisError, OSError):
            self._alone_until = time.monotonic() + _ALONE
            return await _wait(self._alone, item, self._namespace, owner)

    def _limiter(self) -> SlidingWindowCounterRateLimiter:
        if time.monotonic() < self._alone_until:
            return self._alone
        if self._shared is None and (client := self._client()) is not None:
            self._connection = async_client(client, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
            storage = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=RATE_LIMITS,
                connection_pool=self._connection.connection_pool,  # type: ignore[arg-type]
            )
            self._shared = SlidingWindowCounterRateLimiter(storage)
        return self._shared or self._alone

    async def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            await self._connection.aclose()


async def _wait(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItemPerMinute, *names: str) -> int | None:
    """Count a request; return the seconds to wait if it exceeds the limit."""
    if await limiter.hit(item, *names):
        return None
    until = (await limiter.get_window_stats(item, *names)).reset_time
    return max(1, math.ceil(until - time.time()))
