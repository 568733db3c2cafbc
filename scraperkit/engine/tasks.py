"""Tasks of an event loop that end when they are told to, whatever they wait for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from scraperkit.engine.redis_retry import is_away

# Seconds given to what should take none, such as closing a connection.
FAREWELL = 5.0


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
