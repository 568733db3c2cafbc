"""Volatility, correlation and Sharpe ratio."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.metrics.comparison import compared, ratio
from scraperkit.metrics.inputs import dates_problem, wide_prices
from scraperkit.metrics.series import NO_SPREAD, TRADING_DAYS, returns

Rates: TypeAlias = "pd.Series[float] | pd.DataFrame | float"
# 1 % a day is over 1,100 % a year: no rate came near it since daily figures began in 2000.
_HIGHEST_RATE = 0.01
_RATES_WANTED = "give a Series of daily rates with an index of dates, a frame with that one column, or one number"


@overload
def volatility(prices: pd.DataFrame, window: None = None) -> pd.Series[float]: ...
@overload
def volatility(prices: pd.DataFrame, window: int) -> pd.DataFrame: ...
def volatility(prices: pd.DataFrame, window: int | None = None) -> pd.Series[float] | pd.DataFrame:
    """Return the annualised volatility: the sample standard deviation of daily returns, times √252.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    window : int, optional
        Number of returns, 2 or more, to look back on at each day; a fund's own days count, not the gaps. If omitted,
        all returns are used.

    Returns
    -------
    pandas.Series or pandas.DataFrame
        Without `window`: one ``float64`` for each fund, index ``cnpj``, name ``volatility``. With it: same index and
        columns as `prices`, NaN where there is no price or fewer returns than `window` so far. Both as a fraction a
        year (0.2 is 20 %). NaN with fewer than two returns; an empty frame returns an empty result.

    Raises
    ------
    ConfigError
        If `window` is not a whole number, 2 or more, or `prices` is not a wide frame.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 101.0, 99.99, 100.9899]}, index=days)
    >>> volatility(prices).round(4).to_dict()
    {'18993924000100': 0.1833}
    >>> volatility(prices, window=2)["18993924000100"].round(4).tolist()
    [nan, nan, 0.2245, 0.2245]
    """
    prices = wide_prices(prices)
    daily = returns(prices)
    if window is None:
        spread = daily.std(ddof=1).to_numpy(dtype=np.float64) * math.sqrt(TRADING_DAYS)
        return pd.Series(spread, index=prices.columns, name="volatility")
    if isinstance(window, bool) or not isinstance(window, int) or window < 2:
        raise ConfigError(f"window: {window!r} is invalid; give a whole number of returns, 2 or more")
    rolled = np.full(daily.shape, np.nan)
    for place in range(daily.shape[1]):
        own = daily.iloc[:, place]
        rolled[own.notna(), place] = own.dropna().rolling(window).std(ddof=1)
    return pd.DataFrame(rolled * math.sqrt(TRADING_DAYS), index=prices.index, columns=prices.columns)


def correlation(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the correlation of the daily returns of each pair of funds.

    Each pair is measured over the days on which both have a price, so that both returns cover the same days.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.

    Returns
    -------
    pandas.DataFrame
        Index and columns ``cnpj``, in the order of `prices`; symmetric, ``float64`` from -1 to 1. NaN for pairs with
        fewer than two common returns, and for funds whose returns do not vary. Without columns, the result is empty.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> prices = pd.DataFrame({"a": [1.0, 2.0, 2.0, 4.0], "b": [8.0, 4.0, 4.0, 2.0]}, index=days)
    >>> correlation(prices).round(4).to_dict("list")
    {'a': [1.0, -1.0], 'b': [-1.0, 1.0]}
    """
    values = wide_prices(prices).to_numpy(dtype=np.float64)
    count = values.shape[1]
    found = np.full((count, count), np.nan)
    for one in range(count):
        for other in range(one + 1):
            pair = values[:, [one, other]]
            found[one, other] = found[other, one] = _correlation(pair[~np.isnan(pair).any(axis=1)])
    return pd.DataFrame(found, index=prices.columns, columns=prices.columns)


def _correlation(pair: npt.NDArray[np.float64]) -> float:
    daily = pair[1:] / pair[:-1] - 1
    if len(daily) < 2:
        return math.nan
    away = daily - daily.mean(axis=0)
    spread = np.sqrt((away**2).mean(axis=0))
    if (spread < NO_SPREAD).any():
        return math.nan
    scaled = away / spread
    return float(np.clip((scaled[:, 0] * scaled[:, 1]).mean(), -1, 1))


def sharpe(prices: pd.DataFrame, risk_free: Rates) -> pd.Series[float]:
    """Return the annualised Sharpe ratio of each fund: mean over standard deviation of its daily excess returns.

    The excess is a fund's simple return less the risk-free return over the same days. The ratio is the mean excess over
    its sample standard deviation, times √252; returns over gaps count as one day each.

    A rate with a declared kind, such as CDI, accrues as in :func:`growth`: that of day d from d to the next business
    day. Rates without a kind are compounded over all days after the fund's previous price, up to and including the day
    of the return.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    risk_free : pandas.Series, pandas.DataFrame or float
        A benchmark of a declared kind, in per cent as published (see :func:`growth`). Or, without a kind, the rate of
        each business day as a fraction a day (0.0004 is 0.04 %), indexed by date; or a frame with that one
        column; or one number, the rate of every business day. A day without a rate earns nothing; each day on which a
        fund has a return must have one.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``sharpe``, per square root of a year. NaN for a fund with
        fewer than two returns, or whose excess does not vary.

    Raises
    ------
    ConfigError
        If `risk_free` does not fit its declared kind, is not indexed by unique dates, has no rate for a day with a
        return, or has a rate above 1 % a day (most likely in per cent, or a year's); if `prices` is not a wide frame.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 102.0, 102.0, 104.04]}, index=days)
    >>> sharpe(prices, pd.Series(0.0, index=days)).round(2).to_dict()
    {'18993924000100': 18.33}
    >>> sharpe(prices, 1.1365 ** (1 / 252) - 1).round(2).to_dict()  # 13.65 % a year
    {'18993924000100': 17.63}
    """
    prices = wide_prices(prices)
    if isinstance(risk_free, pd.Series) and "kind" in risk_free.attrs:
        return ratio(compared(prices, risk_free).active()).rename("sharpe")
    daily = returns(prices)
    rates = _rates(risk_free, on=daily.index[daily.notna().any(axis="columns")])
    # The value of 1 R$ by each day: over a fund's own days, its returns are the rates of the same spans.
    bank = (1 + rates).cumprod().reindex(prices.index, method="ffill").fillna(1.0)
    cash = pd.DataFrame(dict.fromkeys(range(prices.shape[1]), bank), index=prices.index).set_axis(
        prices.columns, axis=1
    )
    excess = daily - returns(cash.where(prices.notna()))
    return ratio(excess).rename("sharpe")


def _rates(risk_free: Rates, on: pd.Index[Any]) -> pd.Series[float]:
    """Return the sorted rates, as fractions a day; refuse rates that are missing on one of these days."""
    rates = _series(risk_free, on).dropna().sort_index()
    if not rates.index.is_unique:
        raise ConfigError(f"risk_free: {rates.index[rates.index.duplicated()][0]:%Y-%m-%d} appears twice; keep one")
    too_high = rates[~(rates.abs() <= _HIGHEST_RATE)]
    if len(too_high):
        raise ConfigError(
            f"risk_free: {too_high.iloc[0]:g} on {too_high.index[0]:%Y-%m-%d} would be more than 1 % a day, so it is "
            "a percentage or annual; give a daily fraction: 0.05 % a day is 0.0005, and 13.65 % a year is "
            '1.1365 ** (1 / 252) - 1; or declare a rate in per cent with risk_free.attrs["kind"] = "rate a day"'
        )
    missing = on.difference(rates.index)
    if len(missing):
        raise ConfigError(
            f"risk_free: no rate for {len(missing):,} of {len(on):,} days with a return, the first "
            f"{missing[0]:%Y-%m-%d}; give one for each business day, or leave those days out of prices"
        )
    return rates


def _series(risk_free: Any, on: pd.Index[Any]) -> pd.Series[float]:
    """Return the rates, given in any form, as a series of numbers by date."""
    if isinstance(risk_free, pd.DataFrame):
        if risk_free.shape[1] != 1:
            raise ConfigError(f"risk_free: {_RATES_WANTED}; the frame has {risk_free.shape[1]} columns: choose one")
        risk_free = risk_free.iloc[:, 0]
    is_number = isinstance(risk_free, int | float | np.number) and not isinstance(risk_free, bool)
    if is_number and not np.isnan(risk_free):
        days = on.union(business_days(on[0], on[-1])) if len(on) else on
        return pd.Series(float(risk_free), index=days)
    if not isinstance(risk_free, pd.Series):
        raise ConfigError(f"risk_free: {_RATES_WANTED}, not {risk_free!r:.40}")
    if len(risk_free) and (problem := dates_problem(risk_free.index)):
        raise ConfigError(
            f"risk_free: {_RATES_WANTED}; {problem}; read a CSV with pd.read_csv(path, index_col=0, parse_dates=True)"
        )
    if not pd.api.types.is_numeric_dtype(risk_free.dtype) or pd.api.types.is_bool_dtype(risk_free.dtype):
        raise ConfigError(f"risk_free: {_RATES_WANTED}; this one holds {risk_free.dtype}, not numbers")
    return risk_free.astype("float64")
