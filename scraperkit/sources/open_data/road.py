"""From the archive to TimeSeries: one fund's month for a worker, or many months at once."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import redis as redis_py
from tqdm.auto import tqdm

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import ArchiveError, FileRefused, MonthNotOffered, SiteUnavailable, warn
from scraperkit.keys import Keys
from scraperkit.lua.state import MonthRecord
from scraperkit.models import METRICS, DailyQuote, Month
from scraperkit.sources.open_data import reading
from scraperkit.sources.open_data.downloads import SITE_AWAY, Downloader
from scraperkit.sources.open_data.folder import Entry, Folder
from scraperkit.sources.open_data.portal_files import FIRST_MONTH, file_of, is_due
from scraperkit.sources.open_data.revisions import figures
from scraperkit.sources.open_data.series import Series
from scraperkit.text import say
from scraperkit.timeseries.commands import EPOCH
from scraperkit.timeseries.link import Link
from scraperkit.timeseries.month_writes import MonthWriter

log = logging.getLogger(__name__)
# Redis 7.4 with TimeSeries 1.12, as benchmarks/growth.py measures it.
BYTES_PER_SERIES, BYTES_PER_SAMPLE = 1_900, 11


class MonthBringer:
    """Downloads a month before it is read: its file is requested once for all threads and processes."""

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
            If the portal does not respond, and the archive does not have the month yet.
        FileRefused
            If the file is unexpected, and the archive does not have the month yet.
        ArchiveError
            If the archive cannot be written, and does not have the month yet.
        """
        file, folder = file_of(month), self._downloader.folder
        if month < FIRST_MONTH:
            raise MonthNotOffered(f"the portal begins with {FIRST_MONTH.iso}", self._downloader.url)
        with self._lock:
            entry = folder.entry(file.name)
            is_pruned = entry is not None and month.iso in entry.pruned
            if is_pruned or is_due(file, entry, dt.datetime.now(dt.UTC)):
                try:
                    self._downloader.run([file], progress=False, named=(month, month), only_due=True)
                except ArchiveError as error:  # it may be read-only here, and filled from elsewhere
                    if month not in folder.months() and not _is_missing(folder.entry(file.name)):
                        text = f"the archive has no data for {month.iso}, and cannot be written here ({error})"
                        way_out = f"`scraperkit market download --start {month.iso} --end {month.iso}` where it can"
                        raise ArchiveError(f"{text}; run {way_out}") from error
        if month in folder.months():
            return
        entry = folder.entry(file.name)
        why, url = (entry.reason, entry.url) if entry is not None else ("", self._downloader.url)
        if entry is not None and entry.outcome == "refused":
            raise (SiteUnavailable if why.startswith(SITE_AWAY) else FileRefused)(why, url)
        raise MonthNotOffered(f"the portal has no data for {month.iso}", url)


def _is_missing(entry: Entry | None) -> bool:
    return entry is not None and entry.outcome == "missing"


def quotes_of(folder: Folder, month: Month, cnpj: str) -> list[DailyQuote]:
    """Return the days of one fund and month, of the class and all its subclasses."""
    table = reading.read_rows(folder, reading.Window(folder, month.iso, month.iso), METRICS, [cnpj])
    names = table["subclass"].to_pylist()
    days = [EPOCH + dt.timedelta(days=day) for day in reading.day_numbers(table).tolist()]
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
    link = Link(redis)
    cnpjs = None if wanted is None else sorted({each.cnpj for each in wanted})
    of_fund = None if wanted is None else {each.cnpj for each in wanted if not each.subclass}
    series, rows = _size(folder, window, wanted, cnpjs)
    disable = None if progress is None else not progress
    samples, kept = 0, list[str]()
    with tqdm(window.months, unit="month", desc="loading", disable=disable, dynamic_ncols=True) as bar:
        if progress is not False:
            say(memory_text(series, rows * len(METRICS)))
        for month in bar:
            bar.set_postfix_str(month.iso)
            frame = reading.quotes_frame(folder, reading.Window(folder, month.iso, month.iso), None, cnpjs=cnpjs)
            if wanted is not None and of_fund is not None:
                names = map(Series, frame["cnpj"], frame["subclass"])
                frame = frame[[name.cnpj in of_fund or name in wanted for name in names]]
            seconds, millionths = link.send("TIME")
            now = seconds + millionths / 1e6
            record = MonthRecord(
                now, fetched_at(folder.entry(file_of(month).name), now, time.time()), "open_data", "load"
            )
            whole = set(frame["cnpj"].unique()) if of_fund is None else of_fund
            written = MonthWriter(link, keys, month, record, whole).write(frame)
            samples += written.samples
            kept += [f"{format_cnpj(cnpj)} {month.iso}" for cnpj in sorted(written.kept)]
    if kept:
        shown = ", ".join(kept[: reading.MOST_SAID]) + (" …" if len(kept) > reading.MOST_SAID else "")
        text = f"{len(kept)} months stay as they are, since they were fetched later than the archive's files: {shown}"
        warn(f"{text}; call download(start, end), or run `scraperkit market download`, to load what is newer")
    return samples


def fetched_at(entry: Entry | None, redis_now: float, here_now: float) -> float:
    """Return when a file was last known to be current, by the clock of Redis: the fencing token of its load.

    The portal last sent it then, or confirmed it unchanged. The ledger has the downloading machine's time, so the
    difference between this machine's clock and that of Redis is added, in whole seconds, since it cannot be measured
    exactly. A token is never in the future, even if a clock was set back. A file without an entry is older than any
    fetch.

    Examples
    --------
    >>> entry = Entry("inf_diario_fi_202409.zip", "", confirmed_at="2026-01-01T00:00:00+00:00")
    >>> at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
    >>> fetched_at(entry, at + 100, at + 60) - at, fetched_at(entry, at - 5, at - 5) - at, fetched_at(None, at, at)
    (40.0, -5.0, 0.0)
    """
    text = (entry.confirmed_at or entry.fetched_at) if entry is not None else ""
    if not text:
        return 0.0
    return round(min(redis_now, dt.datetime.fromisoformat(text).timestamp() + round(redis_now - here_now)), 6)


def memory_text(series: int, samples: int) -> str:
    """Return what will be loaded, and the memory that it needs.

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
    """Return how many series and rows a window has; refuse series that the archive lacks."""
    table = reading.read_rows(folder, window, [], cnpjs)
    pairs = table.group_by(["cnpj", "subclass"]).aggregate([])
    if wanted is not None:
        found = {Series(pair["cnpj"], pair["subclass"]) for pair in pairs.to_pylist()}
        funds = {each.cnpj for each in found}
        if unseen := [each for each in wanted if each not in found and (each.subclass or each.cnpj not in funds)]:
            reading.refuse_unknown(folder, unseen)
    return pairs.num_rows, table.num_rows
