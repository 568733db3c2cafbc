"""Series as users name them: a CNPJ, or ``CNPJ:SUBCLASS``; without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from scraperkit.cnpj import normalize_cnpj
from scraperkit.errors import ConfigError
from scraperkit.models import Fund
from scraperkit.timeseries.frames import Funds

_SUBCLASS = re.compile(r"[A-Za-z0-9]{1,32}")


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
    def parse(cls, text: object) -> Series:
        """Read ``CNPJ`` or ``CNPJ:SUBCLASS``.

        Raises
        ------
        ConfigError
            If the text is neither.
        """
        if not isinstance(text, str):
            raise ConfigError(
                f"funds: expected text, got {type(text).__name__}; write a CNPJ in quotes, with its zeros"
            )
        cnpj, colon, subclass = text.partition(":")
        if colon and not _SUBCLASS.fullmatch(subclass):
            raise ConfigError(f"{text[:60]!r} is not a series; write it as CNPJ or CNPJ:SUBCLASS")
        return cls(normalize_cnpj(cnpj), subclass)

    def __str__(self) -> str:
        return f"{self.cnpj}:{self.subclass}" if self.subclass else self.cnpj


def wanted_series(funds: Funds) -> list[Series]:
    """Return the series asked for, each once, in the order asked for.

    Raises
    ------
    ConfigError
        If something among them is neither a series nor a fund.
    """
    if isinstance(funds, (str, Fund)):
        funds = [funds]
    if not isinstance(funds, Iterable):
        raise ConfigError(f"funds: give a CNPJ, a Fund or a list of them; got {type(funds).__name__}")
    return list(dict.fromkeys(Series.parse(item.cnpj if isinstance(item, Fund) else item) for item in funds))


def resolve(wanted: Iterable[Series], subclasses: Mapping[str, Iterable[str]]) -> dict[Series, list[Series]]:
    """Return which stored series each of those wanted stands for.

    A CNPJ alone is the class's own series; where only subclasses have rows, all of them.

    Parameters
    ----------
    wanted : iterable of Series
    subclasses : mapping
        For each CNPJ the subclasses that have rows; ``""`` is the class itself.

    Examples
    --------
    >>> resolve([Series("29762315000158")], {"29762315000158": ["B", "A"]})
    {Series(cnpj='29762315000158', subclass=''): [Series(cnpj='29762315000158', subclass='A'), \
Series(cnpj='29762315000158', subclass='B')]}
    """
    found = {}
    for series in wanted:
        there = set(subclasses.get(series.cnpj, ()))
        if series.subclass in there:
            found[series] = [series]
        else:
            found[series] = [] if series.subclass else [Series(series.cnpj, each) for each in sorted(there)]
    return found
