"""The pages of the replica, rendered to bytes with the ids, the shapes and the encoding of the regulator's site."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from urllib.parse import quote_plus

from scraperkit.cnpj import format_cnpj
from scraperkit.models import DailyQuote, Month
from scraperkit.replica.sample import SampleFund
from scraperkit.replica.viewstate import hidden_fields

ENCODING = "iso-8859-1"

# The headings break over two lines, so their text has no space there.
_TABLE_HEADINGS = (
    "Dia",
    "Quota<br>(R$)",
    "Captação no Dia<br>(R$)",
    "Resgate no Dia<br>(R$)",
    "Patrimônio Líquido<br>(R$)",
    "Total da Carteira<br>(R$)",
    "N°. Total de<br>Cotistas",
    "Data da próxima<br>informação do PL",
)
_NBSP = "&nbsp;"
_SWAPPED_MARKS = str.maketrans(",.", ".,")
_POSTBACK_SCRIPT = """<script type="text/javascript">
<!--
var theForm = document.forms['Form1'];
function __doPostBack(eventTarget, eventArgument) {
    if (!theForm.onsubmit || (theForm.onsubmit() != false)) {
        theForm.__EVENTTARGET.value = eventTarget;
        theForm.__EVENTARGUMENT.value = eventArgument;
        theForm.submit();
    }
}
// -->
</script>"""


def render_search(text: str, funds: Sequence[SampleFund]) -> bytes:
    """Render the result of a search; without `funds`, the table has no rows."""
    links = [
        f'<a id="{target.replace("$", "_")}" class="HRefPreto" '
        f"""href="javascript:__doPostBack('{target}','')"><font size="2">{label}</font></a>"""
        for target, _, label in _search_links(funds)
    ]
    rows = "".join(
        f'<tr><td><table width="100%"><tr><td width="25%">{cnpj}</td><td>{name}</td></tr></table></td></tr>\n'
        for cnpj, name in zip(links[::2], links[1::2], strict=True)
    )
    table = f'<table id="ddlFundos" cellspacing="0" border="0" width="100%">\n{rows}</table>'
    note = "" if funds else '<span id="lblMsg">Nenhum participante encontrado.</span>'
    action = f"ResultBuscaParticFdo.aspx?CNPJNome={quote_plus(text, encoding=ENCODING)}&TpPartic=0&Adm=false&SemFrame="
    return _page("Consulta a Fundos", _form(action, hidden_fields("search", text), f"{note}\n{table}"))


def search_targets(funds: Sequence[SampleFund]) -> dict[str, SampleFund]:
    """Return the fund that each search result links to, by the link's ``__EVENTTARGET``."""
    return {target: fund for target, fund, _ in _search_links(funds)}


def render_fund(fund: SampleFund) -> bytes:
    """Render the page of one fund."""
    daily = f"../InfDiario/CPublicaInfDiario.aspx?PK_PARTIC={fund.pk}&SemFrame="
    holdings = f"../CDA/CPublicaCDA.aspx?PK_PARTIC={fund.pk}&SemFrame="
    content = f"""<table id="Table1" width="100%">
{_identity(fund)}
<tr><td><b>Situação:</b> <span id="lbSitDesc">{escape(fund.status)}</span></td>
<td><b>Data de início:</b> <span id="lbInfAdc1">{fund.started_on:%d/%m/%Y}</span></td></tr>
</table>
<table id="Table2">
<tr><td><a id="Hyperlink1" class="HRefPreto" href="{escape(holdings)}">Composição da Carteira</a></td></tr>
<tr><td><a id="Hyperlink2" class="HRefPreto" href="{escape(daily)}"><font size="2">Dados Diários</font></a></td></tr>
</table>"""
    action = f"ResultBuscaDocsFdo.aspx?PK_PARTIC={fund.pk}&SemFrame="
    return _page("Documentos do Fundo", _form(action, hidden_fields("fund", fund.pk), content))


def render_daily(
    fund: SampleFund, quotes: Iterable[DailyQuote], month_year: str = "", months: Sequence[str] = ()
) -> bytes:
    """Render the daily page of one fund and one month.

    Parameters
    ----------
    fund : SampleFund
        The fund.
    quotes : iterable of DailyQuote
        The days that have figures, in any order. Every other day of the month gets a row of blanks.
    month_year : str
        The month shown, ``MM/YYYY``; empty for a fund without months, whose table has no rows.
    months : sequence of str
        The months offered, the newest first.
    """
    select = "\n".join(_option(month, selected=month == month_year) for month in [*months, ""])
    heading = "".join(f"<td><b>{text}</b></td>" for text in _TABLE_HEADINGS)
    rows = "\n".join(
        f'<tr class="{("linha", "linhaAlt")[number % 2]}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for number, cells in enumerate(_daily_rows({quote.date: quote for quote in quotes}, month_year))
    )
    content = f"""<table id="TABLE1" width="100%">
<tr><td colspan="2"><b>Competência:</b>
<select name="ddComptc" id="ddComptc" onchange="javascript:setTimeout('__doPostBack(\\'ddComptc\\',\\'\\')', 0)">
{select}
</select></td></tr>
{_identity(fund)}
</table>
<table id="dgDocDiario" cellspacing="0" cellpadding="2" rules="all" border="1" width="100%">
<tr class="cabecalho" align="center">{heading}</tr>
{rows}
</table>"""
    action = f"CPublicaInfDiario.aspx?PK_PARTIC={fund.pk}&SemFrame="
    return _page("Dados Diários", _form(action, hidden_fields("daily", fund.pk, month_year), content))


def render_error(message: str = "Ocorreu um erro no processamento da sua solicitação.") -> bytes:
    """Render the site's error page, which has none of the ids that the parser looks for."""
    return _page("Erro", f'<span id="lblErro"><font color="red">{escape(message)}</font></span>')


def render_expired() -> bytes:
    """Render the response to a form of an unknown session."""
    message = "Sua sessão expirou. Faça a consulta novamente."
    content = f'<span id="lblMensagem">{message}</span>'
    return _page("Sessão expirada", _form("Sessao.aspx", hidden_fields("expired", ""), content))


def render_captcha() -> bytes:
    """Render the captcha form of the search."""
    content = """<span id="lblMensagem">Digite os caracteres da imagem para continuar.</span>
<img id="imgCaptcha" alt="" src="Captcha.aspx"> <input type="text" name="txtCaptcha" id="txtCaptcha">
<input type="submit" name="btnContinuar" id="btnContinuar" value="Continuar">"""
    return _page("Verificação", _form("ResultBuscaParticFdo.aspx", hidden_fields("captcha", ""), content))


def render_maintenance() -> bytes:
    """Render the page that replaces all others during maintenance."""
    content = "<h1>Sistema em manutenção.</h1>\n<p>Tente novamente mais tarde.</p>"
    return _page("Manutenção", _form("Manutencao.aspx", hidden_fields("maintenance", ""), content))


def render_index(funds: Iterable[SampleFund]) -> bytes:
    """Render a list of the funds, for visitors with a browser; the site has no such page."""
    search = "CConsolFdo/ResultBuscaParticFdo.aspx?CNPJNome={}&TpPartic=0&Adm=false&SemFrame="
    rows = "\n".join(
        f'<li><a href="{escape(search.format(fund.cnpj))}">{format_cnpj(fund.cnpj)}</a> {escape(fund.name)}</li>'
        for fund in funds
    )
    return _page("Réplica", f"<p>Offline stand-in, invented data.</p>\n<ul>\n{rows}\n</ul>")


def price_text(value: float) -> str:
    """Write a quota as the site does: up to 8 decimals, trailing zeros trimmed.

    Examples
    --------
    >>> price_text(1953.908722), price_text(0.5), price_text(1324.0)
    ('1.953,908722', '0,5', '1.324')
    """
    return f"{Decimal(repr(float(value))):z,.8f}".rstrip("0").rstrip(".").translate(_SWAPPED_MARKS)


def money_text(value: float) -> str:
    """Write an amount as the site does: two decimals.

    Examples
    --------
    >>> money_text(1234567.8), money_text(-0.001)
    ('1.234.567,80', '0,00')
    """
    return f"{Decimal(repr(float(value))):z,.2f}".translate(_SWAPPED_MARKS)


def _daily_rows(days: Mapping[dt.date, DailyQuote], month_year: str) -> Iterable[Sequence[str]]:
    if not month_year:
        return
    month = Month.parse(month_year)
    for number in range(1, month.last_day.day + 1):
        date = dt.date(*month, number)
        quote = days.get(date)
        if quote is None:
            yield str(number), *[_NBSP] * (len(_TABLE_HEADINGS) - 1)
            continue
        # The site announces when a missing net worth will be known.
        known_next = [day for day, other in days.items() if day > date and other.net_worth is not None]
        announced = quote.net_worth is None and known_next
        yield (
            str(number),
            _NBSP if quote.quota is None else price_text(quote.quota),
            _NBSP if quote.inflow is None else money_text(quote.inflow),
            _NBSP if quote.outflow is None else money_text(quote.outflow),
            _NBSP if quote.net_worth is None else money_text(quote.net_worth),
            _NBSP if quote.portfolio is None else money_text(quote.portfolio),
            _NBSP if quote.holders is None else f"{quote.holders:,}".translate(_SWAPPED_MARKS),
            f"{min(known_next):%d/%m/%Y}" if announced else _NBSP,
        )


def _identity(fund: SampleFund) -> str:
    return f"""<tr><td><b>Nome do Fundo:</b> <span id="lbNmDenomSocial">{escape(fund.name)}</span></td>
<td><b>CNPJ:</b> <span id="lbNrPfPj">{format_cnpj(fund.cnpj)}</span></td></tr>
<tr><td><b>Administrador:</b> <span id="lbNmDenomSocialAdm">{escape(fund.administrator)}</span></td>
<td><b>CNPJ:</b> <span id="lbNrPfPjAdm">{format_cnpj(fund.administrator_cnpj)}</span></td></tr>"""


def _search_links(funds: Sequence[SampleFund]) -> Iterable[tuple[str, SampleFund, str]]:
    """Yield event target, fund and label of two links a row: the CNPJ, then the name."""
    for number, fund in enumerate(funds):
        # Every second row comes from another template, whose links have other ids.
        of_cnpj, of_name = ("Linkbutton3", "Linkbutton4") if number % 2 else ("Linkbutton2", "lnkbtn1")
        yield f"ddlFundos$_ctl{number}${of_cnpj}", fund, format_cnpj(fund.cnpj)
        yield f"ddlFundos$_ctl{number}${of_name}", fund, escape(fund.name)


def _option(month: str, *, selected: bool) -> str:
    mark = ' selected="selected"' if selected else ""
    return f'<option{mark} value="{month}">{month}</option>'


def _form(action: str, hidden: Mapping[str, str], content: str) -> str:
    fields = {"__EVENTTARGET": "", "__EVENTARGUMENT": "", **hidden}
    inputs = "\n".join(
        f'<input type="hidden" name="{name}" id="{name}" value="{value}" />' for name, value in fields.items()
    )
    return (
        f'<form name="Form1" method="post" action="{escape(action)}" id="Form1">\n{inputs}\n{_POSTBACK_SCRIPT}\n'
        f"{content}\n</form>"
    )


def _page(title: str, content: str) -> bytes:
    html = f"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.0 Transitional//EN">
<html>
<head>
<title>CVM - {title}</title>
<meta http-equiv="Content-Type" content="text/html; charset={ENCODING}">
</head>
<body>
{content}
</body>
</html>
"""
    return html.encode(ENCODING, errors="xmlcharrefreplace")
