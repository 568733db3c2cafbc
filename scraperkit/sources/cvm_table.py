"""Reads the table of a daily page: headings, days and Brazilian numbers, strictly."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Sequence

from scraperkit.errors import PageChanged
from scraperkit.models import METRICS, DailyQuote
from scraperkit.sources.markup import clean

HEADINGS = {
    "day": "Dia",
    "quota": "Quota (R$)",
    "inflow": "Captação no Dia (R$)",
    "outflow": "Resgate no Dia (R$)",
    "net_worth": "Patrimônio Líquido (R$)",
    "portfolio": "Total da Carteira (R$)",
    "holders": "N°. Total de Cotistas",
    "next": "Data da próxima informação do PL",
}
_DAY = re.compile(r"[0-9]{1,2}")
# Thousands marks are all there or all absent: the site's own habit for the number of holders is not known for sure.
_INTEGER = re.compile(r"-?(?:[0-9]{1,3}(?:\.[0-9]{3}){1,5}|[0-9]{1,18})")
_DECIMAL = re.compile(rf"{_INTEGER.pattern}(?:,[0-9]{{1,20}})?")
_NOT_IN_KEY = re.compile(r"[\s.°º]+")


def heading_key(text: str) -> str:
    r"""Return what is compared of a heading: no white space, dots or ordinal signs, one case.

    Examples
    --------
    >>> heading_key("Nº. Total\xa0deCotistas") == heading_key("N°. Total de Cotistas")
    True
    """
    return _NOT_IN_KEY.sub("", unicodedata.normalize("NFC", text)).casefold()


_KEYS = {heading_key(heading): name for name, heading in HEADINGS.items()}


def parse_decimal(text: str) -> float:
    """Return a number such as ``1.234.567,89`` as the float of that very decimal text.

    Raises
    ------
    ValueError
        If the text is anything else: other digits than ASCII's, misplaced dots, a bare comma.

    Examples
    --------
    >>> parse_decimal("1.953,90872200"), parse_decimal("-0,5")
    (1953.908722, -0.5)
    """
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a number such as 1.234.567,89")
    return float(text.replace(".", "").replace(",", "."))


def parse_integer(text: str) -> int:
    """Return a whole number such as ``1.982``; raises ValueError as :func:`parse_decimal` does.

    Examples
    --------
    >>> parse_integer("1.982"), parse_integer("1982")
    (1982, 1982)
    """
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a whole number such as 1.234")
    return int(text.replace(".", ""))


def read_quotes(table: Sequence[Sequence[str]], *, cnpj: str, month: str, url: str = "") -> tuple[DailyQuote, ...]:
    """Return the days of a table that show at least one figure, in the table's order.

    Parameters
    ----------
    table : sequence of sequences of str
        The texts of its cells, row by row; the first row are the headings.
    cnpj, month : str
        The fund; and the month that the table is for, as ``MM/YYYY``.
    url : str
        The page's address, for messages.

    Raises
    ------
    PageChanged
        If a heading, a day or a number is not as known.
    """
    rows = [[clean(cell) for cell in row] for row in table if row]
    if not rows:
        raise PageChanged("daily page: its table has no headings", url)
    columns = _columns(rows[0], url)
    quotes: dict[dt.date, DailyQuote] = {}
    for cells in rows[1:]:
        if not any(cells):
            continue
        if len(cells) != len(rows[0]):
            raise PageChanged(f"daily page: a row has {len(cells)} cells, the headings are {len(rows[0])}", url)
        figures = {metric: cells[columns[metric]] for metric in METRICS}
        if not any(figures.values()):
            continue
        day = cells[columns["day"]]
        quote = _quote(cnpj, _date(day, month, url), figures, url)
        if quote.date in quotes:
            raise PageChanged(f"daily page: day {day} is there twice", url)
        quotes[quote.date] = quote
    return tuple(quotes.values())


def _columns(headings: list[str], url: str) -> dict[str, int]:
    columns: dict[str, int] = {}
    for position, heading in enumerate(headings):
        name = _KEYS.get(heading_key(heading))
        if name in columns:
            raise PageChanged(f"daily page: the heading {heading!r} is there twice", url)
        if name is not None:
            columns[name] = position
    missing = [heading for name, heading in HEADINGS.items() if name not in columns]
    if missing:
        raise PageChanged(f"daily page: no column {', '.join(map(repr, missing))}; there are {headings}"[:900], url)
    return columns


def _date(day: str, month: str, url: str) -> dt.date:
    try:
        if _DAY.fullmatch(day):
            return dt.date(int(month[3:]), int(month[:2]), int(day))
    except ValueError:
        pass
    raise PageChanged(f"daily page: {HEADINGS['day']} {day[:40]!r} is no day of {month}", url)


def _quote(cnpj: str, date: dt.date, figures: dict[str, str], url: str) -> DailyQuote:
    values: dict[str, float] = {}
    holders = None
    for metric, text in figures.items():
        if not text:
            continue
        try:
            if metric == "holders":
                holders = parse_integer(text)
            else:
                values[metric] = parse_decimal(text)
        except ValueError as error:
            raise PageChanged(f"daily page: {HEADINGS[metric]} of {date:%d/%m/%Y}: {error}", url) from None
    return DailyQuote(cnpj, date, holders=holders, **values)
