"""Parse the regulator's pages: bytes in, values out, no I/O.

There are three: the search results, the page of a fund, and the daily page with one month of quotes. Each is recognised
by its element ids, no matter what surrounds them. Anything unexpected is an error, never a guess.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from bs4 import Tag

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import NotACvmPage, PageChanged, WrongFund, WrongMonth
from scraperkit.models import METRICS, DailyQuote, Month, brazilian_date
from scraperkit.sources.markup import (
    DailyMarkup,
    Option,
    attribute,
    clean,
    decode,
    read_daily_markup,
    read_markup,
    read_page,
)
from scraperkit.sources.says import says

RESULTS_ID, VIEWSTATE_ID = "ddlFundos", "__VIEWSTATE"
NAME_ID, ADMINISTRATOR_ID, STATUS_ID, START_ID = "lbNmDenomSocial", "lbNmDenomSocialAdm", "lbSitDesc", "lbInfAdc1"
CNPJ_ID, DAILY_LINK_ID, MONTHS_ID, TABLE_ID = "lbNrPfPj", "Hyperlink2", "ddComptc", "dgDocDiario"

# The words of a search that found nothing, if it shows no list of results.
_NONE, _FOUND = "nenhuma? (?:participante|fundo|classe|registro|resultado)", "(?:encontrad|localizad)[ao]"
_FOUND_NOTHING = re.compile(rf"\b(?:{_NONE} (?:foi )?{_FOUND}|{_FOUND} {_NONE})\b", re.IGNORECASE)
# A page that says one of these has not searched, even if it shows the empty list as well.
_NOT_SEARCHED = re.compile(
    r"captcha|caracteres da imagem|sess[ãa]o (?:expir|encerr)|manuten[çc][ãa]o|\bocorreu um erro|tente novamente",
    re.IGNORECASE,
)
# A row has several links; these are the ones that public code is known to follow, the fund's name first.
_NAME_LINKS = ("lnkbtn1", "Linkbutton4", "Linkbutton2")
_POSTBACK = re.compile(r"__doPostBack\(\s*[\"']([^\"']+)[\"']\s*,\s*[\"']([^\"']*)[\"']")
_ROW = re.compile(r"ctl([0-9]+)")
_PK_IN_URL = re.compile(r"[?&]PK_PARTIC=([0-9]{1,12})(?![0-9])", re.IGNORECASE)
_OF_THE_FUND = r"d[aeo] (?:Fundo|Classe|Subclasse|Participante)\b[^:]{0,40}?"
# The site has written CNPJ:, CNPJ/MF:, CNPJ do Fundo: and CNPJ da Classe:.
_CNPJ_LABEL = re.compile(rf"\bCNPJ\b(?: ?/ ?M[EF])?(?: n[º°o]\.?)?(?: {_OF_THE_FUND})? ?: ?", re.IGNORECASE)
# Another label after the name, such as "Gestor:", means that the next CNPJ is not the fund's. The limit of length keeps
# a page that repeats the label from taking minutes.
_FUND_NAME = re.compile(rf"\bNome {_OF_THE_FUND} ?: ?((?:[^:]|:(?! )){{0,300}}?) ?(?=\bCNPJ\b)", re.IGNORECASE)
_CNPJ = re.compile(r"[0-9A-Z]{2}\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?[0-9]{2}(?![0-9A-Z])", re.IGNORECASE)
_PUNCTUATION = str.maketrans("", "", "./-")

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
# All thousands separators or none: it is not known for sure how the site writes the number of holders.
_INTEGER = re.compile(r"-?(?:[0-9]{1,3}(?:\.[0-9]{3}){1,5}|[0-9]{1,18})")
_DECIMAL = re.compile(rf"{_INTEGER.pattern}(?:,[0-9]{{1,20}})?")
_NOT_IN_KEY = re.compile(r"[\s.°º]+")


@dataclass(frozen=True, slots=True)
class SearchRow:
    """One search result: its name, the postback event that follows its link, and its CNPJ where the page shows it."""

    name: str
    target: str
    argument: str = ""
    cnpj: str = ""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Search results; `form` holds the hidden fields to post back with a row's event."""

    rows: tuple[SearchRow, ...]
    form: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FundPage:
    """Values on the page of a fund; empty text or ``None`` if missing. `pk` comes from the daily link."""

    cnpj: str
    name: str
    administrator: str
    status: str
    started_on: dt.date | None
    daily_link: str
    pk: str


@dataclass(frozen=True, slots=True)
class DailyPage:
    """A daily page.

    Attributes
    ----------
    cnpj, name : str
        The fund, from the page's header; the CNPJ as 14 characters.
    months : tuple of str
        The offered months as ``MM/YYYY``, in page order (newest first).
    selected : str
        The table's month; empty if none is selected.
    form : mapping
        Hidden fields to post back for another month.
    quotes : tuple of DailyQuote or None
        In page order; ``None`` if they were not read.
    """

    cnpj: str
    name: str
    months: tuple[str, ...]
    selected: str
    form: Mapping[str, str]
    quotes: tuple[DailyQuote, ...] | None = None


def parse_search(content: bytes, *, url: str = "", content_type: str = "") -> SearchPage:
    """Parse search results; no rows means that the site finds no such fund.

    Raises
    ------
    NotACvmPage
        If it is another page, or truncated. Every form of the site has a view state, those for errors too; an empty
        result is recognised by its list without rows, or by the words that say so. A list without rows beside words
        about a captcha, an expired session, maintenance or an error is not one.
    PageChanged
        If there are links, but none can be followed.
    """
    page = read_markup(content, ids=(RESULTS_ID, VIEWSTATE_ID), what="search", url=url, content_type=content_type)
    links = [a for a in page.soup.find_all("a") if attribute(a, "id").startswith(RESULTS_ID)]
    found: dict[str, list[SearchRow]] = {}
    for link in links:
        event = _POSTBACK.search(attribute(link, "href"))
        if event is not None:
            number = _ROW.search(event[1])
            row = SearchRow(clean(link.get_text()), event[1], event[2])
            found.setdefault(number[1] if number else event[1], []).append(row)
    if links and not found:
        raise PageChanged("search page: its links no longer call __doPostBack", url)
    text = "" if links else clean(page.soup.get_text(" "))
    if not links and not _FOUND_NOTHING.search(text):
        words = says(decode(content, content_type))
        if page.soup.find(id=RESULTS_ID) is None:
            raise NotACvmPage(f"not the search page: it has no element {RESULTS_ID}{words}", url)
        if _NOT_SEARCHED.search(text):
            raise NotACvmPage(f"not the search page: it is about something else{words}", url)
    return SearchPage(tuple(map(_row_of, found.values())), page.hidden_fields())


def parse_fund_page(content: bytes, *, url: str = "", content_type: str = "") -> FundPage:
    """Parse the page of a fund.

    Raises
    ------
    NotACvmPage
        If it is another page, or truncated.
    """
    page = read_markup(content, ids=(NAME_ID,), what="fund", url=url, content_type=content_type)
    if page.soup.find(id=NAME_ID) is None:
        raise NotACvmPage(f"not the fund page: it has no element {NAME_ID}{says(decode(content, content_type))}", url)
    link = page.soup.find(id=DAILY_LINK_ID)
    daily_link = attribute(link, "href") if isinstance(link, Tag) else ""
    number = _CNPJ.fullmatch(page.text_of(CNPJ_ID))
    return FundPage(
        cnpj=_bare(number[0]) if number else "",
        name=page.text_of(NAME_ID),
        administrator=page.text_of(ADMINISTRATOR_ID),
        status=page.text_of(STATUS_ID),
        started_on=_date_or_none(page.text_of(START_ID)),
        daily_link=daily_link,
        pk=pk_of(daily_link),
    )


def parse_daily(
    content: bytes, *, cnpj: str, month: str | None = None, url: str = "", content_type: str = ""
) -> DailyPage:
    """Parse a daily page with all its quotes.

    Parameters
    ----------
    content : bytes
        The raw page.
    cnpj : str
        The requested fund, 14 characters.
    month : str, optional
        The requested month, as ``MM/YYYY``; any month if omitted.
    url, content_type : str
        The page's address, for messages; and its Content-Type header, which may name the encoding.

    Raises
    ------
    NotACvmPage
        If it is another page, or truncated.
    WrongFund, WrongMonth
        If the page is for a different fund or month.
    PageChanged
        If a heading, a day or a number is unexpected; names heading and day.
    """
    page, markup = _daily(content, cnpj, url, content_type)
    if month is not None and page.selected != month:
        raise WrongMonth(f"daily page of {format_cnpj(cnpj)}: shows {page.selected or 'no month'}, not {month}", url)
    return _with_quotes(page, markup, url)


def parse_first_daily(
    content: bytes, *, cnpj: str, month: str = "", url: str = "", content_type: str = ""
) -> DailyPage:
    """Parse a daily page for its form and months, and its quotes only if it shows `month`.

    So an invalid figure in the month that the site shows first does not block other months. Raises the errors of
    :func:`parse_daily`, except WrongMonth.
    """
    page, markup = _daily(content, cnpj, url, content_type)
    return _with_quotes(page, markup, url) if month and page.selected == month else page


def pk_of(url: str) -> str:
    """Return the ``PK_PARTIC`` of an address, or an empty string.

    Examples
    --------
    >>> pk_of("Fundo.aspx?pk_partic=132922&SemFrame="), pk_of("Fundo.aspx")
    ('132922', '')
    """
    match = _PK_IN_URL.search(url)
    return match[1] if match else ""


def _row_of(links: Sequence[SearchRow]) -> SearchRow:
    numbers = [number[0] for link in links if (number := _CNPJ.fullmatch(link.name))]
    return replace(min(links, key=_link_rank), cnpj=_bare(numbers[0]) if numbers else "")


def _link_rank(row: SearchRow) -> int:
    name = re.split(r"[$:]", row.target)[-1]
    return _NAME_LINKS.index(name) if name in _NAME_LINKS else len(_NAME_LINKS)


def _daily(content: bytes, cnpj: str, url: str, content_type: str) -> tuple[DailyPage, DailyMarkup]:
    source = read_page(content, ids=(MONTHS_ID, TABLE_ID), what="daily", url=url, content_type=content_type)
    markup = read_daily_markup(source, select_id=MONTHS_ID, table_id=TABLE_ID, url=url)
    if MONTHS_ID not in markup.ids:
        raise NotACvmPage(f"not the daily page: it has no element {MONTHS_ID}{says(source)}", url)
    name, shown = _header(markup.text, url)
    if shown != cnpj:
        raise WrongFund(f"daily page: shows the fund {format_cnpj(shown)}, not {format_cnpj(cnpj)}", url)
    months, selected = _months(markup.options, url)
    return DailyPage(cnpj, name, months, selected, markup.hidden_fields), markup


def _with_quotes(page: DailyPage, markup: DailyMarkup, url: str) -> DailyPage:
    fund = format_cnpj(page.cnpj)
    if TABLE_ID not in markup.ids:
        raise PageChanged(f"daily page of {fund}: it has no table {TABLE_ID}", url)
    if not page.selected:
        raise PageChanged(f"daily page of {fund}: no month is selected", url)
    return replace(page, quotes=read_quotes(markup.rows, cnpj=page.cnpj, month=page.selected, url=url))


def _header(text: str, url: str) -> tuple[str, str]:
    # The administrator's CNPJ comes further down, under the same label: only what is beside the name is the fund's.
    name = _FUND_NAME.search(text)
    label = _CNPJ_LABEL.match(text, name.end()) if name else None
    number = _CNPJ.match(text, label.end()) if label else None
    if name is None or number is None:
        raise PageChanged("daily page: its header has no CNPJ beside the name of the fund", url)
    return name[1], _bare(number[0])


def _bare(cnpj: str) -> str:
    return cnpj.translate(_PUNCTUATION).upper()


def _months(options: Sequence[Option], url: str) -> tuple[tuple[str, ...], str]:
    months = tuple(option.value for option in options if option.value)
    for text in months:
        if not _is_month(text):
            raise PageChanged(f"daily page: {text[:40]!r} in {MONTHS_ID} is not a month such as 12/2022", url)
    # Like a browser: the last selected option, otherwise the first.
    marked = [option.value for option in options if option.selected]
    return months, (marked or [option.value for option in options[:1]] or [""])[-1]


@lru_cache(maxsize=1_000)
def _is_month(text: str) -> bool:
    try:
        Month.parse(text)
    except ValueError:
        return False
    return True


def _date_or_none(text: str) -> dt.date | None:
    try:
        return brazilian_date(text)
    except ValueError:
        return None


@lru_cache(maxsize=1_000)
def heading_key(text: str) -> str:
    r"""Return a heading in the form used for comparison: casefolded, without white space, dots or ordinal signs.

    Examples
    --------
    >>> heading_key("Nº. Total\xa0deCotistas") == heading_key("N°. Total de Cotistas")
    True
    """
    return _NOT_IN_KEY.sub("", unicodedata.normalize("NFC", text)).casefold()


_KEYS = {heading_key(heading): name for name, heading in HEADINGS.items()}


def parse_decimal(text: str) -> float:
    """Return a number such as ``1.234.567,89`` as the float of exactly that decimal.

    Raises
    ------
    ValueError
        If the text is anything else: non-ASCII digits, misplaced dots, a bare comma.

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


_PARSERS: Mapping[str, Callable[[str], float]] = {**dict.fromkeys(METRICS, parse_decimal), "holders": parse_integer}


def read_quotes(table: Sequence[Sequence[str]], *, cnpj: str, month: str, url: str = "") -> tuple[DailyQuote, ...]:
    """Return a table's days with at least one figure, in table order.

    Parameters
    ----------
    table : sequence of sequences of str
        The cell texts, row by row; the first row holds the headings.
    cnpj, month : str
        The fund, and the table's month, as ``MM/YYYY``.
    url : str
        The page's address, for messages.

    Raises
    ------
    PageChanged
        If a heading, a day or a number is unexpected.
    """
    rows = [[clean(cell) for cell in row] for row in table if row]
    if not rows:
        raise PageChanged("daily page: its table has no headings", url)
    columns = _columns(rows[0], url)
    day_column, *figure_columns = (columns[name] for name in ("day", *METRICS))
    days = _days(month)
    quotes: dict[dt.date, DailyQuote] = {}
    for cells in rows[1:]:
        if not any(cells):
            continue
        if len(cells) != len(rows[0]):
            raise PageChanged(f"daily page: a row has {len(cells)} cells for {len(rows[0])} headings", url)
        figures = [cells[column] for column in figure_columns]
        if not any(figures):
            continue
        day = cells[day_column]
        if (date := days.get(day)) is None:
            raise PageChanged(f"daily page: {HEADINGS['day']} {day[:40]!r} is not a day of {month}", url)
        if date in quotes:
            raise PageChanged(f"daily page: day {day} appears twice", url)
        quotes[date] = _quote(cnpj, date, figures, url)
    return tuple(quotes.values())


def _columns(headings: list[str], url: str) -> dict[str, int]:
    columns: dict[str, int] = {}
    for position, heading in enumerate(headings):
        name = _KEYS.get(heading_key(heading))
        if name in columns:
            raise PageChanged(f"daily page: the heading {heading!r} appears twice", url)
        if name is not None:
            columns[name] = position
    missing = [heading for name, heading in HEADINGS.items() if name not in columns]
    if missing:
        raise PageChanged(f"daily page: no column {', '.join(map(repr, missing))}; found {headings}"[:900], url)
    return columns


@lru_cache(maxsize=1_000)
def _days(month: str) -> dict[str, dt.date]:
    """Return the days of a month by both ways to write them: 3 and 03."""
    first, last = Month.parse(month).first_day, Month.parse(month).last_day
    dates = [first.replace(day=number) for number in range(1, last.day + 1)]
    return {text: date for date in dates for text in (f"{date.day}", f"{date.day:02d}")}


def _quote(cnpj: str, date: dt.date, figures: Sequence[str], url: str) -> DailyQuote:
    values: dict[str, Any] = {}
    for metric, text in zip(METRICS, figures, strict=True):
        if text:
            try:
                values[metric] = _PARSERS[metric](text)
            except ValueError as error:
                raise PageChanged(f"daily page: {HEADINGS[metric]} of {date:%d/%m/%Y}: {error}", url) from None
    return DailyQuote(cnpj, date, **values)
