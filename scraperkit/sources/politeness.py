"""Rate limit and circuit breaker for a site, shared by all workers on one Redis."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import threading
import time
import uuid
from typing import Any, Unpack
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

import redis as redis_py
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from scraperkit.config import Settings
from scraperkit.errors import SiteUnavailable
from scraperkit.keys import RATES, Keys
from scraperkit.lua import scripts

log = logging.getLogger(__name__)
LIVE_RATE = 2.0
LONGEST_DELAY = 60.0
_LONGEST_NAP = 1.0
_SHORTEST_NAP = 0.01
_A_DAY = 86_400
_TRY = -1


class Politeness:
    """Rate limit and circuit breaker of one site.

    Three limits apply, and the longest wait wins: the rate from ``SCRAPERKIT_RATE`` or the site's ``Crawl-delay``; a
    ``Retry-After`` from the site; and a circuit breaker, which opens after several failures in a row and, after a
    pause, lets through one fetch at a time until one succeeds.

    Parameters
    ----------
    url : str
        The site; all its pages share the limits.
    settings : Settings
        ``rate``, ``breaker_failures``, ``breaker_pause``, ``breaker_limit``.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        parts = urlsplit(url)
        self.site = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
        self.crawl_delay = 0.0
        self._settings = settings
        self._rate = settings.rate or (math.inf if _is_loopback(parts.hostname or "") else LIVE_RATE)
        self._guard = threading.Lock()
        self._shared: list[redis_py.Redis] = []
        self._limiters: dict[int, MovingWindowRateLimiter] = {}
        self._alone = _Alone(settings)
        self._troubled = False
        self._who = uuid.uuid4().hex

    def share(self, redis: redis_py.Redis) -> None:
        """Share the site's limits with everyone on this Redis from now on."""
        with self._guard:
            self._shared.append(redis)

    def unshare(self, redis: redis_py.Redis) -> None:
        """Stop sharing through this Redis."""
        with self._guard:
            self._shared = [other for other in self._shared if other is not redis]
            self._limiters.pop(id(redis), None)

    def wait(self, closed: threading.Event) -> bool:
        """Wait until the site may be requested; return False if `closed` is set first.

        Raises
        ------
        SiteUnavailable
            As soon as the wait is known to exceed ``SCRAPERKIT_SITE_PATIENCE``.
        """
        deadline = time.monotonic() + (self._settings.site_patience or math.inf)
        while not closed.is_set():
            seconds = self._seconds_to_wait()
            if seconds <= 0:
                return True
            if time.monotonic() + seconds > deadline:
                raise SiteUnavailable(f"{self.site} is busy, or its circuit is open; try again in {seconds:.0f} s")
            closed.wait(min(seconds, _LONGEST_NAP))
        return False

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
        if self._tell("pause", pause_ms=int(seconds * 1000), reason="Retry-After") is None:
            self._alone.pause(seconds)

    def failed(self, reason: str) -> None:
        """Count a failure; after several in a row, open the circuit."""
        self._troubled = True
        settings = self._settings
        answer = self._tell(
            "failed",
            failures=settings.breaker_failures,
            pause_ms=int(settings.breaker_pause * 1000),
            longest_ms=int(settings.breaker_limit * 1000),
            reason=reason[:200],
        )
        seconds = self._alone.failed() if answer is None else answer / 1000
        if seconds > 0:
            log.warning("%s keeps failing: circuit open for %.0f s; last error: %s", self.site, seconds, reason)

    def succeeded(self) -> None:
        """Record a success, which resets the failures."""
        if self._troubled:
            self._alone = _Alone(self._settings)
            # If Redis is unreachable, the next success tries again.
            self._troubled = self._tell("succeeded") is None and bool(self._shared)

    def _seconds_to_wait(self) -> float:
        """Return the seconds to wait before asking again; 0 takes the turn."""
        who = f"{self._who}:{threading.get_ident()}"
        answer = self._tell("ask", trial_ms=int(self._settings.read_timeout * 1000), who=who)
        if answer == _TRY:
            self._troubled = True
            answer = 0
        # The circuit first: while it is open, nobody spends a turn of the rate that all share.
        closed_in = self._alone.remaining() if answer is None else answer / 1000
        return closed_in if closed_in > 0 else self._wait_for_turn()

    def _wait_for_turn(self) -> float:
        rate = min(self._rate, 1 / self.crawl_delay if self.crawl_delay else math.inf)
        if math.isinf(rate):
            return 0.0
        # The limits package only counts whole requests in whole seconds: 0.4 per second becomes 1 in 3.
        item = (
            RateLimitItemPerSecond(max(1, round(rate))) if rate >= 1 else RateLimitItemPerSecond(1, math.ceil(1 / rate))
        )
        with self._guard:
            limiter = self._limiter()
        try:
            if limiter.hit(item, self.site):
                return 0.0
            window = limiter.get_window_stats(item, self.site)
            # The window may have emptied since; then its reset time is not worth waiting for.
            return _SHORTEST_NAP if window.remaining else max(_SHORTEST_NAP, window.reset_time - time.time())
        except redis_py.RedisError:
            return _LONGEST_NAP

    def _limiter(self) -> MovingWindowRateLimiter:
        shared = self._shared[-1] if self._shared else None
        limiter = self._limiters.get(id(shared))
        if limiter is None:
            storage = (
                RedisStorage("redis://", connection_pool=shared.connection_pool, key_prefix=RATES)
                if shared is not None
                else MemoryStorage()
            )
            limiter = self._limiters[id(shared)] = MovingWindowRateLimiter(storage)
        return limiter

    def _tell(self, action: scripts.Action, **terms: Unpack[scripts.SiteTerms]) -> int | None:
        """Run the site's script in the shared Redis; ``None`` if there is none, or it is unreachable."""
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        if shared is None:
            return None
        try:
            return scripts.agree_on_site(shared, self.site, action, **terms)
        except redis_py.RedisError:
            return None


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def crawl_delay(text: str, user_agent: str) -> float:
    r"""Return the ``Crawl-delay`` of ``robots.txt`` in seconds, at most a minute; 0 if there is none.

    Examples
    --------
    >>> crawl_delay("User-agent: *\nCrawl-delay: 10", "scraperkit")
    10.0
    """
    rules = RobotFileParser()
    rules.parse(text.splitlines())
    try:
        return min(LONGEST_DELAY, max(0.0, float(rules.crawl_delay(user_agent) or 0)))
    except (TypeError, ValueError):
        return 0.0
