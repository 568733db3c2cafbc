"""The replica's responses to requests, without a socket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, unquote

from scraperkit.cnpj import looks_like_cnpj, normalize_cnpj, without_accents
from scraperkit.errors import ConfigError
from scraperkit.replica import pages
from scraperkit.replica.sample import Sample, SampleFund, load_sample
from scraperkit.replica.viewstate import UNSEALED, belongs, seal

SITE_PATH = "/SWB/Sistemas/SCW/CPublica/"
_PATHS = {
    "": "index",
    "cconsolfdo/resultbuscaparticfdo.aspx": "search",
    "cconsolfdo/resultbuscadocsfdo.aspx": "fund",
    "infdiario/cpublicainfdiario.aspx": "daily",
}
_NO_SUBCLASS = "-1"
_KINDS = {
    ("GET", "index"): "index",
    ("GET", "search"): "search",
    ("POST", "search"): "search_post",
    ("GET", "fund"): "fund",
    ("GET", "daily"): "daily_get",
    ("POST", "daily"): "daily_post",
}


@dataclass(frozen=True, slots=True)
class SiteResponse:
    """The reply to a client."""

    body: bytes = b""
    status: int = 200
    location: str | None = None


class Site:
    """The pages of the regulator's site, filled from the sample.

    Examples
    --------
    >>> site = default_site()
    >>> site.respond("GET", SITE_PATH + "InfDiario/CPublicaInfDiario.aspx?PK_PARTIC=132922").status
    200
    """

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self._by_pk = {fund.pk: fund for fund in sample.funds}
        # The sample bounds these caches: their keys come from it, never from a client.
        self._search_page = lru_cache(maxsize=None)(self._render_search)
        self._fund_page = lru_cache(maxsize=None)(pages.render_fund)
        self._daily_page = lru_cache(maxsize=None)(self._render_daily)
        self._index_page = lru_cache(maxsize=None)(pages.render_index)

    def respond(self, method: str, target: str, body: bytes = b"", session: str = "") -> SiteResponse:
        """Return the response to one request.

        Parameters
        ----------
        method, target : str
            `target` is the path with its query.
        body : bytes
            A form.
        session : str
            The client's session; only its forms are accepted.
        """
        kind = kind_of(method, target)
        # ASP.NET ignores the case of names in a query, but not in a form.
        query = {name.lower(): value for name, value in _fields(target.partition("?")[2]).items()}
        if kind == "index":
            return SiteResponse(self._index_page(self.sample.funds))
        if kind in ("search_post", "daily_post") and not session:
            return SiteResponse(pages.render_expired())
        if kind in ("search", "search_post"):
            return self._search(query.get("cnpjnome", ""), _fields(body) if kind == "search_post" else None, session)
        if kind == "unknown":
            return SiteResponse(pages.render_error("A página solicitada não existe."), status=404)
        fund = self._by_pk.get(query.get("pk_partic", ""))
        if fund is None or query.get("pk_subclasse", _NO_SUBCLASS) != _NO_SUBCLASS:
            return SiteResponse(pages.render_error())
        if kind == "fund":
            return SiteResponse(_sealed(self._fund_page(fund), "fund", fund.pk, session))
        return self._daily(fund, _fields(body) if kind == "daily_post" else None, session)

    def _search(self, text: str, form: dict[str, str] | None, session: str) -> SiteResponse:
        funds = self._found(text)
        is_name = bool(funds) and not looks_like_cnpj(text)
        key = text if is_name else funds[0].cnpj if funds else ""
        if form is not None:
            if not belongs(form, "search", key, session):
                return SiteResponse(pages.render_error())
            fund = pages.search_targets(funds).get(form.get("__EVENTTARGET", ""))
            if fund is not None:
                location = f"ResultBuscaDocsFdo.aspx?PK_PARTIC={fund.pk}&SemFrame="
                return SiteResponse(status=302, location=location)
        page = pages.render_search(text, funds) if is_name else self._search_page(key)
        return SiteResponse(_sealed(page, "search", key, session))

    def _found(self, text: str) -> tuple[SampleFund, ...]:
        """Return the funds with a CNPJ, or with a text in their name; case and accents are ignored."""
        if not looks_like_cnpj(text):
            part = without_accents(text).lower().strip()
            return tuple(fund for fund in self.sample.funds if part and part in without_accents(fund.name).lower())
        try:
            cnpj = normalize_cnpj(text)
        except ConfigError:
            return ()
        return tuple(fund for fund in self.sample.funds if fund.cnpj == cnpj)

    def _daily(self, fund: SampleFund, form: dict[str, str] | None, session: str) -> SiteResponse:
        months = self.sample.offered(fund.pk)
        month = months[0] if months else ""
        if form is not None:
            if not belongs(form, "daily", fund.pk, session):
                return SiteResponse(pages.render_error())
            wanted = form.get("ddComptc", "")
            month = wanted if wanted in months else month
        return SiteResponse(_sealed(self._daily_page(fund, month), "daily", fund.pk, session))

    def _render_search(self, cnpj: str) -> bytes:
        return pages.render_search(cnpj, [fund for fund in self.sample.funds if fund.cnpj == cnpj])

    def _render_daily(self, fund: SampleFund, month: str) -> bytes:
        return pages.render_daily(fund, self.sample.month(fund.cnpj, month), month, self.sample.offered(fund.pk))


def _sealed(body: bytes, page: str, key: str, session: str) -> bytes:
    """Make the form of a page valid for one session; a cached page is valid for none."""
    return body.replace(UNSEALED.encode("ascii"), seal(page, key, session).encode("ascii"), 1)


def kind_of(method: str, target: str) -> str:
    """Return the kind of a request: index, search, search_post, fund, daily_get, daily_post or unknown.

    Examples
    --------
    >>> kind_of("GET", "/swb//sistemas/SCW/cpublica/infdiario/CPublicaInfDiario.aspx?PK_PARTIC=1")
    'daily_get'
    """
    path = re.sub("/+", "/", unquote(target.partition("?")[0])).lower()
    page = _PATHS.get(path.removeprefix(SITE_PATH.lower())) if path.startswith(SITE_PATH.lower()) else None
    return _KINDS.get((method, page or ""), "unknown")


@lru_cache(maxsize=1)
def default_site() -> Site:
    """Return the site of the kit's sample; all replicas of a process share its pages."""
    return Site(load_sample())


def _fields(text: str | bytes) -> dict[str, str]:
    if isinstance(text, bytes):
        text = text.decode(pages.ENCODING)
    try:
        return dict(parse_qsl(text, keep_blank_values=True, encoding=pages.ENCODING, max_num_fields=100))
    except ValueError:
        return {}
