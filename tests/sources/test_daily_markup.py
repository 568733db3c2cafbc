"""lxml's tree of a daily page against the events that lxml sends to Beautiful Soup for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tag_events import read_by_events

from scraperkit.errors import NotACvmPage
from scraperkit.replica.pages import render_daily
from scraperkit.replica.sample import load_sample
from scraperkit.sources.cvm_parser import MONTHS_ID, TABLE_ID
from scraperkit.sources.markup import DailyMarkup, Option, decode, read_daily_markup

PAGE = """<!DOCTYPE html><html><head><title>CVM</title><style>p {}</style></head><body><form id=Form1>
<input type=hidden name=__VIEWSTATE value="/wEP&amp;="><input name=shown value=x><input type=HIDDEN name=bare>
<script>var s = '<b>CNPJ:</b>'</script><!-- Nome do Fundo: X -->
<table><tr><td>Nome do Fundo:<b>A<br>B</b></td></tr></table>
<select name=ddComptc id=ddComptc><option value="02/2022">2</option><option selected> 01/2022 </option></select>
<table id=dgDocDiario><tr><th>Dia</th><th>Quota<br>(R$)</th></tr><tr><td>3<td><font>1,5</font></tr></table>
</form></body></html>"""


def read(source: str) -> DailyMarkup:
    return read_daily_markup(source, select_id=MONTHS_ID, table_id=TABLE_ID)


def assert_read_alike(source: str) -> None:
    assert read(source) == read_by_events(source, select_id=MONTHS_ID, table_id=TABLE_ID)


def test_a_page_is_split_into_its_parts():
    assert read(PAGE) == DailyMarkup(
        options=[Option("02/2022", False), Option("01/2022", True)],
        rows=[["Dia", "Quota(R$)"], ["3", "1,5"]],
        ids={"Form1", MONTHS_ID, TABLE_ID},
        hidden_fields={"__VIEWSTATE": "/wEP&=", "bare": ""},
        text="CVM Nome do Fundo: A B",
    )
    assert_read_alike(PAGE)


def test_pages_of_the_replica_are_read_the_same_both_ways():
    sample = load_sample()
    pages = 0
    for fund in sample.funds:
        offered = sample.offered(fund.pk)
        for month in offered[::7] or [""]:
            content = render_daily(fund, sample.month(fund.cnpj, month) if month else (), month, offered)
            assert_read_alike(decode(content))
            pages += 1
    assert pages > 50


# Omitted: a document type within a text, which is not in the tree and does not split the text.
DIRT = [
    "<table>", "<table id=dgDocDiario>", '<TABLE ID="dgDocDiario" class=x>', "</table>", "<tr>", "</tr>", "<td>",
    "</td>", "<th>", "</th>", "<tbody>", "<select id=ddComptc>", "<select id=other>", "</select>", "<option>",
    "<option value=''>", "<option selected value=01/2022>", "<option value>", "</option>", "<div id=ddComptc>",
    "</div>", "<p id=dgDocDiario>", "<form>", "</form>", "<input type=hidden name=a value=1>",
    "<input type=HIDDEN name=a>", "<input type=text name=b>", "<input type=hidden name='' value=x>", "<b>", "</b>",
    "<font face=Arial>", "</font>", "<br>", "<br/>", "<span id=x>", "</span>", "<p>", "</p>", "<script>",
    "</script>", "<style>", "</style>", "<template>", "</template>", "<ruby>", "<rt>", "</rt>", "<rp>", "</ruby>",
    "<textarea>", "</textarea>", "<title>", "</title>", "<head>", "</head>", "<body>", "</body>", "<html lang=pt>",
    "</html>", "<!-- x -->", "<!--", "-->", "<?php x ?>", "<![CDATA[x]]>", "&nbsp;", "&ccedil;",
    "&#160;", "&#0;", "&#xD800;", "&foo;", "&", "<", ">", "</", "<a href='x", '"', "<x:y z:id=q>",
    "<ta\x01ble \x02=3>", "\x0b", " ", "\n", "\u00a0", "CNPJ:", "18.993.924/0001-00", "Nome do Fundo:", "ção",
    "\U0001f600", "\ufeff", "1.234,56",
]  # fmt: skip


@given(st.lists(st.sampled_from(DIRT) | st.text(max_size=6), max_size=40).map("".join))
def test_malformed_markup_is_read_the_same_both_ways(source):
    assert_read_alike(source.replace("\0", "").encode("utf-8", "ignore").decode())


@given(st.data())
def test_a_damaged_page_is_read_the_same_both_ways(data):
    start = data.draw(st.integers(0, len(PAGE)))
    end = data.draw(st.integers(start, min(len(PAGE), start + 60)))
    assert_read_alike(PAGE[:start] + "".join(data.draw(st.lists(st.sampled_from(DIRT), max_size=3))) + PAGE[end:])


def nested(depth: int) -> str:
    return PAGE.replace("<form", f"{'<div>' * depth}<form")


def test_deep_pages_are_read_whole_or_refused():
    assert_read_alike(nested(2_000))
    with pytest.raises(NotACvmPage, match="nested too deeply") as caught:
        read_daily_markup(nested(2_100), select_id=MONTHS_ID, table_id=TABLE_ID, url="https://cvm.example/daily")
    assert caught.value.url == "https://cvm.example/daily"
