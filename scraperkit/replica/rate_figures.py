"""Invented figures of the rates, from a seed: the same in every run, and without a last day."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from random import Random

from scraperkit.calendar import business_days

SEED = "scraperkit rates 1"
IBOVESPA = "IBOVESPA"
# Numbers of series in SGS.
DAILY_SERIES = frozenset({"1", "7", "11", "12", "432", "4389"})
MONTHLY_SERIES = frozenset({"189", "433"})
# SGS 7, formerly the Ibovespa, has no value after this day.
ENDS = {"7": dt.date(2019, 9, 30)}

# The policy rate in per cent a year, by first year; from 2000 on, that of the sample's funds.
_POLICY_RATE = {
    1986: 60.0, 1995: 38.0, 1996: 27.0, 1998: 28.0, 1999: 25.0,
    2000: 17.5, 2003: 23.0, 2004: 16.2, 2006: 15.0, 2008: 12.4, 2010: 9.8, 2012: 8.5, 2014: 10.9, 2016: 14.0, 2018: 6.5,
    2020: 2.8, 2021: 4.4, 2022: 12.4, 2023: 13.0, 2024: 10.8, 2025: 14.2,
}  # fmt: skip
_BUSINESS_DAYS = 252
Figures = dict[dt.date, str]


def figures(series: str, last: dt.date) -> Figures:
    """Return a series' values up to a day, as text, in order; empty if there is no such series.

    Examples
    --------
    >>> found = figures("12", dt.date(2022, 1, 4))
    >>> [*found.items()][-1]
    (datetime.date(2022, 1, 4), '0.049206')
    """
    make = _SERIES.get(series)
    return dict(make(min(last, ENDS.get(series, last)))) if make else {}


def _policy(day: dt.date) -> float:
    return _POLICY_RATE[max(year for year in _POLICY_RATE if year <= day.year)]


def _accruing(first: dt.date, spread: float) -> Callable[[dt.date], Iterator[tuple[dt.date, str]]]:
    """A rate in per cent a day, as the sample's funds earn it."""

    def make(last: dt.date) -> Iterator[tuple[dt.date, str]]:
        return ((day, f"{(_policy(day) + spread) / _BUSINESS_DAYS:.6f}") for day in _open_days(first, last))

    return make


def _yearly(first: dt.date) -> Callable[[dt.date], Iterator[tuple[dt.date, str]]]:
    return lambda last: ((day, f"{_policy(day):.2f}") for day in _open_days(first, last))


def _monthly(
    name: str, first: dt.date, lag: int, mean: float, spread: float
) -> Callable[[dt.date], Iterator[tuple[dt.date, str]]]:
    """A rate in per cent a month, on the first day of the month, published `lag` months later at the earliest."""

    def make(last: dt.date) -> Iterator[tuple[dt.date, str]]:
        random = Random(f"{SEED} {name}")
        for month in itertools.count(first.year * 12 + first.month - 1):
            published = dt.date((month + lag) // 12, (month + lag) % 12 + 1, 1)
            if published > last:
                return
            yield dt.date(month // 12, month % 12 + 1, 1), f"{mean + spread * _normal(random):.2f}"

    return make


def _walk(
    name: str, first: dt.date, begins_at: float, drift: float, move: float, form: str
) -> Callable[[dt.date], Iterator[tuple[dt.date, str]]]:
    """A level that moves every business day, by `drift` and `move` per cent."""

    def make(last: dt.date) -> Iterator[tuple[dt.date, str]]:
        random, level = Random(f"{SEED} {name}"), begins_at
        for day in _open_days(first, last):
            yield day, format(level, form)
            level *= 1 + (drift + move * _normal(random)) / 100

    return make


def _open_days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    return (stamp.date() for stamp in business_days(first, last))


def _normal(random: Random) -> float:
    # A sum of uniform numbers is the same on every platform.
    return sum(random.random() for _ in range(12)) - 6


_SERIES: dict[str, Callable[[dt.date], Iterator[tuple[dt.date, str]]]] = {
    "12": _accruing(dt.date(1986, 3, 6), 0.0),
    "11": _accruing(dt.date(1986, 6, 4), 0.1),
    "4389": _yearly(dt.date(1986, 3, 6)),
    "432": _yearly(dt.date(1999, 3, 5)),
    "433": _monthly("ipca", dt.date(1994, 7, 1), 1, 0.45, 0.25),
    "189": _monthly("igpm", dt.date(1994, 7, 1), 0, 0.55, 0.6),
    "1": _walk("dollar", dt.date(1994, 7, 1), 0.93, 0.022, 0.75, ".4f"),
    "7": _walk("ibovespa", dt.date(1998, 1, 2), 10_197.0, 0.045, 1.3, ".0f"),
    IBOVESPA: _walk("ibovespa", dt.date(1998, 1, 2), 10_197.0, 0.045, 1.3, ".2f"),
}
