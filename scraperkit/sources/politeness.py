"""Rate limit and circuit breaker for a site, shared by all workers on one Redis."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import math
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import check_client
from scraperkit.errors import SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.lua.scripts import Turn, agree_on_site
from scraperkit.sources.wire import leads_here

log = logging.getLogger(__name__)
LIVE_RATE = 2.0
LONGEST_DELAY = 60.0
_LONGEST_NAP = 1.0
_WORTH_A_WORD = 5.0  # seconds
# A turn is promised at most this many seconds ahead, or one turn: those of a dead worker soon pass.
_AHEAD = 1.0
_A_DAY = 86_400
_TRY = -1
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


class Politeness:
    """Rate limit and circuit breaker of one site.

    Three limits apply, and the longest wait wins: the rate from ``SCRAPERKIT_RATE`` or the site's ``Crawl-delay``; a
    ``Retry-After`` from the site; and a circuit breaker, which opens after several failures in a row and, after a
    pause, lets through one fetch at a time until one succeeds. The rate counts every request, redirects and retries
    too. Workers that share a Redis use its clock.

    Parameters
    ----------
    url : str
        The site; all its pages share the limits.
    settings : Settings
        ``rate``, ``breaker_failures``, ``breaker_pause``, ``breaker_limit``.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        parts = urlsplit(url)
        self.site = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
        self.crawl_delay = 0.0
        self._settings = settings
        self.rate = settings.rate or (math.inf if leads_here(parts.hostname or "") else LIVE_RATE)
        self._guard = threading.Lock()
        self._shared: list[redis_py.Redis] = []
        self._alone = _Alone(settings)
        self._turns = _Turns()
        self._troubled = False
        self._who = uuid.uuid4().hex
        self._here = threading.local()
        self._said_until = 0.0

    def share(self, redis: redis_py.Redis) -> None:
        """Share the site's limits with everyone on this Redis from now on."""
        check_client(redis)
        with self._guard:
            self._shared.append(redis)

    def unshare(self, redis: redis_py.Redis) -> None:
        """Stop sharing through this Redis."""
        with self._guard:
            self._shared = [other for other in self._shared if other is not redis]

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Limit this thread's wait for each turn to `seconds`, unless a setting limits it."""
        before = self._patience()
        self._here.patience = seconds
        try:
            yield
        finally:
            self._here.patience = before

    def wait(self, closed: threading.Event) -> bool:
        """Wait for a turn to send one request to the site; return False if `closed` is set first.

        Raises
        ------
        SiteUnavailable
            As soon as the wait is known to exceed ``SCRAPERKIT_SITE_PATIENCE``, or what :meth:`patient` allows.
        """
        deadline = time.monotonic() + (self._settings.site_patience or self._patience())
        has_turn = False
        while not closed.is_set():
            # Check the circuit first, and again when the turn has come: while it is open, nobody may take a turn.
            seconds = self._seconds_open()
            if is_open := seconds > 0:
                has_turn = False
            elif not has_turn:
                has_turn, seconds = self._next_turn(deadline)
            if has_turn and seconds <= 0:
                return True
            if time.monotonic() + seconds > deadline:
                raise SiteUnavailable(f"{self.site} is busy, or its circuit is open; try again in {seconds:.0f} s")
            if is_open:
                self._say_wait(seconds)
            closed.wait(seconds if has_turn else min(seconds, _LONGEST_NAP))
        return False

    def _patience(self) -> float:
        return float(getattr(self._here, "patience", math.inf))

    def _say_wait(self, seconds: float) -> None:
        """Log once for each long wait when it ends."""
        until = time.monotonic() + seconds
        with self._guard:
            is_news = seconds > _WORTH_A_WORD and until > self._said_until + _WORTH_A_WORD
            if is_news:
                self._said_until = until
        if is_news:
            clock = dt.datetime.now().astimezone() + dt.timedelta(seconds=seconds)
            log.warning("%s asks for a pause, or keeps failing: waiting until %s", self.site, f"{clock:%H:%M:%S}")

    def known_crawl_delay(self) -> float | None:
        """Return the crawl delay that others on the same Redis have read from robots.txt today, if any."""
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        try:
            known = shared.get(Keys.robots(self.site)) if shared is not None else None
        except redis_py.RedisError:
            return None
        return float(known) if known is not None else None

    def heed(self, crawl_delay: float) -> None:
        """Apply the crawl delay from the site's robots.txt, and share it."""
        self.crawl_delay = crawl_delay
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        if shared is not None:
            with contextlib.suppress(redis_py.RedisError):
                shared.set(Keys.robots(self.site), crawl_delay, ex=_A_DAY)

    def pause(self, seconds: float) -> None:
        """Open the circuit for `seconds`, as requested by Retry-After."""
        seconds = min(seconds, self._settings.breaker_limit)
        self._troubled = True
        wait = int(seconds * 1000)
        if (
            self._tell(lambda redis: agree_on_site(redis, self.site, "pause", pause_ms=wait, reason="Retry-After"))
            is None
        ):
            self._alone.pause(seconds)

    def failed(self, reason: str) -> None:
        """Count a failure; after several in a row, open the circuit."""
        self._troubled = True
        settings = self._settings
        told = self._tell(
            lambda redis: agree_on_site(
                redis,
                self.site,
                "failed",
                failures=settings.breaker_failures,
                pause_ms=int(settings.breaker_pause * 1000),
                longest_ms=int(settings.breaker_limit * 1000),
                reason=reason[:200],
            )
        )
        seconds = self._alone.failed() if told is None else told / 1000
        if seconds > 0:
            log.warning("%s keeps failing: circuit open for %.0f s; last error: %s", self.site, seconds, reason)

    def succeeded(self) -> None:
        """Record a success, which resets the failures."""
        if self._troubled:
            self._alone = _Alone(self._settings)
            # If Redis is unreachable, the next success tries again.
            self._troubled = self._tell(lambda redis: agree_on_site(redis, self.site, "succeeded")) is None and bool(
                self._shared
            )

    def _seconds_open(self) -> float:
        """Return for how many seconds the circuit stays open; 0 if the site may be asked."""
        who = f"{self._who}:{threading.get_ident()}"
        trial = int(self._settings.read_timeout * 1000)
        told = self._tell(lambda redis: agree_on_site(redis, self.site, "ask", trial_ms=trial, who=who))
        if told == _TRY:
            self._troubled = True
            told = 0
        return self._alone.remaining() if told is None else told / 1000

    def _next_turn(self, deadline: float) -> Turn:
        """Take the next turn, unless it is far ahead, or after the deadline."""
        apart = max(1 / self.rate, self.crawl_delay)
        if not apart:
            return Turn(True, 0.0)
        ahead = max(_AHEAD, apart)
        within = min(ahead, max(0.0, deadline - time.monotonic()))
        with self._guard:
            shared = self._shared[-1] if self._shared else None
        if shared is None:
            turn = self._turns.take(apart, within)
        else:
            try:
                turn = scripts.take_turn(shared, self.site, apart=apart, ahead=within, longest=LONGEST_DELAY)
            except redis_py.RedisError:
                return Turn(False, _LONGEST_NAP)
        # Retries come at random times, so that the worker nearest to Redis is not always first.
        return turn if turn.is_promised else Turn(False, turn.seconds + random.uniform(0, ahead / 2))

    def _tell(self, agree: Callable[[redis_py.Redis], int]) -> int | None:
        """Run the site's script in the shared Redis; ``None`` if there is none, or it is unreachable."""
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        if shared is None:
            return None
        try:
            return agree(shared)
        except redis_py.RedisError:
            return None


class _Turns:
    """In-process version of ``take_turn.lua``, for use without Redis."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._lock = threading.Lock()

    def take(self, apart: float, ahead: float) -> Turn:
        with self._lock:
            now = time.monotonic()
            due = max(now, self._last + apart)
            if due - now > ahead:
                return Turn(False, due - now - ahead)
            self._last = due
            return Turn(True, due - now)


class _Alone:
    """In-process version of the script's state in Redis, for use without Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failures = 0
        self._trips = 0
        self._until = 0.0

    def pause(self, seconds: float) -> None:
        self._until = max(self._until, time.monotonic() + seconds)

    def failed(self) -> float:
        self._failures += 1
        if self._failures < self._settings.breaker_failures or self.remaining():
            return 0.0
        seconds: float = min(self._settings.breaker_limit, self._settings.breaker_pause * 2**self._trips)
        self._trips += 1
        self.pause(seconds)
        return seconds

    def remaining(self) -> float:
        return max(0.0, self._until - time.monotonic())


def crawl_delay(text: str, user_agent: str) -> float:
    r"""Return the ``Crawl-delay`` of ``robots.txt`` in seconds, at most a minute; 0 if there is none.

    One that is not a number is ignored, with a warning in the log. Fractions are rounded up to whole seconds.

    Examples
    --------
    >>> crawl_delay("User-agent: *\nCrawl-delay: 10", "scraperkit")
    10.0
    """
    rules = RobotFileParser()
    rules.parse(list(_groups_and_delays(text)))
    return min(LONGEST_DELAY, float(rules.crawl_delay(user_agent) or 0))


def _groups_and_delays(text: str) -> Iterator[str]:
    """Yield the relevant lines of ``robots.txt``, in a form that RobotFileParser understands."""
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        match name.lower():
            case "user-agent":
                yield f"User-agent: {value}"
            case "allow" | "disallow":
                # It ends a list of user agents; its path does not matter here.
                yield "Disallow: /"
            case "crawl-delay" if _SECONDS.fullmatch(value):
                yield f"Crawl-delay: {math.ceil(float(value))}"
            case "crawl-delay":
                log.warning("robots.txt: Crawl-delay %r is not a number of seconds; ignored", value[:40])
