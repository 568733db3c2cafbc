"""Decide which months of a fund to request: new ones, and those that may have been revised. No I/O."""

from __future__ import annotations

import datetime as dt
import math
from typing import NamedTuple

from scraperkit.models import Month

# A few hours less than a day, a week and a month, so that a job at the same hour each day finds them elapsed.
_DAILY_PAUSE, _WEEKLY, _MONTHLY_PAUSE = 20 * 3_600, 156 * 3_600, 29 * 86_400
_SETTLED_AFTER = 10  # days after a month's end: five business days, even over Carnival, and one to fetch


class LastAsked(NamedTuple):
    """When a month was last requested, in seconds since 1970, and whether it was available."""

    at: float
    found: bool


def is_due(month: Month, asked: LastAsked | None, now: float, *, by_file: bool) -> bool:
    """Return whether a month should be requested.

    The newest two months are requested once a day. An older month that comes in a file with all other funds, or that
    was not available, is requested once a week in its first year, and then once a month. A month that has its own page
    is not requested again once it is settled.

    Examples
    --------
    >>> noon = dt.datetime(2026, 3, 20, 12, tzinfo=dt.UTC).timestamp()
    >>> february, january = Month(2026, 2), Month(2026, 1)
    >>> is_due(february, LastAsked(noon - 3_600, True), noon, by_file=False)
    False
    >>> is_due(february, LastAsked(noon - 86_400, True), noon, by_file=False)
    True
    >>> is_due(january, LastAsked(noon - 9 * 86_400, True), noon, by_file=False)
    False
    >>> is_due(january, LastAsked(noon - 9 * 86_400, True), noon, by_file=True)
    True
    """
    if asked is None or math.isnan(asked.at):
        return True
    current = Month.of(dt.datetime.fromtimestamp(now, dt.UTC).date())
    age = (current.year - month.year) * 12 + current.month - month.month
    if age <= 1:
        return now - asked.at >= _DAILY_PAUSE
    if asked.found and not by_file:
        return asked.at < _settled_at(month)
    return now - asked.at >= (_WEEKLY if age <= 12 else _MONTHLY_PAUSE)


def _settled_at(month: Month) -> float:
    day = month.last_day + dt.timedelta(days=_SETTLED_AFTER)
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp()
