"""The threads that run the blocking part of a job, and how many messages to hold for them."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue

from scraperkit.cnpj import normalize_series
from scraperkit.config import Settings
from scraperkit.engine.jobs import Job, Result
from scraperkit.models import DailyQuote, ScrapeRequest, current_request
from scraperkit.sources.base import Source

# A worker holds as many messages ahead as its threads finish in this many seconds, at most the prefetch setting.
_WORK_AHEAD = 0.05
_SHORTEST_FETCH = 1e-6
# Results gather while threads finish this share of the messages held, and at most these seconds: the threads must
# still have work meanwhile.
_SHARE_GATHERED = 0.5
_LONGEST_GATHERING = _WORK_AHEAD / 2
# A thread takes several jobs at once if fetches are much shorter than a thread switch.
_SHORT_FETCH = 0.001
_HANDFUL = 16
# Seconds to wait for busy and for idle threads when a worker ends.
_BUSY_FAREWELL = 0.5
_IDLE_FAREWELL = 5.0


class ThreadPool:
    """Threads that take jobs from a queue and return results through a deque.

    Parameters
    ----------
    source : Source
        Its ``fetch`` is run for each request.
    threads : int
        Number of threads.
    wake : callable
        Called from a thread when there are results; not again before :meth:`results` is called, so many results cost
        one wake-up.
    redis_time_at : callable
        Converts a time by this machine's clock to one by the clock of Redis.
    """

    def __init__(
        self,
        source: Source,
        threads: int,
        wake: Callable[[], None],
        redis_time_at: Callable[[float], float],
    ) -> None:
        self._source = source
        self._redis_time_at = redis_time_at
        self._wake = wake
        self._queue: SimpleQueue[Sequence[Job] | None] = SimpleQueue()
        self._results: deque[Result] = deque()
        self._woken = False
        self.busy: dict[str, Job] = {}
        self.begun_at: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"scraper-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: Sequence[Job], at_once: int = 1) -> None:
        """Queue jobs for the threads; a thread takes `at_once` of them at a time."""
        for start in range(0, len(jobs), at_once):
            self._queue.put(jobs[start : start + at_once])

    @property
    def has_waiting(self) -> bool:
        """Whether there are jobs that no thread has started."""
        return not self._queue.empty()

    def results(self, most: int) -> list[Result]:
        """Take at most `most` results; if it returns that many, call again, since there may be more."""
        self._woken = False
        taken: list[Result] = []
        while self._results and len(taken) < most:
            taken.append(self._results.popleft())
        return taken

    def withdraw(self) -> list[Job]:
        """Take back the jobs that no thread has started."""
        jobs: list[Job] = []
        while True:
            try:
                jobs += self._queue.get_nowait() or ()
            except Empty:
                return jobs

    def close(self) -> None:
        """Ask the threads to end once they have finished their jobs."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the threads to end, for `timeout` seconds in all; return whether all did."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def leave(self) -> None:
        """Wait for the threads to end, but not for their jobs: ask the source to interrupt those, if it can."""
        interrupt = getattr(self._source, "interrupt", lambda _: None)
        deadline = time.monotonic() + _BUSY_FAREWELL
        # Repeated, since a thread that waited for another's page requests it itself once that one has failed.
        while self.busy and time.monotonic() < deadline:
            interrupt({thread.ident for thread in self._threads})
            self.join(_BUSY_FAREWELL / 10)
        self.join(0.0 if self.busy else _IDLE_FAREWELL)

    def _work(self) -> None:
        name = threading.current_thread().name
        while (jobs := self._queue.get()) is not None:
            for job in jobs:
                self.busy[name] = job
                current_request.set(job.request_id)
                self._results.append(self._result(job, name))
                self.busy.pop(name, None)
                if not self._woken:
                    self._woken = True
                    self._wake()

    def _result(self, job: Job, thread: str) -> Result:
        self.begun_at[thread] = started = time.time()
        token = self._redis_time_at(started)
        quotes: Sequence[DailyQuote] = ()
        error: BaseException | None = None
        try:
            if job.request is not None and not job.problem and not job.request.acked:
                quotes = _checked(job.request, self._source.fetch(job.request))
        except BaseException as caught:  # noqa: BLE001 - a job's error, even SystemExit, never ends its thread
            error = caught
        return Result(job, quotes, error, thread, started, time.time(), token)


def _checked(request: ScrapeRequest, returned: Sequence[DailyQuote]) -> list[DailyQuote]:
    """Check what a source returned before any of it becomes part of a key."""
    try:
        quotes = list(returned)
    except TypeError:
        raise TypeError(f"the source returned {type(returned).__name__}, not a list of DailyQuote") from None
    if not quotes:
        return quotes
    year, month = request.period
    for quote in quotes:
        if not isinstance(quote, DailyQuote):
            raise TypeError(f"the source returned a list with {type(quote).__name__} in it, not DailyQuote")
        if quote.cnpj != request.document:
            raise ValueError(f"the source returned quotes of {str(quote.cnpj)[:40]!r} for {request.document}")
        if quote.subclass and normalize_series(quote.series) != quote.series:
            raise ValueError(f"the source returned the subclass {quote.subclass[:40]!r}; write it in capitals")
        if not isinstance(quote.date, dt.date):
            raise TypeError(f"the source returned {str(quote.date)[:40]!r} for a day, not a datetime.date")
        if quote.date.month != month or quote.date.year != year:
            raise ValueError(f"the source returned {quote.date} for {request.month_year}")
    return quotes


class Prefetch:
    """Decide how many messages to hold from how long a fetch takes; until the first is done, assume one second."""

    def __init__(self, settings: Settings) -> None:
        self._threads = settings.threads
        self._prefetch = settings.prefetch
        self._fetch_seconds = 1.0
        self._watched_at = 0.0

    def watch(self, results: Iterable[Result]) -> None:
        """Learn from finished fetches, which are being settled now."""
        self._watched_at = time.monotonic()
        mean = self._fetch_seconds
        for result in results:
            mean += 0.1 * (max(_SHORTEST_FETCH, result.fetched_at - result.started_at) - mean)
        self._fetch_seconds = mean

    @property
    def hold(self) -> int:
        """How many messages may be held: one for each thread, and as many more as the threads will finish soon.

        If fetching is slow, messages wait in the stream, where any worker can take them.
        """
        return self._threads + min(self._prefetch, int(self._threads * _WORK_AHEAD / self._fetch_seconds))

    @property
    def read_at_once(self) -> int:
        """How many messages one read takes: at most half of those that may be held, so that reads overlap work."""
        return max(self._threads, self.hold // 2)

    @property
    def gathering(self) -> float:
        """Seconds for which results gather between two settlements."""
        finished_in = self.hold * self._fetch_seconds / self._threads
        return min(_LONGEST_GATHERING, _SHARE_GATHERED * finished_in)

    @property
    def still_gathering(self) -> float:
        """Seconds until the next settlement; 0 or less if it is due."""
        return self._watched_at + self.gathering - time.monotonic()

    @property
    def handful(self) -> int:
        """How many jobs a thread takes at once."""
        return max(1, min(_HANDFUL, int(_SHORT_FETCH / self._fetch_seconds)))
