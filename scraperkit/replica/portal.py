"""The open data portal without a socket: its responses to requests, and methods that change or break its files."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import random
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import quote, unquote

from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.errors import ConfigError
from scraperkit.models import Month
from scraperkit.replica.dirt import Dirt, with_dirt
from scraperkit.replica.faults import ServerFaults, checked
from scraperkit.replica.listing import render_listing
from scraperkit.replica.open_data import DailyRow, OpenDataSample
from scraperkit.replica.portal_files import FIRST_MONTHLY_YEAR, FIRST_SPLIT_YEAR, ReportLayout, daily_members, zipped
from scraperkit.replica.portal_registry import old_registry, registry_members

PORTAL_PATH = "/dados/FI/"
REPORTS, REGISTRY, OLD_REGISTRY = "DOC/INF_DIARIO/DADOS/", "CAD/DADOS/registro_fundo_classe.zip", "CAD/DADOS/cad_fi.csv"
_NEWEST = dt.date(2025, 1, 14)
_NIGHTLY = dt.timedelta(hours=3, minutes=52)
_UPKEEP = b"<html><head><title>Portal Dados Abertos CVM</title></head><body>Em manuten&ccedil;&atilde;o</body></html>"
_DECIMAL_TEXT = re.compile(r"[0-9]+\.[0-9]+")
_DECIMALS = {"quota": 12, "net_worth": 2}
_TYPES = {".zip": "application/zip", ".csv": "text/csv"}


class PortalResponse(NamedTuple):
    """The reply to a client; the last `cut` bytes of the body are announced but not sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    cut: int = 0


class Restatement(NamedTuple):
    """One cell that :meth:`Portal.restate` changed, as text."""

    cnpj: str
    subclass: str
    date: str
    metric: str
    old: str
    new: str


class Portal(ServerFaults):
    """The portal's files, built from the sample on first request; methods change and break them.

    Name a file by its month (``2024-03``), by its year up to 2020 (``2015``), as ``registry`` or ``cad_fi``, or by its
    path below the base. A method that changes a file writes it again: dated a night after the newest file, in the
    layout of that night, with a new ETag. Threads may share a portal.

    Attributes
    ----------
    missing_status : int
        Status of the response for a missing path: 404, or 403, which the portal also uses.

    Examples
    --------
    >>> from scraperkit.replica.open_data import load_open_data
    >>> portal = Portal(load_open_data())
    >>> path = PORTAL_PATH + portal.path("2024-03")
    >>> path, portal.respond(path).status, portal.respond(path + "x").status
    ('/dados/FI/DOC/INF_DIARIO/DADOS/inf_diario_fi_202403.zip', 200, 404)
    """

    def __init__(self, sample: OpenDataSample) -> None:
        self._sample = sample
        self._lock = threading.RLock()
        self._months = dict(sample.months)
        self._registry = sample.registry
        months = map(Month.parse_iso, sorted(sample.months))
        self._written = {
            **dict.fromkeys((OLD_REGISTRY, REGISTRY), _night(_NEWEST)),
            **{_daily_zip(month): _first_written(month) for month in months},
        }
        self._bodies: dict[str, bytes] = {}
        self._foreign: dict[str, bytes] = {}
        self._cut: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._crawl_delay = 10.0
        self._bytes_per_second = math.inf
        self.missing_status = 404

    # --- responses

    def respond(self, target: str, headers: Mapping[str, str] | None = None) -> PortalResponse:
        """Return the response to one request.

        Parameters
        ----------
        target : str
            The path.
        headers : mapping of str to str, optional
            The request's headers, by lower-case name.
        """
        kind, response = self._respond(unquote(target.partition("?")[0]), headers or {})
        with self._lock:
            self._counts[kind] += 1
        return response

    def _respond(self, path: str, headers: Mapping[str, str]) -> tuple[str, PortalResponse]:
        left = self._outage_left()
        if left > 0:
            return "outage", _error(503, {"Retry-After": str(math.ceil(left))})
        if path == "/robots.txt":
            rules = f"User-agent: *\nCrawl-Delay: {self.crawl_delay:g}\nDisallow: /api/\n"
            return "robots", PortalResponse(200, {"Content-Type": "text/plain"}, rules.encode())
        with self._lock:
            if path.startswith(PORTAL_PATH):
                return self._below_base(path, path.removeprefix(PORTAL_PATH), headers)
        return "missing", _error(self.missing_status)

    def _below_base(self, path: str, name: str, headers: Mapping[str, str]) -> tuple[str, PortalResponse]:
        if name in self._written:
            return self._file(name, headers)
        folder = name if name.endswith("/") or not name else f"{name}/"
        below = [other for other in self._written if other.startswith(folder)]
        if not below:
            return "missing", _error(self.missing_status)
        if folder != name:
            return "listing", _error(301, {"Location": f"{quote(path)}/"})
        # Only files directly in the folder show a size, so only these have to be built.
        names = {other: other.removeprefix(folder) for other in below}
        files = (
            (short, self._written[long], 0 if "/" in short else len(self._body(long))) for long, short in names.items()
        )
        page = render_listing(path, files)
        return "listing", PortalResponse(200, {"Content-Type": "text/html"}, page)

    def _file(self, name: str, headers: Mapping[str, str]) -> tuple[str, PortalResponse]:
        written, body = self._written[name], self._body(name)
        own = {
            "Last-Modified": format_datetime(written, usegmt=True),
            "ETag": f'"{int(written.timestamp()):x}-{len(body):x}"',
        }
        if _is_unchanged(headers, own):
            return "not_modified", PortalResponse(304, own)
        own["Content-Type"] = _TYPES.get(name[-4:], "application/octet-stream")
        return "file", PortalResponse(200, own, body, self._cut.get(name, 0))

    def _body(self, name: str) -> bytes:
        if name in self._foreign:
            return self._foreign[name]
        if name not in self._bodies:
            self._bodies[name] = self._render(name)
        return self._bodies[name]

    def _render(self, name: str) -> bytes:
        written = self._written[name]
        if name == OLD_REGISTRY:
            return old_registry(self._registry, self._sample.months)
        if name == REGISTRY:
            return zipped(registry_members(self._registry, self._sample.subclasses, self._sample.months), written)
        months = {month: self._months[month] for month in self._months_in(name)}
        return zipped(daily_members(name.rpartition("/")[2], months, ReportLayout.written_on(written.date())), written)

    # --- content

    @property
    def months(self) -> tuple[str, ...]:
        """The months that have a file, ``YYYY-MM``."""
        return tuple(self._months)

    def _months_in(self, name: str) -> list[str]:
        """Return the months of a daily zip; none for the registry."""
        return [month for month in self._months if _name(month) == name]

    def rows(self, month: str) -> tuple[DailyRow, ...]:
        """Return the currently published rows of a month; empty if it has none."""
        return self._months.get(month, ())

    def path(self, what: str) -> str:
        """Return the path of a file below the base.

        Raises
        ------
        ConfigError
            If there is no such file.
        """
        name = _name(what)
        if name not in self._written:
            raise ConfigError(f"file: {what[:80]!r} is not on the portal; write a month as '2024-03', or 'registry'")
        return name

    @property
    def requests(self) -> Counter[str]:
        """Count of requests by outcome: ``file``, ``not_modified``, ``listing``, ``robots``, ``missing``, ``outage``.

        A copy, which later requests do not change.
        """
        with self._lock:
            return self._counts.copy()

    # --- faults of files

    def rewrite(self, what: str, on: dt.date | None = None) -> None:
        """Write a file again, with its rows in the layout of the day, and undo any fault.

        Parameters
        ----------
        what : str
            The file.
        on : datetime.date, optional
            The day; by default the night after the newest file.

        Raises
        ------
        ConfigError
            If there is no such file, or the day is before the file's first month.
        """
        name = self.path(what)
        with self._lock:
            first = min(self._months_in(name), default="")
            if on is not None and Month.of(on).iso < first:
                raise ConfigError(f"on: {on} is before {first}, the first month in the file; give a later day")
            newest = max(self._written.values())
            self._written[name] = newest + dt.timedelta(days=1) if on is None else _night(on)
            self._bodies.pop(name, None)
            self._foreign.pop(name, None)
            self._cut.pop(name, None)

    def publish(self, month: str, rows: Iterable[DailyRow]) -> None:
        """Replace the rows of a month, and write its file again.

        Raises
        ------
        ConfigError
            If the month has no file.
        """
        with self._lock:
            self.path(month)
            self._months[month] = tuple(rows)
            self.rewrite(month)

    def restate(self, month: str, share: float = 0.01, *, seed: int = 0) -> list[Restatement]:
        """Change the quota or net worth in some rows of a month, and write its file again.

        Parameters
        ----------
        month : str
            ``YYYY-MM``.
        share : float
            Share of the rows to change, 0 to 1; at least one row changes.
        seed : int
            Another seed chooses other rows and values.

        Returns
        -------
        list of Restatement
            The changes, in the order of the file.

        Raises
        ------
        ConfigError
            If the month has no file, or the share is not between 0 and 1.
        """
        share = checked("share", share, 1.0)
        draw = random.Random(f"{seed} {month}")
        with self._lock:
            rows = list(self.rows(month))
            sound = [place for place, row in enumerate(rows) if _can_be_restated(row)]
            changes = []
            for place in sorted(draw.sample(sound, min(len(sound), max(1, round(share * len(rows)))))):
                row, metric = rows[place], draw.choice(list(_DECIMALS))
                old: str = getattr(row, metric)
                new = f"{float(old) * (1 + draw.choice((-1, 1)) * draw.uniform(0.0001, 0.01)):.{_DECIMALS[metric]}f}"
                rows[place] = row._replace(**{metric: new})
                changes.append(Restatement(re.sub("[./-]", "", row.cnpj), row.subclass, row.date, metric, old, new))
            self.publish(month, rows)
        return changes

    def withdraw(self, cnpj: str, date: str, subclass: str = "") -> DailyRow:
        """Remove the row of a series and day, write the file again, and return the row.

        Parameters
        ----------
        cnpj : str
            With or without punctuation.
        date : str
            The day, ISO 8601.
        subclass : str
            The subclass, if the row belongs to one.

        Raises
        ------
        ConfigError
            If there is no such row.
        """
        key, month = (format_cnpj(normalize_cnpj(cnpj)), subclass, date), Month.given("date", date).iso
        with self._lock:
            rows = self.rows(month)
            found = [row for row in rows if row[1:4] == key]
            if not found:
                raise ConfigError(f"row: {' '.join(key)} is not on the portal")
            self.publish(month, (row for row in rows if row[1:4] != key))
        return found[0]

    def add_dirt(self) -> list[Dirt]:
        """Add faults seen in the real files to some months of 2024 and to the registry, and write these files again.

        In the registry, one class appears twice and two classes share a CNPJ.

        Returns
        -------
        list of Dirt
            The faults in the months.
        """
        with self._lock:
            months, dirt = with_dirt(self._months)
            for month, rows in months.items():
                self.publish(month, rows)
            (one, other), registry = [row for row in self._registry if row["class_id"]][:2], self._registry
            twin = {**other, "class_id": f"9{other['class_id']}", "name": f"{other['name']} II"}
            self._registry = (*registry, one, twin)
            self.rewrite("registry")
        return dirt

    def put(self, what: str, content: bytes) -> None:
        """Write any bytes as a file, new or existing; :meth:`rewrite` restores a file of the sample."""
        with self._lock:
            self._written.setdefault(_name(what), max(self._written.values()))
            self.rewrite(what)
            self._foreign[_name(what)] = content

    def truncate(self, what: str, keep: float = 0.5) -> None:
        """Write only the first share of a file: a complete download, but a broken zip; :meth:`rewrite` restores it."""
        keep = checked("keep", keep, 1.0)
        with self._lock:
            self.rewrite(what)
            body = self._body(self.path(what))
            self._foreign[self.path(what)] = body[: int(len(body) * keep)]

    def cut_off(self, what: str, keep: float = 0.5) -> None:
        """Close the connection after the first share of a file's bytes; :meth:`rewrite` restores it."""
        keep = checked("keep", keep, 1.0)
        with self._lock:
            name = self.path(what)
            size = len(self._body(name))
            self._cut[name] = size - int(size * keep)

    def show_html(self, what: str) -> None:
        """Send a web page with status 200 in place of a file; :meth:`rewrite` restores it."""
        self.put(what, _UPKEEP)

    def remove(self, what: str) -> None:
        """Delete a file."""
        with self._lock:
            del self._written[self.path(what)]

    # --- faults of the server

    @property
    def crawl_delay(self) -> float:
        """The ``Crawl-Delay`` in robots.txt, in seconds; 10 by default."""
        return self._crawl_delay

    @crawl_delay.setter
    def crawl_delay(self, seconds: float) -> None:
        self._crawl_delay = checked("crawl_delay", seconds)

    @property
    def bytes_per_second(self) -> float:
        """Rate at which bodies are sent, in bytes per second; infinite by default, may be set at any time."""
        return self._bytes_per_second

    @bytes_per_second.setter
    def bytes_per_second(self, rate: float) -> None:
        if not (isinstance(rate, (int, float)) and rate >= 1):
            raise ConfigError(f"bytes_per_second: {str(rate)[:40]!r} is invalid; give a number of at least 1")
        self._bytes_per_second = float(rate)


def _name(what: str) -> str:
    """Return the path that a month, a year or a word stands for; a path stands for itself."""
    if re.fullmatch("[0-9]{4}", what):
        return _yearly_zip(what)
    with contextlib.suppress(ValueError):
        return _daily_zip(Month.parse_iso(f"{what}-01"))  # a full date names no file
    return {"registry": REGISTRY, "cad_fi": OLD_REGISTRY}.get(what, what)


def _daily_zip(month: Month) -> str:
    """Return the path of a month's zip; before zips became monthly, of its year's zip."""
    if month.year < FIRST_MONTHLY_YEAR:
        return _yearly_zip(month.year)
    return f"{REPORTS}inf_diario_fi_{month.iso.replace('-', '')}.zip"


def _yearly_zip(year: int | str) -> str:
    return f"{REPORTS}HIST/inf_diario_fi_{year}.zip"


def _first_written(month: Month) -> dt.datetime:
    """Return when a month's zip was first written, so that it has the same layout as on the real portal."""
    if month.year < FIRST_SPLIT_YEAR:
        return _night(dt.date(2021, 3, 2))
    if month.year < FIRST_MONTHLY_YEAR:
        return _night(dt.date(2021, 1, 26))
    settled = month.first_day + dt.timedelta(days=73)
    return _night(min(max(settled, dt.date(2024, 7, 7)), _NEWEST) if month.year >= 2024 else settled)


def _night(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) + _NIGHTLY


def _can_be_restated(row: DailyRow) -> bool:
    """Return whether quota and net worth are numbers large enough to show a small change."""
    figures = [getattr(row, metric) for metric in _DECIMALS]
    return all(map(_DECIMAL_TEXT.fullmatch, figures)) and float(row.quota) > 0 and float(row.net_worth) > 100


def _is_unchanged(headers: Mapping[str, str], own: Mapping[str, str]) -> bool:
    """Return whether the client's copy is current, by nginx's rules: ETags first, then the exact date."""
    if "if-none-match" in headers:
        known = [tag.strip().removeprefix("W/") for tag in headers["if-none-match"].split(",")]
        return "*" in known or own["ETag"] in known
    return headers.get("if-modified-since") == own["Last-Modified"]


def _error(status: int, headers: Mapping[str, str] | None = None) -> PortalResponse:
    titles = {
        301: "301 Moved Permanently",
        403: "403 Forbidden",
        404: "404 Not Found",
        503: "503 Service Temporarily Unavailable",
    }
    title = titles.get(status, str(status))
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr>"
    page += "<center>nginx</center>\r\n</body>\r\n</html>\r\n"
    return PortalResponse(status, {"Content-Type": "text/html", **(headers or {})}, page.encode())
