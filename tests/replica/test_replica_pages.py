"""The replica's pages read back exactly: tables, figures and hidden fields."""

from __future__ import annotations

import datetime as dt
import re

from hypothesis import given
from hypothesis import strategies as st
from support.site_pages import Reader, figure, read_quotes

from scraperkit.models import DailyQuote
from scraperkit.replica.pages import money_text, price_text, render_daily
from scraperkit.replica.sample import SampleFund
from scraperkit.replica.viewstate import UNSEALED, belongs, hidden_fields, seal

money = st.integers(-(10**13), 10**13).map(lambda cents: cents / 100)
price = st.integers(-(10**12), 10**14).map(lambda parts: parts / 10**8)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(
    name=texts,
    figures=st.dictionaries(
        st.integers(1, 28),
        st.tuples(*(st.none() | kind for kind in (price, money, st.integers(0, 10**7), money, money, money))),
    ),
)
def test_any_table_reads_back(name: str, figures: dict[int, tuple[float | None, ...]]) -> None:
    fund = SampleFund("18993924000100", "1", name, name, "99100001000175", "X", dt.date(2021, 1, 1))
    quotes = [DailyQuote(fund.cnpj, dt.date(2022, 2, day), *values) for day, values in sorted(figures.items())]  # type: ignore[arg-type]
    page = Reader(render_daily(fund, reversed(quotes), "02/2022", ["02/2022"]))
    assert page.texts["lbNmDenomSocial"] == name
    assert read_quotes(page, fund.cnpj, "02/2022") == [quote for quote in quotes if any(True for _ in quote.metrics())]
    assert len(page.rows) == 29


@given(price)
def test_a_quota_is_written_without_trailing_zeros(value: float) -> None:
    text = price_text(value)
    assert figure(text) == value
    assert re.fullmatch(r"-?\d{1,3}(\.\d{3})*(,\d{0,7}[1-9])?", text)


@given(money)
def test_an_amount_is_written_with_two_decimals(value: float) -> None:
    assert figure(money_text(value)) == value
    assert re.fullmatch(r"-?\d{1,3}(\.\d{3})*,\d\d", money_text(value))


@given(page=texts, key=texts, detail=texts, other=texts)
def test_hidden_fields_belong_to_one_page_only(page: str, key: str, detail: str, other: str) -> None:
    fields = hidden_fields(page, key, detail)
    fields["__VIEWSTATE"] = fields["__VIEWSTATE"].replace(UNSEALED, seal(page, key, "s"))
    assert belongs(fields, page, key, "s")
    assert belongs(fields, page, other, "s") == (other == key)
    assert belongs(fields, other, key, "s") == (other == page)
