"""The growth of 1 R$ in a benchmark, on the days of a price frame; all accrual rules are here."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.metrics.identity import Floats
from scraperkit.metrics.inputs import dates_problem

#: The days of a rate or an index, as :func:`scraperkit.rates` returns them.
Benchmark: TypeAlias = "pd.Series[float]"
DAILY, MONTHLY, LEVEL = RATE_KINDS = ("rate a day", "rate a month", "level")

_UNITS = {DAILY: "% a day", MONTHLY: "% a month"}
# Per cent. Since the Real, no daily rate was above 1 %, and none above zero was below 0.5 % a year.
_BOUNDS = {DAILY: (0.002, 1.0), MONTHLY: (0.0, 100.0)}
_REAL = "1995"
# The exchange never closes for longer; over a longer gap the level is unknown.
_CARRIED = pd.Timedelta(days=7)
_DECLARE = (
    'declare it with benchmark.attrs["kind"] = "rate a day" (per cent a day, as CDI and Selic are published), '
    '"rate a month" (per cent a month, such as IPCA) or "level" (such as Ibovespa or the dollar)'
)
_SHAPE = "give a Series with an index of dates, as scraperkit.rates() returns it"
_DayStamps: TypeAlias = "npt.NDArray[np.datetime64]"


def growth(benchmark: Benchmark, days: pd.DatetimeIndex) -> pd.Series[float]:
    """Return the value of 1 R$ invested in a benchmark, on each of the given days.

    With r in per cent, and for days s < t:

    - ``"rate a day"`` (CDI, Selic): the rate of day d accrues from d to the next business day, so the growth from s to
      t is the product of (1 + r(d) / 100) over all days s ≤ d < t;
    - ``"rate a month"`` (IPCA, IGP-M): the growth from the last business day of a month to that of the next is
      1 + r / 100 of the latter month; after k of a month's n business days it is (1 + r / 100) ** (k / n);
    - ``"level"`` (Ibovespa, dollar): level(t) / level(s), each the last level published up to that day, at most 7 days
      old.

    Parameters
    ----------
    benchmark : pandas.Series
        Index of dates, values as published; rates in per cent. ``attrs["kind"]`` is one of the three kinds above; a
        monthly rate has any one day of each month in its index.
    days : pandas.DatetimeIndex
        Sorted, without a time zone, such as the index of a price frame.

    Returns
    -------
    pandas.Series
        Index `days`, named as the benchmark, ``float64``, 1 on the first day that the benchmark covers. NaN on days
        that it does not cover: before its first value, after the business day to which its last rate accrues, after its
        last month or level, and in a gap of levels.

    Raises
    ------
    ConfigError
        If the benchmark declares no kind, its values do not fit the kind, it has a gap between rates, or it covers none
        of `days`.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2025-10-02", "2025-10-03", "2025-10-06"], name="date")
    >>> cdi = pd.Series([0.055131, 0.055131], index=days[:2], name="cdi")
    >>> cdi.attrs["kind"] = "rate a day"
    >>> growth(cdi, days).round(8).tolist()
    [1.0, 1.00055131, 1.00110292]
    """
    series, kind = declared(benchmark)
    if not len(days):
        return pd.Series(index=days, dtype="float64", name=series.name)
    own, values = series.index.to_numpy(dtype="datetime64[ns]"), np.asarray(series, dtype=np.float64)
    asked = days.to_numpy(dtype="datetime64[ns]")
    grow = {DAILY: _of_daily_rates, MONTHLY: _of_monthly_rates, LEVEL: _of_levels}[kind]
    found = pd.Series(grow(str(series.name), own, values, asked), index=days, name=series.name)
    covered = found.dropna()
    if covered.empty:
        spans = f"{_span(series.index)}, the prices are from {_span(days)}" if len(series) else "nothing"
        raise ConfigError(f"benchmark: {series.name} covers {spans}; give one that covers the days of the prices")
    return found / float(covered.iloc[0])


def declared(benchmark: Any) -> tuple[Benchmark, str]:
    """Return a benchmark, sorted and without NaN, and its kind.

    Raises
    ------
    ConfigError
        If it is not a benchmark: says what to declare, or how to fix it.

    Examples
    --------
    >>> declared(pd.Series([1.0]))
    Traceback (most recent call last):
    scraperkit.errors.ConfigError: benchmark: the Series declares no kind; declare it with ...
    """
    if not isinstance(benchmark, pd.Series):
        raise ConfigError(f"benchmark: {_SHAPE}; this is a {type(benchmark).__name__}")
    name = "the Series" if benchmark.name is None else str(benchmark.name)[:40]
    kind = benchmark.attrs.get("kind")
    if kind not in RATE_KINDS:
        problem = "declares no kind" if kind is None else f"declares the kind {str(kind)[:40]!r}, which is unknown"
        raise ConfigError(f"benchmark: {name} {problem}; {_DECLARE}")
    if problem := _problem(benchmark, kind):
        raise ConfigError(f"benchmark: {name}: {problem}")
    # A copy without attrs: figures computed from it are not published rates.
    values = pd.Series(benchmark.to_numpy(dtype=np.float64), index=benchmark.index, name=name)
    return values.dropna().sort_index(), str(kind)


def _problem(benchmark: Benchmark, kind: str) -> str:
    """Return why the values do not fit the kind; empty if they do."""
    if len(benchmark) and (problem := dates_problem(benchmark.index)):
        return f"{problem}; {_SHAPE}"
    if not benchmark.index.is_unique:
        return f"{benchmark.index[benchmark.index.duplicated()][0]:%Y-%m-%d} appears twice; keep one"
    if not pd.api.types.is_numeric_dtype(benchmark.dtype) or pd.api.types.is_bool_dtype(benchmark.dtype):
        return f"it holds {benchmark.dtype}, not numbers"
    values = benchmark.dropna()
    if not np.isfinite(values.to_numpy(dtype=np.float64)).all():
        return "a value is infinite; leave it out"
    if kind == LEVEL:
        low = values[values <= 0]
        return f"{low.iloc[0]:g} on {low.index[0]:%Y-%m-%d} is not a level; leave it out" if len(low) else ""
    unit = benchmark.attrs.get("unit", _UNITS[kind])
    if unit != _UNITS[kind]:
        return f'its unit is {str(unit)[:40]!r}, but a {kind} is in "{_UNITS[kind]}"'
    lowest, highest = _BOUNDS[kind]
    most = float(values.abs().max()) if len(values) else 0.0
    if 0 < most < lowest or (values[values.index >= _REAL].abs() > highest).any():
        return f"{most:g} is not a {kind} in per cent; CDI is about 0.05 (% a day) and IPCA about 0.4 (% a month)"
    return ""


def _of_daily_rates(name: str, own: _DayStamps, rates: Floats, asked: _DayStamps) -> Floats:
    if not len(own):
        return np.full(len(asked), np.nan)
    after = business_days(pd.Timestamp(own[-1]) + pd.Timedelta(days=1), pd.Timestamp(own[-1]) + pd.Timedelta(days=15))
    first, last = max(own[0], asked[0]), min(own[-1], asked[-1] - np.timedelta64(1, "D"))
    expected = business_days(pd.Timestamp(first), pd.Timestamp(last)).to_numpy(dtype="datetime64[ns]")
    _refuse_missing(name, pd.DatetimeIndex(np.setdiff1d(expected, own)), "%Y-%m-%d", "business days")
    grown = np.concatenate([[1.0], np.cumprod(1 + rates / 100)])[np.searchsorted(own, asked, side="left")]
    return np.where((asked >= own[0]) & (asked <= after.to_numpy(dtype="datetime64[ns]")[0]), grown, np.nan)


def _of_monthly_rates(name: str, own: _DayStamps, rates: Floats, asked: _DayStamps) -> Floats:
    if not len(own):
        return np.full(len(asked), np.nan)
    months = own.astype("datetime64[M]")
    if len(double := months[1:][months[1:] == months[:-1]]):
        raise ConfigError(f"benchmark: {name}: {double[0]} has two rates; keep one for each month")
    of_day = asked.astype("datetime64[M]")
    needed = np.arange(max(months[0], of_day[0]), min(months[-1], of_day[-1]) + 1)
    _refuse_missing(name, pd.DatetimeIndex(np.setdiff1d(needed, months)), "%Y-%m", "months")
    start = (of_day[0] - 1).astype("datetime64[D]")
    business = business_days(pd.Timestamp(start), pd.Timestamp((of_day[-1] + 1).astype("datetime64[D]")))
    open_days = business.to_numpy(dtype="datetime64[ns]")
    first, end = (np.searchsorted(open_days, month.astype("datetime64[ns]")) for month in (of_day, of_day + 1))
    share = (np.searchsorted(open_days, asked, side="right") - first) / (end - first)
    place = np.searchsorted(months, of_day)
    before = np.concatenate([[1.0], np.cumprod(1 + rates / 100)])
    own_rate = np.append(rates, np.nan)[place] / 100
    # The first rate accrues from the last business day of the month before.
    is_base = (of_day + 1 == months[0]) & (share == 1)
    known = (of_day >= months[0]) & (of_day <= months[-1])
    return np.where(is_base, 1.0, np.where(known, before[place] * (1 + own_rate) ** share, np.nan))


def _of_levels(_name: str, own: _DayStamps, levels: Floats, asked: _DayStamps) -> Floats:
    place = np.searchsorted(own, asked, side="right") - 1
    found = np.full(len(asked), np.nan)
    inside = (place >= 0) & (asked <= own[-1]) if len(own) else np.zeros(len(asked), dtype=bool)
    fresh = inside & (asked - own[place] <= _CARRIED.to_timedelta64()) if len(own) else inside
    found[fresh] = levels[place[fresh]]
    return found


def _refuse_missing(name: str, missing: pd.DatetimeIndex, form: str, what: str) -> None:
    if len(missing):
        raise ConfigError(
            f"benchmark: {name} has no rate for {len(missing):,} of the {what} between its first and last, the first "
            f"{missing[0]:{form}}; fetch it again with sk.rates(name, start, end, refresh=True), or use a part "
            "without the gap"
        )


def _span(days: pd.Index[Any]) -> str:
    return f"{days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}"
