"""Normalize the arguments of a read and turn replies into frames, without talking to a server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scraperkit.cnpj import looks_like_cnpj, normalize_series, short_names
from scraperkit.errors import ConfigError
from scraperkit.lua.state import MonthRecord
from scraperkit.models import COLUMNS, METRICS, Fund, Month
from scraperkit.timeseries.commands import DAY_MS, EPOCH, day_number
from scraperkit.timeseries.range_replies import Values
from scraperkit.timeseries.rows import Change, StoredFund

Days = npt.NDArray[np.int64]
Funds = str | Fund | Iterable[str | Fund]
NamesOf = Callable[[Sequence[str]], Mapping[str, str]]
Day = str | dt.date | np.datetime64 | pd.Period | Month

MOST_NAMED = 1_000  # series: pandas copies attrs with each step, and no legend shows as many
_LAST_DAY = dt.date(9999, 12, 31)
LAST = day_number(_LAST_DAY) * DAY_MS
_NAT = np.iinfo(np.int64).min
_NO_DAYS: Days = np.empty(0, dtype=np.int64)
_TEXT_DTYPE: Any = COLUMNS["cnpj"].dtype  # Any: pandas-stubs knows dtypes only as literals
_DATE_DTYPE: Any = COLUMNS["date"].dtype


def _series_of(text: str) -> str:
    if isinstance(text, str) and not looks_like_cnpj(text):
        raise ConfigError(f"{text[:40]!r} is not a CNPJ; to read a fund by name, give what find_fund() returns for it")
    return normalize_series(text)


def wanted_series(cnpjs: Funds, field: str = "cnpjs") -> list[str]:
    """Return the requested series, normalized, without duplicates, in the order requested.

    Raises
    ------
    ConfigError
        If an item is neither a CNPJ, with or without a subclass, nor a :class:`~scraperkit.models.Fund`.

    Examples
    --------
    >>> wanted_series(["18.993.924/0001-00", Fund("18993924000100", "132922"), "18993924000100:Z2HFZ1734468953"])
    ['18993924000100', '18993924000100:Z2HFZ1734468953']
    """
    if isinstance(cnpjs, (str, Fund)):
        cnpjs = [cnpjs]
    if not isinstance(cnpjs, Iterable):
        raise ConfigError(f"{field}: give a CNPJ, a Fund or a list of them; got {type(cnpjs).__name__}")
    found = (_series_of(item.cnpj if isinstance(item, Fund) else item) for item in cnpjs)
    return list(dict.fromkeys(found))


def check_metric(metric: str, *also: str) -> None:
    """Refuse what is neither a metric nor one of the words in `also`.

    Raises
    ------
    ConfigError
        Names the metrics.

    Examples
    --------
    >>> check_metric("price")
    Traceback (most recent call last):
    scraperkit.errors.ConfigError: metric: unknown metric 'price'; choose one of quota, net_worth, holders, inflow, \
outflow, portfolio
    """
    known = (*METRICS, *also)
    if metric not in known:
        raise ConfigError(f"metric: unknown metric {str(metric)[:40]!r}; choose one of {', '.join(known)}")


def window(start: Day | None, end: Day | None) -> tuple[int, int]:
    """Return the first and the last timestamp, in milliseconds, of a range of days, both ends included.

    Parameters
    ----------
    start, end : str, datetime.date, numpy.datetime64, pandas.Timestamp or pandas.Period, optional
        ``"2022-01-31"``, or ``"2022-01"`` for a month: as `start` its first day, as `end` its last. The time of day is
        ignored. If omitted, the range is open on that side.

    Raises
    ------
    ConfigError
        If one is not a date, or `end` is before `start`; names the argument.

    Examples
    --------
    >>> window("2022-01", "2022-01") == window(dt.date(2022, 1, 1), "2022-01-31")
    True
    """
    first = EPOCH if start is None else _as_date("start", start)
    last = _LAST_DAY if end is None else _as_date("end", end, month_end=True)
    if last < first and start is not None:
        raise ConfigError(f"end: {last} is before start, {first}")
    if day_number(last) < 0:
        return 1, 0  # Redis refuses negative timestamps; to it, a reversed range is empty
    return max(day_number(first), 0) * DAY_MS, day_number(last) * DAY_MS


def span(field: str, day: Day) -> tuple[dt.date, dt.date]:
    """Return the first and the last day of a day or a month, given as for :func:`window`.

    Raises
    ------
    ConfigError
        If it is neither; names the argument.

    Examples
    --------
    >>> span("day", "2022-01")
    (datetime.date(2022, 1, 1), datetime.date(2022, 1, 31))
    """
    return _as_date(field, day), _as_date(field, day, month_end=True)


def timestamp_of(timestamp: int) -> pd.Timestamp:
    """Return the day of a timestamp as a pandas Timestamp.

    Examples
    --------
    >>> timestamp_of(window(None, "2022-01")[1])
    Timestamp('2022-01-31 00:00:00')
    """
    return pd.Timestamp(np.datetime64(timestamp, "ms"))


def _as_date(field: str, day: Day, month_end: bool = False) -> dt.date:
    try:
        if isinstance(day, Month):
            day = day.iso
        if isinstance(day, str | pd.Period):
            return _date_of_text(str(day), month_end)
        if isinstance(day, np.datetime64):
            day = pd.Timestamp(day)
        if isinstance(day, dt.datetime) and not pd.isna(day):
            return day.date()
        if isinstance(day, dt.date) and not pd.isna(day):
            return day
    except ValueError:
        pass
    raise ConfigError(f"{field}: {str(day)[:40]!r} is not a day; write it as '2022-01-31', or '2022-01' for a month")


def _date_of_text(text: str, month_end: bool) -> dt.date:
    month = Month.parse_iso(text)
    if text != month.iso:
        return dt.date.fromisoformat(text)
    return month.last_day if month_end else month.first_day


def align(counts: Sequence[int] | Days, days: Days, values: Values) -> tuple[Days, Values]:
    """Put series side by side: a row for each day of any of them, a column for each, NaN for missing values.

    Parameters
    ----------
    counts : sequence of int
        The number of samples of each series.
    days, values : numpy.ndarray
        The samples of all series, one series after another.

    Examples
    --------
    >>> align([2, 1], np.array([1, 3, 3]), np.array([0.1, 0.3, 9.0]))
    (array([1, 3]), array([[0.1, nan],
           [0.3, 9. ]]))
    """
    if not days.size:
        return _NO_DAYS, np.empty((0, len(counts)))
    found, row = _rows([days])
    # Column by column, as pandas keeps it: no copy.
    table = np.full((len(counts), found.size), np.nan)
    table[np.repeat(np.arange(len(counts)), counts), row[days - found[0]]] = values
    return found, table.T


def _rows(each: Sequence[Days]) -> tuple[Days, Days]:
    """Return all days in order, and the row of each day since the first."""
    first = min(days.min() for days in each)
    present = np.zeros(max(days.max() for days in each) - first + 1, dtype=np.bool_)
    for days in each:
        present[days - first] = True
    return np.flatnonzero(present) + first, np.cumsum(present) - 1


def dates(days: Days) -> npt.NDArray[np.datetime64]:
    """Return days since 1970 in the kit's dtype for dates."""
    return days.astype("datetime64[D]").astype(_DATE_DTYPE)


def wide_frame(series: Sequence[str], tables: list[tuple[Days, Values]]) -> pd.DataFrame:
    """Return one column for each fund, one row for each day; see :meth:`~scraperkit.TimeSeriesReader.prices`.

    Parameters
    ----------
    series : sequence of str
    tables : list of (days, values)
        For each group of series, its days and a column of values for each series; emptied to save memory.
    """
    filled = [days for days, _ in tables if days.size]
    found, row = _rows(filled) if filled else (_NO_DAYS, _NO_DAYS)
    whole = np.full((len(series), found.size), np.nan)
    column = len(series)
    while tables:
        days, table = tables.pop()
        column -= table.shape[1]
        here = whole[column : column + table.shape[1]]
        if days.size == found.size:
            here[:] = table.T
        else:
            here[:, row[days - found[0]]] = table.T
    index = pd.DatetimeIndex(dates(found), name="date")
    return pd.DataFrame(whole.T, index=index, columns=_series_index(series), copy=False)


def tidy_frame(series: Sequence[str], tables: Sequence[tuple[Days, Values]]) -> pd.DataFrame:
    """Return one row for each series and day; see :meth:`~scraperkit.TimeSeriesReader.quotes`.

    Parameters
    ----------
    series : sequence of str
    tables : sequence of (days, values)
        For each series its days, and a column of values for each metric.
    """
    counts = np.array([days.size for days, _ in tables], dtype=np.int64)
    days = np.concatenate([_NO_DAYS, *(days for days, _ in tables)])
    columns = {
        metric: _column(metric, np.concatenate([np.empty(0), *(table[:, place] for _, table in tables)]))
        for place, metric in enumerate(METRICS)
    }
    row = np.repeat(np.arange(len(tables)), counts)
    names = pd.array([name.partition(":")[0] for name in series], dtype=_TEXT_DTYPE).take(row)
    subclasses = pd.array([name.partition(":")[2] for name in series], dtype=_TEXT_DTYPE).take(row)
    return pd.DataFrame({"cnpj": names, "subclass": subclasses, "date": dates(days), **columns}, copy=False)


def named(frame: pd.DataFrame, series: Sequence[str], names_of: NamesOf) -> pd.DataFrame:
    """Return a frame with the known short names of its series in ``attrs["names"]``.

    Nothing is looked up for more than `MOST_NAMED` series.

    Parameters
    ----------
    frame : pandas.DataFrame
    series : sequence of str
    names_of : callable
        Returns the known full names of some series.

    Examples
    --------
    >>> named(pd.DataFrame(), ["18993924000100"], lambda _: {"18993924000100": "FUNDO AROEIRA FIC FIA"}).attrs
    {'names': {'18993924000100': 'Aroeira Ações'}}
    """
    if len(series) <= MOST_NAMED and (names := short_names(names_of(series))):
        frame.attrs["names"] = names
    return frame


def metric_columns(values: Values) -> dict[str, Any]:
    """Return a column for each metric, in the dtypes of :data:`~scraperkit.models.COLUMNS`."""
    return {metric: _column(metric, values[:, place].copy()) for place, metric in enumerate(METRICS)}


def _column(metric: str, values: Values) -> Any:
    dtype: Any = COLUMNS[metric].dtype
    return pd.array(np.rint(values) if dtype == "Int64" else values, dtype=dtype)


def last_frame(series: Sequence[str], newest: Sequence[tuple[Days, Values]]) -> pd.DataFrame:
    """Return the newest day of each fund; see :meth:`~scraperkit.TimeSeriesReader.last`.

    Parameters
    ----------
    series : sequence of str
    newest : sequence of (days, values)
        For each group of series, a row for each series and a column for each metric; -1 as the day of a missing one.
    """
    empty = np.empty((0, len(METRICS)))
    days = np.concatenate([empty.astype(np.int64), *(days for days, _ in newest)])
    values = np.concatenate([empty, *(values for _, values in newest)])
    day = days.max(axis=1)
    stamps = dates(day)
    stamps[day < 0] = np.datetime64("NaT")
    values[days != day[:, np.newaxis]] = np.nan
    return pd.DataFrame({"date": stamps, **metric_columns(values)}, index=_series_index(series))


def funds_frame(funds: Sequence[StoredFund]) -> pd.DataFrame:
    """Return the frame of stored funds; see :meth:`~scraperkit.TimeSeriesReader.funds`."""
    text = {
        name: pd.array([fund.card.get(name, "") for fund in funds], dtype=_TEXT_DTYPE)
        for name in ("name", "pk", "status")
    }
    days = {
        name: dates(np.array([_day_or_nat(getattr(fund, name)) for fund in funds], dtype=np.int64))
        for name in ("started_on", "ended_on", "first", "last")
    }
    counts = np.array([fund.days for fund in funds], dtype=np.int64)
    return pd.DataFrame({**text, **days, "days": counts}, index=_series_index([fund.series for fund in funds]))


def months_frame(months: Iterable[tuple[str, str, MonthRecord]]) -> pd.DataFrame:
    """Return the frame of fetched months; see :meth:`~scraperkit.TimeSeriesReader.months`."""
    rows = [(cnpj, month, *record) for cnpj, month, record in months]
    frame = pd.DataFrame(rows, columns=["cnpj", "month", "stored_at", "fetched_at", "source", "digest"])
    moments = {name: _moments(frame[name]) for name in ("fetched_at", "stored_at")}
    return pd.DataFrame({**{name: frame[name].astype(_TEXT_DTYPE) for name in ("cnpj", "month", "source")}, **moments})


def changes_frame(changes: Iterable[Change]) -> pd.DataFrame:
    """Return the frame of restated and withdrawn figures; see :meth:`~scraperkit.TimeSeriesReader.changes`."""
    frame = pd.DataFrame(changes, columns=list(Change._fields))
    text = {name: frame[name].astype(_TEXT_DTYPE) for name in ("cnpj", "subclass", "metric", "source")}
    days = np.array(frame["day"].to_list(), dtype="datetime64[D]").astype(_DATE_DTYPE)
    values = {name: frame[name].astype("float64") for name in ("old", "new")}
    head = {"cnpj": text["cnpj"], "subclass": text["subclass"], "date": days, "metric": text["metric"]}
    return pd.DataFrame({**head, **values, "source": text["source"], "changed_at": _moments(frame["changed_at"])})


def _moments(seconds: pd.Series[Any]) -> pd.Series[Any]:
    # Rounded, since a float of seconds may lie just below its microsecond, and a conversion would cut it off there.
    micros = (seconds.astype("float64") * 1e6).round()
    return pd.to_datetime(micros, unit="us", utc=True).astype("datetime64[us, UTC]")


def _day_or_nat(day: dt.date | None) -> int:
    return _NAT if day is None else day_number(day)


def _series_index(series: Sequence[str]) -> pd.Index[str]:
    index: pd.Index[str] = pd.Index(list(series), dtype=_TEXT_DTYPE, name="cnpj")
    return index
