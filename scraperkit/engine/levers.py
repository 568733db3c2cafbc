"""Pause and simulated crash: what a lesson asks of a worker, and what the pause means for its loop."""

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
    """A worker crashed because it was asked to."""


class Levers:
    """What anybody may ask of a worker while it works: to pause, and to crash. They hold for one life of it.

    Every method may be called from any thread.

    Attributes
    ----------
    paused : bool
        Whether nothing more is received or begun.
    """

    def __init__(self) -> None:
        self.paused = False
        self._crash_from = math.inf
        self._quiet = threading.Event()
        self._tell_loop: Callable[[], None] | None = None

    def connect(self, tell_loop: Callable[[], None]) -> None:
        """Have `tell_loop` called whenever the pause begins or ends."""
        self._tell_loop = tell_loop

    def pause(self) -> None:
        """Receive and begin nothing more, until :meth:`resume`."""
        self.paused = True
        self._changed()

    def resume(self) -> None:
        """End a pause."""
        self.paused = False
        self._quiet.clear()
        self._changed()

    def confirm_pause(self) -> None:
        """Note that the pause holds: no read is on its way any more."""
        self._quiet.set()

    def wait_until_paused(self, timeout: float) -> bool:
        """Wait until a pause holds; return whether it does."""
        return self._tell_loop is None or self._quiet.wait(timeout)

    def crash_next(self) -> None:
        """Crash on the first job that is received from now on."""
        self._crash_from = time.time()

    def triggers_crash(self, jobs: Iterable[Job]) -> bool:
        """Return whether one of these jobs triggers the simulated crash."""
        return self._crash_from < math.inf and any(job.received_at >= self._crash_from for job in jobs)

    def _changed(self) -> None:
        if self._tell_loop is not None:
            self._tell_loop()


class Pause:
    """What a pause means for the loop: reads come back, and jobs that no thread has begun are set aside."""

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
        """Set `jobs` aside, and have the reads that are on their way come back."""
        self.set_aside += jobs
        self._recalling = asyncio.create_task(self._recall())

    def end(self) -> list[Job]:
        """Return what was set aside."""
        jobs, self.set_aside = self.set_aside, []
        return jobs

    async def _recall(self) -> None:
        while self._reading and self._levers.paused:
            for delivery in self._deliveries:
                with contextlib.suppress(*AWAY):
                    await delivery.nudge()
            await asyncio.sleep(0.01)
        self._levers.confirm_pause()
