"""What a lesson may ask of a worker while it works: to rest, and to die."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scraperkit.engine.delivery import Delivery
from scraperkit.engine.jobs import Job
from scraperkit.engine.outage import AWAY


class Crashed(Exception):
    """A worker died because it was asked to."""


@dataclass(slots=True)
class Levers:
    """The state of one worker's levers; they hold for one life of it.

    Attributes
    ----------
    paused : bool
        Whether nothing more is received or begun.
    resting : threading.Event
        Set once a pause holds for sure: no read is on its way any more.
    crash_from : float
        The worker dies of the first job received from then on, in seconds since 1970.
    """

    paused: bool = False
    resting: threading.Event = field(default_factory=threading.Event)
    crash_from: float = math.inf

    def strike(self, jobs: Iterable[Job]) -> bool:
        """Tell whether the worker dies of one of these jobs."""
        return self.crash_from < math.inf and any(job.received_at >= self.crash_from for job in jobs)


class Rest:
    """What a pause means for the loop: reads come back, and jobs that no thread has begun are set aside."""

    def __init__(self, levers: Levers, deliveries: Sequence[Delivery]) -> None:
        self.set_aside: list[Job] = []
        self._levers = levers
        self._deliveries = deliveries
        self._reading: set[str] = set()
        self._coming: asyncio.Task[None] | None = None

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
        self._coming = asyncio.create_task(self._come())

    def end(self) -> list[Job]:
        """Return what was set aside."""
        jobs, self.set_aside = self.set_aside, []
        return jobs

    async def _come(self) -> None:
        while self._reading and self._levers.paused:
            for delivery in self._deliveries:
                with contextlib.suppress(*AWAY):
                    await delivery.nudge()
            await asyncio.sleep(0.01)
        self._levers.resting.set()
