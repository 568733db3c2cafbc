"""The replica's rate services over a socket: the quirks of the real ones, and faults on demand."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
import requests

from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError
from scraperkit.replica import Replica
from scraperkit.replica.rate_figures import figures
from scraperkit.replica.rate_services import RateServices


@pytest.fixture(scope="module")
def replica():
    with Replica.start() as running:
        yield running


@pytest.fixture
def own():
    with Replica.start() as running:
        yield running


def sgs(replica: Replica, series: int | str, tail: str = "", **query: str) -> requests.Response:
    return requests.get(
        f"{replica.sgs_url}bcdata.sgs.{series}/dados{tail}", params={"formato": "json", **query}, timeout=30
    )


def b3(replica: Replica, year: object, index: str = "IBOVESPA") -> requests.Response:
    word = base64.b64encode(json.dumps({"index": index, "language": "pt-br", "year": str(year)}).encode()).decode()
    return requests.get(f"{replica.b3_url}GetPortfolioDay/{word}", timeout=30)


def window(first: str, last: str) -> dict[str, str]:
    return {"dataInicial": first, "dataFinal": last}


class TestSgs:
    def test_values_are_texts_of_business_days(self, replica):
        found = sgs(replica, 12, **window("24/02/2022", "03/03/2022")).json()
        assert [entry["data"] for entry in found] == ["24/02/2022", "25/02/2022", "02/03/2022", "03/03/2022"]
        assert {entry["valor"] for entry in found} == {"0.049206"}

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            (window("29/03/2015", "29/03/2025"), 200),
            (window("29/03/2015", "30/03/2025"), 406),
            (window("29/02/2012", "28/02/2022"), 200),
            (window("29/02/2012", "01/03/2022"), 406),
            ({"dataInicial": "29/03/2024"}, 406),
            ({"dataFinal": "29/03/2024"}, 406),
            ({}, 406),
            (window("2024-03-29", "2024-04-29"), 400),
            (window("31/02/2024", "29/03/2024"), 400),
        ],
    )
    def test_a_daily_series_requires_both_dates_and_at_most_ten_years(self, replica, query, status):
        response = sgs(replica, 12, **query)
        assert response.status_code == status
        if status == 406:
            assert response.json().keys() == {"error", "message", "syntax"}

    def test_a_monthly_series_requires_no_dates(self, replica):
        assert len(sgs(replica, 433).json()) > 300
        assert sgs(replica, 433, dataInicial="01/01/2022").json()[0]["data"] == "01/01/2022"

    def test_at_most_twenty_of_the_newest_are_sent(self, replica):
        newest = sgs(replica, 12, "/ultimos/20").json()
        assert len(newest) == 20
        refused = sgs(replica, 12, "/ultimos/21")
        assert refused.status_code == 400
        assert refused.json()["erro"]["detail"].endswith("A quantidade máxima de valores deve ser 20")

    @pytest.mark.parametrize(
        ("series", "query"),
        [
            (12, window("26/02/2022", "01/03/2022")),
            (12, window("01/01/2050", "01/02/2050")),
            (7, window("01/10/2019", "31/12/2019")),
            (12466, window("03/01/2022", "31/01/2022")),
        ],
    )
    def test_a_range_without_values_is_404(self, replica, series, query):
        response = sgs(replica, series, **query)
        assert response.status_code == 404
        assert response.json()["erro"]["detail"].endswith("Value(s) not found")

    def test_the_discontinued_ibovespa_ends_in_2019(self, replica):
        assert sgs(replica, 7, **window("27/09/2019", "31/12/2019")).json()[-1]["data"] == "30/09/2019"


class TestB3:
    def test_a_year_is_a_table_of_days_and_months_in_portuguese(self, replica):
        rows = b3(replica, 2024).json()["results"]
        assert [row["day"] for row in rows] == list(range(1, 32))
        assert all(len(row) == 13 for row in rows)
        given = [(month, row["day"]) for row in rows for month in range(1, 13) if row[f"rateValue{month}"] is not None]
        assert sorted(given) == [(day.month, day.day) for day in business_days("2024-01-01", "2024-12-31")]
        whole, _, cents = rows[1]["rateValue1"].partition(",")
        assert (len(cents), "." in whole) == (2, True)

    def test_a_future_year_has_no_values_and_an_unknown_index_no_days(self, replica):
        assert {value for row in b3(replica, 2090).json()["results"] for value in row.values() if value} == set(
            range(1, 32)
        )
        assert b3(replica, 2024, "IBRX").json() == {"results": []}

    @pytest.mark.parametrize("word", ["x", "bm90IGpzb24=", "W10=", ""])
    def test_a_malformed_query_is_refused(self, replica, word):
        assert requests.get(f"{replica.b3_url}GetPortfolioDay/{word}", timeout=30).status_code == 400


class TestFigures:
    @pytest.mark.parametrize("series", ["1", "7", "11", "12", "189", "432", "433", "4389", "IBOVESPA"])
    def test_a_later_day_changes_no_earlier_one(self, series):
        before, after = figures(series, dt.date(2019, 6, 3)), figures(series, dt.date(2026, 11, 26))
        assert list(before.items()) == list(after.items())[: len(before)]
        assert len(before) > 200

    def test_they_reach_today_or_the_day_that_is_set(self):
        services = RateServices()
        services.today = dt.date(2022, 1, 15)
        newest = {name: [*services.values(name)][-1].isoformat() for name in ("cdi", "ibovespa", "ipca", "igpm")}
        assert newest == {"cdi": "2022-01-14", "ibovespa": "2022-01-14", "ipca": "2021-12-01", "igpm": "2022-01-01"}


class TestFaults:
    def test_faults_come_in_order_and_pass(self, own):
        own.rates.fail(1)
        own.rates.show_html(1)
        own.rates.fail(1, 500)
        responses = [sgs(own, 12, **window("03/01/2022", "03/01/2022")) for _ in range(4)]
        assert [response.status_code for response in responses] == [504, 200, 500, 200]
        assert responses[1].headers["Content-Type"].startswith("text/html")
        assert own.rates.requests == {"fault": 3, "sgs": 1}

    def test_an_outage_lasts_until_it_is_ended(self, own):
        own.rates.outage(600)
        assert {sgs(own, 12).status_code, b3(own, 2024).status_code} == {504}
        own.rates.outage(0)
        assert b3(own, 2024).status_code == 200

    def test_values_can_be_restated_withdrawn_and_ended(self, own):
        own.rates.restate("cdi", dt.date(2022, 1, 4), "0.05")
        own.rates.withdraw("cdi", dt.date(2022, 1, 5))
        own.rates.end("cdi", dt.date(2022, 1, 6))
        found = sgs(own, 12, **window("03/01/2022", "31/01/2022")).json()
        assert [(entry["data"][:2], entry["valor"]) for entry in found] == [
            ("03", "0.049206"), ("04", "0.05"), ("06", "0.049206"),
        ]  # fmt: skip

    def test_the_newest_value_differs_while_the_exchange_is_open(self, own):
        own.rates.today = dt.date(2024, 3, 28)
        closed = b3(own, 2024).json()["results"]
        own.rates.in_session = True
        opened = b3(own, 2024).json()["results"]
        assert [row["day"] for row, other in zip(closed, opened, strict=True) if row != other] == [28]

    def test_any_bytes_can_be_sent(self, own):
        own.rates.put("ibovespa", b"{")
        own.rates.put("ipca", b"[]")
        assert (b3(own, 2024).content, sgs(own, 433).content) == (b"{", b"[]")

    def test_the_port_closes_and_opens_again(self, own):
        own.rates_up = False
        with pytest.raises(requests.ConnectionError):
            sgs(own, 12)
        assert "down" in repr(own._view())
        own.rates_up = True
        assert sgs(own, 433).status_code == 200

    @pytest.mark.parametrize("pull", [
        lambda rates: rates.restate("poupanca", dt.date(2022, 1, 3), "1"),
        lambda rates: rates.outage(-1),
        lambda rates: setattr(rates, "latency", "slow"),
    ])  # fmt: skip
    def test_invalid_values_are_refused(self, pull):
        with pytest.raises(ConfigError, match=r"^(name|seconds|latency): "):
            pull(RateServices())

    def test_a_taken_port_is_an_error_that_leaves_nothing_open(self, replica):
        port = int(replica.sgs_url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match="^rates_port: "):
            Replica.start(rates_port=port)
