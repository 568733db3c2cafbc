"""Series as users name them: a CNPJ, or ``CNPJ:SUBCLASS``; without I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from scraperkit.cnpj import normalize_series
from scraperkit.timeseries import frames


class Series(NamedTuple):
    """A CNPJ, and a subclass or none.

    Examples
    --------
    >>> str(Series.parse("29.762.315/0001-58:30SMU1746554429")), Series.parse("29762315000158").subclass
    ('29762315000158:30SMU1746554429', '')
    """

    cnpj: str
    subclass: str = ""

    @classmethod
    def parse(cls, text: str) -> Series:
        """Read ``CNPJ`` or ``CNPJ:SUBCLASS``.

        Raises
        ------
        ConfigError
            If the text is neither.
        """
        cnpj, _, subclass = normalize_series(text).partition(":")
        return cls(cnpj, subclass)

    def __str__(self) -> str:
        return f"{self.cnpj}:{self.subclass}" if self.subclass else self.cnpj


def wanted_series(funds: frames.Funds) -> list[Series]:
    """Return the requested series, each once, in the order requested.

    Raises
    ------
    ConfigError
        If something among them is neither a series nor a fund.
    """
    return [Series.parse(name) for name in frames.wanted_series(funds, "funds")]


def resolve(wanted: Collection[Series], subclasses: Mapping[str, Iterable[str]]) -> dict[Series, list[Series]]:
    """Return which stored series each of those wanted stands for.

    A CNPJ alone is the class's own series; if only subclasses have rows, all of them, unless one of these is wanted
    beside it.

    Parameters
    ----------
    wanted : collection of Series
    subclasses : mapping
        For each CNPJ the subclasses that have rows; ``""`` is the class itself.

    Examples
    --------
    >>> resolve([Series("29762315000158")], {"29762315000158": ["B", "A"]})
    {Series(cnpj='29762315000158', subclass=''): [Series(cnpj='29762315000158', subclass='A'), \
Series(cnpj='29762315000158', subclass='B')]}
    """
    by_subclass = {series.cnpj for series in wanted if series.subclass}
    found = {}
    for series in wanted:
        there = set(subclasses.get(series.cnpj, ()))
        if series.subclass in there:
            found[series] = [series]
        elif series.cnpj in by_subclass:
            found[series] = []
        else:
            found[series] = [Series(series.cnpj, each) for each in sorted(there)]
    return found
