"""Pages that are designed to be misread, or to take forever."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from scraperkit.cnpj import format_cnpj
from scraperkit.config import Settings
from scraperkit.errors import NotACvmPage, PageChanged, SourceError
from scraperkit.replica import pages
from scraperkit.replica.sample import load_sample
from scraperkit.sources import CvmPages
from scraperkit.sources.cvm_parser import parse_daily, parse_search

CNPJ, ADMINISTRATOR = "18993924000100", "99100001000175"
OURS, THEIRS = format_cnpj(CNPJ), format_cnpj(ADMINISTRATOR)


def daily(header: str) -> bytes:
    page = pages.render_daily(load_sample().funds[0], [], "01/2022", ["01/2022"]).decode("latin-1")
    begin, end = page.index("<tr><td><b>Nome do Fundo:"), page.index('</table>\n<table id="dgDocDiario"')
    return f"{page[:begin]}<tr><td>{header}</td></tr>{page[end:]}".encode("latin-1")


def search(body: str) -> bytes:
    field = '<input type="hidden" name="__VIEWSTATE" id="__VIEWSTATE" value="/wEP">'
    return f"<html><body><form>{field}{body}</form></body></html>".encode("latin-1")


@pytest.mark.parametrize(
    "header",
    [
        f"Nome do Fundo: X CNPJ/ME: {OURS} Administrador: B CNPJ/ME: {THEIRS}",
        f"Nome do Fundo: X CNPJ/MF nº: {OURS} Administrador: B CNPJ/MF nº: {THEIRS}",
        f"Nome do Gestor: B CNPJ: {THEIRS} Nome do Fundo: X CNPJ: {OURS}",
        f"Nome do Fundo/Classe: X CNPJ do Fundo/Classe: {OURS} Gestor: B CNPJ: {THEIRS}",
    ],
)
def test_the_funds_cnpj_is_found_beside_those_of_others(header):
    page = parse_daily(daily(header), cnpj=CNPJ)
    assert (page.cnpj, page.name) == (CNPJ, "X")


@pytest.mark.parametrize(
    "header",
    [
        f"Nome do Fundo: X CNPJ do Administrador: {THEIRS}",
        f"Nome do Fundo: X CNPJ do Administrador: {THEIRS} CNPJ do Fundo: {OURS}",
        f"Nome do Fundo: X CNPJ da Instituição Administradora: {THEIRS}",
        f"Nome do Fundo: X C.N.P.J.: {OURS} Gestor: B CNPJ: {THEIRS}",
        f"Nome do Fundo: X Custodiante: B CNPJ: {THEIRS}",
        f"Nome do Fundo: X Adm.: B CNPJ: {THEIRS}",
        f"Nome do Gestor: B CNPJ: {THEIRS}",
    ],
)
@pytest.mark.parametrize("asked", [CNPJ, ADMINISTRATOR])
def test_another_cnpj_is_never_taken_for_the_funds(header, asked):
    with pytest.raises(PageChanged, match="no CNPJ beside the name of the fund"):
        parse_daily(daily(header), cnpj=asked)


@pytest.mark.parametrize(
    "body",
    [
        "<p>Ocorreu um erro. Nenhum registro foi alterado.</p>",
        "<p>Nenhum resultado pode ser exibido: digite os caracteres da imagem.</p>",
        "<p>Sua sessão expirou.</p><table id='ddlFundos'></table>",
        "<p>Digite os caracteres da imagem.</p><table id='ddlFundos'></table>",
        "<p>Sistema em manutenção.</p><table id='ddlFundos'></table>",
    ],
)
def test_neither_a_word_nor_an_empty_list_makes_another_page_an_empty_result(body):
    with pytest.raises(NotACvmPage, match="it says"):
        parse_search(search(body))


@pytest.mark.parametrize("body", ["Nenhuma classe encontrada.", "Não foi encontrado nenhum fundo."])
def test_an_empty_result_is_recognised_in_several_wordings(body):
    assert parse_search(search(f"<p>{body}</p>")).rows == ()


class _Refusal(http.server.BaseHTTPRequestHandler):
    status, robots = 403, b""

    def do_GET(self) -> None:
        is_robots = self.path == "/robots.txt"
        page = self.robots if is_robots else b"<title>WAF</title><p>Acesso negado. Volte depois.</p>"
        self.send_response(200 if is_robots else self.status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def refusing(**given: object) -> Iterator[CvmPages]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Refusal", (_Refusal,), given)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with CvmPages(f"http://127.0.0.1:{server.server_port}/", settings=Settings(http_retries=0)) as source:
            yield source
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [403, 404, 429, 503])
def test_a_page_with_an_error_status_is_quoted(status):
    words = f"(returns|HTTP) {status}.*; its title is 'WAF', it says 'Acesso negado.'"
    with refusing(status=status) as source, pytest.raises(SourceError, match=words) as caught:
        source.find_fund(CNPJ)
    assert caught.value.retryable


def test_a_byte_order_mark_does_not_hide_the_crawl_delay():
    robots = "\ufeffUser-agent: *\r\nCrawl-delay: 3\r\n".encode()
    with refusing(robots=robots) as source, pytest.raises(SourceError):
        source.politeness.wait = lambda *_: True
        source.find_fund(CNPJ)
    assert source.politeness.crawl_delay == 3


BUSY = """
import sys
from scraperkit.errors import PageChanged
from scraperkit.sources import CvmPages
from scraperkit.sources.cvm_parser import parse_daily
from scraperkit.sources.says import says

table = '<select id="ddComptc"><option>01/2022</option></select><table id="dgDocDiario"></table>'
page = f"<html><form>{'Nome do Fundo:' * 50_000} {'Nome do Fundo: ' * 50_000}{table}</form></html>"
try:
    parse_daily(page.encode(), cnpj="18993924000100")
except PageChanged:
    pass
for part in ("<!--", "<title ", "<script>", "</script ", "alert('"):
    says(part * 60_000)
print("read")
"""


def test_a_page_that_repeats_its_labels_is_read_quickly():
    """In a process: nothing else can end a regex search."""
    done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "read\n", done.stderr
