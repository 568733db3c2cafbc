"""Collect the values of a rate: fetch those that are missing or may have been revised, then read all."""

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
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.responses import RateSample, Span
from scraperkit.sources.rates.services import RateService, sent_at_once
from scraperkit.sources.rates.storage import RateStore
from scraperkit.sources.rates.windows import hole, merged, missing, newest_possible, possible

# If the newest value is older than this, the series seems to have ended.
_SILENT_DAYS, _SILENT_MONTHS = 30, 150

# If threads want the same rate at once, one fetches it, and the others find it stored.
_collecting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Collected(NamedTuple):
    """The values of a rate, oldest first, notes for the user, and when the newest were requested."""

    samples: list[RateSample]
    notes: list[str]
    asked_at: dt.datetime | None = None


def collect(rate: Rate, span: Span, redis: redis_py.Redis, settings: Settings, *, refresh: bool = False) -> Collected:
    """Return the values of a span, after fetching those that are missing, or all with `refresh`.

    Raises
    ------
    SourceError
        If the service fails or refuses, and the beginning of the span is not stored.
    RedisError
        If Redis is unreachable, or refuses.
    """
    moment = now()
    wanted = possible(rate, span, moment.date())
    if wanted.last < wanted.first:
        return Collected([], [_nothing(rate, span, moment.date())])
    store = RateStore(redis, Keys(settings.namespace), rate)
    call = _Call(rate, wanted, moment, refresh)
    notes = []
    if _due(call, store):
        with _collecting[store.key]:
            try:
                _fetch(call, store, redis, settings)
            except SourceError as error:
                asked, _ = store.state()
                if asked is None or not asked.first <= wanted.first <= asked.last:
                    raise
                notes = [f"{rate.name}: the stored values may lack days or revisions: {error}"]
    samples = store.read(wanted)
    if not samples:
        notes.append(f"{rate.name}: {rate.source} has no value from {wanted.first} to {wanted.last}")
    asked, newest = store.state()
    return Collected(samples, notes or _ended(rate, wanted, newest, moment.date()), asked.at if asked else None)


class _Call(NamedTuple):
    """The request of one call."""

    rate: Rate
    wanted: Span
    moment: dt.datetime
    refresh: bool


def _due(call: _Call, store: RateStore) -> list[Span]:
    """Return the spans to fetch: days never requested, the newest ones, and holes; or all with `refresh`."""
    rate, wanted, moment, refresh = call
    asked, newest = store.state()
    needed = possible(rate, sent_at_once(rate, wanted), moment.date())
    spans = missing(rate, asked, needed, newest, moment)
    if refresh:
        spans = [*spans, needed]
        return [Span(min(first for first, _ in spans), max(last for _, last in spans))]
    have = {sample.day for sample in store.read(wanted)}
    found = hole(rate, asked, wanted, have, moment)
    return [*spans, found] if found is not None else spans


def _fetch(call: _Call, store: RateStore, redis: redis_py.Redis, settings: Settings) -> None:
    """Fetch what is still missing: another thread may have stored it meanwhile."""
    if spans := _due(call, store):
        asked, _ = store.state()
        with RateService(call.rate, redis, settings) as service:
            for span in spans:
                asked = merged(asked, span, call.moment)
                store.write(service.fetch(span), asked)


def _nothing(rate: Rate, span: Span, today: dt.date) -> str:
    """Return the note on why a span can have no value."""
    if span.last < rate.first:
        return f"{rate.name}: {span.last} is before its first value, on {rate.first}; give a later end"
    newest = newest_possible(rate, today)
    when = "in the future" if span.first > today else "after the newest day that can have a value"
    return f"{rate.name}: {span.first} is {when}; give a start up to {newest}"


def _ended(rate: Rate, wanted: Span, newest: dt.date | None, today: dt.date) -> list[str]:
    """Return a note if the newest value is so old that the series seems to have ended."""
    expected = newest_possible(rate, today)
    silent = _SILENT_MONTHS if rate.monthly else _SILENT_DAYS
    if newest is None or wanted.last < expected or (expected - newest).days < silent:
        return []
    return [f"{rate.name}: the newest value in {rate.source} is for {newest}; the series may have ended then"]
