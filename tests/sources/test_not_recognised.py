"""Only known forms of an empty result are accepted; any other page is a retryable error."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from support.waiting import wait_until

from scraperkit.cnpj import format_cnpj
from scraperkit.config import Settings
from scraperkit.errors import FundNotFound, NotACvmPage, PageChanged, WrongFund
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica, pages
from scraperkit.replica.sample import load_sample
from scraperkit.sources import CvmPages
from scraperkit.sources.cvm_parser import parse_daily, parse_fund_page, parse_search
from scraperkit.sources.says import says
from scraperkit.subscriber import Subscriber

CNPJ, OTHER, ADMINISTRATOR = "18993924000100", "99101011000125", "99100001000175"
ONCE = Settings(http_retries=0, max_attempts=1, breaker_failures=1000)
ERROR_FORM = (
    '<html><head><title>CVM - Erro</title></head><body><form><input type="hidden" name="__VIEWSTATE" id="__VIEWSTATE" '
    'value="/wEP"><h2>Ocorreu um erro inesperado. Tente de novo.</h2></form></body></html>'
).encode("latin-1")


@pytest.fixture
def replica():
    with Replica.start() as running:
        yield running


# --- what a page is


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (ERROR_FORM, "its title is 'CVM - Erro', it says 'Ocorreu um erro inesperado.'"),
        (pages.render_captcha(), "'CVM - Verificação', it says 'Digite os caracteres da imagem para continuar.'"),
        (pages.render_expired(), "'CVM - Sessão expirada', it says 'Sua sessão expirou.'"),
        (pages.render_maintenance(), "'CVM - Manutenção', it says 'Sistema em manutenção.'"),
        (pages.render_error(), "'CVM - Erro', it says 'Ocorreu um erro no processamento da sua solicitação.'"),
    ],
    ids=["error form", "captcha", "expired", "maintenance", "error"],
)
@pytest.mark.parametrize("parse", [parse_search, parse_fund_page, lambda page: parse_daily(page, cnpj=CNPJ)])
def test_an_unrecognised_page_is_quoted_in_a_retryable_error(page, told, parse):
    with pytest.raises(NotACvmPage, match="not the .* page") as caught:
        parse(page)
    assert told in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize(
    "result",
    [
        '<table id="ddlFundos"></table>',
        "<p>Nenhum participante encontrado.</p>",
        "<p>Nenhum fundo <b>foi</b> encontrado</p>",
        "<p>Nenhum registro encontrado</p>",
    ],
)
def test_known_forms_of_an_empty_result_are_accepted(result):
    page = f'<html><form><input type="hidden" name="__VIEWSTATE" value="v">{result}</form></html>'
    assert parse_search(page.encode("latin-1")).rows == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("<html><title> </title><script>var x = 'y';</script></html>", ""),
        ("<style>b { }</style><!-- no --><p>Fora do ar", "; it says 'Fora do ar'"),
        ("<script>alert('Tempo esgotado')</script><p>Oi.</p>", "; it says 'Tempo esgotado'"),
        (f"<p>{'x' * 999}</p>", f"; it says '{'x' * 160}'"),
        ("<p>Volte às 10.30 h. Obrigado.</p>", "; it says 'Volte às 10.30 h.'"),
        ("<" * 100_000, f"; it says '{'<' * 160}'"),
    ],
)
def test_a_page_is_quoted_by_its_title_and_first_sentence(text, told):
    assert says(text) == told


# --- the site in these states


def test_a_captcha_of_the_search_is_not_an_unknown_fund(replica):
    with CvmPages(replica.url, settings=ONCE) as source:
        replica.captcha = True
        with pytest.raises(NotACvmPage, match="Digite os caracteres"):
            source.find_fund(CNPJ)
        assert source.fetch(Fund(CNPJ, "132922").months("2022-01", "2022-01")[0]), "daily pages have none"
        replica.captcha = False
        assert source.find_fund(CNPJ).pk == "132922"
        with pytest.raises(FundNotFound):
            source.find_fund("00000000000191")
        assert replica.requests["captcha"] == 1


def test_maintenance_is_reported_and_passes(replica):
    request = Fund(CNPJ, "132922").months("2022-01", "2022-01")[0]
    with CvmPages(replica.url, settings=ONCE) as source:
        replica.maintenance = True
        for ask in (lambda: source.find_fund(CNPJ), lambda: source.fetch(request)):
            with pytest.raises(NotACvmPage, match="Sistema em manutenção"):
                ask()
        replica.maintenance = False
        assert source.fetch(request)
        assert replica.requests["maintenance"] == 2


def test_a_worker_gets_through_maintenance(replica, redis, namespace):
    settings = Settings.load(namespace=namespace, threads=4, backoff=0.05, max_attempts=50, breaker_failures=1000)
    replica.maintenance = True
    with CvmPages(replica.url, settings=settings) as source, Subscriber(redis, source, settings=settings):
        batch = Publisher(redis, namespace=namespace).publish(Fund(CNPJ, "132922").months("2022-01", "2022-06"))
        assert wait_until(lambda: replica.requests["maintenance"] >= 6)
        replica.maintenance = False
        assert batch.wait(60).done == 6


# --- sessions


def test_the_form_of_one_session_is_not_valid_in_another(replica):
    address = f"{replica.url}InfDiario/CPublicaInfDiario.aspx?PK_PARTIC=132922&SemFrame="
    with requests.Session() as one, requests.Session() as other:
        one.trust_env = other.trust_env = False
        page = one.get(address, timeout=60).text
        other.get(address, timeout=60)
        form = dict(_hidden(page)) | {"__EVENTTARGET": "ddComptc", "ddComptc": "01/2022"}
        assert 'selected="selected" value="01/2022"' in one.post(address, data=form, timeout=60).text
        assert "lblErro" in other.post(address, data=form, timeout=60).text
        assert "Sua sessão expirou." in requests.post(address, data=form, timeout=60).text
        replica.expire_sessions()
        assert "Sua sessão expirou." in one.post(address, data=form, timeout=60).text


def _hidden(page: str) -> list[tuple[str, str]]:
    return [
        (line.split('name="')[1].split('"')[0], line.split('value="')[1].split('"')[0])
        for line in page.splitlines()
        if 'type="hidden"' in line
    ]


def test_eight_threads_get_all_months_of_a_fund_and_its_form_travels_with_its_session(replica):
    months = Fund(CNPJ, "132922").months("2022-01", "2022-12")
    with CvmPages(replica.url, settings=ONCE) as source, ThreadPoolExecutor(8) as pool:
        quotes = list(pool.map(source.fetch, months))
    assert quotes == [list(load_sample().month(CNPJ, month.month_year)) for month in months]
    assert (replica.requests["daily_get"], replica.requests["daily_post"]) == (1, 12)


def test_a_new_first_page_recovers_from_an_expired_session(replica):
    months = Fund(CNPJ, "132922").months("2022-01", "2022-12")
    with CvmPages(replica.url, settings=ONCE) as source, ThreadPoolExecutor(8) as pool:
        assert source.fetch(months[0])
        replica.expire_sessions()
        assert all(pool.map(source.fetch, months))
        assert 2 <= replica.requests["daily_get"] <= 9, "at most as many as began with the old one"


# --- which fund a page shows


def daily(header: str) -> bytes:
    fund = load_sample().funds[0]
    page = pages.render_daily(fund, [], "01/2022", ["01/2022"]).decode("latin-1")
    begin, end = page.index("<tr><td><b>Nome do Fundo:"), page.index('</table>\n<table id="dgDocDiario"')
    return f"{page[:begin]}<tr><td>{header}</td></tr>{page[end:]}".encode("latin-1")


LABELS = [
    "CNPJ:",
    "CNPJ :",
    "CNPJ/MF:",
    "CNPJ da Classe:",
    "CNPJ do Fundo:",
    "CNPJ/MF do Fundo:",
    "Cnpj da Classe de Cotas:",
]


@pytest.mark.parametrize("name", ["Nome do Fundo:", "Nome da Classe:"])
@pytest.mark.parametrize("label", LABELS)
def test_the_funds_cnpj_is_the_one_beside_its_name_with_any_label(name, label):
    for others in ("CNPJ:", label):
        header = (
            f"{name} FUNDO DO ADMINISTRADOR X {label} {format_cnpj(CNPJ)} "
            f"Administrador: ADM {others} {format_cnpj(ADMINISTRATOR)}"
        )
        page = parse_daily(daily(header), cnpj=CNPJ)
        assert (page.cnpj, page.name) == (CNPJ, "FUNDO DO ADMINISTRADOR X")
        with pytest.raises(WrongFund, match=r"shows the fund 18\.993\.924/0001-00"):
            parse_daily(daily(header), cnpj=ADMINISTRATOR)


@pytest.mark.parametrize("label", ["C.N.P.J.:", "Inscrição:", "CNPJ: n/d", ""])
@pytest.mark.parametrize("asked", [CNPJ, ADMINISTRATOR])
def test_an_unreadable_header_is_not_taken_for_another_funds(label, asked):
    header = f"Nome do Fundo: X {label} Administrador: ADM CNPJ: {format_cnpj(ADMINISTRATOR)}"
    with pytest.raises(PageChanged, match="no CNPJ beside the name of the fund"):
        parse_daily(daily(header), cnpj=asked)


def test_the_daily_page_is_requested_as_users_do(replica, monkeypatch):
    targets: list[str] = []
    respond: Callable = replica._site.respond
    monkeypatch.setattr(
        replica._site,
        "respond",
        lambda method, target, *rest: (targets.append(target), respond(method, target, *rest))[1],
    )
    with CvmPages(replica.url, settings=ONCE) as source:
        assert source.fetch(Fund(CNPJ, "132922").months("2022-01", "2022-01")[0])
    daily_pages = [target.partition("?")[2] for target in targets if "CPublicaInfDiario" in target]
    assert daily_pages == ["PK_PARTIC=132922&SemFrame=&PK_SUBCLASSE=-1"] * 2
    assert b"lblErro" in respond("GET", targets[-1].replace("-1", "7")).body
