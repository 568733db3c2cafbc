"""Parse a caller's request: CNPJs, series, funds and names, in any mix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scraperkit.cnpj import looks_like_cnpj, normalize_series, way_back
from scraperkit.errors import ConfigError
from scraperkit.models import Fund, Month
from scraperkit.timeseries.frames import Funds


@dataclass(frozen=True, slots=True)
class WantedFund:
    """One fund that a caller requests.

    Attributes
    ----------
    label : str
        The series, or the name as the caller wrote it.
    series : str
        ``CNPJ`` or ``CNPJ:SUBCLASS``; empty while only a name is known.
    fund : Fund or None
        The fund, if the caller gave one.
    months : tuple of Month
        The months that may be requested.
    """

    label: str
    series: str = ""
    fund: Fund | None = None
    months: tuple[Month, ...] = ()

    @property
    def cnpj(self) -> str:
        """The CNPJ of the series; empty while only a name is known."""
        return self.series.partition(":")[0]


def read_wanted(funds: Funds, months: tuple[Month, ...] = ()) -> list[WantedFund]:
    """Return the requested funds, without duplicates, in order, each with these months.

    Raises
    ------
    ConfigError
        If an item is neither text nor a fund, or is an invalid CNPJ.

    Examples
    --------
    >>> [(each.label, each.series) for each in read_wanted(["18.993.924/0001-00", "Soberano RF"])]
    [('18993924000100', '18993924000100'), ('Soberano RF', '')]
    """
    if isinstance(funds, str | Fund):
        funds = [funds]
    if not isinstance(funds, Iterable):
        raise ConfigError(f"funds: give a CNPJ, a name, a Fund or a list of them; got {type(funds).__name__}")
    found = dict.fromkeys(map(_wanted, funds))
    by_label = {each.label: each for each in found}
    if not by_label:
        raise ConfigError("funds: the list is empty; give at least one CNPJ, name or Fund")
    return [replace(each, months=months) for each in by_label.values()]


def _wanted(item: object) -> WantedFund:
    if isinstance(item, Fund):
        series = normalize_series(item.cnpj)
        return WantedFund(series, series, item)
    if not isinstance(item, str):
        got = f"{type(item).__name__}: {str(item)[:40]!r}"
        raise ConfigError(f"funds: give CNPJs and names as text, or Funds; got {got}{way_back(item)}")
    text = item.strip()
    if looks_like_cnpj(text):
        series = normalize_series(text)
        return WantedFund(series, series)
    return WantedFund(text)
