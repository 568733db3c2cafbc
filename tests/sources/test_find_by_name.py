"""Funds looked up by name: on the offline site, and on sites that show less, or search differently."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
from support.waiting import wait_until

from scraperkit import CvmPages, Replica
from scraperkit.cnpj import format_cnpj
from scraperkit.config import Settings
from scraperkit.errors import ConfigError, FundNotFound, NotACvmPage, PageChanged, SiteUnavailable
from scraperkit.replica.sample import load_sample
from scraperkit.sources.cvm_pages import MOST_FOLLOWED, SEARCH_PATH

CNPJ, NORMAL = "18993924000100", "EM FUNCIONAMENTO NORMAL"


@pytest.fixture(scope="module")
def shared() -> Iterator[Replica]:
    with Replica.start() as replica:
        yield replica


@pytest.fixture
def pages(shared: Replica) -> Iterator[CvmPages]:
    with CvmPages(shared.url) as source:
        yield source


# --- the offline site ---


@pytest.mark.parametrize(
    ("text", "cnpj"),
    [
        ("Fundo Exemplo Aroeira FIC FIA", CNPJ),
        ("aroeira", CNPJ),
        ("  IPÊ   AMARELO ", "99101012000170"),
        ("canela-de-ema recebiveis", "99101018000147"),
        ("Açaí-Juçara", "99101022000105"),
        ("Cedro & Embaúba FIM Prazo < 365 Dias", "99101023000150"),
        ("vinhático", "EXEMPL0A000100"),
    ],
)
def test_a_name_or_a_part_of_it_finds_the_fund_that_its_cnpj_finds(pages, text, cnpj):
    assert pages.find_fund(text) == pages.find_fund(cnpj)


def test_a_fund_and_its_class_are_one(pages):
    """The name is that of the entry that no longer operates; the class is found, as by CNPJ."""
    for text in ("Sapucaia", "Fundo Exemplo Sapucaia FIC FIM"):
        found = pages.find_fund(text)
        assert (found.cnpj, found.pk, found.active) == ("99101019000191", "901209", True)


def test_the_only_operating_fund_of_two_is_taken(pages):
    """Pau-Ferro Cambial is cancelled, so the match is Cambuci, which operates."""
    assert pages.find_fund("Cambuci").cnpj == "99101013000114"
    assert pages.find_fund("exemplo camb").cnpj == "99101013000114"
    assert pages.find_fund("Pau-Ferro").cnpj == "99101015000103"


@pytest.mark.parametrize("text", ["fundo exemplo jatobá mult", "Jatobá FIM Exemplo"])
def test_words_are_found_in_any_order(pages, text):
    assert pages.find_fund(text).cnpj == "99101011000125"


def test_many_hits_are_listed_nearest_first_without_requesting_their_pages(pages, shared):
    before = shared.requests["search_post"]
    with pytest.raises(FundNotFound) as caught:
        pages.find_fund("fundo exemplo")
    told = str(caught.value)
    assert f"'fundo exemplo' matches {len(load_sample().funds)} funds; nearest: 18.993.924/0001-00 Fundo " in told
    assert told.count("; ") == 6
    assert f"; and {len(load_sample().funds) - 5} more [http" in told
    with pytest.raises(
        FundNotFound, match="matches no fund; nearest: 99.101.011/0001-25 Fundo Exemplo Jatobá Multimercado FIM "
    ):
        pages.find_fund("exemplo jatobo multimercado")
    assert shared.requests["search_post"] == before


def test_finding_nothing_is_an_error(pages, shared):
    with pytest.raises(FundNotFound, match="finds no fund named 'jequitibá rei'") as caught:
        pages.find_fund("jequitibá rei")
    assert caught.value.url.startswith(shared.url)


def test_the_search_page_of_a_name_escapes_it_and_its_form_works(shared):
    text = "Cedro & Embaúba FIM Prazo < 365"
    with requests.Session() as session:
        url = f"{shared.url}{SEARCH_PATH}?CNPJNome={quote(text, encoding='latin-1')}&TpPartic=0"
        page = session.get(url, timeout=60)
        assert page.encoding == "iso-8859-1"
        assert "Cedro &amp; Embaúba FIM Prazo &lt; 365 Dias" in page.text
        (action,) = re.findall('action="([^"]+)"', page.text)
        assert "CNPJNome=Cedro+%26+Emba%FAba" in action
        form = dict(re.findall('type="hidden" name="([^"]+)" id="[^"]+" value="([^"]*)"', page.text))
        form |= {"__EVENTTARGET": "ddlFundos$_ctl0$lnkbtn1"}
        response = session.post(url, data=form, timeout=60)
        assert response.history[0].headers["Location"].startswith("ResultBuscaDocsFdo.aspx?PK_PARTIC=901113")
        # A form of one search is invalid for another.
        other = session.post(url.replace("Cedro", "Fundo"), data=form, timeout=60)
        assert "lblErro" in other.text


def test_every_row_appears_once_and_in_order(shared):
    text = requests.get(f"{shared.url}{SEARCH_PATH}?CNPJNome=eXeMpLo", timeout=60).text
    names = re.findall('lnkbtn1"|Linkbutton4"', text)
    assert len(names) == len(load_sample().funds)
    numbers = re.findall(r'<td width="25%"><a [^>]+><font size="2">([^<]+)<', text)
    assert numbers == [format_cnpj(fund.cnpj) for fund in load_sample().funds]


def test_a_cnpj_has_one_search_page_however_it_is_written(shared):
    """An unknown or invalid CNPJ has the page of an empty result."""

    def page(text: str) -> bytes:
        return requests.get(f"{shared.url}{SEARCH_PATH}?CNPJNome={quote(text)}", timeout=60).content

    def unsealed(content: bytes) -> bytes:
        return re.sub(rb'(?<="__VIEWSTATE" value=")[^"]+', lambda state: state[0][:-28], content)

    assert unsealed(page(CNPJ)) == unsealed(page("18.993.924/0001-00"))
    assert len({unsealed(page(text)) for text in ("00000000000191", "123", "", "no such name")}) == 1


# --- other sites ---


class Shop:
    """A site that finds what a test says, with rows of (CNPJ shown, name, CNPJ, status)."""

    def __init__(self, rows: Sequence[tuple[str, str, str, str]], known: Sequence[bytes] = ()) -> None:
        self.rows, self.known, self.asked = rows, known, list[str]()

    def page(self, handler: http.server.BaseHTTPRequestHandler) -> str | int:
        url = urlsplit(handler.path)
        if "PK" in url.query:
            _, name, cnpj, status = self.rows[int(parse_qs(url.query)["PK_PARTIC"][0])]
            number = f'<span id="lbNrPfPj">{format_cnpj(cnpj)}</span>' if cnpj else ""
            return f'<form><span id="lbNmDenomSocial">{name}</span>{number}<span id="lbSitDesc">{status}</span></form>'
        if handler.command == "POST":
            form = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
            return int(form["__EVENTTARGET"][0].split("$")[1].removeprefix("_ctl"))
        text = url.query.split("&")[0].removeprefix("CNPJNome=")
        self.asked.append(text)
        found = [(place, row) for place, row in enumerate(self.rows) if self.finds(text, row)]
        links = "".join(
            f"<tr>{self.link(place, 'Linkbutton2', row[0])}{self.link(place, 'lnkbtn1', row[1])}</tr>"
            for place, row in found
        )
        return f'<form><input type="hidden" name="__VIEWSTATE" value="v"><table id="ddlFundos">{links}</table></form>'

    def finds(self, text: str, row: tuple[str, str, str, str]) -> bool:
        if re.fullmatch(r"[0-9.%F-]+", text):
            return text == quote(format_cnpj(row[2]), safe="")
        return not self.known or text in self.known

    @staticmethod
    def link(place: int, link: str, text: str) -> str:
        target = f"ddlFundos$_ctl{place}${link}"
        href = f"javascript:__doPostBack('{target}','')"
        return f'<td><a id="ddlFundos_" href="{href}">{escape(text)}</a></td>' if text else ""


@contextlib.contextmanager
def asking(shop: Shop, **settings: float) -> Iterator[CvmPages]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/robots.txt":
                return self.send_error(404)
            page = shop.page(self)
            self.send_response(302 if isinstance(page, int) else 200)
            if isinstance(page, int):
                self.send_header("Location", f"/Fundo.aspx?PK_PARTIC={page}")
            body = b"" if isinstance(page, int) else f"<html>{page}</html>".encode("latin-1")
            self.send_header("Content-Type", "text/html; charset=iso-8859-1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with CvmPages(
                f"http://127.0.0.1:{server.server_port}/", settings=Settings(http_retries=0, **settings)
            ) as source:
                yield source
        finally:
            server.shutdown()
            thread.join()


AROEIRA = (format_cnpj(CNPJ), "AROEIRA AÇÕES", CNPJ, NORMAL)
OTHERS = ["99101011000125", "99101012000170", "99101013000114", "99101014000169", "99101016000158", "99101017000100"]


@pytest.mark.parametrize(
    ("known", "asked"),
    [("AROEIRA+A%C7%D5ES", 1), ("AROEIRA+A%C3%87%C3%95ES", 2), ("AROEIRA+ACOES", 3)],
    ids=["as its pages", "as UTF-8", "without accents"],
)
def test_accents_are_written_in_three_ways(known, asked):
    shop = Shop([AROEIRA], [known])
    with asking(shop) as pages:
        assert pages.find_fund("AROEIRA AÇÕES").cnpj == CNPJ
    assert shop.asked[asked - 1] == known
    assert shop.asked[asked:] == [quote(format_cnpj(CNPJ), safe="")]


def test_a_row_that_shows_no_cnpj_is_followed_to_its_page():
    with asking(Shop([("", "AROEIRA AÇÕES", CNPJ, NORMAL)])) as pages:
        assert pages.find_fund("aroeira").cnpj == CNPJ
    with asking(Shop([("", "AROEIRA AÇÕES", "", NORMAL)])) as pages:
        with pytest.raises(PageChanged, match="neither it nor the search shows the CNPJ"):
            pages.find_fund("aroeira")
    others = [("", f"AROEIRA {number}", cnpj, NORMAL) for number, cnpj in enumerate(OTHERS)]
    with asking(Shop(others)) as pages:
        with pytest.raises(FundNotFound, match="nearest: AROEIRA 0; AROEIRA 1; .*; and 1 more"):
            pages.find_fund("aroeira")


def test_the_operating_one_of_funds_with_one_name_is_taken():
    twins = [(format_cnpj(cnpj), "IPÊ FIM", cnpj, "CANCELADA") for cnpj in OTHERS[:3]]
    more = [(format_cnpj(cnpj), "IPÊ FIM II", cnpj, NORMAL) for cnpj in OTHERS[3:]]
    operating = (*AROEIRA[:1], "Ipê Fim", CNPJ, NORMAL)
    with asking(Shop([*twins, operating, *more])) as pages:
        assert pages.find_fund("ipe fim").cnpj == CNPJ
    with asking(Shop([*twins, *more])) as pages, pytest.raises(FundNotFound, match=r"matches \d+ funds"):
        pages.find_fund("ipe fim")


def test_more_results_than_may_be_followed_are_only_listed():
    rows = [(format_cnpj(cnpj), f"IPÊ {number}", cnpj, "CANCELADA") for number, cnpj in enumerate(OTHERS)]
    with asking(Shop([*rows[: MOST_FOLLOWED - 1], AROEIRA])) as pages:
        assert pages.find_fund("algo").cnpj == CNPJ
    with asking(Shop([*rows[:MOST_FOLLOWED], AROEIRA])) as pages, pytest.raises(FundNotFound):
        pages.find_fund("algo")


@pytest.mark.parametrize("text", ["18.993.924/0001-01", "1899392400010", "12ABC34501DE36", "12.345", " - "])
def test_a_mistyped_cnpj_is_not_a_name(pages, text):
    with pytest.raises(ConfigError, match="is not a CNPJ"):
        pages.find_fund(text)


@pytest.mark.parametrize("text", ["FIC FIM", "¡!", "%", "x" * 201])
def test_a_name_without_a_word_is_refused_before_any_request(pages, shared, text):
    before = shared.requests.total()
    with pytest.raises(ConfigError, match="text: "):
        pages.find_fund(text)
    assert shared.requests.total() == before


class Hiccup(Shop):
    """A shop that first sends error pages, with status 200."""

    def __init__(self, errors: int) -> None:
        super().__init__([AROEIRA])
        self.errors, self.requests = errors, 0

    def page(self, handler: http.server.BaseHTTPRequestHandler) -> str | int:
        self.requests += 1
        return "Erro inesperado" if self.requests <= self.errors else super().page(handler)


@pytest.mark.parametrize("text", ["aroeira", CNPJ])
def test_a_look_up_is_retried_after_an_error_page(text):
    with asking(Hiccup(2), backoff=0.01) as pages:
        assert pages.find_fund(text).cnpj == CNPJ
    with asking(Hiccup(2), backoff=0.01) as pages:
        assert [hit.series for hit in pages.search(text).hits] == [CNPJ]


@pytest.mark.parametrize(
    ("settings", "requests"),
    [({"backoff": 0.01}, 3), ({"max_attempts": 2, "backoff": 0.01}, 2), ({"backoff": 50.0, "site_patience": 10.0}, 1)],
    ids=["three attempts", "fewer if jobs have fewer", "none beyond the deadline"],
)
def test_a_look_up_that_gets_only_error_pages_ends(settings, requests):
    shop = Hiccup(99)
    with asking(shop, **settings) as pages, pytest.raises(NotACvmPage):
        pages.find_fund("aroeira")
    assert shop.requests == requests


def test_a_lasting_fault_is_not_retried():
    shop = Shop([("", "AROEIRA AÇÕES", "", NORMAL)])
    with asking(shop, backoff=0.01) as pages, pytest.raises(PageChanged):
        pages.find_fund("aroeira")
    assert len(shop.asked) == 1


def test_a_waiting_look_up_ends_when_the_source_is_closed():
    shop = Hiccup(99)
    with asking(shop, backoff=100.0, page_timeout=500.0) as pages, ThreadPoolExecutor(1) as thread:
        looking = thread.submit(pages.find_fund, "aroeira")
        wait_until(lambda: shop.requests == 1)
        pages.close()
        with pytest.raises(SiteUnavailable, match="closed here"):
            looking.result(60)
