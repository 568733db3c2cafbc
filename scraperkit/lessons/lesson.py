"""The life of a lesson: its namespace, its site, its checks, and an end that leaves nothing running."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from html import escape
from typing import Any, TypeVar

import redis as redis_py

from scraperkit.connection import address_of, connect
from scraperkit.engine.hosting import subscribers_of
from scraperkit.engine.registry import each_source, live_workers
from scraperkit.errors import ConfigError, ScraperKitError, WorkerError
from scraperkit.keys import Keys
from scraperkit.lessons.verdict import Verdict
from scraperkit.models import Month
from scraperkit.replica import Replica
from scraperkit.replica.sample import load_sample
from scraperkit.sources import CvmPages
from scraperkit.sources.open_data import OpenData

# Each notebook, and the module of this package that checks its exercises.
LESSONS = {
    "00_tour": "tour",
    "01_publish_batches": "publishing",
    "02_subscribe_step_by_step": "subscribing",
    "03_workers_in_the_background": "workers",
    "04_fund_prices": "fund_prices",
    "05_when_things_fail": "failures",
    "06_bring_your_own_source": "own_source",
    "07_the_whole_market": "whole_market",
    "08_news_live": "news_live",
}
# The only CNPJ of the sample that is also a real fund's.
_REAL_FUND = "18993924000100"
_BREAKS_ITS_SITE = "05_when_things_fail"
_WHOLE_FROM = Month(2022, 1)
_OUR_THREADS = ("scraper", "replica")
_JOIN_SECONDS = 2.0
# Only the last column of a wide table, which holds the errors, wraps: dates and ids would break at their hyphens.
_UNBROKEN = (
    "<style>table.dataframe th, table.dataframe td:not(:last-child) { white-space: nowrap; } "
    "table.dataframe td:last-child { overflow-wrap: anywhere; }</style>"
)
_Resource = TypeVar("_Resource")
_open: list[Lesson] = []


@contextlib.contextmanager
def _variables(**values: str) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def begin(name: str, *, live: bool = False, redis_url: str | None = None) -> Lesson:
    """Begin a lesson: connect, and choose a unique namespace.

    Until :meth:`Lesson.end`, everything in this process that is given no namespace uses the lesson's. A lesson that
    is still open in this process, because its first cell is run again, is closed first.

    Parameters
    ----------
    name : str
        Name of the notebook, without ``.ipynb``: a key of :data:`LESSONS`.
    live : bool
        Read the regulator's own site instead of the offline replica.
    redis_url : str, optional
        Address of a Redis to share; the default is that of :func:`scraperkit.connect`.

    Raises
    ------
    ConfigError
        If the lesson is unknown, or `live` is set for the one that breaks its site.
    RedisError
        As :func:`scraperkit.connect` does.

    Examples
    --------
    >>> lesson = begin("01_publish_batches")
    >>> lesson.redis.ping()
    True
    >>> lesson.end()
    The lesson is over: no worker failed. Its 0 keys in Redis are deleted, nothing is left running.
    """
    if name not in LESSONS:
        raise ConfigError(f"name: unknown lesson {str(name)[:40]!r}; choose one of {', '.join(LESSONS)}")
    if live and name == _BREAKS_ITS_SITE:
        raise ConfigError("live: this lesson breaks its site, so it uses the offline one; leave LIVE = False")
    for lesson in list(_open):
        lesson.close()
    return Lesson(name, connect(redis_url), live=live, redis_url=redis_url or os.environ.get("REDIS_URL", ""))


class Lesson:
    """An open lesson. Get one from :func:`begin`.

    Attributes
    ----------
    name : str
        Name of the notebook.
    namespace : str
        Prefix of every key that the lesson writes.
    keys : Keys
        Every name in that namespace: ``lesson.keys.channel``, ``lesson.keys.jobs`` and so on.
    redis : redis.Redis
        A client for the lesson.
    redis_url : str
        Address of that Redis, for :class:`scraperkit.WorkerProcess`; empty for the embedded server.
    live : bool
        Whether the site is the regulator's own.
    """

    def __init__(self, name: str, redis: redis_py.Redis, *, live: bool = False, redis_url: str = "") -> None:
        import pandas as pd
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # else the first progress bar starts a thread that outlives the lesson
        self.name = name
        self.live = live
        self.redis = redis
        self.redis_url = redis_url
        self.namespace = f"lesson-{name[:2]}-{uuid.uuid4().hex[:6]}"
        self.keys = Keys(self.namespace)
        self._threads_before = set(threading.enumerate())
        self._stack, self._last, self._environment = ExitStack(), ExitStack(), ExitStack()
        self._stack.enter_context(pd.option_context("display.max_colwidth", None))  # show errors in full
        self._ended = False
        offline = {} if live else {"SCRAPERKIT_OFFLINE": "1"}
        self._environment.enter_context(_variables(SCRAPERKIT_NAMESPACE=self.namespace, **offline))
        # Clean up even if the kernel is shut down in the middle.
        atexit.register(self.close)
        _open.append(self)

    @cached_property
    def site(self) -> Replica | None:
        """The offline site, started on first use; ``None`` in a live lesson.

        From then on :func:`scraperkit.rates` reads the site's rates, too.
        """
        if self.live:
            return None
        site = self.enter(Replica.start())
        self.enter(_variables(SCRAPERKIT_SGS_URL=site.sgs_url, SCRAPERKIT_B3_URL=site.b3_url))
        return site

    @cached_property
    def source(self) -> CvmPages:
        """Where the lesson's prices come from: the offline site, or the regulator's own."""
        return self.enter(CvmPages() if self.site is None else CvmPages(self.site.url))

    @cached_property
    def market(self) -> OpenData:
        """The open data: the offline portal in a temporary folder or, live, your own archive."""
        if self.site is None:
            return self.enter(OpenData())
        self.site.portal.crawl_delay = 0
        folder = self.enter(tempfile.TemporaryDirectory(prefix="scraperkit-lesson-"))
        return self.enter(OpenData(self.site.open_data_url, archive=folder))

    @property
    def cnpjs(self) -> list[str]:
        """CNPJs of funds that the offline site shows for all of 2022 and 2023; a live lesson has only one."""
        if self.live:
            return [_REAL_FUND]
        whole = (fund for fund in load_sample().funds if fund.active and fund.ended_on is None)
        return list(dict.fromkeys(fund.cnpj for fund in whole if Month.of(fund.started_on) <= _WHOLE_FROM))

    def enter(self, resource: AbstractContextManager[_Resource], *, last: bool = False) -> _Resource:
        """Enter a context manager; the lesson's end exits the latest first, and those with `last` after all others."""
        return (self._last if last else self._stack).enter_context(resource)

    def check(self, number: int, answer: Any) -> Verdict:
        """Return whether an exercise is done, or a hint; a wrong answer never raises.

        Parameters
        ----------
        number : int
            Number of the exercise.
        answer : object
            What the exercise asks for; ``...`` means no answer yet.

        Raises
        ------
        ConfigError
            If the lesson has no such exercise.
        """
        check = self._check_of(number)
        if answer is ...:
            what_to_do = "put your answer in place of the dots, run that cell, then this one."
            return Verdict(False, f"Exercise {number}: {what_to_do}")
        try:
            hint = check(self, answer)
        except Exception as error:  # noqa: BLE001 - a beginner gets a sentence, never a traceback
            hint = f"this answer cannot be checked ({type(error).__name__}: {str(error)[:200]})."
        return Verdict(hint is None, f"Exercise {number} is done." if hint is None else f"Exercise {number}: {hint}")

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for a condition, not for a fixed time, which would be too short on a slow machine.

        Raises
        ------
        TimeoutError
            If the condition is still false after that many seconds.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition of this cell is still false after {seconds:g} s; run the cell again")
            time.sleep(0.01)

    def end(self) -> Verdict:
        """End the lesson: check that no worker failed or still runs, and delete the lesson's keys.

        Also stops the site, exits what was given to :meth:`enter`, and closes connections. May be called again.

        Raises
        ------
        WorkerError
            If the engine of a subscriber failed, or a worker or a thread of the lesson still runs; names it.
            Cleans up all the same.
        """
        if self._ended:
            return Verdict(True, "The lesson is already over; run its first cell to begin again.")
        deleted, problems = self._tidy_up()
        if problems:
            raise WorkerError(f"the lesson is over and cleaned up, but {'; '.join(problems)}")
        return Verdict(
            True,
            f"The lesson is over: no worker failed. Its {deleted} keys in Redis are deleted, nothing is left running.",
        )

    def close(self) -> None:
        """End the lesson and ignore its errors."""
        if not self._ended:
            with contextlib.suppress(Exception):
                self._tidy_up()

    def _check_of(self, number: int) -> Callable[[Lesson, Any], str | None]:
        module = importlib.import_module(f"scraperkit.lessons.{LESSONS[self.name]}")
        check: Callable[[Lesson, Any], str | None] | None = getattr(module, f"check_{number}", None)
        if check is None:
            raise ConfigError(f"number: lesson {self.name} has no exercise {str(number)[:20]}")
        return check

    def _tidy_up(self) -> tuple[int, list[str]]:
        self._ended = True
        atexit.unregister(self.close)
        _open.remove(self)
        deleted, problems = 0, []
        try:
            problems += self._stop_workers()
            self._stack.close()
            problems += self._still_at_work()
            deleted = self._delete_keys()
        except (redis_py.RedisError, OSError) as error:
            problems.append(f"Redis does not respond, so the keys of {self.namespace} are still there: {error}")
        finally:
            self.redis.close()
            self._last.close()
            self._environment.close()
        return deleted, problems + self._threads_left()

    def _stop_workers(self) -> list[str]:
        problems = []
        for subscriber in subscribers_of(self.namespace):
            if subscriber.error is None:
                problems.append(f"{subscriber.name} was still listening: end a subscriber with stop(), or use `with`")
            try:
                subscriber.stop()
            except ScraperKitError as error:
                problems.append(str(error))
        return problems

    def _still_at_work(self) -> list[str]:
        each = each_source(self.redis, self.keys)
        left = [worker.name for keys in each for worker in live_workers(self.redis, keys)]
        if not left:
            return []
        ways_out = "a worker stepped by hand ends with `await worker.close()`, a process with terminate() and wait()"
        return [f"still at work: {', '.join(left)} ({ways_out})"]

    def _delete_keys(self) -> int:
        keys = list(self.redis.scan_iter(self.keys.pattern, count=1000))
        for start in range(0, len(keys), 1000):
            self.redis.unlink(*keys[start : start + 1000])
        return len(keys)

    def _threads_left(self) -> list[str]:
        left = [
            thread
            for thread in threading.enumerate()
            if thread not in self._threads_before and thread.name.startswith(_OUR_THREADS)
        ]
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
        names = sorted(thread.name for thread in left if thread.is_alive())
        return [f"these threads still run: {', '.join(names)}"] if names else []

    def __repr__(self) -> str:
        if self._ended:
            return f"<Lesson {self.name}: over>"
        site = "the regulator's own site" if self.live else "an offline stand-in for the regulator's site"
        return f"<Lesson {self.name}: {site}, Redis at {address_of(self.redis)}, namespace {self.namespace}>"

    def _repr_html_(self) -> str:
        if self._ended:
            return f"<b>Lesson {escape(self.name)}</b> is over."
        site = "the regulator's own (live)" if self.live else "an offline stand-in with invented funds"
        rows = (("site", site), ("Redis", address_of(self.redis)), ("namespace", self.namespace))
        lines = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in rows
        )
        return f"{_UNBROKEN}<b>Lesson {escape(self.name)}</b> is ready.<table>{lines}</table>"
