"""Passes the news of stored prices from one listener to all watchers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from weakref import WeakSet

import anyio

from scraperkit.api.backend import Backend
from scraperkit.models import Stored
from scraperkit.timeseries.news import StoredListener, on_stored

UNREAD = 100  # messages that wait for a slow client
GAP: list[Stored] = []
MakeListener = Callable[[], StoredListener]


class Watcher:
    """A client that wants news of some series, or of all if none is given; a CNPJ means all of its series."""

    def __init__(self, series: Collection[str]) -> None:
        self._wanted = frozenset(series)
        self._messages: asyncio.Queue[list[Stored] | None] = asyncio.Queue()
        self._messages.put_nowait(GAP)

    async def next(self, seconds: float) -> list[Stored] | None:
        """Return the next news; ``None`` at the end. An empty list means a gap: read again what you need.

        Raises
        ------
        TimeoutError
            If nothing arrives within `seconds`.
        """
        with anyio.fail_after(seconds):
            return await self._messages.get()

    def tell(self, told: list[Stored]) -> None:
        """Queue what this watcher wants; if it lags too far behind, queue a gap instead."""
        if self._wanted:
            told = [stored for stored in told if not self._wanted.isdisjoint((stored.cnpj, stored.series))]
        if told:
            self._keep(told if self._messages.qsize() < UNREAD else None)

    def tell_of_a_gap(self) -> None:
        """Replace unread news by a gap."""
        self._keep(None)

    def _keep(self, told: list[Stored] | None) -> None:
        if told is None:
            while not self._messages.empty():
                self._messages.get_nowait()
        self._messages.put_nowait(GAP if told is None else told)

    def end(self) -> None:
        """End its stream after the news already queued."""
        self._messages.put_nowait(None)


class Newsroom:
    """All watchers of one app, and their shared listener, which runs while any client watches.

    All calls but :meth:`close` come from the event loop.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # Weak: a stream that never began, because its client left, calls no remove().
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._listener: StoredListener | None = None
        self._starting = asyncio.Lock()
        self._stopped = False

    async def add(self, watcher: Watcher, start: Callable[[MakeListener], Awaitable[StoredListener]]) -> None:
        """Send a watcher the news from now on.

        Parameters
        ----------
        watcher : Watcher
        start : callable
            Calls its argument in a thread, since that waits for Redis.

        Raises
        ------
        RedisError
            If Redis does not respond, or refuses the channel.
        """
        loop = asyncio.get_running_loop()

        def listen() -> StoredListener:
            return on_stored(
                self._backend.redis,
                lambda told: loop.call_soon_threadsafe(self._each, Watcher.tell, told),
                on_gap=lambda: loop.call_soon_threadsafe(self._each, Watcher.tell_of_a_gap),
                namespace=self._backend.keys.namespace,
            )

        async with self._starting:
            if self._listener is None:
                self._listener = await start(listen)
        self._watchers.add(watcher)
        if self._stopped:
            watcher.end()

    def remove(self, watcher: Watcher) -> None:
        """Stop sending news to a watcher; stop the listener after the last one."""
        self._watchers.discard(watcher)
        if not self._watchers and self._listener is not None:
            listener, self._listener = self._listener, None
            asyncio.get_running_loop().run_in_executor(None, listener.close)

    def stop(self) -> None:
        """End all streams."""
        self._stopped = True
        self._each(Watcher.end)

    def close(self) -> None:
        """Stop the listener, and wait until it has ended."""
        if self._listener is not None:
            self._listener.close()

    def _each(self, do: Callable[..., None], *given: list[Stored]) -> None:
        for watcher in list(self._watchers):
            do(watcher, *given)
