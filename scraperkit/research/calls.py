"""Return prices and quotes in one call: collect what is missing, then read."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
import redis as redis_py
from dateutil.relativedelta import relativedelta

from scraperkit.cnpj import format_series
from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.errors import ConfigError, warn
from scraperkit.keys import Keys
from scraperkit.models import Month, today
from scraperkit.research.collecting import FundsCollected, collect
from scraperkit.research.offline_mode import INVENTED_UNTIL, is_offline
from scraperkit.research.provenance import note_stored
from scraperkit.research.updating import series_of_rows
from scraperkit.research.wanted import read_wanted
from scraperkit.sources.base import Source
from scraperkit.timeseries.frames import Day, Funds, check_metric
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.rows import RowReader

_MOST_TOLD = 20


def prices(
    funds: Funds,
    start: Day | None = None,
    end: Day | None = None,
    metric: str = "quota",
    *,
    source: str | Source | None = None,
    redis: redis_py.Redis | None = None,
) -> pd.DataFrame:
    """Return one metric of some funds side by side, after collecting what is missing or may have been revised.

    Collecting uses Redis: a message for each fund and month, done by running workers, or else by threads of this
    process. A repeated call fetches only what is due again; the newest two months are due daily.

    Parameters
    ----------
    funds : str, Fund, or several
        Any mix of CNPJs, with or without punctuation, series (``CNPJ:SUBCLASS``), names or parts of names, and
        :class:`~scraperkit.Fund`.
    start, end : str, datetime.date, pandas.Timestamp or pandas.Period, optional
        ``"2022-01-31"``, or ``"2022-01"`` for a month; both included. If `start` is omitted, the twelve months up to
        `end`, or to today; offline, to December 2023, the end of the invented pages.
    metric : str
        ``quota`` (R$), ``net_worth``, ``inflow``, ``outflow``, ``portfolio`` (R$) or ``holders`` (people).
    source : str or Source, optional
        ``"cvm_pages"``, ``"open_data"``, or your own source. If omitted: pages for up to 24 fund-months, else
        files; for subclasses, files.
    redis : redis.Redis, optional
        From :func:`scraperkit.connect`, which is called if this is omitted.

    Returns
    -------
    pandas.DataFrame
        As :meth:`TimeSeriesReader.prices <scraperkit.TimeSeriesReader.prices>`: index ``date``, a column for each
        series, in the order requested, ``float64``. A fund that could not be collected is a column of NaN, named as you
        wrote it. ``frame.attrs`` has ``metric``, ``units``, ``source``, ``licence``, the fetch times (``fetched_from``,
        ``fetched_to``), and ``problems``, if there were any; :func:`export` writes them into Parquet files.

    Raises
    ------
    ConfigError
        If an argument is invalid; names it.
    RedisUnreachable
        If Redis is unreachable.

    Warns
    -----
    ScraperKitWarning
        If a fund, or some of its months, could not be collected, and why; or if the figures of a fund that operates
        stop before the last whole month requested.

    Examples
    --------
    >>> import scraperkit as sk
    >>> with sk.offline():
    ...     prices = sk.prices("18.993.924/0001-00", "2022-01", "2022-03")
    >>> prices.shape, prices.columns.tolist()
    ((62, 1), ['18993924000100'])
    """
    check_metric(metric)
    with _collected(funds, start, end, source, redis) as call:
        found = _read(call, lambda series: call.reader.prices(series, call.since, call.until, metric))
        frame = found.reindex(columns=_columns(call.collected, found))
        _tell(frame, call, [str(name) for name in frame.columns if frame[name].notna().any()])
        note_stored(frame, call.reader, call.since, call.until, metric)
    return frame


def quotes(
    funds: Funds,
    start: Day | None = None,
    end: Day | None = None,
    *,
    source: str | Source | None = None,
    redis: redis_py.Redis | None = None,
) -> pd.DataFrame:
    """Return every metric of some funds, one row for each series and day, after collecting what is missing.

    Parameters
    ----------
    funds, start, end, source, redis
        As for :func:`prices`.

    Returns
    -------
    pandas.DataFrame
        As :meth:`TimeSeriesReader.quotes <scraperkit.TimeSeriesReader.quotes>`. What could not be collected has no
        rows.

    Raises
    ------
    ConfigError, RedisUnreachable
        As for :func:`prices`.

    Warns
    -----
    ScraperKitWarning
        As for :func:`prices`.
    """
    with _collected(funds, start, end, source, redis) as call:
        frame = _read(call, lambda series: call.reader.quotes(series, call.since, call.until))
        _tell(frame, call, series_of_rows(frame).unique().tolist())
        note_stored(frame, call.reader, call.since, call.until)
    return frame


class _Call(NamedTuple):
    """What a call collected, and what reads it."""

    collected: FundsCollected
    reader: TimeSeriesReader
    rows: RowReader
    since: Day
    until: Day
    whole: Month  # the last whole month of the window


@contextlib.contextmanager
def _collected(
    funds: Funds, start: Day | None, end: Day | None, source: str | Source | None, redis: redis_py.Redis | None
) -> Iterator[_Call]:
    """Collect what is missing."""
    current = Month.of(today())
    since, until = _window(start, end, current)
    first, last = Month.given("start", since), Month.given("end", until)
    if first > current:
        raise ConfigError(f"start: {first.iso} is after the current month; there are no prices yet")
    if last < first:
        raise ConfigError(f"end: {last.iso} is before start, {first.iso}; give a later end")
    wanted = read_wanted(funds, tuple(first.until(min(last, current))))
    keys = Keys(Settings.load().namespace)
    with contextlib.ExitStack() as stack:
        client = redis if redis is not None else stack.enter_context(connect())
        collected = collect(client, keys, wanted, source)
        reader, rows = TimeSeriesReader(client, keys.namespace), RowReader(client, keys.namespace, advice="")
        yield _Call(collected, reader, rows, since, until, min(last, current.shift(-1)))


def _window(start: Day | None, end: Day | None, current: Month) -> tuple[Day, Day]:
    """Return the first and the last day; by default, a window has twelve months."""
    if start is None and end is not None:
        return min(Month.given("end", end), current).shift(-11).first_day, end
    newest = INVENTED_UNTIL if is_offline() and start is None else today()
    since = newest - relativedelta(months=12, days=-1) if start is None else start
    return since, newest if end is None else end


def _read(call: _Call, read: Callable[[list[str]], pd.DataFrame]) -> pd.DataFrame:
    wanted = [each.series for each in call.collected.wanted if each.series]
    known = call.reader.known(wanted)
    return read([series for series in wanted if series in known])


def _columns(collected: FundsCollected, found: pd.DataFrame) -> list[str]:
    """Return the columns in the order requested: subclasses in place of their CNPJ, the label of an unknown fund."""
    there = [str(name) for name in found.columns]
    columns: dict[str, None] = {}
    for each in collected.wanted:
        own = [name for name in there if each.series and (name == each.series or name.startswith(f"{each.series}:"))]
        columns |= dict.fromkeys(own or [each.series or each.label])
    return list(columns)


def _tell(frame: pd.DataFrame, call: _Call, filled: Sequence[str]) -> None:
    """Warn once of all that is missing, and why; note it in the frame's `attrs`."""
    collected, stops = call.collected, _stops(call, filled)
    found = {series.partition(":")[0] for series in filled} | set(filled)
    told = {}
    for each in collected.wanted:
        name = format_series(each.series) if each.series else repr(each.label)
        name = name if each.label == each.series or not each.series else f"{each.label!r} ({name})"
        problem = collected.problems.get(each.label) or collected.problems.get(each.cnpj)
        if problem is None and each.series and each.series not in found:
            problem = collected.absent.get(each.cnpj, "no figures on these days")
        if problem := problem or stops.get(each.series):
            told[name] = problem
    if told:
        frame.attrs["problems"] = told
        lines = [f"{name}: {problem}" for name, problem in told.items()]
        rest = [f"and {len(lines) - _MOST_TOLD:,} more"] if len(lines) > _MOST_TOLD else []
        text = "; ".join([*lines[:_MOST_TOLD], *rest])
        warn(f"could not be collected in full: {text}")


def _stops(call: _Call, series: Sequence[str]) -> dict[str, str]:
    """Return the series that stop before the last whole month of the window, although their fund had not ended."""
    stops = {}
    for fund in call.rows.funds(series):
        end = fund.ended_on or (dt.date.min if fund.is_inactive else dt.date.max)
        if fund.last and Month.of(fund.last) < min(call.whole, Month.of(end)):
            stops[fund.series] = f"no figures after {fund.last}"
    return stops
