"""One policy for every call to a Redis that may be away: retry with backoff, and give up on request.

The second half ends tasks in time, no matter what they wait for.
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
# Redis responds but cannot comply now: out of memory, disk full, too few replicas, still loading, a script that hangs.
_NOT_NOW = ("OOM", "MISCONF", "NOREPLICAS", "LOADING", "BUSY ", "MASTERDOWN", "UNKILLABLE")
# Seconds allowed for what should take none, such as closing a connection.
FAREWELL = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


def is_away(error: object) -> bool:
    """Return whether an error means that Redis is away, or cannot comply now."""
    # redis-py cuts the code off errors that have their own class.
    return isinstance(error, (*AWAY, exceptions.OutOfMemoryError)) or (
        isinstance(error, exceptions.ResponseError) and str(error).startswith(_NOT_NOW)
    )


class RedisRetry:
    """Repeat a call until Redis responds, or until :meth:`give_up_after` ends the wait.

    Parameters
    ----------
    on_demoted : callable, optional
        Awaited whenever the server has turned out to be a replica.
    longest_pause : float
        Longest pause between two attempts, in seconds; at most 2.

    Attributes
    ----------
    outages : int
        Number of outages of Redis so far.
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
        """After `seconds`, raise the error of an outage instead of waiting."""
        self._gives_up_at = time.monotonic() + seconds

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the reply of `call`, which must be idempotent, once Redis responds; False if it received nothing.

        A worker that is full requests nothing, and a silent channel says nothing: neither ends an outage.
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
    """Await a call to Redis for at most `seconds`; ignore that Redis is away or hangs."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait([task], timeout=max(0.0, seconds))
    finally:
        await end([task])
    if (error := first_error([task])) is not None and not is_away(error):
        raise error


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended, so that nothing can delay a stop forever.

    Once is not enough: in Python 3.11, ``asyncio.wait_for``, with which redis-py sends, loses a cancellation that comes
    just as the sending ends.
    """
    ends_at = time.monotonic() + FAREWELL
    while (running := [task for task in tasks if not task.done()]) and time.monotonic() < ends_at:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.1)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # retrieved, or asyncio would log the whole traceback


def first_error(tasks: Sequence[asyncio.Task[None]]) -> BaseException | None:
    """Return the error of the first task that ended with one."""
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            return task.exception()
    return None
