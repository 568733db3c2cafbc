"""The services' responses are read to the digit; unexpected ones are refused, with entry and reason."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraperkit.errors import RateRefused
from scraperkit.replica.rate_services import RateServices
from scraperkit.sources.rates import b3, sgs
from scraperkit.sources.rates.known import KNOWN_RATES
from scraperkit.sources.rates.responses import Span, is_web_page

CDI, IBOVESPA = KNOWN_RATES["cdi"], KNOWN_RATES["ibovespa"]
OCTOBER = Span(dt.date(2025, 10, 1), dt.date(2025, 10, 31))
YEAR = Span(dt.date(2024, 1, 1), dt.date(2024, 12, 31))
URL = "https://service.example/"
days = st.dates(dt.date(1980, 1, 1), dt.date(2080, 12, 31))


def of_sgs(response, status=200):
    content = response if isinstance(response, bytes) else json.dumps(response).encode()
    return sgs.read(CDI, OCTOBER, status, content, URL)


def entry(data="01/10/2025", valor="0.055131", **more):
    return {"data": data, "valor": valor, **more}


def of_b3(rows):
    return b3.read(IBOVESPA, YEAR, json.dumps({"results": rows}).encode(), URL)


def row(day=2, **values):
    return {"day": day, **{f"rateValue{month}": values.get(f"m{month}") for month in range(1, 13)}}


class TestSgs:
    def test_values_are_read_as_published(self):
        found = of_sgs([entry("02/10/2025", "0.050788"), entry("01/10/2025", dataFim="01/10/2025")])
        assert found == [(dt.date(2025, 10, 1), 0.055131), (dt.date(2025, 10, 2), 0.050788)]

    @pytest.mark.parametrize("text", ["-0.64", "0", "13.0000000", "120000.5", "0.055131"])
    def test_each_number_is_the_float_nearest_to_its_text(self, text):
        ((_, value),) = of_sgs([entry(valor=text)])
        assert value == float(Decimal(text))

    def test_a_byte_order_mark_is_skipped(self):
        assert len(of_sgs(b"\xef\xbb\xbf" + json.dumps([entry()]).encode())) == 1

    def test_a_day_repeated_with_the_same_value_counts_once(self):
        assert len(of_sgs([entry(), entry()])) == 1

    @pytest.mark.parametrize(
        "content",
        [
            b'{"erro": {"statusCode": 404, "detail": "br.gov.bcb.SGSNegocioException: Value(s) not found"}}',
            b'<?xml version="1.0"?><faultstring>SGSNegocioException: Value(s) not found</faultstring>',
        ],
    )
    def test_a_404_that_says_so_is_a_range_without_values(self, content):
        assert of_sgs(content, 404) == []

    @pytest.mark.parametrize(
        ("response", "told"),
        [
            ([entry(valor="0,055131")], "value 1 is malformed"),
            ([entry(), entry("32/10/2025")], "value 2 is malformed"),
            ([entry(), entry("2025-10-02")], "value 2 is malformed"),
            ([entry(valor="")], "value 1 is malformed"),
            ([entry(valor=None)], "value 1 is malformed"),
            ([entry(valor="NaN")], "value 1 is malformed"),
            ([entry(valor="1e400")], "value 1 is malformed"),
            ([entry(valor=0.055131)], "value 1 is malformed"),
            ([{"data": "01/10/2025"}], "value 1 is malformed"),
            (["01/10/2025"], "value 1 is malformed"),
            ([entry("30/09/2025")], "value 1 is for 2025-09-30, outside 2025-10-01 to 2025-10-31"),
            ([entry(), entry(valor="0.05")], "2025-10-01 has two values, 0.055131 and 0.05"),
            ({"erro": {"detail": "Sistema fora"}}, "not a list of values; it says 'Sistema fora'"),
            (b"", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b'[{"data": "01/10/2025", "valor"', "not JSON"),
        ],
    )
    def test_an_unexpected_response_is_refused(self, response, told):
        with pytest.raises(RateRefused) as error:
            of_sgs(response)
        assert told in str(error.value)
        assert str(error.value).startswith("SGS 12 (cdi): ")
        assert error.value.url == URL
        assert not error.value.retryable

    @pytest.mark.parametrize(
        ("status", "response", "told"),
        [
            (
                406,
                {"error": "no máximo, 10 anos", "message": "m", "syntax": "s"},
                "it requires both, and at most 10 years",
            ),
            (400, {"erro": {"statusCode": 400, "detail": "a quantidade máxima deve ser 20"}}, "refuses the request"),
            (404, b"<html><title>404 Not Found</title>", "does not say that the range has no values"),
        ],
    )
    def test_a_refusal_quotes_its_status_and_words(self, status, response, told):
        with pytest.raises(RateRefused, match=f"HTTP {status}") as error:
            of_sgs(response, status)
        assert told in str(error.value)
        words = response if isinstance(response, bytes) else json.dumps(response, ensure_ascii=False).encode()
        assert any(
            word in str(error.value) for word in ("10 anos", "deve ser 20", "404 Not Found") if word.encode() in words
        )

    @given(days, days)
    def test_pieces_are_accepted_by_the_service_and_omit_no_day(self, one, other):
        span = Span(min(one, other), max(one, other))
        services, expected = RateServices(), span.first
        services.today = dt.date(1986, 3, 6)
        for piece in sgs.pieces(span):
            assert piece.first == expected
            path, _, query = sgs.address("/dados/serie/", CDI, piece).partition("?")
            assert services.respond(f"{path}?{query}").status in (200, 404), piece
            expected = piece.last + dt.timedelta(days=1)
        assert expected == span.last + dt.timedelta(days=1)
        assert not services.requests["refused"]


class TestB3:
    def test_values_are_read_by_day_and_month(self):
        found = of_b3([row(2, m1="132.696,63", m12="999,5"), row(1), row(31, m1="1.127.752,00", m3="7")])
        assert found == [
            (dt.date(2024, 1, 2), 132696.63),
            (dt.date(2024, 1, 31), 1127752.0),
            (dt.date(2024, 3, 31), 7.0),
            (dt.date(2024, 12, 2), 999.5),
        ]

    def test_a_year_without_values_is_empty(self):
        assert of_b3([row(day) for day in range(1, 32)]) == []

    def test_a_response_without_days_is_refused(self):
        with pytest.raises(RateRefused, match="the list of results is empty"):
            of_b3([])

    @pytest.mark.parametrize(
        ("rows", "told"),
        [
            ([row(30, m2="1,0")], "2024-02-30 has a value, but is not a day"),
            ([row(0)], "a result has no valid day"),
            ([row(32)], "a result has no valid day"),
            ([row("2")], "a result has no valid day"),
            ([7], "a result has no valid day"),
            ([{"day": 2, "rateValue1": None}], "day 2 has no rateValue2"),
            ([row(2, m1="132,696.63")], "2024-01-02 has '132,696.63'"),
            ([row(2, m1="132.69,63")], "2024-01-02 has '132.69,63'"),
            ([row(2, m1="-1,0")], "2024-01-02 has '-1,0'"),
            ([row(2, m1="")], "2024-01-02 has ''"),
            ([row(2, m1=132696.63)], "2024-01-02 has '132696.63'"),
            ([row(2, m1="0,00")], "2024-01-02 has the value 0"),
            ([row(2, m1="1,0"), row(2, m1="2,0")], "2024-01-02 has two values, 1 and 2"),
        ],
    )
    def test_an_unexpected_response_is_refused(self, rows, told):
        with pytest.raises(RateRefused) as error:
            of_b3(rows)
        assert told in str(error.value)
        assert str(error.value).startswith("B3 IBOVESPA 2024: ")

    @pytest.mark.parametrize("content", [b"[]", b"{}", b'{"results": null}', b'"x"', b"", b"{"])
    def test_a_response_without_results_is_refused(self, content):
        with pytest.raises(RateRefused, match="no list of results|not JSON"):
            b3.read(IBOVESPA, YEAR, content, URL)

    @given(days, days)
    def test_pieces_are_whole_years_and_cover_every_day(self, one, other):
        pieces = list(b3.pieces(Span(min(one, other), max(one, other))))
        assert [piece.first.year for piece in pieces] == list(range(min(one, other).year, max(one, other).year + 1))
        assert all((piece.last - piece.first).days in (364, 365) for piece in pieces)


@pytest.mark.parametrize(
    ("content", "content_type", "is_page"),
    [
        (b"  <!DOCTYPE html><html>", "application/json", True),
        (b"Servico indisponivel", "text/html", True),
        (b"", "text/html", True),
        (b"[]", "text/html", False),
        (b"[]", "application/json", False),
        (b"", "application/json", False),
    ],
)
def test_a_web_page_is_distinguished_from_json(content, content_type, is_page):
    assert is_web_page(content, content_type) == is_page
