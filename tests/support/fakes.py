"""Fake sources that a test controls, and requests for them."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from scraperkit.models import DailyQuote, Fund, ScrapeRequest

FUND = Fund("18993924000100", "132922", "Fundo Exemplo", "EM FUNCIONAMENTO NORMAL", dt.date(2019, 1, 2))


def one_quote(request: ScrapeRequest) -> list[DailyQuote]:
    """Return a single day, with figures derived from the month."""
    number = request.year * 100 + request.month
    return [
        DailyQuote(request.document, request.first_day, number / 100, number * 10.0, number, 0.0, 1.5, number * 11.0)
    ]


class FakeSite:
    """A source that responds at once, counts requests, and fails as the test specifies."""

    def __init__(self, respond: Callable[[ScrapeRequest], Sequence[DailyQuote]] = one_quote) -> None:
        self.respond = respond
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fetch(self, request: ScrapeRequest) -> Sequence[DailyQuote]:
        with self._lock:
            self.asked[request.month_year] += 1
        return self.respond(request)


class GatedSite(FakeSite):
    """A source whose ``fetch`` blocks until the test opens the gate."""

    def __init__(self, respond: Callable[[ScrapeRequest], Sequence[DailyQuote]] = one_quote) -> None:
        super().__init__(respond)
        self.gate = threading.Event()
        self.inside = threading.Semaphore(0)

    def fetch(self, request: ScrapeRequest) -> Sequence[DailyQuote]:
        self.inside.release()
        assert self.gate.wait(300), "the test never opened the gate"
        return super().fetch(request)


class SteadySite(GatedSite):
    """A source slow enough that its fetches spread over the threads."""

    def fetch(self, request: ScrapeRequest):
        time.sleep(0.002)
        return super().fetch(request)


class FlakySite(FakeSite):
    """A source that fails the first request for each February, and holds each January until the test releases it."""

    hold: Callable[[], bool] = staticmethod(lambda: True)

    def fetch(self, request: ScrapeRequest):
        with self._lock:
            self.asked[request.message_id] += 1
            first = self.asked[request.message_id] == 1
        if request.month == 2 and first:
            raise OSError("reset")
        assert request.month == 2 or self.hold()
        return one_quote(request)


def months(count: int, *, year: int = 2021) -> list[ScrapeRequest]:
    """Return requests for `count` months from January of `year`."""
    last = year * 12 + count - 1
    return FUND.months(f"{year}-01", f"{last // 12}-{last % 12 + 1:02d}")
