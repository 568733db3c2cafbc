"""Subclasses in the pricer: every route for figures accepts them, and a CNPJ may stand for its subclasses."""

from __future__ import annotations

import datetime as dt

import pytest
from support.fakes import FUND
from support.pricer import CNPJ, FORMATTED, FakeSearch, fields, pricer

from scraperkit.models import DailyQuote
from scraperkit.timeseries.store import SeriesStore

FIRST, SECOND = f"{CNPJ}:B2", f"{CNPJ}:Z2HFZ1734468953"
CLASS_DAY, DAY, LATER = dt.date(2024, 9, 13), dt.date(2024, 9, 16), dt.date(2024, 9, 17)


@pytest.fixture
def api(redis, redis_url, namespace):
    """A pricer, with a class that has split into two subclasses."""
    quotes = [DailyQuote(CNPJ, CLASS_DAY, 1.25, holders=9)]
    quotes += [DailyQuote(CNPJ, day, quota, subclass="B2") for day, quota in ((DAY, 2.0), (LATER, 2.5))]
    quotes += [DailyQuote(CNPJ, DAY, 4.0, subclass="Z2HFZ1734468953")]
    SeriesStore(redis, namespace).write(quotes)
    with pricer(redis_url, namespace, FakeSearch({CNPJ: FUND})) as client:
        yield client


class TestPrices:
    @pytest.mark.parametrize("name", [FIRST, f"{CNPJ}:b2", f"{FORMATTED}:B2", f"{FORMATTED}:B2".replace("/", "%2F")])
    def test_prices_of_a_subclass_are_its_own(self, api, name):
        told = api.get(f"/v1/funds/{name}/prices").json()
        assert told["document"] == FIRST
        assert [price["value"] for price in told["prices"]] == [2.0, 2.5]
        assert "stands_for" not in told

    def test_prices_of_a_cnpj_are_those_of_its_class_if_it_has_figures(self, api):
        response = api.get(f"/v1/funds/{CNPJ}/prices")
        assert response.json()["prices"] == [{"date": "2024-09-13", "value": 1.25}]
        assert "Stands-For" not in response.headers
        # On these days neither the class nor its subclasses have a quota, so the CNPJ means the class.
        assert api.get(f"/v1/funds/{CNPJ}/prices?end=2024-09-12").json()["prices"] == []

    def test_prices_of_a_cnpj_are_those_of_its_subclasses_if_only_they_have_figures(self, api):
        response = api.get(f"/v1/funds/{CNPJ}/prices?start=2024-09-14")
        assert response.headers["Stands-For"] == f"{FIRST}, {SECOND}"
        told = response.json()
        assert told["document"] == CNPJ
        assert told["stands_for"] == [FIRST, SECOND]
        assert told["prices"] == [
            {"date": "2024-09-16", "value": 2.0, "subclass": "B2"},
            {"date": "2024-09-17", "value": 2.5, "subclass": "B2"},
            {"date": "2024-09-16", "value": 4.0, "subclass": "Z2HFZ1734468953"},
        ]
        lines = api.get(f"/v1/funds/{CNPJ}/prices?start=2024-09-14&format=csv")
        assert lines.text.splitlines() == [
            "date,subclass,quota",
            "2024-09-16,B2,2.0",
            "2024-09-17,B2,2.5",
            "2024-09-16,Z2HFZ1734468953,4.0",
        ]
        assert lines.headers["Stands-For"] == f"{FIRST}, {SECOND}"

    def test_long_series_of_subclasses_arrive_complete(self, api, redis, namespace):
        days = [dt.date(2020, 1, 1) + dt.timedelta(days=number) for number in range(2_100)]
        SeriesStore(redis, namespace).write(DailyQuote("99101011000125", day, 1.0, subclass="A1") for day in days)
        told = api.get("/v1/funds/99101011000125/prices").json()
        assert [price["date"] for price in told["prices"]] == [str(day) for day in days]

    @pytest.mark.parametrize("path", ["/v1/funds/{}", "/v1/funds/{}/prices", "/v1/funds/quotes/{}"])
    def test_an_unstored_subclass_returns_404_and_an_invalid_one_422(self, api, path):
        unknown = api.get(path.format(f"{CNPJ}:C3"))
        assert unknown.status_code == 404
        assert f"{FORMATTED}:C3" in unknown.json()["detail"]
        odd = api.get(path.format(f"{CNPJ}:a-b"))
        assert odd.status_code == 422
        assert fields(odd) == ["document"]


class TestQuotes:
    def test_a_subclass_has_its_own_quote(self, api):
        told = api.get(f"/v1/funds/quotes/{SECOND}?date=20/09/2024&investment=10").json()
        assert (told["document"], told["day"], told["quotas"]) == (SECOND, "2024-09-16", "2.50000000")

    def test_a_cnpj_that_stands_for_its_subclasses_has_a_quote_for_each(self, api, redis, namespace):
        assert api.get(f"/v1/funds/quotes/{CNPJ}?date=20/09/2024").json()["document"] == CNPJ
        SeriesStore(redis, namespace).delete(CNPJ)
        quotes = [DailyQuote(CNPJ, DAY, 2.0, subclass="B2"), DailyQuote(CNPJ, LATER, 5.0, subclass="A1")]
        SeriesStore(redis, namespace).write(quotes)
        told = api.get(f"/v1/funds/quotes/{CNPJ}?date=17/09/2024&investment=10").json()
        assert told["document"] == CNPJ
        assert told["stands_for"] == [f"{CNPJ}:A1", FIRST]
        assert [(each["document"], each["day"], each["quotas"]) for each in told["quotes"]] == [
            (f"{CNPJ}:A1", "2024-09-17", "2.00000000"),
            (FIRST, "2024-09-16", "5.00000000"),
        ]
        assert api.get(f"/v1/funds/quotes/{CNPJ}?date=01/09/2024").status_code == 404


class TestCards:
    def test_cards_are_for_series_and_pages_continue_after_a_subclass(self, api):
        first = api.get("/v1/funds?limit=2").json()
        assert [card["document"] for card in first["funds"]] == [CNPJ, FIRST]
        assert first["funds"][1]["formatted"] == f"{FORMATTED}:B2"
        rest = api.get(first["next"]).json()
        assert [card["document"] for card in rest["funds"]] == [SECOND]
        assert api.get(f"/v1/funds/{FIRST}").json()["days"] == 2

    def test_the_card_of_a_cnpj_lists_the_subclasses_it_stands_for(self, api, redis, namespace):
        assert api.get(f"/v1/funds/{CNPJ}").json()["stands_for"] == []
        SeriesStore(redis, namespace).write([DailyQuote("99101011000125", DAY, 1.0, subclass="A1")])
        told = api.get("/v1/funds/99101011000125").json()
        assert (told["days"], told["stands_for"]) == (0, ["99101011000125:A1"])


def test_an_order_for_a_subclass_is_refused_since_messages_cover_whole_funds(api):
    response = api.post("/v1/funds", json={"document": f"{FORMATTED}:B2", "from_date": "01/2022"})
    assert response.status_code == 422
    assert fields(response) == ["document"]
    assert f"here a CNPJ stands for all its subclasses: write {FORMATTED}" in response.json()["detail"]
