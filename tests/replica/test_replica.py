"""The offline site, read with the standard library's HTML parser and never with the kit's own."""

from __future__ import annotations

import calendar
import contextlib
import http.client
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from support.site_pages import Reader, read_quotes
from support.waiting import wait_until

from scraperkit.errors import ConfigError
from scraperkit.replica import Replica, server
from scraperkit.replica.sample import SampleFund, load_sample

SEARCH = "CConsolFdo/ResultBuscaParticFdo.aspx?CNPJNome={}&TpPartic=0&Adm=false&SemFrame="
FUND = "CConsolFdo/ResultBuscaDocsFdo.aspx?PK_PARTIC={}&SemFrame="
DAILY = "InfDiario/CPublicaInfDiario.aspx?PK_PARTIC={}&SemFrame="
LESSONS, TWICE = "18.993.924/0001-00", "99.101.019/0001-91"


@pytest.fixture(scope="module")
def shared() -> Iterator[Replica]:
    with Replica.start() as replica:
        yield replica


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def replica() -> Iterator[Replica]:
    before = set(threading.enumerate())
    with Replica.start() as replica:
        yield replica
    assert set(threading.enumerate()) <= before


def get(session: requests.Session, replica: Replica, path: str) -> Reader:
    response = session.get(replica.url + path, timeout=60)
    assert response.status_code == 200
    return Reader(response.content)


def fund_of(replica: Replica, pk: str) -> SampleFund:
    return next(fund for fund in replica.funds if fund.pk == pk)


def is_error_page(response: requests.Response) -> bool:
    page = Reader(response.content)
    return (
        response.status_code == 200 and "lblErro" in page.texts and not {"dgDocDiario", "ddlFundos"} & set(page.texts)
    )


# --- search and fund page


@pytest.mark.parametrize("written", [LESSONS, "18993924000100", "18.993.924%2F0001-00"])
def test_search_leads_to_the_fund_page_by_a_relative_redirect(
    shared: Replica, session: requests.Session, written: str
) -> None:
    url = shared.url + SEARCH.format(written)
    page = get(session, shared, SEARCH.format(written))
    link = page.attributes["ddlFundos__ctl0_lnkbtn1"]
    assert link["class"] == "HRefPreto"
    assert link["href"] == "javascript:__doPostBack('ddlFundos$_ctl0$lnkbtn1','')"
    assert set(page.hidden) == {
        "__EVENTTARGET", "__EVENTARGUMENT", "__VIEWSTATE", "__VIEWSTATEGENERATOR", "__EVENTVALIDATION"
    }  # fmt: skip

    form = page.hidden | {"__EVENTTARGET": "ddlFundos$_ctl0$lnkbtn1"}
    response = session.post(url, data=form, allow_redirects=False, timeout=60)

    assert response.status_code == 302
    assert response.headers["Location"] == "ResultBuscaDocsFdo.aspx?PK_PARTIC=132922&SemFrame="
    found = Reader(session.get(urljoin(url, response.headers["Location"]), timeout=60).content)
    assert found.texts["lbNmDenomSocial"] == "Fundo Exemplo Aroeira FIC FIA"
    assert found.texts["lbNmDenomSocialAdm"] == "Administradora Exemplo Manacá DTVM S.A."
    assert found.texts["lbSitDesc"] == "EM FUNCIONAMENTO NORMAL"
    assert found.texts["lbInfAdc1"] == "04/01/2021"
    daily = urljoin(shared.url + FUND.format("132922"), found.attributes["Hyperlink2"]["href"])
    assert daily == shared.url + DAILY.format("132922")


def test_the_form_of_the_search_page_points_at_itself(shared: Replica, session: requests.Session) -> None:
    url = shared.url + SEARCH.format(LESSONS)
    page = Reader(session.get(url, timeout=60).content)
    form = page.hidden | {"__EVENTTARGET": "ddlFundos$_ctl0$Linkbutton2"}
    response = session.post(urljoin(url, page.attributes["Form1"]["action"]), data=form, timeout=60)
    assert response.history[0].status_code == 302
    assert "lbSitDesc" in Reader(response.content).texts


def test_two_rows_for_one_cnpj_have_different_ids_and_the_inactive_one_is_first(
    shared: Replica, session: requests.Session
) -> None:
    url = shared.url + SEARCH.format(TWICE)
    page = Reader(session.get(url, timeout=60).content)
    assert page.texts["ddlFundos__ctl0_lnkbtn1"] == "Fundo Exemplo Sapucaia FIC FIM"
    assert page.texts["ddlFundos__ctl1_Linkbutton4"].startswith("Classe Única do Fundo Exemplo Sapucaia")
    found = {}
    for name in ("ddlFundos$_ctl0$lnkbtn1", "ddlFundos$_ctl1$Linkbutton4"):
        response = session.post(url, data=page.hidden | {"__EVENTTARGET": name}, timeout=60)
        found[response.url.partition("PK_PARTIC=")[2][:6]] = Reader(response.content).texts["lbSitDesc"]
    assert found == {"901109": "CANCELADA", "901209": "EM FUNCIONAMENTO NORMAL"}


@pytest.mark.parametrize("written", ["00.000.000/0001-91", "191", "", "EXEMPL0A000101", "<b>&'"])
def test_an_unknown_cnpj_returns_a_table_without_rows(shared: Replica, session: requests.Session, written: str) -> None:
    url = shared.url + "CConsolFdo/ResultBuscaParticFdo.aspx"
    page = Reader(session.get(url, params={"CNPJNome": written}, timeout=60).content)
    assert "ddlFundos" in page.texts
    assert "a" not in page.tags
    again = session.post(url, params={"CNPJNome": written}, data=page.hidden, timeout=60)
    assert Reader(again.content).tables == ["ddlFundos"]


def test_a_cnpj_with_letters_is_found_in_either_case(shared: Replica, session: requests.Session) -> None:
    for written in ("EX.EMP.L0A/0001-00", "exempl0a000100"):
        page = get(session, shared, SEARCH.format(written))
        assert page.texts["ddlFundos__ctl0_lnkbtn1"] == "Fundo Exemplo Vinhático FIC FIA"


def test_case_is_ignored_in_paths_and_query_names(shared: Replica, session: requests.Session) -> None:
    address = urlsplit(shared.url)
    for path in (
        "/swb//sistemas/scw/cpublica/infdiario/cpublicainfdiario.aspx?pk_partic=132922",
        "/SWB/SISTEMAS/SCW/CPUBLICA/INFDIARIO/CPUBLICAINFDIARIO.ASPX?PK_PARTIC=132922&PK_SUBCLASSE=-1",
    ):
        page = Reader(session.get(f"http://{address.netloc}{path}", timeout=60).content)
        assert page.texts["lbNrPfPj"] == LESSONS


# --- daily page


def test_the_daily_page_has_the_structure_of_the_sites(shared: Replica, session: requests.Session) -> None:
    response = session.get(shared.url + DAILY.format("132922"), timeout=60)
    page = Reader(response.content)
    assert response.headers["Content-Type"] == "text/html; charset=iso-8859-1"
    assert b"charset=iso-8859-1" in response.content
    assert "Administradora Exemplo Manacá".encode("iso-8859-1") in response.content
    assert page.tables == ["TABLE1", "dgDocDiario"]
    assert not {"thead", "tbody", "th"} & set(page.tags)
    assert page.rows[0] == [
        "Dia", "Quota(R$)", "Captação no Dia(R$)", "Resgate no Dia(R$)", "Patrimônio Líquido(R$)",
        "Total da Carteira(R$)", "N°. Total deCotistas", "Data da próximainformação do PL",
    ]  # fmt: skip
    assert page.attributes["ddComptc"]["name"] == "ddComptc"
    assert page.options[:2] == ["12/2023", "11/2023"]
    assert page.options[-1] == ""
    assert (len(page.options), page.selected) == (37, ["12/2023"])
    text = re.sub(r"\s+", " ", page.text)
    assert re.search(
        r"Nome do Fundo: Fundo Exemplo Aroeira FIC FIA CNPJ: 18\.993\.924/0001-00 "
        r"Administrador: Administradora Exemplo Manacá DTVM S\.A\. CNPJ: 99\.100\.001/0001-75",
        text,
    )
    assert 2_000 < len(page.hidden["__VIEWSTATE"]) < 8_000


def test_every_fourth_month_of_every_fund_reads_back_as_in_the_sample(
    shared: Replica, session: requests.Session
) -> None:
    sample = load_sample()
    funds = [fund for fund in shared.funds if sample.offered(fund.pk)]
    for fund in funds:
        first = get(session, shared, DAILY.format(fund.pk))
        for month_year in first.options[:-1:4]:
            form = first.hidden | {"__EVENTTARGET": "ddComptc", "ddComptc": month_year}
            response = session.post(shared.url + DAILY.format(fund.pk), data=form, timeout=60)
            page = Reader(response.content)
            assert page.selected == [month_year]
            days = calendar.monthrange(int(month_year[3:]), int(month_year[:2]))[1]
            assert [row[0] for row in page.rows[1:]] == [str(day) for day in range(1, days + 1)]
            quotes = read_quotes(page, fund.cnpj, month_year)
            assert quotes == list(sample.month(fund.cnpj, month_year))


def test_figures_are_written_as_on_the_site(shared: Replica, session: requests.Session) -> None:
    def row(pk: str, month_year: str, day: int) -> list[str]:
        url = shared.url + DAILY.format(pk)
        form = Reader(session.get(url, timeout=60).content).hidden | {"ddComptc": month_year}
        return Reader(session.post(url, data=form, timeout=60).content).rows[day]

    assert row("132922", "01/2021", 2) == ["2", *["\xa0"] * 7]
    assert row("901101", "01/2021", 4)[1] == "1.953,908722"
    assert row("132922", "01/2021", 4)[:5] == ["4", "3,19", "81.364,15", "128.774,38", "88.352.589,77"]
    assert row("901102", "12/2023", 29)[1] == "1.324"
    assert row("901104", "08/2022", 31)[4:7] == ["0,00", "0,00", "0"]
    # The net worth of 15 June 2021 is missing, and the last cell says when it will be known.
    assert row("901106", "06/2021", 15)[4:] == ["\xa0", "\xa0", "1.878", "16/06/2021"]


def test_names_are_escaped(shared: Replica, session: requests.Session) -> None:
    content = session.get(shared.url + DAILY.format("901113"), timeout=60).content
    assert b"Cedro &amp; Emba" in content
    assert b"&lt; 365" in content
    assert Reader(content).texts["lbNmDenomSocial"] == "Fundo Exemplo Cedro & Embaúba FIM Prazo < 365 Dias"


def test_a_fund_without_months_has_the_blank_one_selected_and_no_rows(
    shared: Replica, session: requests.Session
) -> None:
    page = get(session, shared, DAILY.format("901109"))
    assert (page.options, page.selected, len(page.rows)) == ([""], [""], 1)


def test_a_month_that_is_not_offered_leaves_the_newest_selected(shared: Replica, session: requests.Session) -> None:
    url = shared.url + DAILY.format("901104")
    form = Reader(session.get(url, timeout=60).content).hidden
    for wanted in ("09/2022", "", "x"):
        response = session.post(url, data=form | {"__EVENTTARGET": "ddComptc", "ddComptc": wanted}, timeout=60)
        assert Reader(response.content).selected == ["08/2022"]


def test_the_hidden_fields_of_one_month_are_valid_for_another(shared: Replica, session: requests.Session) -> None:
    url = shared.url + DAILY.format("132922")
    form = Reader(session.get(url, timeout=60).content).hidden
    december = Reader(session.post(url, data=form | {"ddComptc": "12/2022"}, timeout=60).content)
    assert december.hidden["__VIEWSTATE"] != form["__VIEWSTATE"]
    january = Reader(session.post(url, data=december.hidden | {"ddComptc": "01/2022"}, timeout=60).content)
    assert january.selected == ["01/2022"]


# --- what the site refuses


@pytest.mark.parametrize("path", [DAILY.format("1"), DAILY.format(""), FUND.format("132922x"), "CConsolFdo/ResultBuscaDocsFdo.aspx"])  # fmt: skip # noqa: E501
def test_an_unknown_pk_is_an_error_page_with_status_200(shared: Replica, session: requests.Session, path: str) -> None:
    assert is_error_page(session.get(shared.url + path, timeout=60))


@pytest.mark.parametrize("path", ["Nowhere.aspx", "../../../x", "CDA/CPublicaCDA.aspx?PK_PARTIC=132922"])
def test_an_unknown_path_is_404(shared: Replica, session: requests.Session, path: str) -> None:
    assert session.get(shared.url + path, timeout=60).status_code == 404


def test_hidden_fields_of_another_page_return_an_error_page(shared: Replica, session: requests.Session) -> None:
    url = shared.url + DAILY.format("132922")
    good = Reader(session.get(url, timeout=60).content).hidden | {"ddComptc": "01/2022"}
    other = get(session, shared, DAILY.format("901101")).hidden
    search = get(session, shared, SEARCH.format(LESSONS)).hidden
    state = good["__VIEWSTATE"]
    bad = [
        {},
        other,
        search,
        {name: value for name, value in good.items() if name != "__EVENTVALIDATION"},
        good | {"__EVENTVALIDATION": other["__EVENTVALIDATION"]},
        good | {"__VIEWSTATEGENERATOR": "00000000"},
        good | {"__VIEWSTATE": state[:-8]},
        good | {"__VIEWSTATE": state[:40] + ("A" if state[40] != "A" else "B") + state[41:]},
        good | {"__VIEWSTATE": state.replace("+", " ")[:-1] + "é"},
    ]
    for form in bad:
        assert is_error_page(session.post(url, data=form, timeout=60)), form.keys()
    assert is_error_page(session.post(shared.url + SEARCH.format(TWICE), data=search, timeout=60))
    assert Reader(session.post(url, data=good, timeout=60).content).selected == ["01/2022"]


def test_malformed_forms_are_refused(shared: Replica) -> None:
    address = urlsplit(shared.url)
    path = address.path + DAILY.format("132922")
    for headers, body, status in [
        ({}, None, 411),
        ({"Content-Length": "-1"}, None, 411),
        ({"Content-Length": "9" * 5_000}, None, 413),
        ({"Content-Length": "2000000"}, None, 413),
        ({}, b"a=1&" * 200, 200),
        ({}, b"\xff\x00=%zz", 200),
    ]:
        connection = http.client.HTTPConnection(address.netloc, timeout=60)
        connection.putrequest("POST", path)
        for name, value in headers.items() or {"Content-Length": str(len(body))}.items() if body else headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        assert response.status == status
        response.read()
        connection.close()


@pytest.mark.parametrize("target", ["//[", "/%", "/SWB/Sistemas/SCW/CPublica/%FF?%FF=%", "http://[/x", "*"])
def test_odd_targets_are_404(shared: Replica, target: str) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(shared.url).port or 0), timeout=60) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert client.makefile("rb").readline().startswith(b"HTTP/1.1 404 ")


# --- faults on demand


def test_requests_are_counted_by_kind_and_returned_as_a_copy(replica: Replica, session: requests.Session) -> None:
    before = replica.requests
    page = get(session, replica, SEARCH.format(LESSONS))
    form = page.hidden | {"__EVENTTARGET": "ddlFundos$_ctl0$lnkbtn1"}
    session.post(replica.url + SEARCH.format(LESSONS), data=form, timeout=60)
    daily = get(session, replica, DAILY.format("132922"))
    session.post(replica.url + DAILY.format("132922"), data=daily.hidden, timeout=60)
    get(session, replica, "")
    session.get(replica.url + "x", timeout=60)
    assert before == Counter()
    assert replica.requests == Counter(search=1, search_post=1, fund=1, daily_get=1, daily_post=1, index=1, unknown=1)


def test_the_index_lists_the_funds(shared: Replica, session: requests.Session) -> None:
    page = get(session, shared, "")
    assert page.tags.count("a") == len(shared.funds)
    assert "Embaúba FIM Prazo < 365" in page.text


def test_errors_are_500_or_pages_with_200_and_repeat_with_the_seed(session: requests.Session) -> None:
    def outcomes(seed: int) -> list[int]:
        with Replica.start(error_rate=0.5, seed=seed) as replica:
            responses = [session.get(replica.url + DAILY.format("132922"), timeout=60) for _ in range(60)]
            counts = replica.requests
        kinds = [500 if a.status_code == 500 else 2 if is_error_page(a) else 200 for a in responses]
        assert counts == Counter(error=60 - kinds.count(200), daily_get=kinds.count(200))
        return kinds

    first = outcomes(1)
    assert {500, 2, 200} == set(first)
    assert 15 < first.count(200) < 45
    assert outcomes(1) == first
    assert outcomes(2) != first


def test_the_error_rate_can_be_set_while_it_runs(replica: Replica, session: requests.Session) -> None:
    url = replica.url + FUND.format("132922")
    replica.error_rate = 1
    responses = [session.get(url, timeout=60) for _ in range(20)]
    assert {response.status_code for response in responses} == {200, 500}
    assert not any("lbSitDesc" in response.text for response in responses)
    replica.error_rate = 0
    assert "lbSitDesc" in session.get(url, timeout=60).text
    assert replica.requests == Counter(error=20, fund=1)


def test_an_outage_is_503_with_retry_after_until_it_ends(replica: Replica, session: requests.Session) -> None:
    url = replica.url + FUND.format("132922")
    replica.outage(3600)
    away = session.get(url, timeout=60)
    assert away.status_code == 503
    assert 3000 <= int(away.headers["Retry-After"]) <= 3600
    replica.outage(0)
    assert session.get(url, timeout=60).status_code == 200

    replica.outage(0.2)
    seen: list[int] = []

    def is_over() -> bool:
        seen.append(session.get(url, timeout=60).status_code)
        return seen[-1] == 200

    assert wait_until(is_over)
    assert set(seen) <= {503, 200}
    assert replica.requests == Counter(outage=1 + seen.count(503), fund=2)


def test_latency_delays_every_response_and_can_be_set(replica: Replica, session: requests.Session) -> None:
    replica.latency = 0.15
    start = time.monotonic()
    session.get(replica.url + FUND.format("132922"), timeout=60)
    assert time.monotonic() - start >= 0.15
    assert replica.latency == 0.15


@pytest.mark.parametrize("value", [-1, 1e9, float("nan"), float("inf"), "1", None])
def test_invalid_settings_are_refused_by_name(replica: Replica, value: object) -> None:
    for name in ("latency", "error_rate"):
        with pytest.raises(ConfigError, match=f"{name}: "):
            setattr(replica, name, value)
        with pytest.raises(ConfigError, match=f"{name}: "):
            Replica.start(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seconds: "):
        replica.outage(value)  # type: ignore[arg-type]


def test_a_restated_month_shows_its_new_quotas_from_then_on(replica: Replica, session: requests.Session) -> None:
    def shown(site: Replica, month: str) -> dict[int, float | None]:
        page = get(session, site, DAILY.format("132922"))
        form = page.hidden | {"__EVENTTARGET": "ddComptc", "ddComptc": month}
        body = session.post(site.url + DAILY.format("132922"), data=form, timeout=60).content
        return {quote.date.day: quote.quota for quote in read_quotes(Reader(body), "18993924000100", month)}

    before, neighbour = shown(replica, "03/2022"), shown(replica, "04/2022")
    changes = replica.restate(LESSONS, "2022-03", 1.01)
    after = shown(replica, "03/2022")
    assert after.keys() == before.keys()
    assert all(after[day] == pytest.approx(before[day] * 1.01, rel=1e-8) for day in before)
    assert shown(replica, "04/2022") == neighbour
    assert dict(zip(changes.index.day, changes["old"], strict=True)) == before
    assert dict(zip(changes.index.day, changes["new"], strict=True)) == after
    with Replica.start() as other:
        assert shown(other, "03/2022") == before


@pytest.mark.parametrize(
    ("cnpj", "month", "factor", "told"),
    [
        ("18.993.924/0001-01", "2022-03", 1.01, "^'18.993.924/0001-01' is not a CNPJ"),
        (LESSONS, "03/2022", 1.01, "month: must be a month"),
        (LESSONS, "1999-12", 1.01, r"month: the site shows no figures of 18.993.924/0001-00 in 1999-12"),
        (LESSONS, "2022-03", 0, "factor: "),
        (LESSONS, "2022-03", -1, "factor: "),
        (LESSONS, "2022-03", float("nan"), "factor: "),
    ],
)
def test_an_impossible_restatement_is_refused(
    replica: Replica, cnpj: str, month: str, factor: float, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        replica.restate(cnpj, month, factor)


# --- the server


def test_one_connection_is_kept_alive_and_stop_closes_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 3600)  # or an idle connection would end by itself
    before = set(threading.enumerate())
    replica = Replica.start()
    connection = http.client.HTTPConnection(urlsplit(replica.url).netloc, timeout=60)
    try:
        sockets = set()
        for _ in range(3):
            connection.request("GET", "/nowhere")
            connection.getresponse().read()
            sockets.add(connection.sock)
        assert len(sockets) == 1
        replica.stop()
        assert connection.sock.recv(1) == b""
    finally:
        connection.close()
        replica.stop()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(replica.url).port or 0), timeout=60).close()


def test_stop_does_not_wait_for_the_latency(session: requests.Session) -> None:
    replica = Replica.start(latency=3600)
    with socket.create_connection(("127.0.0.1", urlsplit(replica.url).port or 0), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        replica.stop()
        # Closing before the request is read causes a reset, later an end of file; never a response.
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_client_that_disconnects_does_not_affect_others(replica: Replica, session: requests.Session) -> None:
    port = urlsplit(replica.url).port or 0
    for sent in (
        b"",
        b"GET /",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
        b"\x16\x03\x01\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(sent)
    assert session.get(replica.url + FUND.format("132922"), timeout=60).status_code == 200


def test_it_listens_on_this_machine_only_and_says_when_a_port_is_taken(replica: Replica) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/SWB/Sistemas/SCW/CPublica/", replica.url)
    port = urlsplit(replica.url).port or 0
    with pytest.raises(ConfigError, match=f"port: cannot listen on {port}"):
        Replica.start(port=port)
    with pytest.raises(ConfigError, match="port: cannot listen on 70000"):
        Replica.start(port=70_000)


def test_eight_clients_at_once_get_whole_pages(replica: Replica) -> None:
    wrong: list[str] = []

    def client(pk: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            cnpj = fund_of(replica, pk).cnpj
            for _ in range(25):
                page = Reader(session.get(replica.url + DAILY.format(pk), timeout=60).content)
                if re.sub("[./-]", "", page.texts["lbNrPfPj"]) != cnpj:
                    wrong.append(pk)

    pks = [fund.pk for fund in replica.funds if fund.active][:8]
    threads = [threading.Thread(target=client, args=(pk,)) for pk in pks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert replica.requests["daily_get"] == 200


def test_the_notebook_view_is_small_and_escaped(replica: Replica, session: requests.Session) -> None:
    get(session, replica, FUND.format("132922"))
    html = replica._repr_html_()
    assert replica.url in html
    assert "fund 1" in html
    assert len(html) < 2_500
    assert "running" in repr(replica)
    replica.url = "<script>"
    assert "<script>" not in replica._repr_html_()
    replica.stop()
    assert "stopped" in replica._repr_html_()
