"""One row of figures for each fund, and how much of the calendar is there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from scraperkit.calendar import business_days
from scraperkit.metrics.risk import volatility
from scraperkit.metrics.series import drawdown, months_of

Calendar = Callable[[pd.Timestamp, pd.Timestamp], pd.DatetimeIndex]
Starts: TypeAlias = "Mapping[str, str | dt.date] | pd.Series[pd.Timestamp] | None"


def summary(prices: pd.DataFrame, calendar: Calendar = business_days) -> pd.DataFrame:
    """Return one row of figures for each fund, over the days that it has.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    calendar : callable, optional
        ``calendar(start, end)`` gives the business days from `start` to `end`, both included, as a DatetimeIndex;
        :func:`scraperkit.calendar.business_days` if left out.

    Returns
    -------
    pandas.DataFrame
        Index ``cnpj``, a row for each column of `prices`. Columns:

        - ``days`` (int64): days with a price;
        - ``first``, ``last`` (float64, R$): the first and the last price;
        - ``total_return`` (float64, fraction): from the first to the last price;
        - ``volatility`` (float64, fraction a year): see :func:`volatility`;
        - ``max_drawdown`` (float64, fraction): the lowest of :func:`drawdown`;
        - ``missing_days`` (int64): business days between the fund's own first and last day without a price.

        A fund without prices has 0 days and NaN. A frame without columns gives no rows, the same columns and dtypes.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-01-05", "2022-01-06"], name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 80.0, 110.0]}, index=days)
    >>> summary(prices)[["days", "total_return", "missing_days"]].round(2).to_dict("list")
    {'days': [3], 'total_return': [0.1], 'missing_days': [1]}
    """
    has = prices.notna()
    first, last = prices.bfill().head(1), prices.ffill().tail(1)
    frame = pd.DataFrame(
        {
            "days": has.sum().astype("int64"),
            "first": _only_row(first, prices),
            "last": _only_row(last, prices),
            "volatility": volatility(prices),
            "max_drawdown": drawdown(prices).min().astype("float64"),
            "missing_days": _missing_days(has, calendar),
        },
        index=prices.columns,
    )
    frame.insert(3, "total_return", frame["last"] / frame["first"] - 1)
    return frame.rename_axis(index="cnpj")


def coverage(prices: pd.DataFrame, started_on: Starts = None, calendar: Calendar = business_days) -> pd.DataFrame:
    """Return the share of each month's business days on which a fund has a price.

    Days count from the fund's start to the last day of `prices`.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    started_on : mapping of str to date, or pandas.Series, optional
        The first day of each fund, as in ``reader.funds()["started_on"]``. Where it is not known, the fund's first
        price, or the first day of `prices` for a fund without any.
    calendar : callable, optional
        ``calendar(start, end)`` gives the business days from `start` to `end`, both included, as a DatetimeIndex;
        :func:`scraperkit.calendar.business_days` if left out.

    Returns
    -------
    pandas.DataFrame
        Index ``month``, a PeriodIndex of every month from the first to the last day of `prices`; same columns.
        ``float64``, 0 to 1; NaN for months before a fund's start, and where no business day is left of a month. An
        empty frame gives no rows, the same columns.

    Raises
    ------
    ConfigError
        If the frame's index is not one of dates.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-02-24", "2022-02-25", "2022-03-02"], name="date")
    >>> prices = pd.DataFrame({"a": [None, 1.0, 1.0, 1.0]}, index=days)
    >>> coverage(prices)["a"].tolist()
    [nan, 1.0, 1.0]
    >>> coverage(prices, started_on={"a": "2022-01-27"})["a"].round(3).tolist()
    [0.0, 0.105, 1.0]
    """
    every = months_of(prices)
    if not len(every):
        return pd.DataFrame(index=every, columns=prices.columns, dtype="float64")
    business = calendar(prices.index[0], prices.index[-1])
    starts = pd.DatetimeIndex([_start(prices.iloc[:, place], started_on) for place in range(prices.shape[1])])
    since = business.to_numpy()[:, None] >= starts.to_numpy()[None, :]
    expected = pd.DataFrame(since, index=business, columns=prices.columns)
    there = prices.notna().reindex(business, fill_value=False) & expected
    by_month = business.to_period("M")
    counts = expected.groupby(by_month).sum().reindex(every, fill_value=0)
    return (there.groupby(by_month).sum().reindex(every, fill_value=0) / counts).rename_axis(index="month")


def _start(own: pd.Series[float], started_on: Starts) -> pd.Timestamp:
    first: Any = started_on.get(str(own.name)) if started_on is not None else None
    if first is None or pd.isna(first):
        first = own.first_valid_index()
    return pd.Timestamp(own.index[0] if first is None else first)


def _only_row(row: pd.DataFrame, prices: pd.DataFrame) -> pd.Series[float]:
    values = row.to_numpy(dtype=np.float64)[0] if len(row) else np.full(prices.shape[1], np.nan)
    return pd.Series(values, index=prices.columns)


def _missing_days(has: pd.DataFrame, calendar: Calendar) -> pd.Series[int]:
    missing = np.zeros(has.shape[1], dtype=np.int64)
    if len(has) and has.shape[1]:
        business = calendar(has.index[0], has.index[-1])
        on_business = has.reindex(business, fill_value=False)
        for place in range(has.shape[1]):
            own = has.index[has.iloc[:, place]]
            if len(own):
                inside = (business >= own[0]) & (business <= own[-1])
                missing[place] = inside.sum() - on_business.iloc[:, place].sum()
    return pd.Series(missing, index=has.columns)
