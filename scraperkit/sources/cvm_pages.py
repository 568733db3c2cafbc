"""The regulator's site as a source: request its pages, and have them parsed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from cachetools import LRUCache, TTLCache, cached
from requests.cookies import RequestsCookieJar

from scraperkit.cnpj import (
    folded_name,
    format_cnpj,
    has_words,
    is_shown_as,
    looks_like_cnpj,
    may_be_short,
    name_words,
    nearest_names,
    normalize_cnpj,
    telling_words,
    without_accents,
)
from scraperkit.config import Settings
from scraperkit.errors import (
    ConfigError,
    FundNotFound,
    MonthNotOffered,
    NotACvmPage,
    PageChanged,
    SiteUnavailable,
    SourceError,
    WrongFund,
    WrongMonth,
)
from scraperkit.models import PK_PARTIC, DailyQuote, Fund, Month, ScrapeRequest
from scraperkit.sources.base import Hit, Hits, not_one_fund
from scraperkit.sources.cvm_parser import (
    MONTHS_ID,
    DailyPage,
    SearchPage,
    SearchRow,
    parse_daily,
    parse_first_daily,
    parse_fund_page,
    parse_search,
    pk_of,
)
from scraperkit.sources.http import ClosedHere, HttpClient, HttpResponse, ask_again, without_credentials
from scraperkit.sources.politeness import Politeness

SEARCH_PATH = "CConsolFdo/ResultBuscaParticFdo.aspx"
DAILY_PAGE = "InfDiario/CPublicaInfDiario.aspx"
# What users of the site request today: the class itself, not a subclass.
WHOLE_CLASS = "-1"
CACHED_FUNDS = 512
CACHED_SECONDS = 600.0
MOST_FOLLOWED = 5  # funds found by name whose pages are requested, to see which one operates: two requests each
LONGEST_NAME = 200
LIST_SECONDS = 60.0  # a list of months is trusted for this long if it lacks a month
_Page = TypeVar("_Page")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class _FirstPage:
    """A fund's daily page as a GET returns it: all that a request for any of its months needs.

    Form, view state and cookies belong together: the site may accept a form only in the session that received it.
    """

    page: DailyPage
    form: str  # encoded once for all months: a view state is long
    address: str
    cookies: RequestsCookieJar
    fetched_at: float


class CvmPages:
    """The pages of the Comissão de Valores Mobiliários (CVM), as a source of prices.

    A fund's first month takes one request, or two if it is not the month that the site shows first; each further one
    takes one. Threads may share a source.

    Parameters
    ----------
    url : str, optional
        The site's address; by default ``SCRAPERKIT_CVM_URL``, else the live site. Give the address of a
        :class:`~scraperkit.Replica` to work offline.
    settings : Settings, optional
        Time limits, retries and the longest page; by default from the environment.

    Raises
    ------
    ConfigError
        If the address, or that of a proxy in the environment, is not an ``http://`` or ``https://`` one.

    Examples
    --------
    >>> import scraperkit as sk
    >>> with sk.Replica.start() as site, sk.CvmPages(site.url) as source:
    ...     fund = source.find_fund("18.993.924/0001-00")
    ...     quotes = source.fetch(fund.months("2022-03", "2022-03")[0])
    >>> fund.pk, len(quotes), quotes[0].date
    ('132922', 22, datetime.date(2022, 3, 2))
    """

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or Settings.load()
        # An empty address must not mean the live site.
        self.url = checked_base(settings.cvm_url if url is None else url, "SCRAPERKIT_CVM_URL")
        self.politeness = Politeness(self.url, settings)
        self._settings = settings
        self._http = HttpClient(settings, self.politeness)
        self._first_pages: TTLCache[str, _FirstPage] = TTLCache(maxsize=CACHED_FUNDS, ttl=CACHED_SECONDS)
        self._pages_changed = threading.Condition()
        # If many threads begin on one fund at once, one requests the page, and the others wait for it.
        self._first_page = cached(self._first_pages, key=lambda pk, *_: pk, condition=self._pages_changed)(
            self._get_first_page
        )
        numbers: LRUCache[str, str] = LRUCache(CACHED_FUNDS)
        self._pk_of = cached(numbers, condition=threading.Condition())(lambda cnpj: self._find_once(cnpj).pk)

    def find_fund(self, text: str) -> Fund:
        """Look up a fund by its CNPJ, its name or a part of its name.

        The site's own search finds a name as part of a longer one; if it finds nothing, the words may come in any
        order. Of several funds, the result is the one with exactly this name, else the only one in normal operation.

        One CNPJ may have several entries, such as a fund and its class. The one in normal operation is taken; among
        several, the one with the newest month of quotes. If the fund no longer operates, its daily page is requested as
        well: its newest month shows when the fund ended.

        Parameters
        ----------
        text : str
            A CNPJ, with or without punctuation, or a name; case and accents are ignored. Text of digits and punctuation
            only, or of 14 letters and digits that ends with two digits, is a CNPJ.

        Raises
        ------
        ConfigError
            If a CNPJ is mistyped, or a name contains no word to search for; no request is sent.
        FundNotFound
            If no fund matches, or several do: lists the nearest five.
        SourceError
            If a page is unavailable, or still unexpected after up to three attempts.
        """
        return self._again(lambda: self._find_once(text))

    def _find_once(self, text: str) -> Fund:
        is_name = isinstance(text, str) and not looks_like_cnpj(text)
        cnpj = self._cnpj_of(text) if is_name else normalize_cnpj(text)
        # The site wanted bare characters in 2022, and wants the punctuation in 2026.
        response, search = self._search([format_cnpj(cnpj).encode(), cnpj.encode()])
        if not search.rows:
            raise FundNotFound(f"the site knows no fund with the CNPJ {format_cnpj(cnpj)}", response.shown_url)
        return self._with_end(
            self._best([self._follow(response, search, replace(row, cnpj=cnpj)) for row in search.rows])
        )

    def search(self, text: str, count: int = 10) -> Hits:
        """Return what the site's own search finds by name or CNPJ, nearest first, without requesting further pages.

        Parameters
        ----------
        text : str
            As :meth:`find_fund` takes it.
        count : int
            Maximum number of hits.

        Raises
        ------
        ConfigError, SourceError
            As :meth:`find_fund`; finding nothing is not an error.

        Examples
        --------
        >>> import scraperkit as sk
        >>> with sk.Replica.start() as site, sk.CvmPages(site.url) as source:
        ...     found = source.search("ipê amarelo")
        >>> found.found, found.hits[0].series, found.hits[0].name
        (1, '99101012000170', 'Fundo Exemplo Ipê Amarelo Renda Fixa FI')
        """
        return self._again(lambda: self._search_once(text, count))

    def _search_once(self, text: str, count: int) -> Hits:
        if looks_like_cnpj(text):
            cnpj = normalize_cnpj(text)
            rows = self._search([format_cnpj(cnpj).encode(), cnpj.encode()])[1].rows
        else:
            rows = self._named(text)[2]
        hits = list(dict.fromkeys(Hit(row.cnpj, row.name) for row in rows))
        near = nearest_names(text, [hit.name for hit in hits], count)
        return Hits([hits[place] for place in near], len(hits))

    def available_months(self, fund: Fund) -> list[str]:
        """Return the months that the site offers for a fund, by a new request.

        Returns
        -------
        list of str
            Each as ``YYYY-MM``, oldest first; may be empty. Pass the first and the last to :meth:`Fund.months`:
            ``fund.months(months[0], months[-1])``.

        Raises
        ------
        SourceError
            If the page is unavailable or unexpected.
        """
        if not PK_PARTIC.fullmatch(fund.pk):
            raise ConfigError(f"fund.pk: {fund.pk[:40]!r} is not CVM's PK_PARTIC, 1 to 12 digits")
        first = self._get_first_page(fund.pk, normalize_cnpj(fund.cnpj))
        with self._pages_changed:
            self._first_pages[fund.pk] = first
        return [month.iso for month in sorted(map(Month.parse, set(first.page.months)))]

    def fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        """Return the quotes of one month of one fund, in the page's order; empty if the month has none.

        Raises
        ------
        MonthNotOffered
            If the site does not offer the month for this fund.
        SiteUnavailable
            If there is no response, or HTTP 429 or 5xx, after all retries.
        NotACvmPage, WrongFund, WrongMonth, PageChanged
            If the response is not the requested page, or is unexpected.
        """
        try:
            quotes = self._fetch(request)
        except ClosedHere:
            raise
        except SourceError as error:
            # A response about the fund shows that the site works.
            if error.retryable:
                self.politeness.failed(str(error))
            else:
                self.politeness.succeeded()
            raise
        self.politeness.succeeded()
        return quotes

    def _fetch(self, request: ScrapeRequest) -> list[DailyQuote]:
        began = time.monotonic()
        if not request.fund_pk:
            request = replace(request, fund_pk=self._pk_of(request.document))
        asked = (request.fund_pk, request.document, request.month_year)
        first = self._first_page(*asked)
        try:
            return self._fetch_month(first, request, began)
        except (NotACvmPage, WrongMonth, MonthNotOffered) as error:
            # Only a cached page can have an expired form or an outdated list of months. One list settles all months
            # that a fund lacks, without a request for each.
            if first.fetched_at >= began - (LIST_SECONDS if isinstance(error, MonthNotOffered) else 0):
                raise
        self._forget(first, request.fund_pk)
        return self._fetch_month(self._first_page(*asked), request, began)

    def interrupt(self, threads: Container[int]) -> None:
        """End the waits of these threads, given by identifier; each gets :exc:`SiteUnavailable`."""
        self._http.interrupt(threads)

    def close(self) -> None:
        """Close all connections, including those of other threads; later requests fail. May be called twice."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CvmPages({without_credentials(self.url)!r})"

    def _again(self, look_up: Callable[[], _Found]) -> _Found:
        return ask_again(look_up, _may_pass, self._settings, self._http.rest)

    def _search(self, texts: Iterable[bytes]) -> tuple[HttpResponse, SearchPage]:
        """Return the first search that finds something, else the last."""
        for text in texts:
            query = urlencode({"CNPJNome": text, "TpPartic": "0", "Adm": "false", "SemFrame": ""})
            response = self._http.get(f"{urljoin(self.url, SEARCH_PATH)}?{query}")
            search = self._read(parse_search, response)
            if search.rows:
                break
        return response, search

    def _named(self, text: str) -> tuple[HttpResponse, SearchPage, tuple[SearchRow, ...]]:
        """Search for a name; return the rows whose short name it is, or whose name contains it or all its words."""
        name = " ".join(text.split())
        if not name_words(name) or len(name) > LONGEST_NAME:
            raise ConfigError(
                f"text: {name[:40]!r} contains no word to search for, or more than {LONGEST_NAME} characters; "
                "give part of a name, or a CNPJ"
            )
        response, search = self._search(_written(name))
        rows = search.rows
        is_whole = any(folded_name(row.name) == folded_name(name) for row in rows)
        if not is_whole and may_be_short(name) and (words := telling_words(name)):
            wide_response, wide = self._search(_written(max(words, key=len)))
            if shown := tuple(row for row in wide.rows if is_shown_as(row.name, name, row.cnpj)):
                return wide_response, wide, shown
        if not rows:  # The site searches for the exact text; the longest word finds names with the words in any order.
            response, search = self._search(_written(max(filter(name_words, name.split()), key=len)))
            rows = tuple(row for row in search.rows if has_words(row.name, name))
        return response, search, rows

    def _cnpj_of(self, text: str) -> str:
        """Return the CNPJ of the one fund that a name means."""
        name = " ".join(text.split())
        response, search, rows = self._named(name)
        if not search.rows:
            raise FundNotFound(
                f"the site finds no fund named {name[:60]!r}; give a part of the name", response.shown_url
            )
        rows = tuple(row for row in rows if folded_name(row.name) == folded_name(name)) or rows
        if len({row.cnpj or row.target for row in rows}) == 1:
            return rows[0].cnpj or self._follow(response, search, rows[0]).cnpj
        if len(rows) <= MOST_FOLLOWED:
            funds = [self._follow(response, search, row) for row in rows]
            active = {fund.cnpj for fund in funds if fund.active}
            if len(active) == 1:
                return active.pop()
        names = list(dict.fromkeys((row.cnpj, row.name) for row in rows or search.rows))
        near = [names[place] for place in nearest_names(name, [each for _, each in names])]
        raise FundNotFound(not_one_fund(name, near, len(names) if rows else 0), response.shown_url)

    def _follow(self, search: HttpResponse, page: SearchPage, row: SearchRow) -> Fund:
        event = {"__EVENTTARGET": row.target, "__EVENTARGUMENT": row.argument}
        response = self._http.post(search.url, urlencode({**page.form, **event}), search.cookies)
        fund = self._read(parse_fund_page, response)
        cnpj = row.cnpj or fund.cnpj
        if not cnpj:
            raise PageChanged("fund page: neither it nor the search shows the CNPJ", response.shown_url)
        if fund.cnpj not in ("", cnpj):
            raise WrongFund(f"fund page: shows {format_cnpj(fund.cnpj)}, not {format_cnpj(cnpj)}", response.shown_url)
        pk = pk_of(response.url) or fund.pk
        if not pk:
            raise PageChanged("fund page: neither its address nor its link has PK_PARTIC", response.shown_url)
        return Fund(cnpj, pk, fund.name or row.name, fund.status, fund.started_on)

    def _best(self, funds: list[Fund]) -> Fund:
        candidates = [fund for fund in funds if fund.active] or funds
        if len({fund.pk for fund in candidates}) == 1:
            return candidates[0]
        # Among equals the later entry: public code has found the fresher figures there.
        return max(reversed(candidates), key=lambda fund: self.available_months(fund)[-1:])

    def _with_end(self, fund: Fund) -> Fund:
        """Return the fund, with its end if it no longer operates: the last month that the site offers."""
        months = [] if fund.active else self.available_months(fund)
        return replace(fund, ended_on=Month.parse_iso(months[-1]).last_day) if months else fund

    def _fetch_month(self, first: _FirstPage, request: ScrapeRequest, began: float) -> list[DailyQuote]:
        cnpj, month, url = request.document, request.month_year, without_credentials(first.address)
        if first.page.cnpj != cnpj:
            shown = format_cnpj(first.page.cnpj)
            raise WrongFund(f"PK_PARTIC {request.fund_pk} belongs to {shown}, not {format_cnpj(cnpj)}", url)
        if month not in first.page.months:
            raise MonthNotOffered(f"the site offers no {month} for {format_cnpj(cnpj)}{_span(first.page)}", url)
        if first.page.quotes is not None and first.page.selected == month and first.fetched_at >= began:
            return list(first.page.quotes)
        try:
            response = self._http.post(first.address, f"{first.form}&{urlencode({MONTHS_ID: month})}", first.cookies)
            page = self._read(parse_daily, response, cnpj=cnpj, month=month)
        except (NotACvmPage, WrongMonth, SiteUnavailable):
            # ASP.NET responds to an expired form with any of these, HTTP 500 included.
            self._forget(first, request.fund_pk)
            raise
        return list(page.quotes or ())

    def _get_first_page(self, pk: str, cnpj: str, month: str = "") -> _FirstPage:
        query = urlencode({"PK_PARTIC": pk, "SemFrame": "", "PK_SUBCLASSE": WHOLE_CLASS})
        response = self._http.get(f"{urljoin(self.url, DAILY_PAGE)}?{query}")
        page = self._read(parse_first_daily, response, cnpj=cnpj, month=month)
        event = {"__EVENTTARGET": MONTHS_ID, "__EVENTARGUMENT": ""}
        form = urlencode({**page.form, **event})
        return _FirstPage(page, form, response.url, response.cookies, time.monotonic())

    def _read(self, parse: Callable[..., _Page], response: HttpResponse, **wanted: str) -> _Page:
        url = response.shown_url
        try:
            return parse(response.content, url=url, content_type=response.content_type, **wanted)
        except NotACvmPage as error:
            # A proxy may have responded in place of the site.
            if not self._http.way:
                raise
            raise NotACvmPage(f"{str(error).removesuffix(f' [{url}]')}{self._http.way}", url) from None

    def _forget(self, first: _FirstPage, pk: str) -> None:
        with self._pages_changed:
            if self._first_pages.get(pk) is first:
                del self._first_pages[pk]


def _may_pass(error: Exception) -> bool:
    """Return whether to retry a look-up; an unavailable site has been retried already."""
    return isinstance(error, SourceError) and error.retryable and not isinstance(error, SiteUnavailable)


def checked_base(url: str, variable: str) -> str:
    """Return the address of a site, with a slash at its end; an error names the variable that sets it."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError):
        fits = False
    if not fits:
        raise ConfigError(
            f"url: {without_credentials(str(url))[:100]!r} is not an http:// or https:// address; give that of the "
            f"site or of a replica, or set {variable}"
        )
    return url.rstrip("/") + "/"


def _written(name: str) -> Iterator[bytes]:
    """Yield the encodings of a name to try: that of the site's pages, UTF-8, and without accents."""
    yield name.encode("iso-8859-1", "replace")
    if not name.isascii():
        yield name.encode()
        yield without_accents(name).encode("iso-8859-1", "replace")


def _span(page: DailyPage) -> str:
    return f": it has {page.months[-1]} to {page.months[0]}" if page.months else ": it has none at all"
