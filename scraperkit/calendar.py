"""Business days of the ANBIMA calendar, on which Brazilian funds are priced."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

import holidays
import numpy as np
import numpy.typing as npt
import pandas as pd
from dateutil.easter import easter

from scraperkit.errors import ConfigError

__all__ = ["business_days", "is_business_day"]

# Banks and the exchange close on these days too, although they are not national holidays by law.
_FROM_EASTER = {"Carnival Monday": -48, "Carnival Tuesday": -47, "Corpus Christi": 60}


def business_days(start: str | dt.date, end: str | dt.date) -> pd.DatetimeIndex:
    """Return the business days from `start` to `end`, both included.

    Non-business days are weekends, national public holidays, Carnival Monday and Tuesday, and Corpus Christi.

    Parameters
    ----------
    start, end : str or datetime.date
        Any day that pandas can parse, without a time zone; the time of day is ignored.

    Returns
    -------
    pandas.DatetimeIndex
        Named ``"date"``, ``datetime64[ms]``, naive, ascending; empty if `end` is before `start`.

    Raises
    ------
    ConfigError
        If `start` or `end` is not a day.

    Examples
    --------
    >>> [day.strftime("%d %b") for day in business_days("2022-02-25", "2022-03-03")]
    ['25 Feb', '02 Mar', '03 Mar']
    """
    first, last = _day("start", start), _day("end", end)
    years = [_open_days(year) for year in range(first.year, last.year + 1)]
    days = np.concatenate([np.array([], dtype="datetime64[D]"), *years])
    kept = days[(days >= np.datetime64(first)) & (days <= np.datetime64(last))]
    return pd.DatetimeIndex(kept.astype("datetime64[ms]"), name="date")


def is_business_day(date: str | dt.date) -> bool:
    """Return whether a day is a business day.

    Raises
    ------
    ConfigError
        If `date` is not a day.

    Examples
    --------
    >>> is_business_day("2022-03-01"), is_business_day("2022-12-26")
    (False, True)
    """
    day = _day("date", date)
    return day.weekday() < 5 and day not in _closed_days(day.year)


def _day(field: str, value: str | dt.date) -> dt.date:
    try:
        stamp = pd.Timestamp(value)
        if isinstance(value, (str, dt.date)) and stamp.tzinfo is None and not pd.isna(stamp):
            return stamp.date()
    except (ValueError, TypeError):
        pass
    raise ConfigError(f"{field}: {str(value)[:40]!r} is not a day; write it as '2022-01-31'")


@lru_cache(maxsize=256)
def _closed_days(year: int) -> frozenset[dt.date]:
    national = holidays.country_holidays("BR", years=year, categories=("public",))
    moving = (easter(year) + dt.timedelta(days=days) for days in _FROM_EASTER.values())
    return frozenset([*national, *moving])


@lru_cache(maxsize=256)
def _open_days(year: int) -> npt.NDArray[np.datetime64]:
    days = np.arange(f"{year:04d}-01-01", f"{year + 1:04d}-01-01", dtype="datetime64[D]")
    return days[np.is_busday(days, holidays=sorted(_closed_days(year)))]


def __dir__() -> list[str]:
    return __all__
