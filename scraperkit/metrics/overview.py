"""Summarise each fund in one row, and measure how much of the calendar its prices cover."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.metrics.benchmark import Benchmark, declared
from scraperkit.metrics.beside import beside
from scraperkit.metrics.inputs import Names, days_without_price, name_column, names_of, wide_prices
from scraperkit.metrics.risk import volatility
from scraperkit.metrics.series import drawdown, months_of

#: A function that returns the business days from one day to another, both included.
Calendar = Callable[[pd.Timestamp, pd.Timestamp], pd.DatetimeIndex]
#: A day for each fund, by CNPJ.
Dates: TypeAlias = "Mapping[str, str | dt.date] | pd.Series[pd.Timestamp] | None"


def summary(
    prices: pd.DataFrame,
    calendar: Calendar = business_days,
    *,
    benchmark: Benchmark | None = None,
    risk_free: Benchmark | None = None,
    inflation: Benchmark | None = None,
    names: Names = None,
) -> pd.DataFrame:
    """Return one row of figures for each fund, over its own days, optionally against a benchmark.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices.
    calendar : callable, optional
        ``calendar(start, end)`` returns the business days from `start` to `end`, both included, as a DatetimeIndex;
        :func:`scraperkit.calendar.business_days` if omitted.
    benchmark : pandas.Series, optional
        A benchmark of a declared kind (see :func:`growth`), such as CDI or Ibovespa: adds the columns below.
    risk_free : pandas.Series, optional
        The risk-free rate of the Sharpe ratio; if omitted, `benchmark` if that is a rate a day.
    inflation : pandas.Series, optional
        The inflation for real returns; if omitted, `benchmark` if that is a rate a month.
    names : mapping of str to str, pandas.Series, or iterable of Fund, optional
        A name for each CNPJ; for others, the name in ``prices.attrs["names"]``.

    Returns
    -------
    pandas.DataFrame
        Index ``cnpj``, a row for each column of `prices`. Columns:

        - ``days`` (int64): days with a price;
        - ``first``, ``last`` (float64, R$): the first and the last price;
        - ``cumulative_return`` (float64, fraction): from the first to the last price; with payouts only if
          `prices` is what :func:`total_return` returns;
        - ``volatility`` (float64, fraction a year): see :func:`volatility`;
        - ``max_drawdown`` (float64, fraction): the lowest of :func:`drawdown`;
        - ``missing_days`` (int64): business days between the fund's own first and last day without a price.

        If any fund has a name, ``name`` (str) comes first; it is the punctuated CNPJ of funds without a name.

        With `benchmark`, over the days that a fund shares with it; ``attrs["benchmark"]`` is its name:

        - ``compared_from``, ``compared_to`` (datetime64): the first and the last of these days;
        - ``benchmark_return``, ``excess_return`` (float64, fraction): see :func:`excess_return`;
        - ``share_of_benchmark`` (float64, 1.04 is 104 % of CDI): see :func:`share_of_benchmark`;
        - ``tracking_error`` (float64, fraction a year), ``information_ratio``, ``beta`` (float64): see
          :func:`tracking_error`, :func:`information_ratio`, :func:`beta`;
        - ``windows`` (int64), ``windows_beaten`` (float64, share): the number of windows of 12 months, and the share of
          them in which the fund gained more than the benchmark: see :func:`windows`;
        - ``best_window``, ``worst_window`` (float64, fraction): the fund's own highest and lowest return in them;
        - ``return_2022`` and so on (float64, fraction): see :func:`yearly_returns`, over all days of `prices`.

        With a rate a day, ``sharpe`` (float64): see :func:`sharpe`. With inflation, ``real_return`` (float64,
        fraction): see :func:`real_return`, over the days that a fund shares with `inflation`.

        Columns without a benchmark, and the returns by year, cover all days of `prices`.

        A fund without prices has 0 days and NaN. If `prices` has no columns, the result has no rows, but these columns.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame, or a benchmark declares no kind or one that is wrong for its role.

    Warns
    -----
    ScraperKitWarning
        If a benchmark lacks days of `prices`: names them, and says which columns cover which days.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-01-05", "2022-01-06"], name="date")
    >>> prices = pd.DataFrame({"18993924000100": [100.0, 80.0, 110.0]}, index=days)
    >>> summary(prices)[["days", "cumulative_return", "missing_days"]].round(2).to_dict("list")
    {'days': [3], 'cumulative_return': [0.1], 'missing_days': [1]}
    >>> ibovespa = pd.Series([100.0, 95.0, 104.0], index=days, name="ibovespa")
    >>> ibovespa.attrs["kind"] = "level"
    >>> found = summary(prices, benchmark=ibovespa)
    >>> found[["benchmark_return", "excess_return", "beta"]].round(2).to_dict("list")
    {'benchmark_return': [0.04], 'excess_return': [0.06], 'beta': [3.97]}
    """
    prices = wide_prices(prices)
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
    frame.insert(3, "cumulative_return", frame["last"] / frame["first"] - 1)
    frame = frame.join(beside(prices, benchmark, risk_free, inflation)).rename_axis(index="cnpj")
    series, known = list(map(str, prices.columns)), names_of(prices, names)
    if any(one in known or one.partition(":")[0] in known for one in series):
        frame.insert(0, "name", pd.Series(name_column(series, known), index=frame.index, dtype="str"))
    if benchmark is not None:
        frame.attrs["benchmark"] = declared(benchmark)[0].name
    return frame


def coverage(
    prices: pd.DataFrame,
    started_on: Dates = None,
    calendar: Calendar = business_days,
    ended_on: Dates = None,
) -> pd.DataFrame:
    """Return the share of each month's business days on which a fund has a price.

    Only days from the fund's start to its end, or to the last day of `prices`, count.

    Parameters
    ----------
    prices : pandas.DataFrame
        Wide frame of prices. A quota of 0 or below is not a price.
    started_on : mapping of str to date, or pandas.Series, optional
        The first day of each fund, as in ``reader.funds()["started_on"]``. If unknown, the fund's first price, or the
        first day of `prices` for a fund without any.
    calendar : callable, optional
        ``calendar(start, end)`` returns the business days from `start` to `end`, both included, as a DatetimeIndex;
        :func:`scraperkit.calendar.business_days` if omitted.
    ended_on : mapping of str to date, or pandas.Series, optional
        The last day of each fund that has ended, as returned by :func:`ends`. If unknown, the last day of `prices`: a
        last price alone does not distinguish an ended fund from one with missing months.

    Returns
    -------
    pandas.DataFrame
        Index ``month``, a PeriodIndex of every month from the first to the last day of `prices`; same columns.
        ``float64``, 0 to 1; NaN for months before a fund's start or after its end, or without a business day. An empty
        frame returns no rows, but the same columns. ``attrs["no_price"]`` has for each fund the days, as YYYY-MM-DD,
        with a quota that is not a price; the chart shows them.

    Raises
    ------
    ConfigError
        If `prices` is not a wide frame, or `started_on` or `ended_on` is not a day for each CNPJ.

    Warns
    -----
    ScraperKitWarning
        If quotas are 0 or below; names their funds and days.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2022-01-03", "2022-02-24", "2022-02-25", "2022-03-02"], name="date")
    >>> prices = pd.DataFrame({"a": [None, 1.0, 1.0, 1.0]}, index=days)
    >>> coverage(prices)["a"].tolist()
    [nan, 1.0, 1.0]
    >>> coverage(prices, started_on={"a": "2022-01-27"})["a"].round(3).tolist()
    [0.0, 0.105, 1.0]
    >>> coverage(prices, ended_on={"a": "2022-02-25"})["a"].tolist()
    [nan, 1.0, nan]
    """
    checked = wide_prices(prices)
    every = months_of(checked)
    if not len(every):
        return pd.DataFrame(index=every, columns=prices.columns, dtype="float64")
    business = calendar(checked.index[0], checked.index[-1])
    own = [checked.iloc[:, place] for place in range(checked.shape[1])]
    started_on, ended_on = _checked_dates("started_on", started_on), _checked_dates("ended_on", ended_on)
    starts = pd.DatetimeIndex([_start(one, started_on) for one in own])
    last_days = pd.DatetimeIndex([_known(one, ended_on) or checked.index[-1] for one in own])
    days = business.to_numpy()[:, None]
    inside = (days >= starts.to_numpy()[None, :]) & (days <= last_days.to_numpy()[None, :])
    expected = pd.DataFrame(inside, index=business, columns=prices.columns)
    there = checked.notna().reindex(business, fill_value=False) & expected
    by_month = business.to_period("M")
    counts = expected.groupby(by_month).sum().reindex(every, fill_value=0)
    shares = (there.groupby(by_month).sum().reindex(every, fill_value=0) / counts).rename_axis(index="month")
    shares.attrs["no_price"] = days_without_price(prices)
    return shares


def ends(funds: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """Return the last day of each fund that has ended, for :func:`coverage`.

    Parameters
    ----------
    funds : pandas.DataFrame
        From :meth:`scraperkit.TimeSeriesReader.funds`: index ``cnpj``, columns ``status`` and ``last``, and optionally
        ``ended_on``.

    Returns
    -------
    pandas.Series
        Index ``cnpj``, name ``ended_on``: ``ended_on`` where the frame has it, else the day of the last stored quota of
        a cancelled fund (status ``CANCELADA``). NaT for all others.

    Raises
    ------
    ConfigError
        If the frame lacks a column.

    Examples
    --------
    >>> last = pd.to_datetime(["2022-02-25", "2022-03-31"])
    >>> cards = pd.DataFrame({"status": ["CANCELADA", "EM FUNCIONAMENTO NORMAL"], "last": last}, index=["a", "b"])
    >>> ends(cards).dt.strftime("%Y-%m-%d").dropna().to_dict()
    {'a': '2022-02-25'}
    """
    if missing := [column for column in ("status", "last") if column not in funds]:
        raise ConfigError(f"funds: no column {', '.join(missing)}; give the frame of TimeSeriesReader.funds()")
    cancelled = funds["status"].astype("str").str.strip().str.upper().str.startswith("CANCELAD")
    found = funds["last"].where(cancelled)
    if "ended_on" in funds:
        found = funds["ended_on"].where(funds["ended_on"].notna(), found)
    return pd.to_datetime(found).rename("ended_on")


def _checked_dates(argument: str, dates: Any) -> Dates:
    """Return the dates as days by CNPJ; refuse anything else, since it would silently match no fund."""
    if dates is None:
        return None
    give = f"{argument}: give a day for each CNPJ, as in reader.funds()"
    if not isinstance(dates, Mapping | pd.Series):
        raise ConfigError(f"{give}; this is a {type(dates).__name__}")
    days: dict[str, Any] = {}
    for cnpj, day in dates.items():
        if not isinstance(cnpj, str):
            raise ConfigError(
                f"{give}; {cnpj!r} is not text, so zeros of the CNPJ may be lost; "
                'read a CSV with pd.read_csv(path, dtype={"cnpj": "str"}).set_index("cnpj")'
            )
        try:
            found: Any = pd.NaT if pd.isna(day) else pd.Timestamp(day)
        except (ValueError, TypeError):
            raise ConfigError(f"{give}; {str(day)[:40]!r} is not a day; write it as '2022-01-31'") from None
        days[cnpj] = found if pd.isna(found) else found.tz_localize(None)
    return days


def _start(own: pd.Series[float], started_on: Dates) -> pd.Timestamp:
    first: Any = own.first_valid_index()
    return _known(own, started_on) or pd.Timestamp(own.index[0] if first is None else first)


def _known(own: pd.Series[float], dates: Dates) -> pd.Timestamp | None:
    """Return the date of a fund; ``None`` if it is unknown."""
    day: Any = dates.get(str(own.name)) if dates is not None else None
    return None if day is None or pd.isna(day) else pd.Timestamp(day)


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
