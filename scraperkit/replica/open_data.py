"""The open data in the sample, as text: the daily rows of every month, and the registry."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import NamedTuple

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import ScraperKitError
from scraperkit.models import Month
from scraperkit.replica.sample import WAY_OUT, folder_with, sample_folders

_SAMPLE_FILES = ("quotes.csv", "daily.csv", "registry.csv", "subclasses.csv")
_CLASS = "CLASSES - FIF"


class DailyRow(NamedTuple):
    """One line of a daily report, with every cell as text, in the order of layout C.

    The CNPJ has punctuation, the subclass may be empty, the day is in ISO 8601; figures may be blank.
    """

    kind: str
    cnpj: str
    subclass: str
    date: str
    portfolio: str
    quota: str
    net_worth: str
    inflow: str
    outflow: str
    holders: str

    @property
    def month(self) -> str:
        """The month of the day, ``YYYY-MM``."""
        return Month.parse_iso(self.date).iso


@dataclass(frozen=True, slots=True)
class OpenDataSample:
    """The portal's content; get it from :func:`load_open_data`.

    Attributes
    ----------
    months : mapping of str to tuple of DailyRow
        By month, ``YYYY-MM``, in order; each sorted by CNPJ, subclass and day.
    registry, subclasses : tuple of mapping
        The rows of ``registry.csv`` and ``subclasses.csv``.
    """

    months: Mapping[str, tuple[DailyRow, ...]]
    registry: tuple[Mapping[str, str], ...]
    subclasses: tuple[Mapping[str, str], ...]


@lru_cache(maxsize=1)
def load_open_data() -> OpenDataSample:
    """Load the open data of the sample once.

    Raises
    ------
    ScraperKitError
        If the files are missing or damaged.

    Examples
    --------
    >>> sample = load_open_data()
    >>> [*sample.months][0], [*sample.months][-1], sample.months["2021-01"][0].quota
    ('2000-01', '2024-12', '3.190000000000')
    """
    return read_open_data(sample_folders())


def read_open_data(folders: Iterable[Traversable]) -> OpenDataSample:
    """Read the open data from the first of `folders` that has it.

    Raises
    ------
    ScraperKitError
        If no folder has it, or a row lacks a column.
    """
    folder = folder_with(folders, *_SAMPLE_FILES)
    return _build(*(_rows(folder / name) for name in _SAMPLE_FILES))


def _rows(path: Traversable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def _build(
    quotes: list[dict[str, str]],
    daily: list[dict[str, str]],
    registry: list[dict[str, str]],
    subclasses: list[dict[str, str]],
) -> OpenDataSample:
    try:
        entries = {row["cnpj"]: row for row in registry}
        months: dict[str, list[DailyRow]] = {}
        for row in _daily_rows([*quotes, *daily], entries):
            months.setdefault(row.month, []).append(row)
    except (KeyError, TypeError) as error:
        raise ScraperKitError(f"the sample is damaged: {error} is missing; {WAY_OUT}") from None
    return OpenDataSample(
        MappingProxyType({month: tuple(sorted(months[month], key=_place)) for month in sorted(months)}),
        tuple(registry),
        tuple(subclasses),
    )


def _daily_rows(rows: Iterable[dict[str, str]], entries: Mapping[str, Mapping[str, str]]) -> Iterator[DailyRow]:
    for row in rows:
        entry, day = entries[row["cnpj"]], row["date"]
        adapted = entry["adapted_on"] and entry["adapted_on"] <= day
        yield DailyRow(
            kind=_CLASS if adapted else entry["kind"],
            cnpj=format_cnpj(row["cnpj"]),
            subclass=row.get("subclass", ""),
            date=day,
            portfolio=row["portfolio"],
            quota=_twelve_decimals(row["quota"]),
            net_worth=row["net_worth"],
            inflow=row["inflow"],
            outflow=row["outflow"],
            holders=row["holders"],
        )


def _twelve_decimals(text: str) -> str:
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<12}" if text else ""


def _place(row: DailyRow) -> tuple[str, str, str]:
    return row.cnpj, row.subclass, row.date
