"""The pages of the search and of a fund: what is read from them, and what is refused."""

from __future__ import annotations

import datetime as dt

import pytest

from scraperkit.errors import NotACvmPage, PageChanged
from scraperkit.sources.cvm_parser import (
    SearchRow,
    parse_fund_page,
    parse_search,
    pk_of,
)

LETTERED = "12ABC34501DE35"
URL = "https://cvm.example/search?CNPJNome=X"
HIDDEN = """<input type="hidden" name="__EVENTTARGET" value="" />
<input type="HIDDEN" name="__VIEWSTATE" value="/wEPa&amp;=">
<input type="text" name="other" value="x"><input type="hidden" value="nameless">"""


def search_page(rows: str, *, results: str = '<table id="ddlFundos">{}</table>') -> bytes:
    return f"<html><body><form>{HIDDEN}{results.format(rows)}</form></body></html>".encode("latin-1")


def link(name: str, text: str) -> str:
    href = f"javascript:__doPostBack(&#39;{name}&#39;,&#39;&#39;)"
    return f'<a id="{name.replace("$", "_")}" class="HRefPreto" href="{href}"><font>{text}</font></a>'


def test_a_search_has_one_row_for_each_match():
    page = parse_search(
        search_page(
            f"<tr><td>{link('ddlFundos$_ctl0$Linkbutton2', '18.993.924/0001-00')}</td><td>"
            f"{link('ddlFundos$_ctl0$lnkbtn1', 'FUNDO&nbsp;DE AÇÕES')}</td></tr>"
            f"<tr><td>{link('ddlFundos$_ctl1$Linkbutton3', '18.993')}</td><td>"
            f"{link('ddlFundos$_ctl1$Linkbutton4', 'CLASSE')}</td></tr>"
            f"<tr><td>{link('ddlFundos$_ctl10$Linkbutton9', 'OUTRA')}</td></tr><a href='ajuda.htm'>Ajuda</a>"
        )
    )
    assert page.rows == (
        SearchRow("FUNDO DE AÇÕES", "ddlFundos$_ctl0$lnkbtn1", "", "18993924000100"),
        SearchRow("CLASSE", "ddlFundos$_ctl1$Linkbutton4", ""),
        SearchRow("OUTRA", "ddlFundos$_ctl10$Linkbutton9", ""),
    )
    assert page.form == {"__EVENTTARGET": "", "__VIEWSTATE": "/wEPa&="}


@pytest.mark.parametrize("results", ['<table id="ddlFundos">{}</table>', "<b>Nenhum fundo encontrado.</b>"])
def test_a_search_may_find_nothing(results):
    assert parse_search(search_page("", results=results)).rows == ()


def test_a_search_without_postback_links_has_changed():
    with pytest.raises(PageChanged, match="__doPostBack"):
        parse_search(search_page('<a id="ddlFundos__ctl0_lnkbtn1" href="fundo.aspx">X</a>'), url=URL)


@pytest.mark.parametrize("content", [b"", b"<html>error</html>", search_page("")[:-30], b"\0ddlFundos</html>"])
def test_another_page_than_a_search_is_refused(content):
    with pytest.raises(NotACvmPage, match="search page"):
        parse_search(content)


FUND = """<html><body><form><span id="lbNmDenomSocial">FUNDO&nbsp;DE AÇÕES</span><span id="lbNrPfPj">{}</span>
<span id="lbNmDenomSocialAdm"> ADM </span><span id="lbSitDesc">EM FUNCIONAMENTO<br> NORMAL</span>
<span id="lbInfAdc1">{}</span>
<a id="Hyperlink2" href="../InfDiario/CPublicaInfDiario.aspx?PK_PARTIC=132922&amp;SemFrame=">
Dados</a></form></body></html>"""


def test_a_fund_page_is_read():
    fund = parse_fund_page(FUND.format("12.abc.345/01de-35", "02/01/2019").encode("latin-1"))
    assert (fund.cnpj, fund.name, fund.administrator) == (LETTERED, "FUNDO DE AÇÕES", "ADM")
    assert (fund.started_on, fund.pk) == (dt.date(2019, 1, 2), "132922")
    assert fund.daily_link.endswith("?PK_PARTIC=132922&SemFrame=")


@pytest.mark.parametrize("start", ["", "&nbsp;", "-", "31/02/2019", "2019-01-02", "em breve"])
def test_an_invalid_start_is_omitted(start):
    assert parse_fund_page(FUND.format("", start).encode("latin-1")).started_on is None


def test_a_fund_page_may_show_little_but_must_be_one():
    fund = parse_fund_page(b'<span id="lbNmDenomSocial">X</span></html>')
    assert (fund.cnpj, fund.name, fund.status, fund.daily_link, fund.pk) == ("", "X", "", "", "")
    for content in (b"<html>lbNmDenomSocial</html>", FUND.encode("latin-1")[:-30], b""):
        with pytest.raises(NotACvmPage, match="fund page"):
            parse_fund_page(content)


@pytest.mark.parametrize(
    ("url", "pk"),
    [("a?PK_PARTIC=1&b", "1"), ("a?x=1&Pk_Partic=132922", "132922"), ("a?PK_PARTIC=", ""), ("a?PK_PARTIC=1x", "1"),
     ("a?PK_PARTIC=" + "1" * 13, ""), ("a?XPK_PARTIC=1", "")],
)  # fmt: skip
def test_the_pk_of_an_address_is_found_or_empty(url, pk):
    assert pk_of(url) == pk
