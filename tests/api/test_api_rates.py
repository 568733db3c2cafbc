"""``/v1/rates/{name}``: what ``sk.rates`` returns, as JSON, and its refusals as problem documents."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from support.pricer import fields, pricer

import scraperkit as sk
from scraperkit.replica import Replica
from scraperkit.sources.rates.known import KNOWN_RATES


@pytest.fixture
def site():
    with Replica.start() as replica:
        yield replica


@pytest.fixture
def api(redis_url, namespace, site):
    with pricer(redis_url, namespace, sgs_url=site.sgs_url, b3_url=site.b3_url, http_retries=1) as client:
        yield client


@pytest.mark.parametrize("name", KNOWN_RATES)
def test_a_rate_equals_that_of_the_library(api, site, redis, namespace, monkeypatch, name):
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", namespace)
    told = api.get(f"/v1/rates/{name}", params={"start": "2022-01", "end": "2022-03-15"}).json()
    rate = sk.rates(name, "2022-01", "2022-03-15", redis=redis)  # the pricer has stored it: nothing is requested
    shared = {field: value for field, value in rate.attrs.items() if field in told}
    assert {"name", "kind", "unit", "source"} <= shared.keys()
    assert {field: told[field] for field in shared} == shared
    assert {value["date"]: value["value"] for value in told["values"]} == {
        f"{day:%Y-%m-%d}": value for day, value in rate.items()
    }
    assert len(told["values"]) > 2
    assert told["notes"] == []


def test_many_callers_of_one_rate_cause_one_request(api, site):
    site.rates.latency = 0.05
    statuses = []

    def ask():
        statuses.append(api.get("/v1/rates/cdi?start=2022-01&end=2022-12").status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 6
    assert site.rates.requests["sgs"] == 1


@pytest.mark.parametrize(
    ("target", "field", "told"),
    [
        ("7", "name", "use 'ibovespa'"),
        ("ibov", "name", "it is called 'ibovespa' here"),
        ("poupanca", "name", "choose one of cdi"),
        ("cdi?start=2022", "start", "must be a day"),
        ("cdi?start=2022-02&end=2022-01", "end", "before start"),
        ("cdi?from=2022-02", "from", "unknown field"),
    ],
)
def test_an_invalid_field_is_named(api, target, field, told):
    response = api.get(f"/v1/rates/{target}")
    assert response.status_code == 422
    assert fields(response) == [field]
    assert told in response.json()["detail"]


def test_a_service_that_is_down_returns_502_until_it_recovers(api, site):
    site.rates.outage(600)
    response = api.get("/v1/rates/cdi?start=2022-01&end=2022-01")
    assert (response.status_code, response.headers["Retry-After"]) == (502, "10")
    assert fields(response) == []
    site.rates.outage(0)
    assert len(api.get("/v1/rates/cdi?start=2022-01&end=2022-01").json()["values"]) == 21


def test_an_unexpected_response_of_the_service_returns_502_with_the_reason(api, site):
    site.rates.put("ibovespa", b'{"results": 7}')
    response = api.get("/v1/rates/ibovespa?start=2022-01&end=2022-01")
    assert response.status_code == 502
    assert "no list of results" in response.json()["detail"]


def test_stored_values_are_returned_with_a_note_if_the_newest_are_unavailable(api, site):
    site.rates.today = dt.date(2022, 1, 14)
    before = api.get("/v1/rates/dollar?start=2022-01&end=2022-01-14").json()
    site.rates.outage(600)
    told = api.get("/v1/rates/dollar?start=2022-01").json()
    assert told["values"] == before["values"]
    assert told["notes"][0].startswith("dollar: the stored values may lack days or revisions: ")
