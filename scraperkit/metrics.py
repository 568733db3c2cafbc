"""Returns, drawdowns and volatility of price frames: plain pandas, nothing about Redis.

Every function takes the wide frame of :meth:`scraperkit.TimeSeriesReader.prices`: index ``date``, a column for each
fund, NaN where a fund has no price. A missing day breaks nothing: each fund is measured over the days that it has, so
the return after a gap covers the whole gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import overload

import numpy as np
import pandas as pd

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError

TRADING_DAYS = 252
"""Business days of a year, by the convention of the Brazilian market."""

Calendar = Callable[[pd.Timestamp, pd.Timestamp], pd.DatetimeIndex]


def returns(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the simple return of each fund since its previous price.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.

    Returns
    -------
    pandas.DataFrame
        Same index and columns, ``float64``, as a fraction (0.01 is 1 %). NaN where there is no price, and on a fund's
        first day. An empty frame gives an empty frame.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, None, 110.0]}, index=days)
    >>> returns(prices)["18993924000100"].round(4).tolist()
    [nan, nan, 0.1]
    """
    return prices / prices.ffill().shift(1) - 1


def drawdown(prices: pd.DataFrame) -> pd.DataFrame:
    """Return how far each fund is below its highest price so far.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.

    Returns
    -------
    pandas.DataFrame
        Same index and columns, ``float64``, as a fraction from -1 to 0. NaN where there is no price. An empty frame
        gives an empty frame.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> drawdown(pd.DataFrame({"18993924000100": [100.0, 80.0, None, 120.0]}, index=days))["18993924000100"].tolist()
    [0.0, -0.2, nan, 0.0]
    """
    return (prices - prices.cummax()) / prices.cummax()


@overload
def volatility(prices: pd.DataFrame, window: None = None) -> pd.Series[float]: ...
@overload
def volatility(prices: pd.DataFrame, window: int) -> pd.DataFrame: ...
def volatility(prices: pd.DataFrame, window: int | None = None) -> pd.Series[float] | pd.DataFrame:
    """Return the annualised volatility: the sample deviation of daily returns, times the root of 252.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    window : int, optional
        Number of returns, 2 or more, to look back on at each day; a fund's own days count, not the gaps. Left out, all
        returns make one number for each fund.

    Returns
    -------
    pandas.Series or pandas.DataFrame
        Without `window`: one ``float64`` for each fund, index ``cnpj``, name ``volatility``. With it: same index and
        columns as `prices`, NaN where there is no price or fewer returns than `window` so far. Both as a fraction a
        year (0.2 is 20 %). Fewer than two returns give NaN, an empty frame an empty result.

    Raises
    ------
    ConfigError
        If `window` is not a whole number from 2 on.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 101.0, 99.99, 100.9899]}, index=days)
    >>> volatility(prices).round(4).to_dict()
    {'18993924000100': 0.1833}
    >>> volatility(prices, window=2)["18993924000100"].round(4).tolist()
    [nan, nan, 0.2245, 0.2245]
    """
    daily = returns(prices)
    if window is None:
        spread = daily.std(ddof=1).to_numpy(dtype=np.float64) * math.sqrt(TRADING_DAYS)
        return pd.Series(spread, index=prices.columns, name="volatility")
    if isinstance(window, bool) or not isinstance(window, int) or window < 2:
        raise ConfigError(f"window: {window!r} does not fit; give a whole number of returns, 2 or more")
    rolled = np.full(daily.shape, np.nan)
    for place in range(daily.shape[1]):
        own = daily.iloc[:, place]
        rolled[own.notna(), place] = own.dropna().rolling(window).std(ddof=1)
    return pd.DataFrame(rolled * math.sqrt(TRADING_DAYS), index=prices.index, columns=prices.columns)


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
