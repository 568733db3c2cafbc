"""Plain threads that run the blocking part of a job."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from scraperkit.engine.jobs import Job, Result
from scraperkit.models import DailyQuote, ScrapeRequest


class ThreadPool:
    """Threads fed by a queue, handing results back through a deque.

    Parameters
    ----------
    fetch : callable
        What is run for each request.
    threads : int
        How many.
    wake : callable
        Called from a thread once there are results; not again until :meth:`results` is called, so that many results
        cost one wake-up.
    """

    def __init__(
        self, fetch: Callable[[ScrapeRequest], Sequence[DailyQuote]], threads: int, wake: Callable[[], None]
    ) -> None:
        self._fetch = fetch
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
        """Queue jobs for the threads; a thread takes `at_once` of them together."""
        for start in range(0, len(jobs), at_once):
            self._queue.put(jobs[start : start + at_once])

    def results(self, most: int) -> list[Result]:
        """Take the results that are there, `most` of them at the most: then call again, for there may be more."""
        self._woken = False
        taken: list[Result] = []
        while self._results and len(taken) < most:
            taken.append(self._results.popleft())
        return taken

    def withdraw(self) -> list[Job]:
        """Take back the jobs that no thread has begun."""
        jobs: list[Job] = []
        while True:
            try:
                jobs += self._queue.get_nowait() or ()
            except Empty:
                return jobs

    def close(self) -> None:
        """Tell the threads to end once they are done with what they hold."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the threads to end, for `timeout` seconds altogether; return whether all did."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        name = threading.current_thread().name
        while (jobs := self._queue.get()) is not None:
            for job in jobs:
                self.busy[name] = job
                self._results.append(self._result(job, name))
                self.busy.pop(name, None)
                if not self._woken:
                    self._woken = True
                    self._wake()

    def _result(self, job: Job, thread: str) -> Result:
        self.begun_at[thread] = started = time.time()
        quotes: Sequence[DailyQuote] = ()
        error: BaseException | None = None
        try:
            if job.request is not None and not job.problem and not job.request.acked:
                quotes = _checked(job.request, self._fetch(job.request))
        except BaseException as caught:  # noqa: BLE001 - a job's error, even SystemExit, never ends its thread
            error = caught
        return Result(job, quotes, error, thread, started, time.time())


def _checked(request: ScrapeRequest, answer: Sequence[DailyQuote]) -> list[DailyQuote]:
    """Refuse what a source must not return, before it gets near a key."""
    try:
        quotes = list(answer)
    except TypeError:
        raise TypeError(f"the source returned {type(answer).__name__}, not a list of DailyQuote") from None
    if not quotes:
        return quotes
    year, month = request.year, request.month
    for quote in quotes:
        if not isinstance(quote, DailyQuote):
            raise TypeError(f"the source returned a list with {type(quote).__name__} in it, not DailyQuote")
        if quote.cnpj != request.document:
            raise ValueError(f"the source returned quotes of {str(quote.cnpj)[:40]!r} for {request.document}")
        if not isinstance(quote.date, dt.date):
            raise TypeError(f"the source returned {str(quote.date)[:40]!r} for a day, not a datetime.date")
        if quote.date.month != month or quote.date.year != year:
            raise ValueError(f"the source returned {quote.date} for {request.month_year}")
    return quotes
