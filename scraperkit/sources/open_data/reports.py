"""Reports on the archive: revisions, gaps, rejected lines, the ledger."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa

from scraperkit.calendar import business_days
from scraperkit.models import Month, today
from scraperkit.sources.open_data import reading
from scraperkit.sources.open_data.cleaning import coded
from scraperkit.sources.open_data.downloads import Outcome
from scraperkit.sources.open_data.folder import REJECTED, Entry, Folder
from scraperkit.sources.open_data.revisions import CHANGES, figures
from scraperkit.timeseries.commands import EPOCH, day_number
from scraperkit.timeseries.range_replies import Numbers

_LONGEST_GAP = 7  # days; an older day does not count as the day before
_SHOWN = ("cnpj", "subclass", "date", "metric", "old", "new", "seen_at")


def outcomes_frame(outcomes: list[Outcome]) -> pd.DataFrame:
    """Return the outcomes of some files; see :meth:`OpenData.download`."""
    numbers = ("rows", "changed", "rejected")
    frame = pd.DataFrame(outcomes, columns=list(Outcome._fields))
    return frame.astype({name: "int64" if name in numbers else "str" for name in Outcome._fields})


def changes_frame(folder: Folder, window: reading.Window) -> pd.DataFrame:
    """Return every revision of the figures of some days; see :meth:`OpenData.changes`."""
    tables = [CHANGES.empty_table()]
    for month in window.months:
        with folder.month(month) as stored:
            if stored is not None:
                tables.append(folder.changes(month, stored.generation))
    table = pa.concat_tables(tables)
    days = reading.day_numbers(table)
    table = table.filter(pa.array((days >= window.first) & (days <= window.last))).select(_SHOWN)
    by = ("seen_at", "cnpj", "subclass", "date")
    return _framed(table.sort_by([(name, "ascending") for name in by]))


def rejected_frame(folder: Folder, window: reading.Window) -> pd.DataFrame:
    """Return the rejected lines of the months of some days; see :meth:`OpenData.rejected`."""
    tables = [REJECTED.empty_table()]
    for month in window.months:
        with folder.month(month) as stored:
            if stored is not None:
                tables.append(folder.rejected(month, stored.generation))
    return _framed(pa.concat_tables(tables))


def _framed(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    texts = {field.name: "str" for field in table.schema if pa.types.is_string(field.type)}
    return frame.astype(texts)


def ledger_frame(folder: Folder) -> pd.DataFrame:
    """Return the ledger; see :meth:`OpenData.archive_info`."""
    names = [field.name for field in dataclasses.fields(Entry) if field.name not in ("months", "pruned")]
    rows = [[getattr(entry, name) for name in names] for entry in folder.entries()]
    frame = pd.DataFrame(rows, columns=names)
    for name in names:
        if name.endswith("_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        else:
            frame[name] = frame[name].astype("int64" if Entry.__annotations__[name] == "int" else "str")
    return frame.set_index("file")


def completeness_frame(folder: Folder, window: reading.Window) -> pd.DataFrame:
    """Return how many series each day and the day before have; see :meth:`OpenData.completeness`."""
    asked = sorted({*window.months, *window.absent})
    first = max(window.first, day_number(asked[0].first_day))
    last = min(window.last, day_number(min(asked[-1].last_day, today())))
    # With the days before the first one, for comparison.
    table = reading.read_rows(folder, window.since(folder, first - _LONGEST_GAP), ["quota"])
    cnpj, subclass = coded(table["cnpj"]), coded(table["subclass"])
    series = cnpj.codes * max(1, subclass.texts.size) + subclass.codes
    days, has_quota = reading.day_numbers(table), ~np.isnan(figures(table, "quota"))
    order = np.argsort(days, kind="stable")
    published, begins = np.unique(days[order], return_index=True)
    on = dict(zip(published.tolist(), np.split(order, begins[1:]), strict=True)) if published.size else {}
    expected = business_days(EPOCH + dt.timedelta(days=first), EPOCH + dt.timedelta(days=last))
    all_days = sorted({*on, *(day_number(day.date()) for day in expected)})
    states = dict.fromkeys(window.absent, "not downloaded")
    states |= dict.fromkeys(reading.not_at_the_portal(folder, window.absent), "no file")
    since = reading.provisional_since(today())
    rows = []
    nobody: Numbers = np.empty(0, np.int64)
    before, seen = nobody, first
    for number in all_days:
        day = EPOCH + dt.timedelta(days=number)
        here = on.get(number, nobody)
        present = series[here]
        if number - seen > _LONGEST_GAP:
            before = nobody
        if number >= first:
            state = "published" if here.size else states.get(Month.of(day), "not published")
            missing = before.size - np.intersect1d(present, before).size
            quotas = int(has_quota[here].sum())
            rows.append((day, state, present.size, quotas, before.size, missing, day >= since))
        if present.size:
            before, seen = present, number
    columns = ["date", "state", "series", "quotas", "before", "missing", "provisional"]
    frame = pd.DataFrame(rows, columns=columns).astype({"state": "str", "provisional": "bool"})
    frame["date"] = frame["date"].astype("datetime64[ms]")
    frame.insert(5, "share", frame["series"] / frame["before"].where(frame["before"] > 0))
    return frame.set_index("date")
