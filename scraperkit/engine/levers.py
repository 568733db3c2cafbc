"""Pause and simulated crash on request, and the effect of a pause on the worker's loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from scraperkit.engine.deliveries import Delivery
from scraperkit.engine.jobs import Job
from scraperkit.engine.redis_retry import AWAY


class Crashed(Exception):
    """A worker crashed on request."""


class Levers:
    """Requests to a worker to pause or to crash. They apply to one life of the worker, and may precede its start.

    Every method may be called from any thread.

    Attributes
    ----------
    paused : bool
        Whether receiving and starting jobs is suspended.
    crashing : bool
        Whether the worker is to crash now.
    over : bool
        Whether this life has ended: requests then have no effect.
    """

    def __init__(self) -> None:
        self.paused = False
        self.crashing = False
        self.over = False
        self._crash_from = math.inf
        self._quiet = threading.Event()
        self._tell_loop: Callable[[], None] | None = None

    def connect(self, tell_loop: Callable[[], None]) -> None:
        """Call `tell_loop` now, for earlier requests, and again on every new request."""
        self._tell_loop = tell_loop
        tell_loop()

    def end(self) -> None:
        """Note that the life is over."""
        self.over = True
        self.paused = False
        self._tell_loop = None
        self._quiet.set()

    def pause(self) -> None:
        """Stop receiving and starting jobs until :meth:`resume`."""
        if self.over:
            return
        # In this order: a confirmation of an earlier pause that comes later has seen that no read is under way.
        self.paused = True
        self._quiet.clear()
        self._changed()

    def resume(self) -> None:
        """End a pause."""
        self.paused = False
        self._quiet.clear()
        self._changed()

    def confirm_pause(self) -> None:
        """Note that the pause holds, since no read is under way; does nothing if the pause has ended."""
        if self.paused:
            self._quiet.set()

    def wait_until_paused(self, timeout: float) -> bool:
        """Wait until a pause holds; return whether it does."""
        return self._tell_loop is None or self._quiet.wait(timeout)

    def crash_next(self) -> None:
        """Crash on the first job that is received from now on."""
        if not self.over:
            self._crash_from = time.time()

    def crash(self) -> None:
        """Crash now."""
        self.crashing = not self.over
        self._changed()

    def triggers_crash(self, jobs: Iterable[Job]) -> bool:
        """Return whether one of these jobs, or a request to crash now, triggers the simulated crash."""
        asked_for = self._crash_from < math.inf and any(job.received_at >= self._crash_from for job in jobs)
        return self.crashing or asked_for

    def _changed(self) -> None:
        if (tell_loop := self._tell_loop) is not None:
            tell_loop()


class Pause:
    """The effect of a pause on the loop: reads are interrupted, and jobs that no thread has started are set aside."""

    def __init__(self, levers: Levers, deliveries: Sequence[Delivery]) -> None:
        self.set_aside: list[Job] = []
        self._levers = levers
        self._deliveries = deliveries
        self._reading: set[str] = set()
        self._recalling: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def reading(self, delivery: str) -> Iterator[None]:
        """Mark a read that may bring jobs."""
        self._reading.add(delivery)
        try:
            yield
        finally:
            self._reading.discard(delivery)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Set `jobs` aside, and interrupt the reads that are under way."""
        self.set_aside += jobs
        self._recalling = asyncio.create_task(self._recall())

    def end(self) -> list[Job]:
        """Return the jobs that were set aside."""
        jobs, self.set_aside = self.set_aside, []
        return jobs

    async def _recall(self) -> None:
        while self._reading and self._levers.paused:
            for delivery in self._deliveries:
                with contextlib.suppress(*AWAY):
                    await delivery.nudge()
            await asyncio.sleep(0.01)
        self._levers.confirm_pause()
