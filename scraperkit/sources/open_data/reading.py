"""The archive's rows as frames for users."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError, NotDownloaded, UnknownFund, warn
from scraperkit.models import METRICS, Month, today
from scraperkit.sources.open_data.cleaning import coded
from scraperkit.sources.open_data.folder import Folder, StoredMonth
from scraperkit.sources.open_data.portal_files import file_of
from scraperkit.sources.open_data.revisions import coded_texts, figures, held_at
from scraperkit.sources.open_data.series import Series, resolve
from scraperkit.timeseries import frames
from scraperkit.timeseries.commands import DAY_MS, EPOCH, day_number
from scraperkit.timeseries.range_replies import Numbers

PROVISIONAL_DAYS = 5
MOST_SAID = 5
_NO_END = frames.LAST // DAY_MS
_DAYS_BACK = dt.timedelta(days=30)


class Window:
    """The requested days, and the months of the archive that contain them.

    Raises
    ------
    ConfigError
        If one is not a day, or `end` is before `start`.
    NotDownloaded
        If the archive has none of these months.
    """

    def __init__(self, folder: Folder, start: frames.Day | None, end: frames.Day | None) -> None:
        first, last = frames.window(start, end)
        self.first, self.last = first // DAY_MS, last // DAY_MS
        stored = folder.months()
        self.months = [month for month in stored if self._has(month)]
        self.absent = self._absent(stored, start is not None, end is not None)
        if not self.months:
            asked = "these days" if start is None and end is None else _shown_spans(self.absent)
            has = f"it has {_shown_spans(stored)}" if stored else "it is empty"
            way_out = "call download(start, end) or run `scraperkit market download` first"
            raise NotDownloaded(f"archive {folder.path}: no data for {asked or 'these days'}; {has}: {way_out}")

    def since(self, folder: Folder, first: int) -> Window:
        """Return the window extended back to a day, given in days since 1970."""
        last = EPOCH + dt.timedelta(days=self.last) if self.last < _NO_END else None
        return Window(folder, EPOCH + dt.timedelta(days=max(0, first)), last)

    def open_ended(self, folder: Folder) -> Window:
        """Return the window without an end."""
        return Window(folder, EPOCH + dt.timedelta(days=self.first), None)

    def _has(self, month: Month) -> bool:
        return day_number(month.last_day) >= self.first and day_number(month.first_day) <= self.last

    def _absent(self, stored: Sequence[Month], has_start: bool, has_end: bool) -> list[Month]:
        if not stored:
            return []
        first = Month.of(EPOCH + dt.timedelta(days=self.first)) if has_start else stored[0]
        last = Month.of(EPOCH + dt.timedelta(days=min(self.last, day_number(today())))) if has_end else stored[-1]
        known = set(stored)
        return [month for month in first.until(last) if month not in known]


def warn_of_absent(folder: Folder, absent: Sequence[Month]) -> None:
    """Warn which requested months the archive lacks, and whether the portal has them."""
    if not absent:
        return
    missing = not_at_the_portal(folder, absent)
    for words, months in (
        ("the portal had no file of {}", missing),
        (
            "the archive has no data for {}: call download(start, end) or run `scraperkit market download`",
            [month for month in absent if month not in missing],
        ),
    ):
        if months:
            warn(words.format(_shown_spans(months)))


def not_at_the_portal(folder: Folder, months: Iterable[Month]) -> list[Month]:
    """Return the months for which the portal had no file at the last request."""
    files = {entry.file for entry in folder.entries() if entry.outcome == "missing"}
    return [month for month in months if file_of(month).name in files]


def _shown_spans(months: Sequence[Month]) -> str:
    spans = _spans(months)
    return ", ".join([*["…"][: len(spans) - MOST_SAID], *spans[-MOST_SAID:]])


def _spans(months: Sequence[Month]) -> list[str]:
    """Return months as texts, consecutive ones as one."""
    spans: list[list[Month]] = []
    for month in months:
        if spans and spans[-1][-1].shift(1) == month:
            spans[-1].append(month)
        else:
            spans.append([month])
    return [span[0].iso if len(span) == 1 else f"{span[0].iso} to {span[-1].iso}" for span in spans]


def read_rows(
    folder: Folder,
    window: Window,
    columns: Sequence[str],
    cnpjs: Iterable[str] | None = None,
    as_of: dt.datetime | None = None,
) -> pa.Table:
    """Return rows of all months of a window, month by month, each sorted by series and day.

    Parameters
    ----------
    columns : sequence of str
        Besides ``cnpj``, ``subclass`` and ``date``.
    cnpjs : iterable of str, optional
        All, if left out.
    as_of : datetime.datetime, optional
        Aware.
    """
    wanted = None if cnpjs is None else np.unique(np.array(list(cnpjs), dtype=np.str_))
    names = ["cnpj", "subclass", "date", *columns]

    def read(month: Month) -> pa.Table | None:
        with folder.month(month) as stored:
            if stored is None:  # pruned meanwhile
                return None
            if as_of is None:
                table = stored.file.read_row_groups(_groups(stored, wanted), columns=names, use_threads=False)
            else:
                changes = folder.changes(month, stored.generation)
                table = coded_texts(held_at(stored.file.read(), changes, as_of).select(names))
            return _only(table, wanted, month, window)

    with _threads() as pool:
        tables = [table for table in pool.map(read, window.months) if table is not None]
    return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "archive") as pool:
        yield pool


def _groups(stored: StoredMonth, wanted: npt.NDArray[np.str_] | None) -> list[int]:
    """Return the row groups that may contain the wanted CNPJs."""
    groups = range(stored.file.metadata.num_row_groups)
    if wanted is None:
        return list(groups)
    place = stored.file.schema_arrow.get_field_index("cnpj")
    found = []
    for group in groups:
        bounds = stored.file.metadata.row_group(group).column(place).statistics
        first = np.searchsorted(wanted, bounds.min)
        if first < wanted.size and wanted[first] <= bounds.max:
            found.append(group)
    return found


def _only(table: pa.Table, wanted: npt.NDArray[np.str_] | None, month: Month, window: Window) -> pa.Table:
    if wanted is not None:
        cnpj = coded(table["cnpj"])
        table = table.filter(pa.array(np.isin(cnpj.texts, wanted)[cnpj.codes]))
    if window.first > day_number(month.first_day) or window.last < day_number(month.last_day):
        days = day_numbers(table)
        table = table.filter(pa.array((days >= window.first) & (days <= window.last)))
    return table


def prices_frame(
    folder: Folder,
    window: Window,
    wanted: Sequence[Series] | None,
    metric: str,
    as_of: dt.datetime | None = None,
    cnpjs: Iterable[str] | None = None,
    names_of: frames.NamesOf = lambda _: {},
) -> pd.DataFrame:
    """Return one metric of several series side by side; see :meth:`OpenData.prices`, and :func:`quotes_frame`."""
    if wanted is not None:
        cnpjs = (each.cnpj for each in wanted)
    table = read_rows(folder, window, [metric], cnpjs, as_of)
    names, code = _resolved(folder, table, wanted)
    values = figures(table, metric)
    order = np.argsort(code, kind="stable")
    order = order[(code[order] >= 0) & ~np.isnan(values[order])]
    counts = np.bincount(code[order], minlength=len(names))
    aligned = frames.align(counts, day_numbers(table)[order], values[order])
    series = list(map(str, names))
    return frames.named(frames.wide_frame(series, [aligned]), series, names_of)


def quotes_frame(
    folder: Folder,
    window: Window,
    wanted: Sequence[Series] | None,
    as_of: dt.datetime | None = None,
    also: Sequence[str] = (),
    cnpjs: Iterable[str] | None = None,
    names_of: frames.NamesOf = lambda _: {},
) -> pd.DataFrame:
    """Return every metric, one row for each series and day; see :meth:`OpenData.quotes`.

    If `wanted` is left out, `cnpjs` limits the rows to these classes and all their subclasses.
    """
    if wanted is not None:
        cnpjs = (each.cnpj for each in wanted)
    table = read_rows(folder, window, [*METRICS, *also], cnpjs, as_of)
    names, code = _resolved(folder, table, None if wanted is None else sorted(wanted))
    rank = code  # without `wanted`, series stay in their order
    if names and wanted is not None:
        rank = np.append(np.argsort(np.argsort([str(name) for name in names], kind="stable")), -1)[code]
    order = np.lexsort((day_numbers(table), rank))
    table = table.take(pa.array(order[code[order] >= 0]))
    values = np.column_stack([figures(table, metric) for metric in METRICS])
    days = frames.dates(day_numbers(table))
    texts = {name: _texts(table, name) for name in ("cnpj", "subclass", *also)}
    identity = {"cnpj": texts.pop("cnpj"), "subclass": texts.pop("subclass"), "date": days}
    frame = pd.DataFrame({**identity, **frames.metric_columns(values), **texts})
    return frames.named(frame, list(map(str, names)), names_of)


def _texts(table: pa.Table, name: str) -> Any:
    column = coded(table[name])
    return pd.array(column.texts.tolist(), dtype="str").take(column.codes)


def day_numbers(table: pa.Table) -> Numbers:
    """Return the day of each row, in days since 1970."""
    days: Numbers = table["date"].cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
    return days


def _resolved(folder: Folder, table: pa.Table, wanted: Sequence[Series] | None) -> tuple[list[Series], Numbers]:
    """Return the series to show, and each row's index into them; -1 for none.

    Raises
    ------
    UnknownFund
        If one of them has no row in the whole archive.
    """
    cnpj, subclass = coded(table["cnpj"]), coded(table["subclass"])
    pair = cnpj.codes * max(1, subclass.texts.size) + subclass.codes
    pairs, place = np.unique(pair, return_inverse=True)
    there = [
        Series(str(cnpj.texts[number // subclass.texts.size]), str(subclass.texts[number % subclass.texts.size]))
        for number in pairs.tolist()
    ]
    if wanted is None:
        return there, place
    subclasses: dict[str, list[str]] = {}
    for each in there:
        subclasses.setdefault(each.cnpj, []).append(each.subclass)
    found = resolve(wanted, subclasses)
    if unseen := [series for series, stands_for in found.items() if not stands_for]:
        refuse_unknown(folder, unseen)
    for series, stands_for in found.items():
        if stands_for and stands_for != [series]:
            shown = ", ".join(map(str, stands_for))
            text = f"{series.cnpj} has no rows of its own here; showing its subclasses: {shown}"
            warn(text)
    names = list(dict.fromkeys(each for series, stands_for in found.items() for each in stands_for or [series]))
    number_of = {name: number for number, name in enumerate(names)}
    number = np.array([number_of.get(each, -1) for each in there], dtype=np.int64)
    return names, number[place] if number.size else np.empty(0, np.int64)


def refuse_unknown(folder: Folder, unseen: Sequence[Series]) -> None:
    """Refuse series that the whole archive lacks; series without rows on the requested days alone may stay."""
    left = set(unseen)
    for month in reversed(folder.months()):
        with folder.month(month) as stored:
            if stored is None:
                continue
            table = stored.file.read(columns=["cnpj", "subclass"])
        names = table["cnpj"].cast(pa.string()).unique().to_pylist()
        for series in [each for each in left if each.cnpj in names]:
            here = table.filter(pc.equal(table["cnpj"].cast(pa.string()), series.cnpj))["subclass"].to_pylist()
            if not series.subclass or series.subclass in here:
                left.discard(series)
        if not left:
            return
    names = ", ".join(map(str, sorted(left)[:MOST_SAID])) + (" …" if len(left) > MOST_SAID else "")
    raise UnknownFund(f"the archive has no data for {names}; find() or `scraperkit market find` lists the series")


def provisional_since(today: dt.date) -> dt.date:
    """Return the first day after which fewer than five business days have passed, not counting today.

    Examples
    --------
    >>> provisional_since(dt.date(2026, 9, 9))
    datetime.date(2026, 9, 1)
    """
    days = business_days(today - _DAYS_BACK, today - dt.timedelta(days=1))
    return days[-PROVISIONAL_DAYS].date()


def check_as_of(as_of: dt.datetime | None) -> None:
    """Refuse a moment that is not a datetime, or has no time zone.

    Raises
    ------
    ConfigError
        If it is refused.
    """
    if as_of is not None and (not isinstance(as_of, dt.datetime) or as_of != as_of or as_of.utcoffset() is None):
        raise ConfigError(
            f"as_of: {str(as_of)[:40]!r} is not a datetime with a time zone; "
            "write datetime(2026, 9, 1, tzinfo=timezone.utc)"
        )
