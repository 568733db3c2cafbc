"""One policy for every call to a Redis that may be away: try again, with growing pauses, and end when told to.

A task that waits for Redis must end in time, whatever it waits for: that is the second half.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis import exceptions

from scraperkit.failover.roles import Demoted

log = logging.getLogger(__name__)
T = TypeVar("T")

AWAY: tuple[type[Exception], ...] = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.NoScriptError,  # scripts were flushed just between loading one and calling it
    ConnectionError,
    TimeoutError,
)
# Redis answers but cannot do it now: out of memory, disk full, too few replicas, still loading, a script that hangs.
_NOT_NOW = ("OOM", "MISCONF", "NOREPLICAS", "LOADING", "BUSY ", "MASTERDOWN", "UNKILLABLE")
# Seconds given to what should take none, such as closing a connection.
FAREWELL = 5.0
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
    longest_pause : float
        Seconds between two tries at most, if that is less than 2.

    Attributes
    ----------
    outages : int
        How many outages of Redis there have been.
    away_since : float or None
        When the current outage began, in seconds since 1970.
    """

    def __init__(
        self, on_demoted: Callable[[], Awaitable[None]] | None = None, longest_pause: float = _LONGEST_PAUSE
    ) -> None:
        self._on_demoted = on_demoted
        self._longest_pause = min(longest_pause, _LONGEST_PAUSE)
        self.outages = 0
        self.away_since: float | None = None
        self._gives_up_at: float | None = None

    def give_up_after(self, seconds: float) -> None:
        """From `seconds` from now on, raise the error of an outage instead of waiting."""
        self._gives_up_at = time.monotonic() + seconds

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call`, which must be safe to repeat, returns once Redis answers; False if it heard nothing.

        A worker whose hand is full asks for nothing, and a silent channel tells nothing: neither ends an outage.
        """
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
                pause = min(pause * 2, self._longest_pause)
            else:
                if reply is not False:
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


@contextlib.asynccontextmanager
async def all_of(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run coroutines as tasks; on leaving, end those that still run."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        await end(tasks)


async def within(seconds: float, call: Coroutine[Any, Any, None]) -> None:
    """Await a call to Redis for at most `seconds`; that Redis is away, or hangs, is no error."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait([task], timeout=max(0.0, seconds))
    finally:
        await end([task])
    if (error := first_error([task])) is not None and not is_away(error):
        raise error


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended, so that nothing can hold up a stop for ever.

    Once is not enough: ``asyncio.wait_for``, by which redis-py sends, loses a cancellation in Python 3.11 that comes
    just as the sending ends.
    """
    ends_at = time.monotonic() + FAREWELL
    while (running := [task for task in tasks if not task.done()]) and time.monotonic() < ends_at:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.1)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # looked at, or asyncio writes the whole traceback to the log


def first_error(tasks: Sequence[asyncio.Task[None]]) -> BaseException | None:
    """Return the error of the first task that ended with one."""
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            return task.exception()
    return None
