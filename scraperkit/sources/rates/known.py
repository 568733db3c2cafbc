"""The rates that the kit knows, and those that have ended."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from scraperkit.errors import ConfigError

Kind = Literal["rate a day", "rate a month", "level"]
Service = Literal["sgs", "b3"]


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate or index.

    Attributes
    ----------
    name, title : str
        Its name for users, and its description.
    kind : str
        ``rate a day`` accrues from its day to the next business day, ``rate a month`` over the month that its day
        begins, and a ``level`` compares with itself on other days.
    unit : str
        The unit of its values: ``% a day``, ``% a month``, ``points`` or ``R$``.
    service : str
        The service that has it.
    code : str
        Its name in the service.
    first : datetime.date
        The first day to request.
    lag : int
        For a monthly rate, how many months pass before its value can be published.
    moves_in_session : bool
        Whether the day's value is published before it is final.
    """

    name: str
    title: str
    kind: Kind
    unit: str
    service: Service
    code: str
    first: dt.date
    lag: int = 0
    moves_in_session: bool = False

    @property
    def monthly(self) -> bool:
        """Whether it has one value per month, on the first day of the month."""
        return self.kind == "rate a month"

    @property
    def source(self) -> str:
        """Who publishes it, and under which name."""
        return f"Banco Central do Brasil SGS {self.code}" if self.service == "sgs" else f"B3 {self.code}"

    @property
    def licence(self) -> str:
        """The owner of the figures, and their licence if known."""
        return _TERMS[self.service]


_TERMS = {
    "sgs": "Banco Central do Brasil, open data; dadosabertos.bcb.gov.br names the licence of each series",
    "b3": "B3 S.A., its public index statistics; no open licence is known",
}
KNOWN_RATES = {
    rate.name: rate
    for rate in (
        Rate("cdi", "CDI, interbank rate", "rate a day", "% a day", "sgs", "12", dt.date(1986, 3, 6)),
        Rate("selic", "Selic, overnight rate", "rate a day", "% a day", "sgs", "11", dt.date(1986, 6, 4)),
        Rate("ipca", "IPCA, consumer prices", "rate a month", "% a month", "sgs", "433", dt.date(1980, 1, 1), lag=1),
        Rate("igpm", "IGP-M, general prices", "rate a month", "% a month", "sgs", "189", dt.date(1989, 6, 1)),
        Rate("dollar", "US dollar, PTAX, sale", "level", "R$", "sgs", "1", dt.date(1984, 11, 28)),
        Rate(
            *("ibovespa", "Ibovespa, total-return index", "level", "points", "b3", "IBOVESPA", dt.date(1998, 1, 1)),
            moves_in_session=True,
        ),
    )
}

# What has ended, by the names that people use.
_IBOVESPA_ENDED = "SGS 7, the Banco Central's Ibovespa, ended on 2019-09-30; use 'ibovespa', which comes from B3"
_IMA_B_ENDED = (
    "SGS 12466, the Banco Central's IMA-B, has ended; ANBIMA publishes the IMA-B, but the kit does not fetch it: "
    "read it into a Series of your own"
)
_ENDED = {"7": _IBOVESPA_ENDED} | dict.fromkeys(("12466", "imab", "ima-b", "ima_b"), _IMA_B_ENDED)
_OTHER_NAMES = {rate.code.lower(): rate.name for rate in KNOWN_RATES.values()} | {
    "di": "cdi",
    "ibov": "ibovespa",
    "^bvsp": "ibovespa",
    "igp-m": "igpm",
    "usd": "dollar",
    "dolar": "dollar",
    "dólar": "dollar",
    "ptax": "dollar",
}


def known(name: object) -> Rate:
    """Return the rate with that name.

    Raises
    ------
    ConfigError
        If there is none, or it has ended; says what to use instead.

    Examples
    --------
    >>> known("CDI").unit
    '% a day'
    """
    text = str(name).strip().lower() if isinstance(name, str | int) else ""
    if text in KNOWN_RATES:
        return KNOWN_RATES[text]
    shown = str(name)[:40]
    if text in _ENDED:
        raise ConfigError(f"name: {shown!r} has no new values: {_ENDED[text]}")
    near = (
        f"it is called {_OTHER_NAMES[text]!r} here"
        if text in _OTHER_NAMES
        else f"choose one of {', '.join(KNOWN_RATES)}"
    )
    raise ConfigError(f"name: unknown rate {shown!r}; {near}")
