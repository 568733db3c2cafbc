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
    """What anybody may ask of a worker: to pause, and to crash. They are for one life of it, also before it begins.

    Every method may be called from any thread.

    Attributes
    ----------
    paused : bool
        Whether nothing more is received or begun.
    crashing : bool
        Whether the worker is to crash now.
    over : bool
        Whether that life has ended: then the levers do nothing.
    """

    def __init__(self) -> None:
        self.paused = False
        self.crashing = False
        self.over = False
        self._crash_from = math.inf
        self._quiet = threading.Event()
        self._tell_loop: Callable[[], None] | None = None

    def connect(self, tell_loop: Callable[[], None]) -> None:
        """Have `tell_loop` called now, for what was asked before, and whenever more is asked."""
        self._tell_loop = tell_loop
        tell_loop()

    def end(self) -> None:
        """Note that the life is over."""
        self.over = True
        self.paused = False
        self._tell_loop = None
        self._quiet.set()

    def pause(self) -> None:
        """Receive and begin nothing more, until :meth:`resume`."""
        if self.over:
            return
        # In this order: what confirms an earlier pause afterwards has seen that nothing is read.
        self.paused = True
        self._quiet.clear()
        self._changed()

    def resume(self) -> None:
        """End a pause."""
        self.paused = False
        self._quiet.clear()
        self._changed()

    def confirm_pause(self) -> None:
        """Note that the pause holds, unless it has ended meanwhile: no read is on its way any more."""
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
        """Return whether the worker crashes rather than settle these jobs."""
        asked_for = self._crash_from < math.inf and any(job.received_at >= self._crash_from for job in jobs)
        return self.crashing or asked_for

    def _changed(self) -> None:
        if (tell_loop := self._tell_loop) is not None:
            tell_loop()


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
