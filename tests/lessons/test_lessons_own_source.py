"""Lesson 06: the other site responds as the text says, and wrong answers get hints."""

from __future__ import annotations

import datetime as dt

import pytest
import requests
from matplotlib import pyplot as plt

from scraperkit import lessons
from scraperkit.errors import MonthNotOffered, SiteUnavailable
from scraperkit.lessons.own_source import PriceSite, arrivals, respond
from scraperkit.models import DailyQuote
from scraperkit.replica.sample import load_sample

CNPJ = "18993924000100"


@pytest.fixture
def lesson(redis_url):
    lesson = lessons.begin("06_bring_your_own_source", redis_url=redis_url)
    yield lesson
    lesson.close()


@pytest.fixture
def site():
    with PriceSite() as site:
        yield site


def days(month: str) -> dict[str, float]:
    status, content = respond(load_sample(), f"/prices/{CNPJ}/{month}.json")
    assert status == 200
    return {row["day"]: row["price"] for row in content["days"]}


class TestTheSite:
    def test_serves_the_prices_of_the_sample_with_four_decimals(self):
        quotes = load_sample().month(CNPJ, "01/2022")
        assert days("2022-01") == {f"{quote.date}": round(quote.quota, 4) for quote in quotes}

    def test_has_one_wrong_price_and_one_decimal_comma(self):
        slip = next(quote for quote in load_sample().month(CNPJ, "06/2022") if quote.date == dt.date(2022, 6, 15))
        assert days("2022-06")["2022-06-15"] == round(10 * slip.quota, 4)
        assert [day for day, price in days("2023-05").items() if isinstance(price, str)] == ["2023-05-31"]

    @pytest.mark.parametrize(
        ("path", "status", "content"),
        [
            (f"/prices/{CNPJ}/2020-12.json", 200, {"days": None}),
            (f"/prices/{CNPJ}/2024-01.json", 404, {"error": "no such month"}),
            ("/prices/33000167000101/2022-01.json", 404, {"error": "no such fund"}),
            (f"/prices/{CNPJ}/2022-13.json", 404, {"error": "no such month"}),
            ("/../../etc/passwd", 404, {"error": "no such fund"}),
        ],
    )
    def test_responses_bad_requests_in_its_own_way(self, site, path, status, content):
        reply = requests.get(site.url.removesuffix("/prices/") + path, timeout=60)
        assert (reply.status_code, reply.json()) == (status, content)

    def test_is_busy_for_the_given_number_of_requests(self, site):
        site.busy = 2
        address = f"{site.url}{CNPJ}/2022-01.json"
        assert [requests.get(address, timeout=60).status_code for _ in range(3)] == [503, 503, 200]
        assert len(site.asked) == 3


def test_arrivals_are_counted_from_the_first_request_of_each_run():
    ax = arrivals({"hasty": [5.0, 5.1], "polite": [7.0, 8.0, 9.0], "none": []})
    assert [list(line.get_xdata())[:-1] for line in ax.lines[:4:2]] == [[0.0, pytest.approx(0.1)], [0.0, 1.0, 2.0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hasty", "polite", "none"]
    plt.close(ax.figure)


# ------------------------------------------------------------------ exercises


def number(value) -> float:
    return float(str(value).replace(",", "."))


def full(request, row, **more):
    day = dt.date.fromisoformat(row["day"])
    fields = {"quota": number(row["price"]), "holders": row["holders"], "net_worth": row["worth"]} | more
    return DailyQuote(request.document, day, **fields)


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (full, "is done"),
        (7, "your function, without parentheses"),
        (lambda request, row: None, "returns a NoneType"),
        (lambda request, row: full(request, row, holders=None), "has holders=None"),
        (lambda request, row: full(request, row, net_worth=7), "has net_worth=7"),
        (lambda request, row: full(request, row, inflow=1.0), "a field that the site does not report"),
        (lambda request, row: full(request, row, quota=float(row["price"])), "is refused now"),
        (lambda request, row: full(request, row, quota=row["price"]), "has to become a number"),
    ],
)
def test_hints_for_more_fields(lesson, function, hint):
    assert hint in lesson.check(1, function).text


def rows(address, *, busy=SiteUnavailable, missing=MonthNotOffered, empty=()):
    reply = requests.get(address, timeout=60)
    if reply.status_code == 404 and missing:
        raise missing("no such month", address)
    if reply.status_code == 503 and busy:
        raise busy("busy", address)
    found = reply.json()["days"]
    return found if found is not None else empty


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({}, "is done"),
        ({"busy": None}, "returned [] as if that were the month"),
        ({"busy": RuntimeError}, "one of the kit's own errors"),
        ({"busy": MonthNotOffered}, "which is final"),
        ({"missing": None}, "must still raise sk.errors.MonthNotOffered"),
        ({"missing": SiteUnavailable}, "must still raise sk.errors.MonthNotOffered"),
    ],
)
def test_hints_for_a_busy_site(lesson, wrong, hint):
    assert hint in lesson.check(2, lambda address: rows(address, **wrong)).text


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({}, "is done"),
        ({"empty": None}, "returns None"),
        ({"empty": [{"day": "2020-12-01"}]}, "a month without days has no figures"),
        ({"missing": None}, "must still raise sk.errors.MonthNotOffered"),
    ],
)
def test_hints_for_a_month_without_quotes(lesson, wrong, hint):
    assert hint in lesson.check(3, lambda address: rows(address, **wrong)).text


def test_a_function_that_breaks_other_months_gets_a_hint(lesson):
    assert "is no longer returned" in lesson.check(3, lambda _: []).text
    assert "this is not a failure" in lesson.check(3, lambda _: [][0]).text
