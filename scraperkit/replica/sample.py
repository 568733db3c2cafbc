"""The kit's sample data: invented funds and their daily figures, which the replica serves."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import pandas as pd

from scraperkit.errors import ScraperKitError
from scraperkit.models import COLUMNS, DailyQuote, Fund, Month

_Row = TypeVar("_Row")
WAY_OUT = "reinstall scraperkit, or run `python tools/make_sample.py`"


@dataclass(frozen=True, slots=True)
class SampleFund:
    """One row of ``funds.csv``: a fund as the replica describes it.

    Attributes
    ----------
    cnpj, pk, name, status : str
        As in :class:`~scraperkit.models.Fund`.
    administrator, administrator_cnpj : str
        The fund's administrator.
    started_on : datetime.date
        First day with figures.
    ended_on : datetime.date or None
        Last day of a closed fund.
    note : str
        The case that it represents, in English.
    """

    cnpj: str
    pk: str
    name: str
    administrator: str
    administrator_cnpj: str
    status: str
    started_on: dt.date
    ended_on: dt.date | None = None
    note: str = ""

    @property
    def active(self) -> bool:
        """Whether the fund operates normally, according to its status."""
        return self.fund.active

    @property
    def fund(self) -> Fund:
        """The fund that a source should find."""
        ended_on = Month.of(self.ended_on).last_day if self.ended_on else None
        return Fund(self.cnpj, self.pk, self.name, self.status, self.started_on, ended_on)


@dataclass(frozen=True, eq=False)
class Sample:
    """The whole sample; get it from :func:`load_sample`.

    Attributes
    ----------
    funds : tuple of SampleFund
        Sorted by CNPJ, then pk. One CNPJ may have two rows: the fund and its class.
    """

    funds: tuple[SampleFund, ...]
    _months: Mapping[tuple[str, str], tuple[DailyQuote, ...]] = field(repr=False)
    _offered: Mapping[str, tuple[str, ...]] = field(repr=False)
    _frame: pd.DataFrame = field(repr=False)

    @property
    def quotes(self) -> pd.DataFrame:
        """Every day of every fund.

        A frame with the columns and dtypes of :data:`scraperkit.models.COLUMNS`, one row for each fund and day,
        sorted by both, with a plain index. Changing it does not change the sample.
        """
        return self._frame.copy(deep=False)

    def month(self, cnpj: str, month_year: str) -> tuple[DailyQuote, ...]:
        """Return a fund's days in one month, ``MM/YYYY``; empty if there are none.

        Examples
        --------
        >>> [quote.date.day for quote in load_sample().month("18993924000100", "12/2022")][:3]
        [1, 2, 5]
        """
        return self._months.get((cnpj, month_year), ())

    def offered(self, pk: str) -> tuple[str, ...]:
        """Return the months, ``MM/YYYY``, that the site offers for a pk, newest first.

        They run without a gap from the first day with figures to the last, so a month may be empty. If a CNPJ has two
        rows, the figures belong to the active one, and the other offers no months.
        """
        return self._offered.get(pk, ())

    def restated(self, cnpj: str, month_year: str, factor: float) -> Sample:
        """Return a copy in which the quotas of a fund's month, ``MM/YYYY``, are multiplied by `factor`.

        Examples
        --------
        >>> sample = load_sample()
        >>> versions = sample, sample.restated("18993924000100", "12/2022", 2.0)
        >>> [version.month("18993924000100", "12/2022")[0].quota for version in versions]
        [3.90410065, 7.8082013]
        """
        changed = tuple(
            replace(quote, quota=None if quote.quota is None else round(quote.quota * factor, 8))
            for quote in self.month(cnpj, month_year)
        )
        frame = self.quotes
        rows = (frame["cnpj"] == cnpj) & frame["date"].isin([pd.Timestamp(quote.date) for quote in changed])
        frame.loc[rows, "quota"] = [quote.quota for quote in changed]
        return replace(self, _months=MappingProxyType({**self._months, (cnpj, month_year): changed}), _frame=frame)


@lru_cache(maxsize=1)
def load_sample() -> Sample:
    """Load the sample once.

    Returns
    -------
    Sample
        The same object on every call.

    Raises
    ------
    ScraperKitError
        If the files are missing or damaged.

    Examples
    --------
    >>> load_sample().quotes.query("cnpj == '18993924000100'").shape
    (751, 9)
    """
    return read_sample(sample_folders())


def sample_folders() -> tuple[Traversable, Traversable]:
    """Return the folders that may hold the sample: in the installed package, and in the checkout."""
    return resources.files("scraperkit") / "sample", Path(__file__).resolve().parents[2] / "data" / "sample"


def read_sample(folders: Iterable[Traversable]) -> Sample:
    """Read the sample from the first of `folders` that has it.

    Raises
    ------
    ScraperKitError
        If no folder has it, or a row is invalid.
    """
    folder = folder_with(folders, "funds.csv", "quotes.csv")
    return _build(_read(folder / "funds.csv", _fund), _read(folder / "quotes.csv", _quote))


def folder_with(folders: Iterable[Traversable], *names: str) -> Traversable:
    """Return the first of `folders` that has all these files.

    Raises
    ------
    ScraperKitError
        If no folder has them.
    """
    seen = []
    for folder in folders:
        seen.append(str(folder))
        if all((folder / name).is_file() for name in names):
            return folder
    raise ScraperKitError(f"the sample is missing: no {', '.join(names)} in {' or '.join(seen)}; {WAY_OUT}")


def _read(path: Traversable, build: Callable[[Mapping[str, str]], _Row]) -> list[_Row]:
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    try:
        return [build(row) for row in reader]
    except (KeyError, ValueError, TypeError) as error:
        raise ScraperKitError(
            f"the sample is damaged: {path.name}, line {reader.line_num}: {error}; {WAY_OUT}"
        ) from None


def _fund(row: Mapping[str, str]) -> SampleFund:
    return SampleFund(
        cnpj=row["cnpj"],
        pk=row["pk"],
        name=row["name"],
        administrator=row["administrator"],
        administrator_cnpj=row["administrator_cnpj"],
        status=row["status"],
        started_on=dt.date.fromisoformat(row["started_on"]),
        ended_on=dt.date.fromisoformat(row["ended_on"]) if row["ended_on"] else None,
        note=row["note"],
    )


def _quote(row: Mapping[str, str]) -> DailyQuote:
    return DailyQuote(
        cnpj=row["cnpj"],
        date=dt.date.fromisoformat(row["date"]),
        quota=_number(row["quota"]),
        net_worth=_number(row["net_worth"]),
        holders=int(row["holders"]) if row["holders"] else None,
        inflow=_number(row["inflow"]),
        outflow=_number(row["outflow"]),
        portfolio=_number(row["portfolio"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _build(funds: Sequence[SampleFund], quotes: Sequence[DailyQuote]) -> Sample:
    months: dict[tuple[str, str], list[DailyQuote]] = {}
    spans: dict[str, tuple[dt.date, dt.date]] = {}
    for quote in quotes:
        months.setdefault((quote.cnpj, str(Month.of(quote.date))), []).append(quote)
        spans[quote.cnpj] = (spans.get(quote.cnpj, (quote.date,))[0], quote.date)
    owners = {fund.cnpj: fund.pk for fund in sorted(funds, key=lambda fund: fund.active)}
    return Sample(
        funds=tuple(funds),
        _months=MappingProxyType({key: tuple(days) for key, days in months.items()}),
        _offered=MappingProxyType({owners[cnpj]: _newest_first(*span) for cnpj, span in spans.items()}),
        _frame=_as_frame(quotes),
    )


def _newest_first(first: dt.date, last: dt.date) -> tuple[str, ...]:
    return tuple(map(str, Month.of(first).until(Month.of(last))))[::-1]


def _as_frame(quotes: Sequence[DailyQuote]) -> pd.DataFrame:
    columns = {name: [getattr(quote, name) for quote in quotes] for name in COLUMNS}
    return pd.DataFrame(columns, dtype="object").astype({name: column.dtype for name, column in COLUMNS.items()})
