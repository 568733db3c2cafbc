"""The expected result, computed without Redis and without the kit.

Its inputs are the sample files, the publishers' journals, and the offline site's record of each version it served.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
METRICS = ("quota", "net_worth", "holders", "inflow", "outflow", "portfolio")
ACTIVE = "EM FUNCIONAMENTO NORMAL"
NOT_OFFERED = "01/2019"  # before any fund of the sample began
PAGES, OPEN_DATA = "cvm_pages", "open_data"
OPEN_MONTHS = ("2024-01", "2024-02", "2024-03")
RECORD, DOWNLOADS = "site.record", "market.journal"
# By series (CNPJ or CNPJ:SUBCLASS) and metric: the figures by day.
Figures = dict[tuple[str, str], dict[str, float]]


@dataclass(frozen=True)
class Month:
    """A month of a fund that the site offers."""

    cnpj: str
    pk: str
    month: str


@dataclass
class Sample:
    """The sample.

    Attributes
    ----------
    months : list of Month
        All that the site offers.
    days : dict
        ``(cnpj, "MM/YYYY")`` to the rows of that month.
    """

    months: list[Month] = field(default_factory=list)
    days: dict[tuple[str, str], list[dict[str, str]]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Sample:
        """Read it from the repository."""
        sample = cls()
        last: dict[str, str] = {}
        for row in _rows("quotes.csv"):
            year, month, _ = row["date"].split("-")
            sample.days.setdefault((row["cnpj"], f"{month}/{year}"), []).append(row)
        for cnpj, month in sample.days:
            # The site offers every month from the first to the last, even if it is empty.
            for number in range(_number(last.get(cnpj, month)) + (cnpj in last), _number(month) + 1):
                sample.months.append(Month(cnpj, _pks()[cnpj], f"{number % 12 + 1:02d}/{number // 12}"))
            last[cnpj] = month
        return sample

    @classmethod
    def open_data(cls) -> list[Month]:
        """Return the requested months of the open data, of funds that are not on the pages."""
        on_pages = _pks()
        found = {(row["cnpj"], row["date"][:7]) for row in _rows("daily.csv")}
        return [
            Month(cnpj, "", f"{month[5:]}/{month[:4]}")
            for cnpj, month in sorted(found)
            if month in OPEN_MONTHS and cnpj not in on_pages
        ]


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _pks() -> dict[str, str]:
    """Return the pk of each CNPJ; if a CNPJ has two, that of the active fund, which has the figures."""
    return {row["cnpj"]: row["pk"] for row in sorted(_rows("funds.csv"), key=lambda row: row["status"] == ACTIVE)}


def _number(month: str) -> int:
    return int(month[3:]) * 12 + int(month[:2]) - 1


class Journal:
    """A publisher's journal: each action is written before it begins and after it is done.

    A written line survives SIGKILL of its writer, since the kernel has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, **fields: Any) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Read all whole lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines(True) if line[-1] == "\n"]


class Version(NamedTuple):
    """The figures of a month from a time on, in seconds since 1970."""

    since: float
    figures: Figures


@dataclass
class Site:
    """The versions that the site has had, and those it has served.

    Attributes
    ----------
    versions : dict
        ``(source, cnpj, "MM/YYYY")`` to the versions of that month, the oldest first.
    served : dict
        The same keys, for pages only, to the numbers of the versions served.
    downloads : list of tuple
        Start and end of each download of the open data.
    """

    versions: dict[tuple[str, str, str], list[Version]] = field(default_factory=dict)
    served: dict[tuple[str, str, str], set[int]] = field(default_factory=dict)
    downloads: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Site:
        """Read its record."""
        site = cls()
        for (cnpj, month), rows in Sample.read().days.items():
            site.versions[PAGES, cnpj, month] = [Version(0.0, _figures((cnpj, row["date"], row) for row in rows))]
        for line in Journal(folder / RECORD).lines():
            if "served" in line:
                cnpj, month, number = line["served"]
                site.served.setdefault((PAGES, cnpj, month), set()).add(number)
            elif "restated" in line:
                cnpj, month, _ = line["restated"]
                figures = _figures((cnpj, day, row) for day, row in line["rows"])
                site.versions[PAGES, cnpj, month].append(Version(line["at"], figures))
            else:
                site._rewritten(line)
        for line in Journal(folder / DOWNLOADS).lines():
            site.downloads.append((line["downloaded_since"], line["ended"]))
        return site

    def _rewritten(self, line: dict[str, Any]) -> None:
        year, month = line["rewritten"].split("-")
        of_fund: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        for cnpj, subclass, day, row in line["rows"]:
            of_fund.setdefault(cnpj, []).append((f"{cnpj}:{subclass}".rstrip(":"), day, row))
        for cnpj, rows in of_fund.items():
            version = Version(line["at"], _figures(iter(rows)))
            self.versions.setdefault((OPEN_DATA, cnpj, f"{month}/{year}"), []).append(version)

    def acceptable(self, key: tuple[str, str, str], asked_at: float) -> list[Figures]:
        """Return the versions of a month that may be stored if it was last requested at `asked_at`, newest first.

        A request for a page gets the version of that time or a newer one. A request for open data gets at least the
        version of the last download that had ended by then.
        """
        known_at = asked_at
        if key[0] == OPEN_DATA:
            known_at = max((began for began, ended in self.downloads if ended < asked_at), default=0.0)
        versions = self.versions.get(key, [Version(-inf, {})])
        oldest = max(number for number, version in enumerate(versions) if version.since <= known_at)
        served = self.served.get(key, {0})  # the site records nothing for a month that it does not offer
        return [
            version.figures
            for number, version in reversed([*enumerate(versions)])
            if number >= oldest and (key[0] == OPEN_DATA or number in served)
        ]


def _figures(rows: Iterator[tuple[str, str, dict[str, Any]]]) -> Figures:
    figures: Figures = {}
    for series, day, row in rows:
        for metric in METRICS:
            if row[metric] not in ("", None):
                figures.setdefault((series, metric), {})[day] = float(row[metric])
    return figures


@dataclass
class Record:
    """All journals together.

    Attributes
    ----------
    good, bad : dict
        Message id to ``(source, cnpj, month)``; the site does not offer the bad ones.
    asked_at : dict
        ``(source, cnpj, month)`` to the time just before its latest publication, in seconds since 1970.
    batches : dict
        Batch id to the ids of its messages, for batches known to be published.
    poison : set of str
        Invalid messages known to be sent.
    meant : set of str
        Ids and poison that a publisher intended to send, sent or not.
    """

    good: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    bad: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    asked_at: dict[tuple[str, str, str], float] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)
    poison: set[str] = field(default_factory=set)
    meant: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the journals in a folder."""
        record = cls()
        for path in sorted(folder.glob("[0-9]*.journal")):
            orders: dict[int, dict[str, Any]] = {}
            for line in Journal(path).lines():
                if "requests" in line:
                    # A restarted publisher writes it again, but the killed one may have published it.
                    orders.setdefault(line["order"], line)
                    record.meant.update(message for message, *_ in line["requests"])
                elif "batch" in line:
                    record._published(line["batch"], **orders[line["order"]])
                elif "poison" in line:
                    record.meant.add(line["poison"])
                    if line["sent"]:
                        record.poison.add(line["poison"])
        return record

    def _published(self, batch: str, requests: list[list[str]], source: str, at: float, order: int) -> None:
        self.batches[batch] = [message for message, *_ in requests]
        for message, cnpj, _, month in requests:
            key = (source, cnpj, month)
            (self.bad if month == NOT_OFFERED else self.good)[message] = key
            self.asked_at[key] = max(at, self.asked_at.get(key, 0.0))
