"""The portal's files by month, and when to request each again; without I/O."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import NamedTuple

from scraperkit.errors import ConfigError
from scraperkit.models import Month
from scraperkit.sources.open_data.folder import Entry

# The beginning of the names of the daily files.
DAILY_FILE = "inf_diario_fi_"
DAILY_PATH = "DOC/INF_DIARIO/DADOS/"
HISTORY_PATH = DAILY_PATH + "HIST/"
REGISTRY_PATH = "CAD/DADOS/registro_fundo_classe.zip"
OLD_REGISTRY_PATH = "CAD/DADOS/cad_fi.csv"
FIRST_MONTH = Month(2000, 1)
FIRST_MONTHLY = Month(2021, 1)
NEWEST_MONTHS = 24
TYPICAL_BYTES = {DAILY_PATH: 11_000_000, HISTORY_PATH: 60_000_000}
BYTES_PER_SECOND = 2_000_000  # assumed, to estimate how long a download takes
_LISTED = re.compile(r'<a href="([^"/]+\.(?:zip|csv))">[^<]*</a>\s+\S+\s+\S+\s+([0-9]+)([KMG]?)\s')
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# A few hours less than a day, a week and a month, so that a job at the same hour each day finds them over.
EACH_DAY, EACH_WEEK, EACH_MONTH = dt.timedelta(hours=20), dt.timedelta(days=6, hours=12), dt.timedelta(days=29)
AT_ONCE, EACH_HOUR = dt.timedelta(0), dt.timedelta(hours=1)


class PortalFile(NamedTuple):
    """A file of daily reports: its location, and its first and last month."""

    folder: str
    name: str
    first: Month
    last: Month

    @property
    def path(self) -> str:
        """Its path below the portal's base."""
        return self.folder + self.name


def file_of(month: Month) -> PortalFile:
    """Return the file with a month.

    Examples
    --------
    >>> file_of(Month(2021, 3)).path, file_of(Month(2008, 3)).path
    ('DOC/INF_DIARIO/DADOS/inf_diario_fi_202103.zip', 'DOC/INF_DIARIO/DADOS/HIST/inf_diario_fi_2008.zip')
    """
    if month < FIRST_MONTHLY:
        year = month.year
        return PortalFile(HISTORY_PATH, f"{DAILY_FILE}{year}.zip", Month(year, 1), Month(year, 12))
    return PortalFile(DAILY_PATH, f"{DAILY_FILE}{month.iso.replace('-', '')}.zip", month, month)


def files_between(first: Month, last: Month) -> list[PortalFile]:
    """Return the files of some months, newest first, since these are used most."""
    return list(dict.fromkeys(file_of(month) for month in first.until(last)))[::-1]


def asked_months(
    start: str | dt.date | Month | None, end: str | dt.date | Month | None, today: dt.date
) -> tuple[Month, Month]:
    """Return the first and last month that a call names, without months that cannot exist.

    Raises
    ------
    ConfigError
        If one is not a month, or there is none between them.
    """
    first = FIRST_MONTH if start is None else max(FIRST_MONTH, Month.given("start", start))
    last = Month.of(today) if end is None else min(Month.of(today), Month.given("end", end))
    if last < first:
        field = "start" if start is not None and first > Month.of(today) else "end"
        raise ConfigError(
            f"{field}: there is no month from {first.iso} to {last.iso}; the portal has {FIRST_MONTH.iso} to now"
        )
    return first, last


def is_due(file: PortalFile, entry: Entry | None, now: dt.datetime) -> bool:
    """Return whether to request a file again, although no call names its months.

    The newest two months daily, those up to a year old weekly, older ones monthly; refused files always.
    """
    age = (now.year - file.last.year) * 12 + now.month - file.last.month
    return is_over(EACH_DAY if age <= 1 else EACH_WEEK if age <= 11 else EACH_MONTH, entry, now)


def is_over(pause: dt.timedelta, entry: Entry | None, now: dt.datetime, if_refused: dt.timedelta = AT_ONCE) -> bool:
    """Return whether the pause since a file's last request is over; `if_refused` is the pause of a refused one.

    A time in the future was written by a clock that was ahead, and is ignored.
    """
    if entry is None:
        return True
    since = now - dt.datetime.fromisoformat(entry.checked_at)
    return since < AT_ONCE or since >= (if_refused if entry.outcome == "refused" else pause)


def listed_sizes(page: str) -> dict[str, int]:
    r"""Return names and sizes of the files in a listing of nginx; sizes may be rounded.

    Examples
    --------
    >>> listed_sizes('<a href="inf_diario_fi_202609.zip">inf_diario_fi_202609.zip</a>  26-Nov-2026 03:52    11M\n')
    {'inf_diario_fi_202609.zip': 11534336}
    """
    return {name: int(count) * _UNITS[unit] for name, count, unit in _LISTED.findall(page)}


def plan_text(sizes: Iterable[int], crawl_delay: float) -> str:
    """Return how many files, megabytes and minutes a download will take.

    Examples
    --------
    >>> plan_text([11_000_000] * 24, 10.0)
    '24 files, 264 MB, about 4 minutes'
    """
    each = list(sizes)
    seconds = sum(max(crawl_delay, size / BYTES_PER_SECOND) for size in each)
    minutes = "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} minutes"
    return (
        f"{len(each)} files, {sum(each) / 1e6:.0f} MB, {minutes}"
        if len(each) != 1
        else (f"1 file, {sum(each) / 1e6:.0f} MB, {minutes}")
    )
