"""Rates in Redis TimeSeries: one series each; its labels record what was requested, so both are lost together."""

from __future__ import annotations

import datetime as dt
from typing import Any

import redis as redis_py

from scraperkit.connection import redis_needed
from scraperkit.errors import StoreError, way_out_of
from scraperkit.keys import Keys
from scraperkit.sources.rates.known import Rate
from scraperkit.sources.rates.responses import RateSample, Span
from scraperkit.sources.rates.windows import HolesLooked, Looked
from scraperkit.timeseries.commands import DAY_MS, SAMPLES_PER_COMMAND, SERIES_OPTIONS, day_number
from scraperkit.timeseries.link import batched
from scraperkit.timeseries.rows import day_of


class RateStore:
    """The series of one rate in one namespace."""

    def __init__(self, redis: redis_py.Redis, keys: Keys, rate: Rate) -> None:
        # redis-py types commands that it has no method for as awaitable, too.
        self._redis: Any = redis
        self._keys = keys
        self._rate = rate
        self.key = keys.index(rate.name)

    @redis_needed()
    def state(self) -> tuple[Looked | None, dt.date | None]:
        """Return what was requested, and the newest day that is stored."""
        if not self._redis.exists(self.key):
            return None, None
        info = self._redis.execute_command("TS.INFO", self.key)
        labels, newest = info["labels"], day_of(info["lastTimestamp"]) if info["totalSamples"] else None
        try:
            asked = Looked(
                dt.date.fromisoformat(labels["asked_from"]),
                dt.date.fromisoformat(labels["asked_to"]),
                dt.datetime.fromisoformat(labels["asked_at"]),
                HolesLooked(
                    dt.date.fromisoformat(labels["holes_from"]),
                    dt.date.fromisoformat(labels["holes_to"]),
                    dt.datetime.fromisoformat(labels["holes_at"]),
                )
                if "holes_at" in labels
                else None,
            )
        except (KeyError, ValueError):  # changed by others: request again
            return None, newest
        return asked, newest

    @redis_needed()
    def read(self, span: Span) -> list[RateSample]:
        """Return the stored values of a span, the oldest first."""
        if span.last < span.first or not self._redis.exists(self.key):
            return []
        first, last = (day_number(day) * DAY_MS for day in span)
        found = self._redis.execute_command("TS.RANGE", self.key, first, last)
        return [RateSample(day_of(stamp), value) for stamp, value in found]

    @redis_needed()
    def write(self, samples: list[RateSample], asked: Looked) -> None:
        """Store values, and what was requested, atomically. New values replace stored ones.

        Raises
        ------
        StoreError
            If Redis refuses one of them.
        """
        labels = {
            "rates": self._keys.namespace,
            "rate": self._rate.name,
            "kind": self._rate.kind,
            "unit": self._rate.unit,
            "source": self._rate.source,
            "asked_from": asked.first.isoformat(),
            "asked_to": asked.last.isoformat(),
            "asked_at": asked.at.isoformat(timespec="seconds"),
        }
        if asked.holes is not None:
            labels |= {
                "holes_from": asked.holes.first.isoformat(),
                "holes_to": asked.holes.last.isoformat(),
                "holes_at": asked.holes.since.isoformat(timespec="seconds"),
            }
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.execute_command("TS.CREATE", self.key, *SERIES_OPTIONS)
        for some in batched(samples, SAMPLES_PER_COMMAND):
            words = (word for day, value in some for word in (self.key, day_number(day) * DAY_MS, value))
            pipeline.execute_command("TS.MADD", *words)
        pipeline.execute_command("TS.ALTER", self.key, "LABELS", *(word for label in labels.items() for word in label))
        _created, *replies = pipeline.execute(raise_on_error=False)  # it may be there already
        for reply in replies:
            for part in reply if isinstance(reply, list) else [reply]:
                if isinstance(part, Exception):
                    raise StoreError(f"{self.key}: Redis refused: {part}{way_out_of(part)}") from part
