"""How fast the threads are, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

from scraperkit.config import Settings
from scraperkit.engine.jobs import Result

# A worker fetches ahead what its threads will have done within this many seconds, but never more than the prefetch.
_WORK_AHEAD = 0.05
_SHORTEST = 1e-6
# Fetches much shorter than a switch of threads are handed to a thread by the handful.
_SHORT = 0.001
_HANDFUL = 16


class Pace:
    """Watches how long a fetch takes. Until the first is done, it expects the worst."""

    def __init__(self, settings: Settings) -> None:
        self._threads = settings.threads
        self._prefetch = settings.prefetch
        self._fetch_seconds = 1.0

    def watch(self, results: Iterable[Result]) -> None:
        """Learn from what has been fetched."""
        mean = self._fetch_seconds
        for result in results:
            mean += 0.1 * (max(_SHORTEST, result.fetched_at - result.started_at) - mean)
        self._fetch_seconds = mean

    @property
    def hold(self) -> int:
        """How many messages may be held: one for each thread, and what the threads will soon have done.

        Where fetching is slow, a message waits for a thread in the stream, where any worker can take it.
        """
        return self._threads + min(self._prefetch, int(self._threads * _WORK_AHEAD / self._fetch_seconds))

    @property
    def read_at_once(self) -> int:
        """How many messages one read takes: where many may be held, half of them, so that reads and work alternate."""
        return max(self._threads, self.hold // 2)

    @property
    def handful(self) -> int:
        """How many jobs a thread takes at once."""
        return max(1, min(_HANDFUL, int(_SHORT / self._fetch_seconds)))
