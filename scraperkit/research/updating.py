"""Update stored funds: fetch the newest days, and months that may have been revised."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

import pandas as pd
import redis as redis_py

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.errors import ConfigError, NothingThere
from scraperkit.keys import DEFAULT_SOURCE, Keys
from scraperkit.models import Month, today
from scraperkit.research.collecting import collect
from scraperkit.research.memory import Memory
from scraperkit.research.wanted import WantedFund, read_wanted
from scraperkit.sources.base import BuiltIn, Source
from scraperkit.text import say
from scraperkit.timeseries.frames import Funds, funds_frame
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.rows import RowReader


class News(NamedTuple):
    """The result of an update: its table, and the restated or withdrawn figures."""

    table: pd.DataFrame
    changes: pd.DataFrame


def update(
    funds: Funds | None = None, *, source: str | Source | None = None, redis: redis_py.Redis | None = None
) -> pd.DataFrame:
    r"""Fetch only the newest days of stored funds, and months that may have been revised.

    For each fund, the months from its newest stored one on are requested, and earlier ones that may have been revised:
    the newest two once a day, and with ``open_data`` those of the last twelve months once a week, and older ones once a
    month.

    Parameters
    ----------
    funds : str, Fund, or several, optional
        As for :func:`prices`; all stored funds if omitted.
    source : str or Source, optional
        If omitted, the source of each fund's newest month.
    redis : redis.Redis, optional
        As for :func:`prices`.

    Returns
    -------
    pandas.DataFrame
        A row for each series, index ``cnpj``; columns ``last`` (the newest day, ``datetime64[ms]``), ``new_days``,
        ``changed`` (figures restated or withdrawn) and ``problem`` (why months could not be collected, or empty).

    Raises
    ------
    ConfigError
        If an argument is invalid, or nothing is stored.
    RedisUnreachable
        If Redis is unreachable.

    Examples
    --------
    >>> import scraperkit as sk
    >>> with sk.offline():
    ...     prices = sk.prices("18.993.924/0001-00", "2023-11", "2023-12")
    ...     news = sk.update("18.993.924/0001-00")
    >>> news[["last", "new_days", "changed"]].to_csv()
    'cnpj,last,new_days,changed\n18993924000100,2023-12-29,0,0\n'
    """
    with contextlib.ExitStack() as stack:
        return bring_news(redis if redis is not None else stack.enter_context(connect()), funds, source).table


def bring_news(
    redis: redis_py.Redis,
    funds: Funds | None = None,
    source: str | Source | None = None,
    told: Callable[[str], None] = say,
) -> News:
    """Do the work of :func:`update`; also return the changed figures, as ``TimeSeriesReader.changes`` does.

    Parameters
    ----------
    told : callable
        Receives a sentence about what will be fetched.
    """
    keys = Keys(Settings.load().namespace)
    reader, rows = TimeSeriesReader(redis, keys.namespace), RowReader(redis, keys.namespace, advice="")
    wanted = read_wanted(funds) if funds is not None else [WantedFund(name, name) for name in sorted(rows.stored())]
    wanted = named_before(redis, keys, wanted)
    if not wanted:
        way_out = "collect prices with sk.prices or `scraperkit publish` first"
        raise NothingThere(f"nothing is stored in namespace {keys.namespace!r}; {way_out}")
    before, began = _days(rows, wanted), _now(redis)
    found: list[WantedFund] = []
    problems: dict[str, str] = {}
    for chosen, some in _by_source(rows, wanted, source).items():
        collected = collect(redis, keys, some, chosen, told, is_free=True)
        problems |= collected.problems
        found += collected.wanted
    after = _days(rows, found)
    changes = reader.changes(sorted({name.partition(":")[0] for name in after.index}))
    changes = changes[changes["changed_at"] >= began].reset_index(drop=True)
    return News(_table(found, before, after, changes, problems), changes)


def _now(redis: redis_py.Redis) -> pd.Timestamp:
    """Return the time by the clock of Redis, which dates changes."""
    seconds, microseconds = redis.time()
    return pd.Timestamp(seconds * 1_000_000 + microseconds, unit="us", tz="UTC").floor("ms")


def named_before(redis: redis_py.Redis, keys: Keys, wanted: Sequence[WantedFund]) -> list[WantedFund]:
    """Return funds with the series of each name that was resolved recently."""
    names = [each.label for each in wanted if not each.series]
    means: dict[str, str] = {}
    for source in get_args(BuiltIn):
        means |= Memory(redis, keys.of(source)).series_of(names)
    return [replace(each, series=each.series or means.get(each.label, "")) for each in wanted]


def _by_source(
    rows: RowReader, wanted: Sequence[WantedFund], source: str | Source | None
) -> dict[str | Source, list[WantedFund]]:
    """Return the funds to request from each source, with their stored months and those after the newest."""
    stored: dict[str, dict[Month, str]] = {}
    for cnpj, month, record in rows.months(dict.fromkeys(each.cnpj for each in wanted if each.series)):
        stored.setdefault(cnpj, {})[Month.parse_iso(month)] = record.source
    current = Month.of(today())
    found: dict[str | Source, list[WantedFund]] = {}
    for each in wanted:
        of_fund = stored.get(each.cnpj) or {current.shift(-1): DEFAULT_SOURCE}
        newest = max(of_fund)
        months = tuple(sorted({*of_fund, *newest.until(current)}))
        found.setdefault(source if source is not None else of_fund[newest], []).append(replace(each, months=months))
    if source is None and (unknown := [name for name in found if name not in get_args(BuiltIn)]):
        raise ConfigError(f"source: figures came from {unknown[0]!r}, a source of your own; give it as `source`")
    return found


def _days(rows: RowReader, wanted: Sequence[WantedFund]) -> pd.DataFrame:
    """Return the newest day and the number of days of each stored series of these funds."""
    cnpjs = list(dict.fromkeys(each.cnpj for each in wanted if each.series))
    stored = sorted(rows.stored(cnpjs)) if cnpjs else []
    frame: pd.DataFrame = funds_frame(rows.funds(stored))[["last", "days"]]
    return frame


def _table(
    wanted: Sequence[WantedFund],
    before: pd.DataFrame,
    after: pd.DataFrame,
    changes: pd.DataFrame,
    problems: Mapping[str, str],
) -> pd.DataFrame:
    changed = series_of_rows(changes).value_counts()
    names = [each.series or each.label for each in wanted]
    index = pd.Index(dict.fromkeys([*names, *after.index]), dtype="str", name="cnpj")
    days = after["days"].reindex(index).fillna(0) - before["days"].reindex(index).fillna(0)
    told = {each.series or each.label: problems.get(each.label) or problems.get(each.cnpj, "") for each in wanted}
    return pd.DataFrame(
        {
            "last": after["last"].reindex(index),
            "new_days": days.clip(lower=0).astype("int64"),
            "changed": changed.reindex(index).fillna(0).astype("int64"),
            "problem": pd.array([told.get(name, "") for name in index], dtype="str"),
        }
    )


def series_of_rows(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the series of each row of a tidy frame."""
    return rows["cnpj"] + (":" + rows["subclass"]).where(rows["subclass"] != "", "")
