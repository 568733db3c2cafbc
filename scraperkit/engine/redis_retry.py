"""One policy for every call to a Redis that may be away: try again, without end, with growing pauses."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis import exceptions

from scraperkit.connection import Demoted

log = logging.getLogger(__name__)
T = TypeVar("T")

AWAY: tuple[type[Exception], ...] = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.NoScriptError,  # scripts were flushed just between loading one and calling it
    ConnectionError,
    TimeoutError,
)
# Redis answers but cannot do it now: out of memory, disk full, too few replicas, still loading, a script that hangs.
_NOT_NOW = ("OOM", "MISCONF", "NOREPLICAS", "LOADING", "BUSY ", "MASTERDOWN", "UNKILLABLE")
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


def is_away(error: object) -> bool:
    """Return whether an error means that Redis is away, or cannot do it now."""
    # redis-py cuts the code off errors that have a class of their own.
    return isinstance(error, (*AWAY, exceptions.OutOfMemoryError)) or (
        isinstance(error, exceptions.ResponseError) and str(error).startswith(_NOT_NOW)
    )


class RedisRetry:
    """Repeats a call until Redis answers, or until it is told to give up.

    Parameters
    ----------
    on_demoted : callable, optional
        Awaited whenever the server has turned out to be a replica.

    Attributes
    ----------
    outages : int
        How many outages of Redis there have been.
    away_since : float or None
        When the current outage began, in seconds since 1970.
    """

    def __init__(self, on_demoted: Callable[[], Awaitable[None]] | None = None) -> None:
        self._on_demoted = on_demoted
        self.outages = 0
        self.away_since: float | None = None
        self._gives_up_at: float | None = None

    def give_up_after(self, seconds: float) -> None:
        """From `seconds` from now on, raise the error of an outage instead of waiting."""
        self._gives_up_at = time.monotonic() + seconds

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns once Redis answers; `call` must be safe to repeat."""
        pause = _FIRST_PAUSE
        while True:
            try:
                reply = await call()
            except Exception as error:
                if not is_away(error):
                    raise
                self._note(error)
                if isinstance(error, Demoted) and self._on_demoted is not None:
                    await self._on_demoted()
                if self._gives_up_at is not None and time.monotonic() + pause > self._gives_up_at:
                    raise
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._answered()
                return reply

    def _note(self, error: Exception) -> None:
        if self.away_since is None:
            self.outages += 1
            self.away_since = time.time()
            log.warning("Redis is away (%s); trying again until it is back", error)

    def _answered(self) -> None:
        if self.away_since is not None:
            log.warning("Redis is back after %.1f s", time.time() - self.away_since)
            self.away_since = None
