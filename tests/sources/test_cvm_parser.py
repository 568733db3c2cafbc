"""The parser against pages written by hand, one variant at a time, and against a small independent renderer."""

from __future__ import annotations

import calendar
import contextlib
import datetime as dt
import random
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import NotACvmPage, PageChanged, SourceError, WrongFund, WrongMonth
from scraperkit.models import METRICS, DailyQuote
from scraperkit.replica.pages import render_daily
from scraperkit.replica.sample import SampleFund
from scraperkit.sources.cvm_parser import (
    HEADINGS,
    parse_daily,
    parse_decimal,
    parse_first_daily,
    parse_fund_page,
    parse_integer,
    parse_search,
)
from scraperkit.sources.markup import decode

CNPJ, ADMINISTRATOR, LETTERED = "18993924000100", "99100001000175", "12ABC34501DE35"
URL = "https://cvm.example/daily?PK_PARTIC=1"
HEADER = f"""<table><tr><td>Nome do Fundo:</td><td>FUNDO DE AÇÕES</td><td>CNPJ:</td><td>{format_cnpj(CNPJ)}</td></tr>
<tr><td>Administrador:</td><td>ADM</td><td>CNPJ:</td><td>{format_cnpj(ADMINISTRATOR)}</td></tr></table>"""
HIDDEN = """<input type="hidden" name="__EVENTTARGET" value="" />
<input type="HIDDEN" name="__VIEWSTATE" value="/wEPa&amp;=">
<input type="text" name="other" value="x"><input type="hidden" value="nameless">"""
DAY = ("3", "1.953,90872200", "1.234,56", "0,00", "1.234.567,89", "1.234.600,00", "1.982", "04/01/2022")
QUOTE = DailyQuote(CNPJ, dt.date(2022, 1, 3), 1953.908722, 1234567.89, 1982, 1234.56, 0.0, 1234600.0)


@dataclass(frozen=True)
class Page:
    """A daily page, in which a test changes one thing at a time."""

    rows: tuple[tuple[str, ...], ...] = (DAY,)
    headings: tuple[str, ...] = tuple(HEADINGS.values())
    months: tuple[str, ...] = ("02/2022", "01/2022", "")
    selected: str | None = "01/2022"
    header: str = HEADER
    hidden: str = HIDDEN
    table: str | None = None
    before: str = ""
    after: str = "</form></body></html>"
    meta: str = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1">'
    cell: str = "<td>{}</td>"
    encoding: str = field(default="iso-8859-1", compare=False)

    def text(self) -> str:
        options = "".join(
            f'<option{" selected" if month == self.selected else ""} value="{month}">{month}</option>'
            for month in self.months
        )
        line = "<tr>{}</tr>"
        rows = [line.format("".join(self.cell.format(cell) for cell in row)) for row in (self.headings, *self.rows)]
        table = f'<table id="dgDocDiario">{"".join(rows)}</table>' if self.table is None else self.table
        return (
            f"<html><head>{self.meta}</head><body>{self.before}<form>{self.hidden}{self.header}"
            f'<select name="ddComptc" id="ddComptc">{options}</select>{table}{self.after}'
        )

    def parse(self, *, cnpj=CNPJ, month="01/2022", content_type=""):
        content = self.text().encode(self.encoding, errors="xmlcharrefreplace")
        return parse_daily(content, cnpj=cnpj, month=month, url=URL, content_type=content_type)


def blank(day, *figures):
    return (str(day), *figures, *["&nbsp;"] * (7 - len(figures)))


# --- what a daily page may look like ---


def test_a_page_is_read_whole():
    page = Page().parse()
    assert (page.cnpj, page.name, page.selected) == (CNPJ, "FUNDO DE AÇÕES", "01/2022")
    assert page.months == ("02/2022", "01/2022")
    assert page.form == {"__EVENTTARGET": "", "__VIEWSTATE": "/wEPa&="}
    assert page.quotes == (QUOTE,)
    # Plain values: they must not keep the page's whole tree in memory.
    kept = {type(value) for value in [page.cnpj, page.name, page.selected, *page.months, *page.form.values()]}
    assert kept == {str}


@pytest.mark.parametrize(
    "headings",
    [
        ["Dia", "Quota(R$)", "CaptaçãonoDia(R$)", "ResgatenoDia(R$)", "PatrimônioLíquido(R$)", "TotaldaCarteira(R$)",
         "N°.TotaldeCotistas", "DatadapróximainformaçãodoPL"],
        ["&nbsp;Dia\r\n", "Quota<br>(R$)", "Capta&ccedil;&atilde;o&nbsp;no<br/>Dia (R$)", "Resgate no Dia\t(R$)",
         "Patrim&ocirc;nio L&iacute;quido (R$)", "<b>Total da<br>Carteira</b> (R$)", "N&ordm;. Total de<br>Cotistas",
         "Data da pr&oacute;xima informa&ccedil;&atilde;o do PL"],
        ["DIA", "QUOTA (R$)", "Captac\u0327a\u0303o no Dia (R$)", "resgate no dia (R$)", "PATRIMÔNIO LÍQUIDO (R$)",
         "total da carteira (R$)", "Nº Total de Cotistas", "Data da Próxima Informação do PL"],
    ],
)  # fmt: skip
def test_headings_are_compared_without_white_space_and_signs(headings):
    assert Page(headings=tuple(headings)).parse().quotes == (QUOTE,)


def test_columns_are_found_by_heading_and_unknown_ones_are_ignored():
    order = [6, 2, 7, 0, 5, 1, 4, 3]
    headings = [list(HEADINGS.values())[n] for n in order]
    row = [DAY[n] for n in order]
    page = Page(headings=("Novo", *headings, "Outro (R$)"), rows=(("?", *row, "não é número"),))
    assert page.parse().quotes == (QUOTE,)


@pytest.mark.parametrize("name", HEADINGS)
def test_a_missing_column_is_named(name):
    headings = tuple("Renomeada" if key == name else heading for key, heading in HEADINGS.items())
    with pytest.raises(PageChanged) as caught:
        Page(headings=headings).parse()
    assert repr(HEADINGS[name]) in str(caught.value)
    assert caught.value.url == URL
    assert not caught.value.retryable


def test_a_repeated_heading_is_an_error():
    with pytest.raises(PageChanged, match="twice"):
        Page(headings=(*HEADINGS.values(), "Quota (R$)"), rows=((*DAY, "1,0"),)).parse()


@pytest.mark.parametrize("cell", ["<th>{}</th>", "<td align=right><font face=Arial>{}</font></td>", "<td>\r\n{}\r\n"])
def test_cells_may_contain_markup(cell):
    assert Page(cell=cell).parse().quotes == (QUOTE,)


def test_a_thead_and_a_tbody_are_accepted():
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS.values())
    row = "".join(f"<td>{cell}</td>" for cell in DAY)
    table = f'<table id="dgDocDiario"><thead><tr>{head}</tr></thead><tbody><tr>{row}</tr></tbody></table>'
    assert Page(table=table).parse().quotes == (QUOTE,)


def test_days_without_figures_are_skipped_and_partly_blank_ones_kept():
    rows = (
        blank(1),
        ("2", "", " ", "\u00a0", "&nbsp;", "&#160;", "", "03/01/2022"),
        DAY,
        blank(4, "2,5"),
        ("5", "&nbsp;", "&nbsp;", "&nbsp;", "&nbsp;", "&nbsp;", "0", "&nbsp;"),
        ("",) * 8,
        ("&nbsp;",),
        blank(31),
        blank(32),
    )
    assert Page(rows=rows).parse().quotes == (
        QUOTE,
        DailyQuote(CNPJ, dt.date(2022, 1, 4), quota=2.5),
        DailyQuote(CNPJ, dt.date(2022, 1, 5), holders=0),
    )


def test_a_month_without_any_quote_is_an_empty_month():
    assert Page(rows=tuple(blank(day) for day in range(1, 32))).parse().quotes == ()
    assert Page(rows=()).parse().quotes == ()


@pytest.mark.parametrize(
    ("months", "selected", "offered"),
    [
        (("", "02/2022", "01/2022"), "01/2022", ("02/2022", "01/2022")),
        (("02/2022", "", "01/2022"), "01/2022", ("02/2022", "01/2022")),
        (("02/2022", "01/2022", "&nbsp;"), "01/2022", ("02/2022", "01/2022")),
        (("01/2022", "12/2021"), None, ("01/2022", "12/2021")),  # nothing is marked: a browser shows the first
    ],
)
def test_the_blank_option_may_be_anywhere(months, selected, offered):
    page = Page(months=months, selected=selected).parse()
    assert (page.months, page.selected, page.quotes) == (offered, "01/2022", (QUOTE,))


def test_options_without_values_and_other_selects_are_read_as_a_browser_does():
    text = Page().text().replace('<option selected value="01/2022">', "<option selected> ")
    text = text.replace("<select", "<select id=other><option value=1 selected>1</option></select><select", 1)
    page = parse_daily(text.encode("latin-1"), cnpj=CNPJ)
    assert (page.months, page.selected) == (("02/2022", "01/2022"), "01/2022")


def test_a_fund_without_months_has_a_first_page_without_months():
    page = Page(months=("",), selected="", rows=())
    first = parse_first_daily(page.text().encode("latin-1"), cnpj=CNPJ)
    assert (first.months, first.selected, first.quotes) == ((), "", None)
    with pytest.raises(WrongMonth, match="shows no month, not 01/2022"):
        page.parse()
    with pytest.raises(PageChanged, match="no month is selected"):
        page.parse(month=None)


def test_the_first_page_is_parsed_no_further_than_needed():
    faulty = Page(rows=(("3", "x", *DAY[2:]),)).text().encode("latin-1")
    assert parse_first_daily(faulty, cnpj=CNPJ, month="02/2022").quotes is None
    with pytest.raises(PageChanged):
        parse_first_daily(faulty, cnpj=CNPJ, month="01/2022")
    assert parse_first_daily(Page().text().encode("latin-1"), cnpj=CNPJ, month="01/2022").quotes == (QUOTE,)


# --- which fund and which month ---


@pytest.mark.parametrize(
    "header",
    [
        f"Nome do Fundo: FUNDO DE AÇÕES CNPJ: {CNPJ} Administrador: ADM CNPJ: {ADMINISTRATOR}",
        f'<p><b>Nome do Fundo:&nbsp;</b><span>FUNDO DE<br>AÇÕES</span> <B>CNPJ:&nbsp;</B><span id="lbNrPfPj">'
        f"{format_cnpj(CNPJ)}</span></p><p>Administrador: ADM <B>CNPJ:&nbsp;</B>{format_cnpj(ADMINISTRATOR)}",
        f"<label>CNPJ: </label>{format_cnpj(ADMINISTRATOR)} {HEADER}",
        f"<!-- Nome do Fundo: X CNPJ: {ADMINISTRATOR} --><script>'CNPJ: {ADMINISTRATOR}'</script>{HEADER}",
    ],
)
def test_the_cnpj_beside_the_name_is_the_funds(header):
    page = Page(header=header).parse()
    assert (page.cnpj, page.name) == (CNPJ, "FUNDO DE AÇÕES")


def test_a_cnpj_may_contain_letters():
    for shown in (LETTERED, format_cnpj(LETTERED), LETTERED.lower()):
        page = Page(header=HEADER.replace(format_cnpj(CNPJ), shown)).parse(cnpj=LETTERED)
        assert page.cnpj == page.quotes[0].cnpj == LETTERED


def test_another_fund_is_refused():
    with pytest.raises(WrongFund, match=r"shows the fund 18\.993\.924/0001-00, not 12\.ABC\.345/01DE-35") as caught:
        Page().parse(cnpj=LETTERED)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "header",
    ["", "Nome do Fundo: X", HEADER.replace(format_cnpj(CNPJ), ""), HEADER.replace(format_cnpj(CNPJ), "123")],
)
def test_a_header_without_the_funds_cnpj_is_an_error(header):
    # Even if the administrator's CNPJ is the requested one.
    with pytest.raises(PageChanged, match="no CNPJ beside the name"):
        Page(header=header).parse(cnpj=ADMINISTRATOR)


def test_another_month_is_refused():
    with pytest.raises(WrongMonth, match="shows 01/2022, not 02/2022") as caught:
        Page().parse(month="02/2022")
    assert caught.value.retryable


@pytest.mark.parametrize("odd", ["2022-01", "13/2022", "1/2022", "Todos", "01/2022x", "०१/2022"])
def test_an_option_that_is_not_a_month_is_an_error(odd):
    with pytest.raises(PageChanged, match="not a month such as"):
        Page(months=("01/2022", odd)).parse()


# --- days and numbers ---


@pytest.mark.parametrize("day", ["32", "0", "30", "03/02/2022", "-3", "3,0", "três", "٣", "", "1 2"])
def test_a_day_outside_the_month_is_an_error(day):
    page = Page(rows=((day, *DAY[1:]),), months=("02/2022",), selected="02/2022")
    with pytest.raises(PageChanged, match="is not a day of 02/2022"):
        page.parse(month="02/2022")


def test_a_repeated_day_is_an_error():
    with pytest.raises(PageChanged, match="day 03 appears twice"):
        Page(rows=(DAY, ("03", *DAY[1:]))).parse()
    assert len(Page(rows=(DAY, blank(3))).parse().quotes) == 1


@pytest.mark.parametrize("row", [DAY[:-1], (*DAY, "x"), ("Total",)])
def test_a_row_of_another_length_is_an_error(row):
    with pytest.raises(PageChanged, match="cells for 8 headings"):
        Page(rows=(DAY, row)).parse()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0), ("0,00", 0.0), ("-0,5", -0.5), ("1.324", 1324.0), ("1324", 1324.0), ("1953,9", 1953.9),
        ("3,38676374", 3.38676374), ("0,123456789012", 0.123456789012), ("1.953,90872200", 1953.908722),
        ("-1.234.567,89", -1234567.89), ("12.345.678.901,23", 12345678901.23), ("012,5", 12.5),
    ],
)  # fmt: skip
def test_numbers_are_read_to_the_last_decimal(text, value):
    assert parse_decimal(text) == value
    assert Page(rows=(blank(3, text),)).parse().quotes[0].quota == value


@pytest.mark.parametrize(
    "text",
    [
        "1.23", "1.2345", "12.34,5", "1234.567", "1.234567", ",5", "5,", "1,2,3", "1.234.56,7", ".5", "-", "--1",
        "+1", "1e5", "nan", "inf", "1_000", "R$ 1,0", "1 234,5", "1,234.56", "(1,0)", "−1", "٣", "１,０", "n/d", "1,0%",
        "9" * 400, "1," + "0" * 400,
    ],
)  # fmt: skip
def test_any_other_number_is_an_error_that_names_heading_and_day(text):
    with pytest.raises(ValueError, match="is not a number such as"):
        parse_decimal(text)
    with pytest.raises(PageChanged, match=r"Resgate no Dia \(R\$\) of 03/01/2022: '.* is not a number") as caught:
        Page(rows=(blank(3, "1,0", "1,0", text),)).parse()
    assert caught.value.url == URL
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("1.982", 1982), ("1982", 1982), ("1.234.567", 1234567)])
def test_holders_are_whole_numbers(text, value):
    assert parse_integer(text) == value
    holders = Page(rows=((*DAY[:6], text, ""),)).parse().quotes[0].holders
    assert holders == value
    assert type(holders) is int


@pytest.mark.parametrize("text", ["1,0", "1.98", "x", "9" * 30])
def test_holders_that_are_not_whole_are_an_error(text):
    with pytest.raises(PageChanged, match=r"N°\. Total de Cotistas of 03/01/2022"):
        Page(rows=((*DAY[:6], text, ""),)).parse()


# --- encodings ---

UTF8_META = '<meta charset="utf-8">'


@pytest.mark.parametrize(
    ("encoding", "meta", "content_type"),
    [
        ("iso-8859-1", "", ""),
        ("iso-8859-1", Page.meta, "text/html; charset=ISO-8859-1"),
        ("iso-8859-1", UTF8_META, "text/html; charset=iso-8859-1"),
        ("iso-8859-1", Page.meta, "text/html; charset=utf-8"),  # the header is mistaken: the bytes decide
        ("iso-8859-1", "", "text/html; charset=no-such-thing"),
        ("iso-8859-1", "", "text/html; charset=rot13"),
        ("iso-8859-15", "", 'text/html; charset="ISO-8859-15"'),
        ("iso-8859-15", '<meta content="text/html; charset=iso-8859-15">', "text/html"),
        ("cp1252", "", "text/html; charset=windows-1252"),
        ("utf-8", Page.meta, "text/html;charset=UTF-8"),
        ("utf-8", UTF8_META, "text/html"),
        ("utf-8-sig", UTF8_META, ""),
        ("ascii", Page.meta, "text/html; charset=us-ascii"),  # all accents are character references
    ],
)
def test_the_http_header_then_the_page_names_the_encoding(encoding, meta, content_type):
    page = Page(encoding=encoding, meta=meta).parse(content_type=content_type)
    assert (page.name, page.quotes) == ("FUNDO DE AÇÕES", (QUOTE,))


def test_latin_1_is_read_as_browsers_do_and_never_fails():
    assert decode(b"\x93FIC\x94 \x80", "text/html; charset=iso-8859-1") == "“FIC” €"
    assert len(decode(bytes(range(256)))) == 256
    assert decode("€".encode("iso-8859-15"), "text/html; charset=iso-8859-15") == "€"


# --- other pages ---


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the response is empty"),
        (b" \r\n ", "the response is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "the response is binary"),
        (b'PK\x03\x04 id="ddComptc" dgDocDiario \0 </html>', "the response is binary"),
        (b"<html><head><title>Erro de\nexecu\xe7\xe3o</title></head><body>Oops</body></html>", "'Erro de execução'"),
        (b"<html><script>alert('Fundo sem informes')</script></html>", "it says 'Fundo sem informes'"),
        (b"<html><body><p>", "cut short"),
        (b"plain text", "cut short"),
        (b"ddComptc/index.html", "cut short"),
        (b"<?xml version='1.0'?><error>ddComptc</error>", "cut short"),
        (b"<?xml version='1.0'?><r>ddComptc</r></html>", "it has no element ddComptc"),
        (b"<html><script>var x = 'ddComptc dgDocDiario'</script></html>", "it has no element ddComptc"),
    ],
)
def test_another_response_is_not_taken_for_a_daily_page(content, says):
    for parse in (lambda: parse_daily(content, cnpj=CNPJ, url=URL), lambda: parse_first_daily(content, cnpj=CNPJ)):
        with pytest.raises(NotACvmPage) as caught:
            parse()
        assert says in str(caught.value)
        assert caught.value.retryable


def test_an_alert_before_the_page_is_ignored():
    alert = "<script>alert('Fundo em liquidação'); document.getElementById('dgDocDiario')</script>"
    assert Page(before=alert).parse().quotes == (QUOTE,)


def test_a_page_without_its_table_has_changed():
    with pytest.raises(PageChanged, match="has no table dgDocDiario"):
        Page(table="<p>Sem dados</p>").parse()
    with pytest.raises(PageChanged, match="has no headings"):
        Page(table='<table id="dgDocDiario"></table>').parse()
    with pytest.raises(NotACvmPage, match="no element ddComptc"):
        parse_daily(Page().text().replace("ddComptc", "ddOutro").encode("latin-1"), cnpj=CNPJ)


@pytest.mark.parametrize("closing", ["</form>", "</body>", "</html>", "</FORM\n></BODY>"])
def test_a_page_is_complete_with_any_closing_tag_after_its_table(closing):
    assert Page(after=closing).parse().quotes == (QUOTE,)


def test_a_page_that_is_cut_short_never_passes_for_a_complete_one():
    content = Page(rows=(DAY, blank(4, "2,5"))).text().encode("latin-1")
    whole = parse_daily(content, cnpj=CNPJ)
    enough = content.index(b"</form>") + len(b"</form>")
    for length in range(len(content)):
        if length >= enough:
            assert parse_daily(content[:length], cnpj=CNPJ) == whole
            continue
        with pytest.raises(NotACvmPage) as caught:
            parse_daily(content[:length], cnpj=CNPJ)
        assert length == 0 or "cut short" in str(caught.value)


# --- any table at all ---

FIGURES = st.decimals(min_value=-(10**11), max_value=10**11, places=8, allow_nan=False, allow_infinity=False)
HOLDERS = st.integers(0, 10**9)


@st.composite
def months_of_figures(draw, money=FIGURES):
    """A month, and decimal figures for some of its days; any figure may be missing."""
    year, month = draw(st.integers(2000, 2060)), draw(st.integers(1, 12))
    days = draw(st.sets(st.integers(1, calendar.monthrange(year, month)[1])))
    kinds = {metric: HOLDERS if metric == "holders" else FIGURES if metric == "quota" else money for metric in METRICS}
    row = st.fixed_dictionaries({metric: st.none() | kind for metric, kind in kinds.items()})
    return year, month, {day: draw(row) for day in sorted(days)}


def expected(cnpj, year, month, days):
    """Return floats of the decimals' own texts, which the page shows."""
    return tuple(
        DailyQuote(
            cnpj,
            dt.date(year, month, day),
            **{name: value if name == "holders" or value is None else float(value) for name, value in figures.items()},
        )
        for day, figures in days.items()
        if any(value is not None for value in figures.values())
    )


def brazilian(value: Decimal | int | None, rng: random.Random) -> str:
    """Write a number by hand: digits in threes from the right, maybe without trailing zeros."""
    if value is None:
        return rng.choice(["", "&nbsp;", "\u00a0", " "])
    sign, whole, places = ("-" if value < 0 else ""), str(abs(int(value))), ""
    if isinstance(value, Decimal):
        whole, _, places = f"{abs(value):f}".partition(".")
        places = places.rstrip("0") if rng.random() < 0.5 else places
    if rng.random() < 0.8:
        start = len(whole) % 3
        whole = ".".join(filter(None, [whole[:start], *(whole[n : n + 3] for n in range(start, len(whole), 3))]))
    return f"{sign}{whole}{',' if places else ''}{places}"


@given(months_of_figures(), st.randoms(use_true_random=False))
def test_any_table_is_parsed_exactly(table, rng):
    year, month, days = table
    columns = [*HEADINGS, "extra"]
    rng.shuffle(columns)
    rows = []
    for day in range(1, calendar.monthrange(year, month)[1] + 1):
        figures = days.get(day, {})
        if not figures and rng.random() < 0.5:
            continue
        texts = {"day": f"{day:0{rng.choice([1, 2])}d}", "next": "", "extra": "?" if figures else ""}
        rows.append(tuple(texts.get(name) or brazilian(figures.get(name), rng) for name in columns))
    gaps = [" ", "", "<br>", "&nbsp;", "\r\n "]
    headings = tuple({**HEADINGS, "extra": "Extra"}[name].replace(" ", rng.choice(gaps)) for name in columns)
    shown = f"{month:02d}/{year}"
    page = Page(rows=tuple(rows), headings=headings, months=("", shown), selected=shown)
    assert page.parse(month=shown).quotes == expected(CNPJ, year, month, days)


MONEY = st.decimals(min_value=-(10**11), max_value=10**11, places=2, allow_nan=False, allow_infinity=False)
# A colon before a space ends a label.
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40).filter(
    lambda name: not name.endswith(":")
)


@given(months_of_figures(MONEY), st.sampled_from([CNPJ, LETTERED]), NAMES.filter(lambda name: "CNPJ" not in name))
def test_any_page_of_the_replica_is_parsed_exactly(table, cnpj, name):
    year, month, days = table
    quotes = expected(cnpj, year, month, days)
    fund = SampleFund(cnpj, "1", name, "ADM", ADMINISTRATOR, "EM FUNCIONAMENTO NORMAL", dt.date(2000, 1, 1))
    shown = f"{month:02d}/{year}"
    content = render_daily(fund, quotes, shown, [shown])
    page = parse_daily(content, cnpj=cnpj, month=shown, content_type="text/html; charset=iso-8859-1")
    assert (page.name, page.months, page.quotes) == (name, (shown,), quotes)


# --- nothing but a SourceError ---

WHOLE = Page(rows=(DAY, blank(4, "2,5"))).text().encode("latin-1")
SPICES = [
    b"",
    b"\0",
    b"<",
    b">",
    b"<table>",
    b"</table>",
    b"<select id=ddComptc>",
    b"</form>",
    b"<tr>",
    b"<td>",
    b"\xff",
]


def only_source_errors(content: bytes, content_type: str = "") -> None:
    for parse in (
        lambda: parse_daily(content, cnpj=CNPJ, content_type=content_type),
        lambda: parse_first_daily(content, cnpj=CNPJ, content_type=content_type),
        lambda: parse_search(content, content_type=content_type),
        lambda: parse_fund_page(content, content_type=content_type),
    ):
        with contextlib.suppress(SourceError):
            parse()


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"ddComptc dgDocDiario ddlFundos lbNmDenomSocial"]), st.booleans()
)
def test_random_bytes_raise_only_source_errors(noise, ids, closed):
    only_source_errors(ids + noise + b"</html>" * closed)


@given(st.data())
def test_a_damaged_page_raises_only_source_errors(data):
    start = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(start, min(len(WHOLE), start + 60)))
    spice = data.draw(st.sampled_from(SPICES) | st.binary(max_size=5))
    only_source_errors(WHOLE[:start] + spice + WHOLE[end:], data.draw(st.sampled_from(["", "text/html;charset=utf-8"])))
