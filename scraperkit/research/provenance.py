"""Record where the figures of a frame come from, in its `attrs` and in files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from scraperkit.cnpj import looks_like_cnpj
from scraperkit.keys import DEFAULT_SOURCE
from scraperkit.models import COLUMNS, Month, today
from scraperkit.research.offline_mode import is_offline
from scraperkit.research.planning import FILES
from scraperkit.sources.open_data import OpenData
from scraperkit.sources.open_data.portal_files import file_of
from scraperkit.sources.terms import ATTRIBUTION, INVENTED
from scraperkit.timeseries.frames import Day
from scraperkit.timeseries.reader import TimeSeriesReader

# The keys of a frame's `attrs` that go into a file's metadata.
TOLD_IN_FILES = ("metric", "name", "kind", "units", "source", "licence", "fetched_from", "fetched_to")
LICENCES = {
    FILES: ATTRIBUTION,
    DEFAULT_SOURCE: "Comissão de Valores Mobiliários (CVM), its public pages; they state no licence",
}


def licence_of(source: str) -> str:
    """Return the licence of a source's figures; empty for a user's own source, whose licence is unknown."""
    return (INVENTED if is_offline() else LICENCES[source]) if source in LICENCES else ""


def units_of(columns: Iterable[str]) -> dict[str, str]:
    """Return the unit of each of these columns that has one.

    Examples
    --------
    >>> units_of(["cnpj", "quota", "holders"])
    {'quota': 'R$', 'holders': 'people'}
    """
    return {name: COLUMNS[name].unit for name in columns if name in COLUMNS and COLUMNS[name].unit not in ("", "day")}


def told_of(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the file metadata of a frame, which may be a rate or come from one."""
    attrs = frame.attrs
    units = {attrs["name"]: attrs["unit"]} if {"name", "unit"} <= attrs.keys() else units_of(map(str, frame.columns))
    return {"units": units} | {name: attrs[name] for name in TOLD_IN_FILES if name in attrs}


def note_stored(frame: pd.DataFrame, reader: TimeSeriesReader, start: Day, end: Day | None, metric: str = "") -> None:
    """Note source and fetch times of figures that workers have stored."""
    cnpjs = {str(name).partition(":")[0] for name in (frame.columns if metric else frame["cnpj"].unique())}
    # Anything else is a name that was not found.
    months = reader.months(sorted(reader.known([name for name in cnpjs if looks_like_cnpj(name)])))
    first, last = Month.given("start", start).iso, "9999-12" if end is None else Month.given("end", end).iso
    months = months[months["month"].between(first, last)]
    _note(frame, metric, sorted(set(months["source"]) - {""}), months["fetched_at"])


def note_archived(frame: pd.DataFrame, market: OpenData, start: Day, end: Day | None, metric: str = "") -> None:
    """Note the fetch times of figures from the archive."""
    last = Month.of(today()) if end is None else Month.given("end", end)
    files = {file_of(month).name for month in Month.given("start", start).until(last)}
    ledger = market.archive_info()
    _note(frame, metric, [FILES], ledger.loc[ledger.index.isin(files), "fetched_at"].dropna())


def _note(frame: pd.DataFrame, metric: str, sources: list[str], fetched: pd.Series[Any]) -> None:
    units = units_of([metric] if metric else frame.columns)
    licences = dict.fromkeys(filter(None, map(licence_of, sources)))
    told = {"units": units, "source": ", ".join(sources), "licence": "; ".join(licences)}
    if metric:
        told["metric"] = metric
    if len(fetched):
        told |= {"fetched_from": f"{fetched.min():%Y-%m-%dT%H:%MZ}", "fetched_to": f"{fetched.max():%Y-%m-%dT%H:%MZ}"}
    frame.attrs |= told
