"""The state of a running app, and the threads of its routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request

from scraperkit.api.backend import SILENT, Backend, Seen
from scraperkit.api.metrics import Metrics
from scraperkit.api.newsroom import Newsroom
from scraperkit.api.problems import ProblemError
from scraperkit.config import Settings

T = TypeVar("T")
PROBES = 4
PROBE_SECONDS = 2.0  # probes often time out after 3 to 5


class Running:
    """One app's state, made in its event loop; on ``app.state.running``.

    The event loop only passes requests on; whatever waits for Redis or the site runs in a thread. Each kind of work has
    its own threads, so a slow site does not delay reads, and reads do not delay probes.

    Attributes
    ----------
    stopping : anyio.Event
        Set when the server begins to stop, so that endless streams end.
    watchers : int
        Number of such streams.
    """

    def __init__(self, settings: Settings, backend: Backend, metrics: Metrics) -> None:
        self.settings = settings
        self.backend = backend
        self.metrics = metrics
        self.stopping = anyio.Event()
        self._reads = anyio.CapacityLimiter(settings.api_threads)
        self._lookups = anyio.CapacityLimiter(settings.api_lookups)
        # Not anyio's, which keeps counting an abandoned thread, or forgets it.
        self._probes = ThreadPoolExecutor(PROBES, "probe")
        self._archive_probe = ThreadPoolExecutor(1, "archive")
        self.newsroom = Newsroom(backend)
        self.watchers = 0
        self._asking = 0
        self._scopes: set[anyio.CancelScope] = set()

    async def read(self, work: Callable[[], T]) -> T:
        """Do a short read of Redis in a thread."""
        return await anyio.to_thread.run_sync(work, limiter=self._reads)

    async def probe(self) -> Seen:
        """Check the service in a thread; a Redis that hangs counts as silent."""
        with anyio.move_on_after(PROBE_SECONDS):
            return await asyncio.wrap_future(self._probes.submit(self.backend.missing))
        return SILENT

    async def archive_age(self) -> float | None:
        """Return the archive's age in seconds, read in a thread; ``None`` if the disk hangs."""
        with anyio.move_on_after(PROBE_SECONDS):
            return await asyncio.wrap_future(self._archive_probe.submit(self.backend.archive_age))
        return None

    async def look_up(self, work: Callable[[], T]) -> T:
        """Make a request to the site in a thread.

        Raises
        ------
        ProblemError
            503, if too many are waiting already, or the server stops first.
        """
        if self._asking >= self.settings.api_lookups + self.settings.api_queue:
            raise ProblemError("busy", "too many funds are being looked up; try again", headers={"Retry-After": "5"})
        self._asking += 1
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                return await anyio.to_thread.run_sync(work, limiter=self._lookups, abandon_on_cancel=True)
            finally:
                self._scopes.remove(scope)
                self._asking -= 1
        raise ProblemError("busy", "the pricer is stopping", headers={"Retry-After": "10"})

    def stop(self) -> None:
        """End what would delay the server's stop: streams, and look-ups that wait for the site."""
        self.stopping.set()
        self.newsroom.stop()
        for probes in (self._probes, self._archive_probe):
            probes.shutdown(wait=False, cancel_futures=True)
        for scope in self._scopes:
            scope.cancel()


async def _running(request: Request) -> Running:
    running: Running = request.app.state.running
    return running


TheRunning = Annotated[Running, Depends(_running)]
