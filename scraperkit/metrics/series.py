"""Returns and drawdowns: from a price frame to a frame over time."""

from __future__ import annotations

import pandas as pd

from scraperkit.metrics.inputs import wide_prices

#: Trading days in a year, with which daily figures are annualised.
TRADING_DAYS = 252
"""Business days of a year, by the convention of the Brazilian market."""
# Prices have at most 8 decimals: a smaller variation is rounding.
NO_SPREAD = 1e-12


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
        first day. An empty frame returns an empty frame.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame.

    Warns
    -----
    ScraperKitWarning
        If quotas are 0 or below: they are not prices, and the return after them covers the whole gap.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, None, 110.0]}, index=days)
    >>> returns(prices)["18993924000100"].round(4).tolist()
    [nan, nan, 0.1]
    """
    prices = wide_prices(prices)
    return prices / prices.ffill().shift(1) - 1


def monthly_returns(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the simple return of each fund in each month: its last price over its last price of the month before.

    A fund's first month counts from its first price, so its months compound to the return from its first price to its
    last. The return after months without a price covers them too.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.

    Returns
    -------
    pandas.DataFrame
        Index ``month``, a PeriodIndex of every month from the first to the last day of `prices`; same columns.
        ``float64``, as a fraction (0.01 is 1 %). NaN where a fund has no price in a month, or only its very first
        price. An empty frame returns no rows, but the same columns.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-01-31", "2022-02-01", "2022-02-25"], name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 110.0, 120.0, 99.0]}, index=days)
    >>> monthly_returns(prices)["18993924000100"].round(4).to_dict()
    {Period('2022-01', 'M'): 0.1, Period('2022-02', 'M'): -0.1}
    """
    prices = wide_prices(prices)
    every = months_of(prices)
    by_month = prices.groupby(pd.DatetimeIndex(prices.index).to_period("M"))
    last = by_month.last().reindex(every)
    before = last.ffill().shift(1)
    begins = before.isna() & (by_month.count().reindex(every) > 1)
    base = before.where(~begins, by_month.first().reindex(every))
    return (last / base - 1).rename_axis(index="month")


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
        returns an empty frame.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> drawdown(pd.DataFrame({"18993924000100": [100.0, 80.0, None, 120.0]}, index=days))["18993924000100"].tolist()
    [0.0, -0.2, nan, 0.0]
    """
    prices = wide_prices(prices)
    return (prices - prices.cummax()) / prices.cummax()


def months_of(prices: pd.DataFrame) -> pd.PeriodIndex:
    """Return every month from the first to the last day of a wide frame, named ``month``."""
    months = pd.DatetimeIndex(prices.index).to_period("M")
    return pd.period_range(months[0], months[-1], freq="M", name="month") if len(months) else months.rename("month")
