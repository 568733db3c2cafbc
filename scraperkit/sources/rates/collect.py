"""Have the values of a rate: those that are stored, and before that those that are not, or may have been revised."""

from __future__ import annotations

import datetime as dt
import threading
from collections import defaultdict
from typing import NamedTuple

import redis as redis_py

from scraperkit.config import Settings
from scraperkit.errors import SourceError
from scraperkit.keys import Keys
from scraperkit.models import now
from scraperkit.sources.rates.answers import RateSample, Span
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.services import RateService, sent_at_once
from scraperkit.sources.rates.storage import RateStore
from scraperkit.sources.rates.windows import merged, missing, newest_possible, possible

# Older than this, the newest value says that the service has stopped the series.
_SILENT_DAYS, _SILENT_MONTHS = 30, 150

# Threads that want the same rate at once: one asks, the others find it stored.
_collecting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Collected(NamedTuple):
    """The values of a rate, the oldest first, and what a user should know of them."""

    samples: list[RateSample]
    notes: list[str]


def collect(rate: Rate, span: Span, redis: redis_py.Redis, settings: Settings) -> Collected:
    """Return the values of a span, after asking for what is missing of it.

    Raises
    ------
    SourceError
        If the service does not have it, or refuses, and the beginning of the span is not stored.
    RedisError
        If Redis goes away, or refuses.
    """
    moment = now()
    wanted = possible(rate, span, moment.date())
    needed = possible(rate, sent_at_once(rate, wanted), moment.date())
    store = RateStore(redis, Keys(settings.namespace), rate)
    asked, newest = store.state()
    if missing(rate, asked, needed, newest, moment):
        with _collecting[store.key]:
            try:
                _fetch(rate, needed, store, redis, settings, moment)
            except SourceError as error:
                asked, _ = store.state()
                if asked is None or not asked.first <= wanted.first <= asked.last:
                    raise
                note = f"{rate.name}: what is stored may lack the newest days: {error}"
                return Collected(store.read(wanted), [note])
        asked, newest = store.state()
    return Collected(store.read(wanted), _ended(rate, wanted, newest, moment.date()))


def _fetch(
    rate: Rate, needed: Span, store: RateStore, redis: redis_py.Redis, settings: Settings, moment: dt.datetime
) -> None:
    """Store what is missing now: another thread may have stored it meanwhile."""
    asked, newest = store.state()
    if spans := missing(rate, asked, needed, newest, moment):
        with RateService(rate, redis, settings) as service:
            for span in spans:
                asked = merged(asked, span, moment)
                store.write(service.fetch(span), asked)


def _ended(rate: Rate, wanted: Span, newest: dt.date | None, today: dt.date) -> list[str]:
    """Return a note if the newest value is so old that the series seems to have ended."""
    expected = newest_possible(rate, today)
    silent = _SILENT_MONTHS if rate.monthly else _SILENT_DAYS
    if newest is None or wanted.last < expected or (expected - newest).days < silent:
        return []
    return [f"{rate.name}: the newest value of {rate.source} is of {newest}; the series may have ended there"]
