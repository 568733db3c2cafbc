"""How fast a site may be asked, and when it is left alone: agreed on by all who share a Redis."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import threading
import time
import uuid
from typing import Any
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
_DAY = 86_400
_TRY = -1


class Politeness:
    """The agreement about one site.

    Three things may ask for patience, and the one that asks for most is heeded: the rate of ``SCRAPERKIT_RATE`` or the
    site's own ``Crawl-delay``; a ``Retry-After`` of the site; and, after several failures in a row, a pause in which
    the site is left alone, and after which one fetch at a time tries whether it is well again.

    Parameters
    ----------
    url : str
        The site; all its pages count together.
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
        """From now on, agree with all who ask this site through this Redis."""
        with self._guard:
            self._shared.append(redis)

    def unshare(self, redis: redis_py.Redis) -> None:
        """Stop using this Redis."""
        with self._guard:
            self._shared = [other for other in self._shared if other is not redis]
            self._limiters.pop(id(redis), None)

    def wait(self, closed: threading.Event) -> bool:
        """Wait until the site may be asked; return whether that came before `closed` was set.

        Raises
        ------
        SiteUnavailable
            If that takes longer than ``SCRAPERKIT_SITE_PATIENCE``; as soon as it is known.
        """
        deadline = time.monotonic() + (self._settings.site_patience or math.inf)
        while not closed.is_set():
            seconds = self._seconds_to_wait()
            if seconds <= 0:
                return True
            if time.monotonic() + seconds > deadline:
                raise SiteUnavailable(f"{self.site} is busy, or asked for patience: try again in {seconds:.0f} s")
            closed.wait(min(seconds, _LONGEST_NAP))
        return False

    def known_crawl_delay(self) -> float | None:
        """Return what others who share the Redis have read in the site's robots.txt today, if anybody has."""
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        try:
            known = shared.get(Keys.robots(self.site)) if shared is not None else None
        except redis_py.RedisError:
            return None
        return float(known) if known is not None else None

    def heed(self, crawl_delay: float) -> None:
        """Heed the site's robots.txt, and tell the others."""
        self.crawl_delay = crawl_delay
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        if shared is not None:
            with contextlib.suppress(redis_py.RedisError):
                shared.set(Keys.robots(self.site), crawl_delay, ex=_DAY)

    def pause(self, seconds: float) -> None:
        """Have everybody leave the site alone for `seconds`, as it asked by Retry-After."""
        seconds = min(seconds, self._settings.breaker_limit)
        self._troubled = True
        if self._tell("pause", pause_ms=int(seconds * 1000), reason="Retry-After") is None:
            self._alone.pause(seconds)

    def failed(self, reason: str) -> None:
        """Count a failure; after several in a row, everybody leaves the site alone for a while."""
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
            log.warning("%s keeps failing and is left alone for %.0f s; the last time: %s", self.site, seconds, reason)

    def succeeded(self) -> None:
        """Say that the site is well."""
        if self._troubled:
            self._alone = _Alone(self._settings)
            # What could not be told is told after the next fetch.
            self._troubled = self._tell("succeeded") is None and bool(self._shared)

    def _seconds_to_wait(self) -> float:
        """How long to wait before asking again; 0 takes the turn."""
        turn = self._wait_for_turn()
        if turn > 0:
            return turn
        who = f"{self._who}:{threading.get_ident()}"
        answer = self._tell("ask", trial_ms=int(self._settings.read_timeout * 1000), who=who)
        if answer == _TRY:
            self._troubled = True
            return 0.0
        return self._alone.remaining() if answer is None else answer / 1000

    def _wait_for_turn(self) -> float:
        rate = min(self._rate, 1 / self.crawl_delay if self.crawl_delay else math.inf)
        if math.isinf(rate):
            return 0.0
        # limits counts whole requests in whole seconds: 0.4 a second is 2 in 5.
        item = (
            RateLimitItemPerSecond(max(1, round(rate))) if rate >= 1 else RateLimitItemPerSecond(1, math.ceil(1 / rate))
        )
        with self._guard:
            limiter = self._limiter()
        try:
            if limiter.hit(item, self.site):
                return 0.0
            window = limiter.get_window_stats(item, self.site)
            # It may have emptied since: then the end of the next one is nothing to wait for.
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

    def _tell(self, action: scripts.Action, **given: str | int) -> int | None:
        """Run the site's script in the shared Redis; ``None`` if there is none, or it is away."""
        with self._guard:
            shared: Any = self._shared[-1] if self._shared else None
        if shared is None:
            return None
        try:
            return scripts.agree_on_site(shared, self.site, action, **given)
        except redis_py.RedisError:
            return None


class _Alone:
    """What the script keeps in Redis, for one process without Redis."""

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
    r"""Return the seconds that ``robots.txt`` wants between two requests, 0 if it does not say; at most a minute.

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
