"""The open data of the regulator as users see it: download, read, search."""

from __future__ import annotations

import datetime as dt
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
import redis as redis_py

from scraperkit.config import OPEN_DATA_URL, Settings
from scraperkit.connection import check_client
from scraperkit.errors import ConfigError
from scraperkit.models import DailyQuote, Fund, Month, ScrapeRequest, today
from scraperkit.sources.base import Hits
from scraperkit.sources.cvm_pages import checked_base
from scraperkit.sources.http import HttpClient, without_credentials
from scraperkit.sources.open_data import reading, reports, road
from scraperkit.sources.open_data.downloads import DOWNLOAD_PATIENCE, Downloader
from scraperkit.sources.open_data.folder import Folder
from scraperkit.sources.open_data.history import prices_with_history, quotes_with_history
from scraperkit.sources.open_data.portal_files import (
    NEWEST_MONTHS,
    asked_months,
    file_of,
    files_between,
    is_due,
)
from scraperkit.sources.open_data.series import wanted_series
from scraperkit.sources.open_data.snapshots import Snapshots
from scraperkit.sources.politeness import Politeness
from scraperkit.sources.terms import WARNINGS, attribution
from scraperkit.timeseries import frames
from scraperkit.timeseries.frames import Day, Funds
from scraperkit.timeseries.link import keys_of
from scraperkit.view import NotebookRepr, View


class OpenData(NotebookRepr):
    """The daily reports of all Brazilian funds since 2000, and their registry, kept on disk.

    The files come from the open data portal of the Comissão de Valores Mobiliários (CVM) and stay in a folder of
    Parquet files, the archive, with a log of all later revisions. Threads and processes may share it.

    Parameters
    ----------
    url : str, optional
        The portal's base, ``…/dados/FI/``; by default ``SCRAPERKIT_OPEN_DATA_URL``, else the live portal.
    archive : str or pathlib.Path, optional
        The folder; by default ``SCRAPERKIT_ARCHIVE``, else ``open_data`` in the data folder.
    settings : Settings, optional
        Time limits, retries and rates; by default from the environment.

    Raises
    ------
    ConfigError
        If the address is not an ``http://`` or ``https://`` one, or `archive` is not a folder.

    Notes
    -----
    Credit the source when you publish: the data are by the CVM, under the Open Database License (ODbL) 1.0. Note:

    - Only classes of FIF and FAPI are in it: no FII, FIDC or FIP; before 2005 only equity-type funds.
    - Cancelled funds stay in, but a list of those active today is biased towards survivors.
    - A quota is net of fees, and not adjusted for distributions. *Come-cotas*, a tax, takes quotas away and leaves
      their price.
    - Summed net worth double-counts what funds of funds (FIC) hold, about 35 %.
    - Values are the latest revision; those of the newest five business days are provisional. The portal asks for ten
      seconds between requests, which the kit keeps.

    In all methods, `funds` is one series or :class:`~scraperkit.Fund`, or several; ``None`` is all. A series is a CNPJ,
    or ``CNPJ:SUBCLASS``. A CNPJ alone is the class's own series. If only its subclasses have rows on the requested
    days, it stands for all of them, with a warning; beside one of its subclasses, it is the class itself. So a result
    depends on its days alone, not on what else was downloaded. `start` and `end` are both included: ``"2022-01-31"``, a
    date, or ``"2022-01"`` for the whole month. `as_of`, an aware datetime, selects what the archive held then.
    `inherit` is as in :class:`~scraperkit.TimeSeriesReader`: a subclass begins with the figures of its class, if that
    was quoted within 7 days before; otherwise nothing is joined. Frames of up to 1,000 series carry short names, from
    the newest registry in the archive, as a dict in ``frame.attrs["names"]``; :meth:`update_registry` fetches one.

    Examples
    --------
    >>> import tempfile
    >>> import scraperkit as sk
    >>> with sk.Replica.start() as site, tempfile.TemporaryDirectory() as folder:
    ...     site.portal.crawl_delay = 0
    ...     with sk.OpenData(site.open_data_url, archive=folder) as market:
    ...         files = market.download("2022-01", "2022-02")
    ...         prices = market.prices("18.993.924/0001-00", start="2022-01")
    >>> files[["file", "outcome"]].to_numpy().tolist()
    [['inf_diario_fi_202202.zip', 'new'], ['inf_diario_fi_202201.zip', 'new']]
    >>> prices.shape
    (40, 1)
    """

    name = "open_data"
    has_subclasses = True

    def __init__(
        self, url: str | None = None, *, archive: str | Path | None = None, settings: Settings | None = None
    ) -> None:
        settings = settings or Settings.load()
        given = settings.open_data_url or OPEN_DATA_URL if url is None else url  # a variable may be set to nothing
        self.url = checked_base(given, "SCRAPERKIT_OPEN_DATA_URL")
        if not isinstance(archive, str | Path | None):
            raise ConfigError(f"archive: expected the path of a folder, got {type(archive).__name__}")
        self.archive = Path(archive or settings.archive or settings.data / "open_data").expanduser().absolute()
        if self.archive.is_file():
            raise ConfigError(f"archive: {self.archive} is a file; give a folder (SCRAPERKIT_ARCHIVE)")
        self.politeness = Politeness(self.url, settings)
        self._http = HttpClient(settings, self.politeness, "SCRAPERKIT_OPEN_DATA_URL")
        self._folder = Folder(self.archive)
        self._downloader = Downloader(self.url, self._folder, self._http, self.politeness)
        self._snapshots = Snapshots(self._downloader)
        self._months = road.MonthBringer(self._downloader)

    def download(
        self,
        start: str | dt.date | Month | None = None,
        end: str | dt.date | Month | None = None,
        *,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Download new data for some months; print its size, then show a progress bar.

        Months that you name are always requested. If you name none, it checks all from the archive's first month to
        now, or the newest 24 if the archive is empty: the newest two once a day, those up to a year old once a week,
        older ones once a month. An unchanged file is not sent again.

        Parameters
        ----------
        start, end : str or datetime.date, optional
            ``"YYYY-MM"``; both included. Months up to 2020 come by whole years.
        progress : bool, optional
            Whether to show the bar; by default only in a terminal or notebook. ``False`` also prints nothing.

        Returns
        -------
        pandas.DataFrame
            A row for each file, the newest first; columns ``file``, ``outcome`` (``new``, ``changed``, ``unchanged``,
            ``missing`` if the portal does not have it, ``refused`` if it is invalid or unavailable), ``rows`` kept,
            ``changed`` (figures restated or withdrawn), ``rejected`` (lines, see :meth:`rejected`) and ``reason``. A
            refused file changes no stored data. If the portal asks for a pause, the log says until when; if that is
            more than two minutes, files are refused.

        Raises
        ------
        ConfigError
            If a month is invalid, or `end` is before `start`.
        ArchiveError
            If the archive cannot be written: the disk is full, for example. It stays intact.
        """
        now = dt.datetime.now(dt.UTC)
        day = today()
        if start is None and end is None:
            begun = min(self._folder.months(), default=Month.of(day).shift(1 - NEWEST_MONTHS))
            files = files_between(begun, Month.of(day))
            files = [file for file in files if is_due(file, self._folder.entry(file.name), now)]
            named = None
        else:
            named = asked_months(start, end, day)
            files = files_between(*named)
        with self.politeness.patient(DOWNLOAD_PATIENCE):
            return reports.outcomes_frame(self._downloader.run(files, progress, named))

    def update_registry(self) -> pd.DataFrame:
        """Fetch the registry if it was not requested today; :meth:`find` does so, too.

        Returns
        -------
        pandas.DataFrame
            As :meth:`download`.
        """
        return reports.outcomes_frame(self._snapshots.update())

    def prices(
        self,
        funds: Funds | None = None,
        start: Day | None = None,
        end: Day | None = None,
        metric: str = "quota",
        as_of: dt.datetime | None = None,
        *,
        inherit: bool = False,
    ) -> pd.DataFrame:
        """Return one metric of several series side by side.

        Parameters
        ----------
        funds, start, end, as_of, inherit
            See the notes of the class.
        metric : str
            A name in :data:`~scraperkit.models.METRICS`.

        Returns
        -------
        pandas.DataFrame
            As :meth:`TimeSeriesReader.prices <scraperkit.TimeSeriesReader.prices>`: index ``date``, columns ``cnpj``
            (here ``CNPJ`` or ``CNPJ:SUBCLASS``), values ``float64``, NaN where a series has none. Nothing is filled.

        Raises
        ------
        ConfigError
            If an argument is invalid; names it.
        NotDownloaded
            If the archive has none of the months.
        UnknownFund
            If the archive has no data at all for one of `funds`.

        Warns
        -----
        ScraperKitWarning
            If the archive lacks some of the months, or a CNPJ stands for its subclasses.
        """
        frames.check_metric(metric)
        reading.check_as_of(as_of)
        wanted = None if funds is None else wanted_series(funds)
        window = reading.Window(self._folder, start, end)
        reading.warn_of_absent(self._folder, window.absent)
        frame = reading.prices_frame(self._folder, window, wanted, metric, as_of, names_of=self._snapshots.names)
        return prices_with_history(self._folder, window, frame, metric, as_of) if inherit else frame

    def quotes(
        self,
        funds: Funds | None = None,
        start: Day | None = None,
        end: Day | None = None,
        as_of: dt.datetime | None = None,
        *,
        inherit: bool = False,
    ) -> pd.DataFrame:
        """Return every metric, one row for each series and day.

        Parameters
        ----------
        funds, start, end, as_of, inherit
            See the notes of the class.

        Returns
        -------
        pandas.DataFrame
            As :meth:`TimeSeriesReader.quotes <scraperkit.TimeSeriesReader.quotes>`, with ``subclass`` (str, empty for a
            class) after ``cnpj``; with `inherit` also ``inherited`` (bool): the row is its class's. Sorted by ``cnpj``,
            ``subclass`` and ``date``, index 0, 1, 2, ...

        Raises
        ------
        ConfigError, NotDownloaded, UnknownFund
            As :meth:`prices`.

        Warns
        -----
        ScraperKitWarning
            As :meth:`prices`.
        """
        reading.check_as_of(as_of)
        wanted = None if funds is None else wanted_series(funds)
        window = reading.Window(self._folder, start, end)
        reading.warn_of_absent(self._folder, window.absent)
        rows = reading.quotes_frame(self._folder, window, wanted, as_of, names_of=self._snapshots.names)
        subclasses = [str(each) for each in wanted or () if each.subclass]
        return quotes_with_history(self._folder, window, rows, subclasses, as_of) if inherit else rows

    def market(self, day: Day) -> pd.DataFrame:
        """Return every series on a day, or in a month.

        Parameters
        ----------
        day : str, datetime.date or numpy.datetime64
            ``"2022-01-31"``, or ``"2022-01"`` for the month.

        Returns
        -------
        pandas.DataFrame
            As :meth:`quotes`, and ``kind`` (such as ``CLASSES - FIF``), ``flag`` (why a quota is missing, or that a
            figure is negative; else empty) and ``provisional`` (bool). No rows if nothing was published for the day.

        Raises
        ------
        ConfigError
            If it is not a day.
        NotDownloaded
            If the archive lacks its month.
        """
        window = reading.Window(self._folder, *frames.span("day", day))
        frame = reading.quotes_frame(self._folder, window, None, also=("kind", "flag"), names_of=self._snapshots.names)
        since = pd.Timestamp(reading.provisional_since(today()))
        return frame.assign(provisional=frame["date"] >= since)

    def changes(self, start: Day | None = None, end: Day | None = None) -> pd.DataFrame:
        """Return every revision that the archive has seen of the figures of some days.

        Parameters
        ----------
        start, end
            First and last day of the figures; see the notes of the class.

        Returns
        -------
        pandas.DataFrame
            Columns ``cnpj``, ``subclass``, ``date``, ``metric``, ``old`` and ``new`` (float64, NaN where there is no
            figure; a row that was withdrawn has NaN as `new`) and ``seen_at`` (UTC). Sorted by ``seen_at``, series and
            day. A new day is not a change; nor is an unreadable row, whose stored figures stay.

        Raises
        ------
        ConfigError, NotDownloaded
            As :meth:`prices`.
        """
        window = reading.Window(self._folder, start, end)
        reading.warn_of_absent(self._folder, window.absent)
        return reports.changes_frame(self._folder, window)

    def completeness(self, start: Day | None = None, end: Day | None = None) -> pd.DataFrame:
        """Return how many series have reported on each business day, and on the day before.

        Parameters
        ----------
        start, end
            See the notes of the class; the newest two months of the archive if both are left out.

        Returns
        -------
        pandas.DataFrame
            Index ``date``. Columns ``state`` (``published``; ``not published`` if the month's file has no row of the
            day; ``no file`` if the portal has none of its month, ``not downloaded`` if only the archive lacks it),
            ``series`` and ``quotas`` present, ``before`` (series on the last day published before, if that is no more
            than a week earlier), ``share`` (`series` divided by `before`), ``missing`` (how many of those before are
            absent) and ``provisional``.

        Raises
        ------
        ConfigError, NotDownloaded
            As :meth:`prices`.
        """
        if start is None and end is None:
            start = next((month.iso for month in self._folder.months()[-2:]), None)
        return reports.completeness_frame(self._folder, reading.Window(self._folder, start, end))

    def rejected(self, start: Day | None = None, end: Day | None = None) -> pd.DataFrame:
        """Return the lines that were rejected, whole or in part, from the months of some days.

        Returns
        -------
        pandas.DataFrame
            Columns ``file``, ``member`` (of the zip), ``line`` (the header is line 1), ``reason`` and ``text``.

        Raises
        ------
        ConfigError, NotDownloaded
            As :meth:`prices`.
        """
        window = reading.Window(self._folder, start, end)
        reading.warn_of_absent(self._folder, window.absent)
        return reports.rejected_frame(self._folder, window)

    def archive_info(self) -> pd.DataFrame:
        """Return the ledger: what is known of each file of the portal.

        Returns
        -------
        pandas.DataFrame
            Index ``file``; columns ``url``, ``etag``, ``last_modified``, ``sha256``, ``bytes`` (of the download),
            ``fetched_at``, ``confirmed_at`` (when the portal last had the same file), ``checked_at`` (UTC), ``layout``,
            ``rows_read``, ``kept``, ``rejected``, ``outcome`` and ``reason`` (of the last request).
        """
        return reports.ledger_frame(self._folder)

    def prune(self, keep: int) -> pd.DataFrame:
        """Delete all but the newest months, and all but the newest registry.

        A deleted month stays away until a call names it: ``download("2008-01", "2008-12")``. Its revisions are lost:
        the portal keeps none.

        Parameters
        ----------
        keep : int
            How many months to keep.

        Returns
        -------
        pandas.DataFrame
            Columns ``month`` (``YYYY-MM``) and ``bytes``: what was deleted.

        Raises
        ------
        ConfigError
            If `keep` is not a positive number.
        ArchiveError
            If the archive cannot be written.
        """
        if not isinstance(keep, int) or isinstance(keep, bool) or keep < 1:
            raise ConfigError(f"keep: {str(keep)[:40]!r} is not a number of months; give at least 1")
        freed = []
        for month in self._folder.months()[:-keep]:
            file = file_of(month).name
            with self._folder.writing(file):
                if (entry := self._folder.entry(file)) is not None:
                    # First, so that a kill in between brings nothing back.
                    self._folder.note(entry.without(month))
                freed.append((month.iso, self._folder.delete_month(month)))
        with self._folder.explained():
            self._snapshots.prune()
        return pd.DataFrame(freed, columns=["month", "bytes"]).astype({"month": "str", "bytes": "int64"})

    def find(self, text: str, active: bool | None = None) -> pd.DataFrame:
        """Search the registry by name or number.

        Parameters
        ----------
        text : str
            Words of a name, or their beginnings, in any order; accents, case and words like FIC, FIM, FIA, FIF and RL
            are ignored. Or a CNPJ, or its beginning.
        active : bool, optional
            Only those in normal operation, or only the others.

        Returns
        -------
        pandas.DataFrame
            Index ``series``; columns ``name``, ``kind``, ``status``, ``managers``, ``administrator``, ``net_worth``
            (R$, from the registry), ``holders`` (newest in the archive), ``started_on`` (of the fund, not of its
            adaptation to Resolution 175) and ``subclasses``. Active ones first, then the larger.

        Raises
        ------
        ConfigError
            If the text contains no word to search for.
        SourceError
            If there is no registry yet, and it cannot be fetched.
        """
        if active is not None and not isinstance(active, bool):
            raise ConfigError(f"active: {str(active)[:40]!r} is invalid; give True, False or None")
        return self._snapshots.search().find(text, active)

    def search(self, text: str, count: int = 10) -> Hits:
        """Search the registry in the archive by name or number, nearest first; fetch nothing.

        Parameters
        ----------
        text : str
            As :meth:`find` takes it.
        count : int
            Maximum number of hits. If nothing matches, they only resemble the text.

        Raises
        ------
        ConfigError
            If the text contains no word to search for.
        NotDownloaded
            If the archive has no registry.
        """
        return self._snapshots.hits(text, count)

    def names(self, series: Sequence[str]) -> dict[str, str]:
        """Return the names of some series in the archive's newest registry; fetch nothing."""
        return self._snapshots.names(series)

    def find_fund(self, text: str) -> Fund:
        """Look up the one fund that a text means: a CNPJ, a whole name, or words that only one has.

        A ``CNPJ:SUBCLASS`` is the subclass: its prices are its own, its months those of the whole fund.

        Raises
        ------
        ConfigError
            If the text contains no word to search for.
        FundNotFound
            If none or several match; lists the nearest five, and counts the others.
        SourceError
            As :meth:`find`.
        """
        return self._snapshots.find_fund(text, self.name)

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        """Return the days of one month of a fund, of its class and all subclasses; a worker calls it.

        The month's file is requested if it is due, as in :meth:`download`, once for all threads and processes of the
        archive. An empty list means that the file has no row of the fund.

        Raises
        ------
        MonthNotOffered
            If the portal does not have the month.
        SiteUnavailable, FileRefused
            If the file is unavailable or invalid, and the archive lacks the month.
        ArchiveError
            If the archive cannot be read or written.
        """
        month = request.period
        self._months.bring(month)
        return road.quotes_of(self._folder, month, request.document)

    def load(
        self,
        redis: redis_py.Redis,
        funds: Funds | None = None,
        start: Day | None = None,
        end: Day | None = None,
        *,
        namespace: str | None = None,
        progress: bool | None = None,
    ) -> int:
        """Print the memory that Redis will need, then load whole months of the archive into TimeSeries.

        Each month replaces its stored figures, unless a worker fetched these after the archive's file was fetched or
        last confirmed unchanged. Nothing is downloaded.

        Parameters
        ----------
        redis : redis.Redis
            From :func:`scraperkit.connect`.
        funds, start, end
            See the notes of the class; whole months are loaded.
        namespace : str, optional
            Default: ``SCRAPERKIT_NAMESPACE``.
        progress : bool, optional
            Whether to show the bar; by default only in a terminal or notebook. ``False`` also prints nothing.

        Returns
        -------
        int
            Number of samples written.

        Raises
        ------
        ConfigError, NotDownloaded, UnknownFund
            As :meth:`prices`.
        StoreError, RedisUnreachable
            If Redis refuses a sample, or is unreachable; loading again is safe.

        Warns
        -----
        ScraperKitWarning
            As :meth:`prices`; and if months stay as they are, since they were fetched later.
        """
        check_client(redis)
        wanted = None if funds is None else wanted_series(funds)
        window = reading.Window(self._folder, start, end)
        reading.warn_of_absent(self._folder, window.absent)
        return road.load(self._folder, window, wanted, redis, keys_of(namespace), progress)

    def plan(self, months: Iterable[Month]) -> str:
        """Return what downloading these months takes; stored files are only checked, if they are due.

        Examples
        --------
        >>> OpenData("http://127.0.0.1:9/", archive="an-empty-folder").plan([])
        '0 files, 0 MB, less than a minute'
        """
        entry, files = self._folder.entry, dict.fromkeys(map(file_of, months))
        due = [file for file in files if is_due(file, entry(file.name), dt.datetime.now(dt.UTC))]
        new = [file for file in due if not (known := entry(file.name)) or not known.months or known.pruned]
        return self._downloader.plan(new) + (f"; and a check of {len(due) - len(new)} already stored" * (due != new))

    def interrupt(self, threads: Container[int]) -> None:
        """End the waits of these threads, given by identifier; each gets :exc:`SiteUnavailable`."""
        self._http.interrupt(threads)

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OpenData({without_credentials(self.url)!r}, archive={str(self.archive)!r})"

    def _view(self) -> View:
        months = self._folder.months()
        span = (
            f"{months[0].iso} to {months[-1].iso}, {len(months)} months" if months else "nothing yet: call download()"
        )
        facts = (
            ("archive", str(self.archive)),
            ("has", span),
            ("size", f"{self._folder.size() / 1e6:,.0f} MB"),
            ("provisional", f"since {reading.provisional_since(today())}"),
            ("portal", without_credentials(self.url)),
            ("data by", attribution()),
            *(("note" if number == 0 else "", text) for number, text in enumerate(WARNINGS)),
        )
        return View("Open data", "of all funds, daily", facts)
