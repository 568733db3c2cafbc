"""Faults seen in the regulator's files, a few of each kind, to add to the clean months of the sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from scraperkit.models import Month
from scraperkit.replica.open_data import DailyRow

_LONG, _LESSONS_FUND = "99.101.031/0001-04", "18.993.924/0001-00"
_SHARES, _PENSION = "99.101.028/0001-82", "99.101.041/0001-31"
_LAST_DAY, _LEFT_ON_LAST_DAY = "2024-12-31", 3


class Dirt(NamedTuple):
    """One fault.

    Attributes
    ----------
    kind : str
        ``negative``, ``zeros``, ``blank_quota``, ``huge_quota``, ``identical``, ``conflicting``, ``double`` (once as
        FI, once as CLASSES - FIF), ``bad_cnpj``, ``bad_date``, ``bad_number`` or ``short_day``.
    rows : tuple of DailyRow
        The faulty row, or the rows that replace one; for a short day, the remaining rows.
    """

    kind: str
    rows: tuple[DailyRow, ...]


class _Recipe(NamedTuple):
    kind: str
    cnpj: str
    date: str
    change: Callable[[DailyRow], tuple[DailyRow, ...]]


def _instead(**cells: str) -> Callable[[DailyRow], tuple[DailyRow, ...]]:
    return lambda row: (row._replace(**cells),)


def _beside(**cells: str) -> Callable[[DailyRow], tuple[DailyRow, ...]]:
    return lambda row: (row, row._replace(**cells))


_RECIPES = (
    _Recipe("negative", _LONG, "2024-01-31", _instead(quota="-569.900000000000", net_worth="-16500000.00")),
    _Recipe("zeros", _LESSONS_FUND, "2024-03-12", _instead(quota="0.000000000000", net_worth="0.00", holders="0")),
    _Recipe("blank_quota", _LESSONS_FUND, "2024-04-10", _instead(quota="")),
    _Recipe("huge_quota", _PENSION, "2024-05-07", _instead(quota="1250000000.123456789012")),
    _Recipe("identical", _SHARES, "2024-05-10", _beside()),
    _Recipe("conflicting", _SHARES, "2024-06-04", _beside(quota="8.765432100000")),
    _Recipe("double", _LESSONS_FUND, "2024-10-15", _beside(kind="FI")),
    _Recipe("double", _LONG, "2024-10-16", _beside(kind="FI", net_worth="1.00")),
    _Recipe("bad_cnpj", _SHARES, "2024-11-05", _beside(cnpj="99.101.028/0001-83")),
    _Recipe("bad_date", _SHARES, "2024-11-06", _beside(date="2024-11-31")),
    _Recipe("bad_number", _SHARES, "2024-11-07", _beside(date="2024-11-08", quota="1.234,56")),
)


def with_dirt(months: Mapping[str, tuple[DailyRow, ...]]) -> tuple[dict[str, tuple[DailyRow, ...]], list[Dirt]]:
    """Return the months with faults added, and the faults.

    Parameters
    ----------
    months : mapping of str to tuple of DailyRow
        The rows by month, ``YYYY-MM``; faults for missing rows are skipped.
    """
    dirty: dict[str, tuple[DailyRow, ...]] = {}
    dirt = []
    for kind, cnpj, date, change in _RECIPES:
        month = Month.parse_iso(date).iso
        rows = dirty.get(month, months.get(month, ()))
        for place, row in enumerate(rows):
            if (row.cnpj, row.date) == (cnpj, date):
                dirty[month] = (*rows[:place], *change(row), *rows[place + 1 :])
                dirt.append(Dirt(kind, change(row)))
                break
    last = Month.parse_iso(_LAST_DAY).iso
    left = tuple(row for row in months.get(last, ()) if row.date == _LAST_DAY)[:_LEFT_ON_LAST_DAY]
    if left:
        dirty[last] = tuple(row for row in months[last] if row.date != _LAST_DAY or row in left)
        dirt.append(Dirt("short_day", left))
    return dirty, dirt
