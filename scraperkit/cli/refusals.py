"""Funds that a command could not serve, reported at the end, so that the others are done."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scraperkit.cli.exits import INCOMPLETE, code_of
from scraperkit.cli.terminal import echo
from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import ConfigError, ScraperKitWarning, SiteUnavailable, SourceError, UnknownFund, notes_of
from scraperkit.models import Fund, Month, ScrapeRequest, today

if TYPE_CHECKING:
    import redis as redis_py

    from scraperkit.sources import CvmPages
    from scraperkit.sources.open_data import OpenData
    from scraperkit.timeseries.reader import TimeSeriesReader

_SILENCES = 3  # after this many unanswered look-ups in a row, stop asking: each takes all retries


class Refusals:
    """The funds that a command could not serve, with the reason for each; false if there are none.

    Attributes
    ----------
    code : int
        The exit code: that of an invalid argument if there was one.
    """

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._ways_out: dict[str, None] = {}
        self.code = INCOMPLETE

    def __bool__(self) -> bool:
        return bool(self._told)

    @contextmanager
    def _noting(self, cnpj: str) -> Iterator[None]:
        try:
            yield
        except (ConfigError, SourceError, UnknownFund) as error:
            self._told[cnpj] = str(error)
            self._ways_out |= dict.fromkeys(notes_of(error))
            self.code = max(self.code, code_of(error))

    def look_up(self, source: CvmPages | OpenData, cnpjs: Sequence[str]) -> list[Fund]:
        """Return the funds that the site knows."""
        from tqdm import tqdm

        found: dict[str, Fund] = {}
        silences = 0
        shown = None if len(cnpjs) > 1 else True
        for cnpj in tqdm(cnpjs, desc="looking up", unit="fund", disable=shown, leave=False):
            with self._noting(cnpj):
                if silences == _SILENCES:
                    raise SiteUnavailable(f"not looked up, since the site did not respond {_SILENCES} times in a row")
                try:
                    if ":" in cnpj:
                        normalize_cnpj(cnpj)  # refuses a subclass: a message covers a whole fund
                    fund = source.find_fund(cnpj)
                except SiteUnavailable:
                    silences += 1
                    raise
                silences = 0
                found[fund.cnpj] = fund
        return list(found.values())

    def months_of(self, funds: Sequence[Fund], start: str | None, end: str | None) -> list[ScrapeRequest]:
        """Return the requests for the months of funds."""
        requests: list[ScrapeRequest] = []
        for fund in funds:
            with self._noting(fund.cnpj):
                requests += fund.months(start, end)
        return requests

    def stored(
        self, redis: redis_py.Redis, reader: TimeSeriesReader, funds: Sequence[str], namespace: str | None
    ) -> list[str]:
        """Return the stored series of these numbers and names."""
        from scraperkit.config import Settings
        from scraperkit.research.stored_names import stored_series

        where = namespace or Settings.load().namespace
        wanted: list[str] = []
        for fund in funds:
            with self._noting(fund), warnings.catch_warnings():
                warnings.simplefilter("ignore", ScraperKitWarning)  # reading repeats the warning
                (series,) = stored_series(redis, reader, fund, where)
                reader.last(series)
                wanted.append(series)
        return wanted

    def tell(self, asked: int) -> None:
        """Print each fund that was left out with its reason, then how many there were."""
        for cnpj, reason in self._told.items():
            echo(f"scraperkit: {reason if _names(reason, cnpj) else f'{cnpj}: {reason}'}", err=True)
        if self._told and asked > 1:
            echo(f"scraperkit: {len(self._told)} of {asked} funds left out, for the reasons above", err=True)
        for way_out in self._ways_out:
            echo(f"scraperkit: {way_out}", err=True)


def _names(reason: str, cnpj: str) -> bool:
    """Return whether a reason names its fund."""
    return any(text in reason.partition(" [http")[0] for text in (cnpj, format_cnpj(cnpj)))


def check_period(start: str | None, end: str | None) -> None:
    """Refuse a period that is wrong for every fund, before asking the site.

    Raises
    ------
    ConfigError
        If an option is not a month, ``--end`` is before ``--start``, or ``--start`` is after the current month.
    """
    first = Month.given("--start", start) if start is not None else None
    last = Month.given("--end", end) if end is not None else None
    if first and last and last < first:
        raise ConfigError(f"--end: {last.iso} is before --start, {first.iso}; give a later month")
    if first and first > (current := Month.of(today())):
        raise ConfigError(f"--start: {first.iso} has not begun in Brazil; give {current.iso} or an earlier month")
