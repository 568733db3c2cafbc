"""``sk.rates``: a reference rate as a pandas Series."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence

import numpy as np
import pandas as pd
import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import check_client, connect
from scraperkit.errors import warn
from scraperkit.models import today
from scraperkit.sources.rates.collect import collect
from scraperkit.sources.rates.known import Rate, known
from scraperkit.sources.rates.responses import RateSample, Span
from scraperkit.sources.rates.services import is_invented
from scraperkit.sources.terms import INVENTED
from scraperkit.timeseries.commands import day_number
from scraperkit.timeseries.frames import Day, dates, window
from scraperkit.timeseries.rows import day_of


def rates(
    name: str,
    start: Day | None = None,
    end: Day | None = None,
    *,
    refresh: bool = False,
    redis: redis_py.Redis | None = None,
) -> pd.Series[float]:
    """Return a reference rate or an index, fetching what is not stored yet.

    Values stay in Redis TimeSeries. A call fetches only days that were never requested, the newest days, which may have
    been revised, and, once a day, gaps between values; if nothing can be new, it makes no request. Threads may call it.

    Parameters
    ----------
    name : str
        ``cdi``, ``selic`` (per cent a day), ``ipca``, ``igpm`` (per cent a month), ``dollar`` (R$, PTAX sale) or
        ``ibovespa`` (points; a total-return index).
    start, end : str, datetime.date, numpy.datetime64, pandas.Timestamp or pandas.Period, optional
        The first and the last day, both included; ``"2022-01"`` is a whole month. By default the last twelve months,
        up to today in São Paulo. A monthly rate's value belongs to the month whose first day it has, so it is included
        if `start` is any day of that month.
    refresh : bool
        Fetch the whole window again, even if it is stored.
    redis : redis.Redis, optional
        A client made by :func:`scraperkit.connect`; by default a connection of its own.

    Returns
    -------
    pandas.Series
        Values as they are published, ``float64``: 0.055131 is 0.055131 %. Index ``date``, naive, ascending. The name is
        that of the rate. ``attrs`` holds ``name``, ``kind``, ``unit``, ``source``, ``licence`` and ``fetched_to``, when
        the newest values were last requested; kind and unit are ``rate a day`` and ``% a day``, ``rate a month`` and
        ``% a month``, or ``level`` and ``points`` or ``R$``. Empty, with a warning that says why, if nothing was
        published in the window.

    Raises
    ------
    ConfigError
        If there is no such rate, or it has ended (says what to use instead), or a day is invalid.
    SiteUnavailable
        If the service does not respond, and the beginning of the window is not stored.
    RateRefused
        Likewise, if it refuses, or sends no values.
    RedisError
        If Redis is unreachable, or refuses.

    Warns
    -----
    ScraperKitWarning
        If not all due values could be fetched, the window has no value, or the series seems to have ended.

    Notes
    -----
    Sources: the Banco Central's time series (SGS 12, 11, 433, 189 and 1) and B3. The CDI and Selic rates of a day
    accrue from that day to the next business day: :func:`scraperkit.metrics.growth` turns a rate into an index.

    Examples
    --------
    >>> from unittest.mock import patch
    >>> import scraperkit as sk
    >>> with sk.Replica.start() as site, patch.dict("os.environ", SCRAPERKIT_SGS_URL=site.sgs_url):
    ...     cdi = sk.rates("cdi", "2022-01-03", "2022-01-05")
    >>> cdi.attrs["kind"], cdi.attrs["unit"], cdi.attrs["source"]
    ('rate a day', '% a day', 'invented figures of a replica, in place of Banco Central do Brasil SGS 12')
    >>> cdi.tolist()
    [0.049206, 0.049206, 0.049206]
    """
    rate = known(name)
    span = span_of(start, end)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect()) if redis is None else check_client(redis)
        settings = Settings.load()
        found = collect(rate, span, client, settings, refresh=refresh)
    for note in found.notes:
        warn(note)
    series = series_of(rate, found.samples)
    if is_invented(rate, settings):
        series.attrs["source"] = f"invented figures of a replica, in place of {rate.source}"
        series.attrs["licence"] = INVENTED
    if found.asked_at is not None:
        series.attrs["fetched_to"] = f"{found.asked_at.astimezone(dt.UTC):%Y-%m-%dT%H:%MZ}"
    return series


def span_of(start: Day | None, end: Day | None) -> Span:
    """Return the days of a window; by default the twelve months to today.

    Raises
    ------
    ConfigError
        If one is not a day, or `end` is before `start`.
    """
    first, last = window(start, end)
    if start is None:
        last_day = today() if end is None else min(day_of(last), today())
        return Span(_a_year_before(last_day), last_day)
    return Span(day_of(first), day_of(last))


def _a_year_before(day: dt.date) -> dt.date:
    return (pd.Timestamp(day) - pd.DateOffset(years=1) + pd.DateOffset(days=1)).date()


def series_of(rate: Rate, samples: Sequence[RateSample]) -> pd.Series[float]:
    """Return values of a rate as :func:`rates` does."""
    days = np.array([day_number(sample.day) for sample in samples], dtype=np.int64)
    series = pd.Series(
        np.array([sample.value for sample in samples], dtype="float64"),
        index=pd.DatetimeIndex(dates(days), name="date"),
        name=rate.name,
    )
    series.attrs = {
        "name": rate.name,
        "kind": rate.kind,
        "unit": rate.unit,
        "source": rate.source,
        "licence": rate.licence,
    }
    return series
