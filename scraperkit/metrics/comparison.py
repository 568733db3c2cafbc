"""Compare funds with a benchmark: excess and real return, tracking error, information ratio, beta, windows, years."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from scraperkit.errors import ConfigError
from scraperkit.metrics.benchmark import LEVEL, Benchmark, declared, growth
from scraperkit.metrics.inputs import wide_prices
from scraperkit.metrics.series import NO_SPREAD, TRADING_DAYS, returns

_LATE = pd.Timedelta(days=7)  # a window may begin with a price that is this much older


class Compared(NamedTuple):
    """Prices and benchmark on the days that each fund shares with the benchmark; NaN on all others."""

    prices: pd.DataFrame
    bank: pd.DataFrame
    kind: str

    def total(self) -> tuple[pd.Series[float], pd.Series[float]]:
        """Return the return of each fund over all days, and of the benchmark over the same days."""
        return _total(self.prices), _total(self.bank)

    def active(self) -> pd.DataFrame:
        """Return each daily return less that of the benchmark over the same span."""
        return returns(self.prices) - returns(self.bank)


def compared(prices: pd.DataFrame, benchmark: Benchmark) -> Compared:
    """Align funds with a benchmark; every figure of this module begins here.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame, or `benchmark` is invalid (see :func:`growth`).
    """
    prices = wide_prices(prices)
    _, kind = declared(benchmark)
    wealth = growth(benchmark, pd.DatetimeIndex(prices.index))
    both = prices.where(wealth.notna(), axis=0)
    bank = pd.DataFrame(dict.fromkeys(range(prices.shape[1]), wealth), index=prices.index, dtype="float64")
    return Compared(both, bank.set_axis(prices.columns, axis=1).where(both.notna()), kind)


def excess_return(prices: pd.DataFrame, benchmark: Benchmark) -> pd.Series[float]:
    """Return the return of each fund less that of the benchmark over the same days.

    With the prices p and the growth g of the benchmark on a fund's first and last day that the benchmark covers:
    ``p(last) / p(first) - g(last) / g(first)``.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series
        See :func:`growth`.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``excess_return``, as a fraction (0.01 is one percentage
        point). NaN for a fund with fewer than two prices on those days.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> ibovespa = pd.Series([100.0, 102.0, 105.0], index=days, name="ibovespa")
    >>> ibovespa.attrs["kind"] = "level"
    >>> prices = pd.DataFrame({"18993924000100": [10.0, 10.5, 11.0]}, index=days)
    >>> excess_return(prices, ibovespa).round(4).to_dict()
    {'18993924000100': 0.05}
    """
    fund, bench = compared(prices, benchmark).total()
    return (fund - bench).rename("excess_return")


def share_of_benchmark(prices: pd.DataFrame, benchmark: Benchmark) -> pd.Series[float]:
    """Return the return of each fund as a share of the benchmark's: 1.04 is 104 % of CDI.

    ``(p(last) / p(first) - 1) / (g(last) / g(first) - 1)``, in the terms of :func:`excess_return`.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series
        See :func:`growth`.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``share_of_benchmark``. NaN where the benchmark did not
        gain, since a share of a loss has no meaning, and for a fund with fewer than two prices.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2025-10-02", "2025-10-03"], name="date")
    >>> cdi = pd.Series([0.05], index=days[:1], name="cdi")
    >>> cdi.attrs["kind"] = "rate a day"
    >>> share_of_benchmark(pd.DataFrame({"18993924000100": [100.0, 100.06]}, index=days), cdi).round(4).to_dict()
    {'18993924000100': 1.2}
    """
    fund, bench = compared(prices, benchmark).total()
    return (fund / bench.where(bench > 0)).rename("share_of_benchmark")


def real_return(prices: pd.DataFrame, inflation: Benchmark) -> pd.Series[float]:
    """Return each fund's gain in purchasing power: its return deflated by inflation.

    ``(p(last) / p(first)) / (g(last) / g(first)) - 1``, in the terms of :func:`excess_return`. It ends with the last
    month of `inflation`: after that, inflation is unknown.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    inflation : pandas.Series
        Such as IPCA; see :func:`growth`, which spreads a month's rate evenly over its business days.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``real_return``, as a fraction. NaN for a fund with fewer
        than two prices on those days.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2022-01-31", "2022-02-25"], name="date")
    >>> ipca = pd.Series([1.01], index=pd.DatetimeIndex(["2022-02-01"]), name="ipca")
    >>> ipca.attrs["kind"] = "rate a month"
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 102.0]}, index=days)  # 28 February was Carnival Monday
    >>> real_return(prices, ipca).round(4).to_dict()
    {'18993924000100': 0.0098}
    """
    fund, bench = compared(prices, inflation).total()
    return ((1 + fund) / (1 + bench) - 1).rename("real_return")


def tracking_error(prices: pd.DataFrame, benchmark: Benchmark) -> pd.Series[float]:
    """Return the annualised tracking error: the sample standard deviation of daily active returns, times √252.

    An active return is a fund's simple return since its previous price, less the benchmark's over the same span.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series
        See :func:`growth`.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``tracking_error``, as a fraction a year. NaN for a fund
        with fewer than two such returns.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> index = pd.Series(100.0, index=days, name="index")
    >>> index.attrs["kind"] = "level"
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 101.0, 99.99]}, index=days)  # +1 %, -1 %
    >>> tracking_error(prices, index).round(4).to_dict()
    {'18993924000100': 0.2245}
    """
    spread = compared(prices, benchmark).active().std(ddof=1) * math.sqrt(TRADING_DAYS)
    return spread.rename("tracking_error").astype("float64")


def information_ratio(prices: pd.DataFrame, benchmark: Benchmark) -> pd.Series[float]:
    """Return the annualised information ratio: √252 times mean over sample standard deviation of active returns.

    Active returns are those of :func:`tracking_error`. With a risk-free rate as the benchmark, this is :func:`sharpe`.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series
        See :func:`growth`.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``information_ratio``, per square root of a year. NaN for a
        fund with fewer than two such returns, or whose active returns do not vary.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=4, name="date")
    >>> index = pd.Series(100.0, index=days, name="index")
    >>> index.attrs["kind"] = "level"
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 102.0, 102.0, 104.04]}, index=days)
    >>> information_ratio(prices, index).round(2).to_dict()
    {'18993924000100': 18.33}
    """
    return ratio(compared(prices, benchmark).active()).rename("information_ratio")


def beta(prices: pd.DataFrame, benchmark: Benchmark) -> pd.Series[float]:
    """Return each fund's beta: its covariance with the benchmark over the variance of the benchmark.

    Both returns are since the fund's previous price: ``cov(r, b) / var(b)``.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series
        See :func:`growth`.

    Returns
    -------
    pandas.Series
        One ``float64`` for each fund, index ``cnpj``, name ``beta``, no unit. NaN for a benchmark of rates, which has
        no moves to follow, for a fund with fewer than two returns, and if the benchmark does not vary.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.date_range("2022-01-03", periods=3, name="date")
    >>> ibovespa = pd.Series([100.0, 110.0, 99.0], index=days, name="ibovespa")
    >>> ibovespa.attrs["kind"] = "level"
    >>> beta(pd.DataFrame({"18993924000100": [10.0, 10.5, 9.975]}, index=days), ibovespa).round(4).to_dict()
    {'18993924000100': 0.5}
    """
    both = compared(prices, benchmark)
    own, bench = returns(both.prices), returns(both.bank)
    bench_away = bench - bench.mean()
    spread = (bench_away**2).mean()
    found = ((own - own.mean()) * bench_away).mean() / spread.where(spread > NO_SPREAD**2)
    known = (own.count() > 1) & (both.kind == LEVEL)
    return found.where(known).rename("beta").astype("float64")


def windows(prices: pd.DataFrame, benchmark: Benchmark | None = None, months: int = 12) -> pd.DataFrame:
    """Return the return of each fund over every window of `months`, or its excess over the benchmark's.

    The window that ends on day t begins with the fund's last price up to the same day `months` earlier, if that price
    is at most 7 days older: ``p(t) / p(begin) - 1``, with a benchmark less ``g(t) / g(begin) - 1``.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series, optional
        See :func:`growth`; without one, the returns themselves.
    months : int
        Length of a window, 1 or more.

    Returns
    -------
    pandas.DataFrame
        Same index and columns as `prices`; ``float64``, as a fraction, on the last day of each window. NaN where no
        window ends.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2021-01-04", "2021-01-05", "2022-01-04", "2022-01-05"], name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 110.0, 120.0, 121.0]}, index=days)
    >>> windows(prices)["18993924000100"].round(4).tolist()
    [nan, nan, 0.2, 0.1]
    """
    if isinstance(months, bool) or not isinstance(months, int) or months < 1:
        raise ConfigError(f"months: {months!r} is invalid; give a whole number of months, 1 or more")
    if benchmark is None:
        return _windows(wide_prices(prices), months)
    both = compared(prices, benchmark)
    return _windows(both.prices, months) - _windows(both.bank, months)


def yearly_returns(prices: pd.DataFrame, benchmark: Benchmark | None = None) -> pd.DataFrame:
    """Return the simple return of each fund in each calendar year: its last price over its last of the year before.

    A fund's first year counts from its first price and its last year ends with its last, so both may be partial; the
    years of a fund compound to its cumulative return.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    benchmark : pandas.Series, optional
        See :func:`growth`; adds a column with its name, over all days of `prices` that it covers.

    Returns
    -------
    pandas.DataFrame
        Index ``year`` (int), every year from the first to the last of `prices`; same columns, and the benchmark's.
        ``float64``, as a fraction. NaN where a fund has no price in a year, or only its very first price.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2021-07-01", "2021-12-30", "2022-12-29"], name="date")
    >>> yearly_returns(pd.DataFrame({"18993924000100": [100.0, 110.0, 99.0]}, index=days))["18993924000100"].round(4)
    year
    2021    0.1
    2022   -0.1
    Name: 18993924000100, dtype: float64
    """
    prices = wide_prices(prices)
    if benchmark is not None:
        wealth = growth(benchmark, pd.DatetimeIndex(prices.index))
        if wealth.name in prices.columns:
            raise ConfigError(f"benchmark: a column of prices is named {wealth.name}, too; rename the benchmark")
        prices = prices.assign(**{str(wealth.name): wealth})
    of_day = pd.DatetimeIndex(prices.index).year
    every = pd.RangeIndex(of_day[0], of_day[-1] + 1) if len(of_day) else pd.RangeIndex(0)
    by_year = prices.groupby(of_day)
    last = by_year.last().reindex(every)
    before = last.ffill().shift(1)
    begins = before.isna() & (by_year.count().reindex(every) > 1)
    base = before.where(~begins, by_year.first().reindex(every))
    return (last / base - 1).rename_axis(index="year")


def ratio(active: pd.DataFrame) -> pd.Series[float]:
    """Return the annualised mean over sample standard deviation of each column; NaN where it does not vary."""
    spread = active.std(ddof=1)
    return (active.mean() / spread.where(spread > NO_SPREAD) * math.sqrt(TRADING_DAYS)).astype("float64")


def _total(prices: pd.DataFrame) -> pd.Series[float]:
    if not len(prices):
        return pd.Series(np.nan, index=prices.columns, dtype="float64")
    known = prices.count() > 1
    return (prices.ffill().iloc[-1] / prices.bfill().iloc[0] - 1).where(known).rename(None)


def _windows(prices: pd.DataFrame, months: int) -> pd.DataFrame:
    found = np.full(prices.shape, np.nan)
    for place in range(prices.shape[1]):
        own = prices.iloc[:, place].dropna()
        days, values = pd.DatetimeIndex(own.index), own.to_numpy(dtype=np.float64)
        wanted = days - pd.DateOffset(months=months)
        begin = days.searchsorted(wanted, side="right") - 1
        whole = begin >= 0
        whole[whole] = wanted[whole] - days[begin[whole]] <= _LATE
        own_windows = np.full(len(own), np.nan)
        own_windows[whole] = values[whole] / values[begin[whole]] - 1
        found[prices.iloc[:, place].notna(), place] = own_windows
    return pd.DataFrame(found, index=prices.index, columns=prices.columns)
