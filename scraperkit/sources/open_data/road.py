"""The archive on the road: one fund's month for a worker, and many months into TimeSeries at once."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
import redis as redis_py
from tqdm.auto import tqdm

from scraperkit.errors import ArchiveError, FileRefused, MonthNotOffered, SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.lua.state import MonthRecord
from scraperkit.models import METRICS, DailyQuote, Month, Stored
from scraperkit.sources.open_data import reading
from scraperkit.sources.open_data.downloads import SITE_AWAY, Downloader
from scraperkit.sources.open_data.folder import Folder
from scraperkit.sources.open_data.portal_files import file_of, is_due
from scraperkit.sources.open_data.revisions import figures
from scraperkit.sources.open_data.series import Series
from scraperkit.text import say
from scraperkit.timeseries.commands import DAY_MS, day_number, news_commands, pack
from scraperkit.timeseries.link import Link, Request, batched
from scraperkit.timeseries.rows import stored_series
from scraperkit.timeseries.store import SeriesStore

log = logging.getLogger(__name__)
# Redis 7.4 with TimeSeries 1.12, as benchmarks/growth.py measures it.
BYTES_PER_SERIES, BYTES_PER_SAMPLE = 1_900, 11
_FUNDS_AT_ONCE = 1_000


class MonthBringer:
    """Has a month in the archive before it is read: its file is asked for once for all threads and processes."""

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader
        self._lock = threading.Lock()

    def bring(self, month: Month) -> None:
        """Download the file of a month if it is due.

        Raises
        ------
        MonthNotOffered
            If the portal has no such file, or the file no such month.
        SiteUnavailable
            If the portal does not answer, and the archive does not have the month yet.
        FileRefused
            If the file is not as known, and the archive does not have the month yet.
        ArchiveError
            If the archive cannot be written, and does not have the month yet.
        """
        file, folder = file_of(month), self._downloader.folder
        with self._lock:
            if is_due(file, folder.entry(file.name), dt.datetime.now(dt.UTC)):
                try:
                    self._downloader.run([file], progress=False)
                except ArchiveError:  # it may be read-only here, and filled from elsewhere
                    if month not in folder.months():
                        raise
        if month in folder.months():
            return
        entry = folder.entry(file.name)
        why, url = (entry.reason, entry.url) if entry is not None else ("", self._downloader.url)
        if entry is not None and entry.outcome == "refused":
            raise (SiteUnavailable if why.startswith(SITE_AWAY) else FileRefused)(why, url)
        raise MonthNotOffered(f"the portal has nothing of {month.iso}", url)


def quotes_of(folder: Folder, month: Month, cnpj: str) -> list[DailyQuote]:
    """Return the days of one fund and month, of the class and all its subclasses."""
    table = reading.read_rows(folder, reading.Window(folder, month.iso, month.iso), METRICS, [cnpj])
    names = table["subclass"].to_pylist()
    days = [reading.EPOCH + dt.timedelta(days=day) for day in reading.day_numbers(table).tolist()]
    columns = [_or_none(figures(table, metric).tolist(), int if metric == "holders" else float) for metric in METRICS]
    return [
        DailyQuote(cnpj, day, quota, net_worth, holders, inflow, outflow, portfolio, name)
        for name, day, quota, net_worth, holders, inflow, outflow, portfolio in zip(names, days, *columns, strict=True)
        if not {quota, net_worth, holders, inflow, outflow, portfolio} <= {None}
    ]


def _or_none(values: list[float], kind: Callable[[float], Any]) -> list[Any]:
    return [None if np.isnan(value) else kind(value) for value in values]


def load(
    folder: Folder,
    window: reading.Window,
    wanted: Sequence[Series] | None,
    redis: redis_py.Redis,
    keys: Keys,
    progress: bool | None,
) -> int:
    """Fill TimeSeries with months of the archive; see :meth:`OpenData.load`."""
    store, link = SeriesStore(redis, keys.namespace), Link(redis)
    cnpjs = None if wanted is None else sorted({each.cnpj for each in wanted})
    of_fund = None if wanted is None else {each.cnpj for each in wanted if not each.subclass}
    series, rows = _size(folder, window, wanted, cnpjs)
    disable = None if progress is None else not progress
    samples = 0
    with tqdm(window.months, unit="month", desc="loading", disable=disable, dynamic_ncols=True) as bar:
        if not bar.disable:
            say(memory_text(series, rows * len(METRICS)))
        for month in bar:
            bar.set_postfix_str(month.iso)
            began = float(link.send("TIME")[0])
            frame = reading.quotes_frame(folder, reading.Window(folder, month.iso, month.iso), None, cnpjs=cnpjs)
            if wanted is not None and of_fund is not None:
                names = map(Series, frame["cnpj"], frame["subclass"])
                frame = frame[[name.cnpj in of_fund or name in wanted for name in names]]
            samples += store.write_frame(frame, replace=True)
            whole = frame if of_fund is None else frame[frame["cnpj"].isin(of_fund)]
            _clear_others(link, keys, whole, month)
            _note(link, keys, whole, month, began)
    return samples


def memory_text(series: int, samples: int) -> str:
    """Return what will be loaded, and what memory it takes.

    Examples
    --------
    >>> memory_text(26_000, 3_150_000)
    '26,000 series, up to 3,150,000 samples: Redis will need about 331 MB'
    """
    needed = series * len(METRICS) * BYTES_PER_SERIES + samples * BYTES_PER_SAMPLE
    return f"{series:,} series, up to {samples:,} samples: Redis will need about {needed / 1e6:,.0f} MB"


def _size(
    folder: Folder, window: reading.Window, wanted: Sequence[Series] | None, cnpjs: Sequence[str] | None
) -> tuple[int, int]:
    """Return how many series and rows a window has; refuse series that the archive has nowhere."""
    table = reading.read_rows(folder, window, [], cnpjs)
    pairs = table.group_by(["cnpj", "subclass"]).aggregate([]).to_pylist()
    found = {Series(pair["cnpj"], pair["subclass"]) for pair in pairs}
    funds = {each.cnpj for each in found}
    if unseen := [each for each in wanted or () if each not in found and (each.subclass or each.cnpj not in funds)]:
        reading.refuse_unknown(folder, unseen)
    return len(found), table.num_rows


def _clear_others(link: Link, keys: Keys, frame: pd.DataFrame, month: Month) -> None:
    """Delete what is stored of the month of series of these funds that the archive has no row of."""
    here = {f"{cnpj}:{subclass}" if subclass else cnpj for cnpj, subclass in zip(*_names(frame), strict=True)}
    first, last = day_number(month.first_day) * DAY_MS, day_number(month.shift(1).first_day) * DAY_MS - 1
    for some in batched(frame["cnpj"].unique().tolist(), _FUNDS_AT_ONCE):
        others = sorted(stored_series(link, keys, some) - here)
        if others:
            deleted = link.write(
                [pack(("TS.DEL", keys.series(name, metric), first, last)) for name in others for metric in METRICS]
            )
            each = zip(others, batched(deleted, len(METRICS)), strict=True)
            counts = [(name, sum(count for count in found if isinstance(count, int))) for name, found in each]
            told = [Stored.of(name, month.iso, 0, count) for name, count in counts if count]
            if told:
                link.write(news_commands(keys, told))


def _names(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    names = frame[["cnpj", "subclass"]].drop_duplicates()
    return names["cnpj"].tolist(), names["subclass"].tolist()


def _note(link: Link, keys: Keys, frame: pd.DataFrame, month: Month, began: float) -> None:
    """Note that the month of these funds is of this source, so that an earlier fetch of another replaces nothing."""
    record = MonthRecord(began, began, "open_data", "load").text

    def requests() -> Iterator[Request]:
        for some in batched(frame["cnpj"].unique().tolist(), _FUNDS_AT_ONCE):
            yield Request(b"".join(pack(("HSET", keys.months(cnpj), month.iso, record)) for cnpj in some), len(some))

    with closing(link.stream(requests())) as replies:
        for _ in replies:
            pass
