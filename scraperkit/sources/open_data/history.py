"""A class's history, joined to its subclasses as in the reader of TimeSeries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import numpy as np
import pandas as pd

from scraperkit.sources.open_data import reading
from scraperkit.sources.open_data.cleaning import coded
from scraperkit.sources.open_data.folder import Folder
from scraperkit.sources.open_data.revisions import figures
from scraperkit.timeseries import frames
from scraperkit.timeseries.commands import DAY_MS, EPOCH
from scraperkit.timeseries.inheritance import rows_with_history, with_history


def prices_with_history(
    folder: Folder, window: reading.Window, frame: pd.DataFrame, metric: str, as_of: dt.datetime | None
) -> pd.DataFrame:
    """Return a wide frame in which each subclass begins with its class's earlier figures."""
    began = _began(folder, list(frame.columns), as_of)
    if not began:
        return frame
    classes = reading.prices_frame(folder, window.open_ended(folder), None, metric, as_of, cnpjs=_owners(began))
    return with_history(frame, classes, began, frames.timestamp_of(window.last * DAY_MS))


def quotes_with_history(
    folder: Folder, window: reading.Window, rows: pd.DataFrame, wanted: Collection[str], as_of: dt.datetime | None
) -> pd.DataFrame:
    """Return a tidy frame in which each subclass, present or wanted, begins with its class's earlier figures."""
    of_subclass = rows[rows["subclass"] != ""]
    there = (of_subclass["cnpj"] + ":" + of_subclass["subclass"]).unique()
    began = _began(folder, sorted({*wanted, *there}), as_of)
    if not began:
        return rows.assign(inherited=False)
    classes = reading.quotes_frame(folder, window.open_ended(folder), None, as_of, cnpjs=_owners(began))
    return rows_with_history(rows, classes[classes["subclass"] == ""], began, frames.timestamp_of(window.last * DAY_MS))


def _owners(subclasses: Collection[str]) -> set[str]:
    return {name.partition(":")[0] for name in subclasses}


def _began(folder: Folder, series: Collection[str], as_of: dt.datetime | None) -> dict[str, dt.date]:
    """Return the first day with a quota of each subclass among these series, in the whole archive."""
    wanted = [name for name in series if ":" in name]
    if not wanted:
        return {}
    table = reading.read_rows(folder, reading.Window(folder, None, None), ["quota"], _owners(wanted), as_of)
    table = table.filter(~np.isnan(figures(table, "quota")))
    cnpj, subclass, days = coded(table["cnpj"]), coded(table["subclass"]), reading.day_numbers(table)
    first: dict[str, int] = {}
    for number, name, day in zip(cnpj.texts[cnpj.codes], subclass.texts[subclass.codes], days.tolist(), strict=True):
        key = f"{number}:{name}"
        first[key] = min(day, first.get(key, day))
    return {name: EPOCH + dt.timedelta(days=first[name]) for name in wanted if name in first}
