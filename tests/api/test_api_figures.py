"""``/v1/funds/{document}/metrics``: what ``sk.metrics.summary`` returns, with a rate that the pricer fetches."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from support.pricer import CNPJ, STRANGER, fields, pricer, store

import scraperkit as sk
from scraperkit.calendar import business_days
from scraperkit.models import DailyQuote, Fund

DAYS = business_days(dt.date(2022, 1, 1), dt.date(2023, 12, 31))
QUOTAS = np.round(np.cumprod(1 + np.random.default_rng(15).normal(0.0004, 0.004, len(DAYS))), 8)
YEARS = {"start": "2022-01", "end": "2023-12"}


@pytest.fixture
def site():
    with sk.Replica.start() as replica:
        yield replica


@pytest.fixture
def api(redis_url, namespace, site, redis):
    store(redis, namespace, [DailyQuote(CNPJ, day.date(), quota) for day, quota in zip(DAYS, QUOTAS, strict=True)])
    with pricer(redis_url, namespace, sgs_url=site.sgs_url, b3_url=site.b3_url, http_retries=1) as client:
        yield client


@pytest.mark.parametrize("name", ["cdi", "ipca", "ibovespa"])
def test_metrics_equal_those_of_the_library(api, redis, namespace, monkeypatch, name):
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    told = api.get(f"/v1/funds/{CNPJ}/metrics", params={"benchmark": name, **YEARS}).json()
    prices = sk.TimeSeriesReader(redis).prices(CNPJ, **YEARS)
    rate = sk.rates(name, *prices.index[[0, -1]], redis=redis)  # stored by now: nothing is requested
    row = sk.metrics.summary(prices, benchmark=rate).iloc[0]
    (figures,) = told["figures"]
    assert told["benchmark"]["name"] == name
    assert told["benchmark"]["kind"] == rate.attrs["kind"]
    assert figures["returns_by_year"] == {"2022": row["return_2022"], "2023": row["return_2023"]}
    for column, value in row.items():
        if isinstance(value, pd.Timestamp):
            assert figures[column] == f"{value:%Y-%m-%d}"
        elif column not in ("name", "return_2022", "return_2023"):
            assert figures[column] == (None if np.isnan(value) else value), column
    absent = {"sharpe", "real_return"} - set(row.index)
    assert all(figures[column] is None for column in absent)
    assert figures["compared_from"] == figures["first_day"] == "2022-01-03"
    assert figures["windows"] > 200
    assert (told["stands_for"], told["notes"]) == ([], [])


def test_days_can_be_chosen_and_the_compared_days_are_reported(api, site):
    told = api.get(f"/v1/funds/{CNPJ}/metrics?benchmark=cdi&start=2022-03-05&end=2022-03-20").json()
    (figures,) = told["figures"]
    assert (figures["compared_from"], figures["compared_to"], figures["days"]) == ("2022-03-07", "2022-03-18", 10)
    assert (figures["windows"], figures["best_window"]) == (0, None)
    asked = site.rates.requests["sgs"]
    assert api.get(f"/v1/funds/{CNPJ}/metrics?benchmark=cdi&start=2022-03-05&end=2022-03-20").json() == told
    assert site.rates.requests["sgs"] == asked


def test_without_a_benchmark_no_rate_is_requested(api, site):
    told = api.get(f"/v1/funds/{CNPJ}/metrics", params=YEARS).json()
    assert told["benchmark"] is None
    (figures,) = told["figures"]
    assert figures["cumulative_return"] == pytest.approx(QUOTAS[-1] / QUOTAS[0] - 1)
    assert (figures["beta"], figures["compared_from"], figures["returns_by_year"]) == (None, None, {})
    assert not site.rates.requests


def test_days_without_quotas_return_empty_figures(api, site):
    told = api.get(f"/v1/funds/{CNPJ}/metrics?benchmark=cdi&start=2020-01&end=2020-12").json()
    (figures,) = told["figures"]
    assert (figures["days"], figures["first_day"], figures["cumulative_return"]) == (0, None, None)
    assert not site.rates.requests


def test_a_cnpj_stands_for_its_subclasses(api, redis, namespace):
    quotes = [
        DailyQuote("99101011000125", dt.date(2022, 1, day), 1 + day / 100, subclass=name)
        for name in ("A1", "B2")
        for day in (3, 4, 5)
    ]
    store(redis, namespace, quotes, Fund("99101011000125", name="Fundo Exemplo Dividido"))
    told = api.get("/v1/funds/99101011000125/metrics?benchmark=cdi").json()
    assert told["stands_for"] == ["99101011000125:A1", "99101011000125:B2"]
    assert [figures["document"] for figures in told["figures"]] == told["stands_for"]
    alone = api.get("/v1/funds/99101011000125%3AB2/metrics?benchmark=cdi").json()
    assert alone["figures"] == told["figures"][1:]


def test_a_quota_that_is_not_a_price_is_left_out_with_a_note(api, redis, namespace):
    store(redis, namespace, [DailyQuote(CNPJ, dt.date(2022, 2, 1), 0.0)])
    told = api.get(f"/v1/funds/{CNPJ}/metrics", params=YEARS).json()
    assert told["notes"] == ["18.993.924/0001-00: the quota of 2022-02-01 is not a price and was left out"]
    assert told["figures"][0]["days"] == len(DAYS) - 1


def test_a_rate_service_that_is_down_returns_502_only_with_a_benchmark(api, site):
    site.rates.outage(600)
    assert api.get(f"/v1/funds/{CNPJ}/metrics?benchmark=cdi").status_code == 502
    assert api.get(f"/v1/funds/{CNPJ}/metrics").status_code == 200


def test_an_unknown_fund_returns_404(api):
    response = api.get(f"/v1/funds/{STRANGER}/metrics?benchmark=cdi")
    assert (response.status_code, fields(response)) == (404, ["document"])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("benchmark=ibov", "benchmark"),
        ("benchmark=", "benchmark"),
        ("start=2022-02&end=2022-01", "end"),
        ("start=01/2022", "start"),
        ("rate=cdi", "rate"),
    ],
)
def test_an_invalid_field_returns_422_and_is_named(api, query, field):
    response = api.get(f"/v1/funds/{CNPJ}/metrics?{query}")
    assert response.status_code == 422
    assert fields(response) == [field]
