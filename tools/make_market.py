"""Make a whole market's daily reports, as the portal has them: a month, a year or a decade, including dirty rows.

The figures are invented, from a seed: on one machine, the same arguments produce the same bytes. Run it from the root
of the repository; do not commit its output::

    python tools/make_market.py month /tmp/inf_diario_fi_202608.zip   # layout C: 26,000 series, 525,000 rows
    python tools/make_market.py year /tmp/inf_diario_fi_2015.zip      # layout A: twelve members, 3 million rows
    python tools/make_market.py decade /tmp/DADOS --series 500        # ten years from 2016, as the portal lays them out
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scraperkit.calendar import business_days
from scraperkit.models import Month
from scraperkit.replica.portal_files import FIRST_MONTHLY_YEAR, ReportLayout, as_csv

FULL_SERIES, YEAR_SERIES, MONTH, YEAR, DECADE = 26_000, 12_730, "2026-08", 2015, 2016
FILLED = 525_000 / (26_000 * 21)  # share of series and days that have a row
STARTED_OR_ENDED = 0.02  # share of series that start or end within a month
SUBCLASSES = 0.031  # share of series
NEGATIVE_WORTH = 0.00132  # share of series
SPLIT = 1 / 13_000  # share of series that change from class rows to subclass rows in a month
# Shares of rows; each kind occurs at least once.
DIRT = {
    "zeros": 2e-4,
    "blank_quota": 2e-5,
    "negative_quota": 2e-6,
    "huge_quota": 1e-6,
    "identical": 1e-5,
    "conflicting": 2e-6,
    "double": 1e-5,
    "double_conflicting": 4e-6,
}
KINDS = {ReportLayout.B: ("FI", "FAPI", 0.99), ReportLayout.C: ("CLASSES - FIF", "FI", 0.98)}
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
LINE = "%s%s;%.2f;%.12f;%.2f;%.2f;%.2f;%d"
PLACES = {"quota": -5, "net_worth": -4, "holders": -1}  # in a line's cells, whatever its layout

Floats = npt.NDArray[np.float64]
Cells = list[str]


@dataclass
class Market:
    """Series that continue from month to month.

    Parameters
    ----------
    series : int
        Number of series.
    seed : int
        Seed of the random numbers.
    """

    series: int = FULL_SERIES
    seed: int = 0
    dirt: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        draw = self._draw = np.random.default_rng(self.seed)
        count = self.series
        in_subclasses = round(count * SUBCLASSES)
        letters = draw.choice(LETTERS, (in_subclasses, 5)).tolist()
        ids = [f"{''.join(row)}{1_719_837_600 + number}" for number, row in enumerate(letters)]
        self._subclasses = [*ids, *[""] * (count - in_subclasses)]
        # Two to four subclasses share the CNPJ of their class; before they exist, the first represents it.
        sizes = draw.integers(2, 5, in_subclasses)
        self._class_of = np.arange(count)
        self._class_of[:in_subclasses] = np.repeat(np.cumsum(sizes) - sizes, sizes)[:in_subclasses]
        self._cnpjs = made_up_cnpjs(draw, count)
        self._quota = np.exp(draw.normal(1.0, 1.5, count))
        self._decimals = draw.choice([6, 8, 12], count, p=[0.1, 0.4, 0.5])
        self._volatility = np.exp(draw.normal(-6.5, 1.0, count))
        self._net_worth = np.round(np.exp(draw.normal(17.0, 2.0, count)), 2)
        self._net_worth[draw.random(count) < NEGATIVE_WORTH] *= -1
        self._holders = np.round(np.exp(draw.normal(3.5, 2.5, count).clip(0, 14)))

    def month(self, month: str, layout: ReportLayout, days: int | None = None, *, dirty: bool = True) -> bytes:
        """Return the daily report of a month, and advance to the next; `dirt` counts its dirty rows.

        Parameters
        ----------
        month : str
            ``YYYY-MM``.
        layout : ReportLayout
            The columns; only C has subclasses.
        days : int or None
            Number of business days; all by default.
        dirty : bool
            Whether to add dirty rows.
        """
        parsed = Month.parse_iso(month)
        dates = [f"{day:%Y-%m-%d}" for day in business_days(parsed.first_day, parsed.last_day)][:days]
        present = self._present(len(dates))
        if layout is not ReportLayout.C:
            present &= (self._class_of == np.arange(self.series))[:, np.newaxis]
        rows, columns = np.nonzero(present)
        figures = [values[rows, columns].tolist() for values in self._figures(len(dates))]
        starts = self._starts(layout)
        firsts, days_of_rows = [starts[row] for row in rows.tolist()], [dates[column] for column in columns.tolist()]
        lines = [LINE % cells for cells in zip(firsts, days_of_rows, *figures, strict=True)]
        if layout is ReportLayout.C:
            self._split(lines, rows, columns, len(dates) // 2)
        if dirty:
            self._add_dirt(lines, layout)
        return as_csv(layout.value, lines)

    def _present(self, days: int) -> npt.NDArray[np.bool_]:
        """Return a mask of series by day: True where there is a row."""
        draw, count = self._draw, self.series
        present = np.ones((count, days), dtype=bool)
        partial = np.flatnonzero(draw.random(count) < STARTED_OR_ENDED)
        turns, starting = draw.integers(0, days, len(partial)), draw.random(len(partial)) < 0.5
        late = np.arange(days) >= turns[:, np.newaxis]
        present[partial] = np.where(starting[:, np.newaxis], late, ~late)
        present &= draw.random((count, days)) < FILLED / (1 - STARTED_OR_ENDED / 2)
        return present

    def _figures(self, days: int) -> tuple[Floats, ...]:
        """Return the six figures in the order of the file, each as series by day; remember the last day."""
        draw, shape = self._draw, (self.series, days)
        moves = 0.0004 + self._volatility[:, np.newaxis] * draw.standard_normal(shape)
        quota = self._quota[:, np.newaxis] * np.cumprod(1 + moves, axis=1)
        for decimals in (6, 8):
            few = self._decimals == decimals
            quota[few] = np.round(quota[few], decimals)
        flows = np.abs(self._net_worth)[:, np.newaxis] * 0.002 * draw.exponential(1.0, (2, *shape))
        inflow, outflow = np.round(np.where(draw.random((2, *shape)) < 0.3, flows, 0.0), 2)
        grown = self._net_worth[:, np.newaxis] * quota / self._quota[:, np.newaxis]
        net_worth = np.round(grown + np.cumsum(inflow - outflow, axis=1), 2)
        portfolio = np.round(net_worth * (1 + 0.004 * draw.random(shape)), 2)
        holders = np.maximum(1, self._holders[:, np.newaxis] + np.cumsum(draw.integers(-1, 2, shape), axis=1))
        self._quota, self._net_worth, self._holders = quota[:, -1], net_worth[:, -1], holders[:, -1]
        return portfolio, quota, net_worth, inflow, outflow, holders

    def _starts(self, layout: ReportLayout) -> list[str]:
        """Return the beginning of each series's lines, up to the day."""
        cnpjs = [self._cnpjs[number] for number in self._class_of.tolist()]
        if layout is ReportLayout.A:
            return [f"{cnpj};" for cnpj in cnpjs]
        usual, other, share = KINDS[layout]
        kinds = np.where(np.random.default_rng(self.seed).random(self.series) < share, usual, other).tolist()
        if layout is ReportLayout.B:
            return [f"{kind};{cnpj};" for kind, cnpj in zip(kinds, cnpjs, strict=True)]
        return [
            f"{usual if subclass else kind};{cnpj};{subclass};"
            for kind, cnpj, subclass in zip(kinds, cnpjs, self._subclasses, strict=True)
        ]

    def _split(self, lines: list[str], rows: npt.NDArray[Any], columns: npt.NDArray[Any], turn: int) -> None:
        """Change a few series from class rows to subclass rows, from day number `turn` on and in all later months."""
        classes = [number for number, subclass in enumerate(self._subclasses) if not subclass]
        for chosen in self._draw.choice(classes, at_least_one(self.series * SPLIT), replace=False).tolist():
            self._subclasses[chosen] = f"SPLIT{1_726_012_800 + chosen}"
            for place in np.flatnonzero((rows == chosen) & (columns >= turn)):
                cells = lines[place].split(";")
                cells[0], cells[2] = KINDS[ReportLayout.C][0], self._subclasses[chosen]
                lines[place] = ";".join(cells)
            self.dirt["split"] += 1

    def _add_dirt(self, lines: list[str], layout: ReportLayout) -> None:
        """Make some lines dirty, from the last to the first, so that added lines do not shift earlier places."""
        counts = {name: at_least_one(share * len(lines)) for name, share in DIRT.items()}
        if layout is not ReportLayout.C:
            counts = {name: count for name, count in counts.items() if not name.startswith("double")}
        own = self._own_lines(lines, layout)
        places = self._draw.choice(own, sum(counts.values()), replace=False).tolist()
        names = [name for name, count in counts.items() for _ in range(count)]
        for place, name in sorted(zip(places, names, strict=True), reverse=True):
            lines[place : place + 1] = [";".join(cells) for cells in DIRTIED[name](lines[place].split(";"))]
        self.dirt.update(counts)

    def _own_lines(self, lines: list[str], layout: ReportLayout) -> list[int]:
        """Return the positions of the lines without a subclass."""
        if layout is not ReportLayout.C:
            return list(range(len(lines)))
        return [place for place, line in enumerate(lines) if ";;" in line]


def with_cells(cells: Cells, **texts: str) -> Cells:
    """Return a line's cells with some of its figures replaced."""
    changed = list(cells)
    for name, text in texts.items():
        changed[PLACES[name]] = text
    return changed


def changed_by(cells: Cells, name: str, factor: float) -> Cells:
    """Return a line's cells with one figure multiplied."""
    text = cells[PLACES[name]]
    return with_cells(cells, **{name: f"{float(text) * factor:.{len(text.partition('.')[2])}f}"})


DIRTIED: dict[str, Callable[[Cells], list[Cells]]] = {
    "zeros": lambda cells: [with_cells(cells, quota="0.000000000000", net_worth="0.00", holders="0")],
    "blank_quota": lambda cells: [with_cells(cells, quota="")],
    "negative_quota": lambda cells: [with_cells(cells, quota="-569.900000000000", net_worth="-16500000.00")],
    "huge_quota": lambda cells: [with_cells(cells, quota="1250000000.123456789012")],
    "identical": lambda cells: [cells, cells],
    "conflicting": lambda cells: [cells, changed_by(cells, "quota", 1.01)],
    "double": lambda cells: [["FI", *cells[1:]], ["CLASSES - FIF", *cells[1:]]],
    "double_conflicting": lambda cells: [
        ["FI", *changed_by(cells, "net_worth", 1.01)[1:]],
        ["CLASSES - FIF", *cells[1:]],
    ],
}


def at_least_one(count: float) -> int:
    """Return a count as a whole number, 1 or more."""
    return max(1, round(count))


def made_up_cnpjs(draw: np.random.Generator, count: int) -> list[str]:
    """Return CNPJs with valid check digits and punctuation, sorted; their roots start with 99."""
    roots = np.sort(draw.choice(1_000_000, count, replace=False)) + 99_000_000
    digits = (roots[:, np.newaxis] // 10 ** np.arange(7, -1, -1)) % 10
    digits = np.hstack([digits, np.tile([0, 0, 0, 1], (count, 1))])
    for _ in range(2):
        weights = np.resize(np.arange(2, 10), digits.shape[1])[::-1]
        rest = digits @ weights % 11
        digits = np.column_stack([digits, np.where(rest < 2, 0, 11 - rest)])
    ends = (digits[:, 12] * 10 + digits[:, 13]).tolist()
    texts = map(str, roots.tolist())
    return [f"{text[:2]}.{text[2:5]}.{text[5:]}/0001-{end:02d}" for text, end in zip(texts, ends, strict=True)]


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip, making one member at a time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compresslevel=1)


def write_month(
    path: Path, month: str = MONTH, days: int | None = None, *, market: Market, layout: ReportLayout
) -> None:
    """Write a month's zip."""
    write_zip(path, [(f"inf_diario_fi_{month.replace('-', '')}.csv", market.month(month, layout, days))])


def write_year(path: Path, year: int = YEAR, days: int | None = None, *, market: Market, layout: ReportLayout) -> None:
    """Write a year's zip of twelve members, each with `days` days."""
    write_zip(
        path,
        (
            (f"inf_diario_fi_{year}{month:02d}.csv", market.month(f"{year}-{month:02d}", layout, days))
            for month in range(1, 13)
        ),
    )


def write_decade(folder: Path, market: Market, first: int = DECADE, years: int = 10) -> Iterator[Path]:
    """Write ten years, the early ones below ``HIST``; yield each path once it is written."""
    (folder / "HIST").mkdir(parents=True, exist_ok=True)
    for year in range(first, first + years):
        if year < FIRST_MONTHLY_YEAR:
            path = folder / "HIST" / f"inf_diario_fi_{year}.zip"
            write_year(path, year, market=market, layout=ReportLayout.A)
            yield path
            continue
        layout = ReportLayout.B if year < 2024 else ReportLayout.C
        for month in range(1, 13):
            path = folder / f"inf_diario_fi_{year}{month:02d}.zip"
            write_month(path, f"{year}-{month:02d}", market=market, layout=layout)
            yield path


def main() -> int:
    """Write the requested files, and print the number of dirty rows by kind."""
    parser = argparse.ArgumentParser(description="Make a market's daily reports.")
    parser.add_argument("what", choices=["month", "year", "decade"])
    parser.add_argument("path", type=Path, help="zip file, or folder of a decade")
    parser.add_argument("--series", type=int, help=f"default: {FULL_SERIES:,} for a month, else {YEAR_SERIES:,}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    market = Market(options.series or (FULL_SERIES if options.what == "month" else YEAR_SERIES), options.seed)
    if options.what == "month":
        write_month(options.path, market=market, layout=ReportLayout.C)
    elif options.what == "year":
        write_year(options.path, market=market, layout=ReportLayout.A)
    else:
        for path in write_decade(options.path, market):
            print(path)
    print(", ".join(f"{name} {count}" for name, count in sorted(market.dirt.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
