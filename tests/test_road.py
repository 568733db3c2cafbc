"""The whole way from CNPJs to stored prices, checked against the sample read by other means."""

from __future__ import annotations

import csv
import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

import scraperkit as sk
from scraperkit.models import METRICS

SAMPLE = Path(__file__).parent.parent / "data" / "sample"


@pytest.fixture(scope="module")
def oracle() -> dict[tuple[str, dt.date], dict[str, Decimal]]:
    """Return every figure of the sample, read without the package: (cnpj, day) to metric to decimal."""
    with (SAMPLE / "quotes.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["cnpj"], dt.date.fromisoformat(row["date"])): {
                metric: Decimal(row[metric]) for metric in METRICS if row[metric] != ""
            }
            for row in csv.DictReader(file)
        }


@pytest.fixture(scope="module")
def listed() -> list[dict[str, str]]:
    with (SAMPLE / "funds.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_exactly_the_figures_of_the_sample_are_stored_to_the_last_decimal(redis, namespace, oracle, listed):
    cnpjs = sorted({row["cnpj"] for row in listed})
    with sk.Replica.start() as site, sk.CvmPages(site.url) as source:
        funds = {cnpj: source.find_fund(cnpj) for cnpj in cnpjs}
        requests = [request for fund in funds.values() for request in fund.months("2021-01", "2023-12")]
        with sk.Subscriber(redis, source, threads=8, namespace=namespace):
            batch = sk.Publisher(redis, namespace=namespace).publish(requests)
            status = batch.wait(240)

    assert len(cnpjs) == 20
    last = {row["pk"]: row["ended_on"] or "2023-12-31" for row in listed}
    asked = {(request.document, request.month_year) for request in requests}
    offered = {
        (request.document, request.month_year)
        for request in requests
        if request.first_day <= dt.date.fromisoformat(last[request.fund_pk])
    }
    assert {(cnpj, f"{day:%m/%Y}") for cnpj, day in oracle} <= offered
    assert asked == offered, "the months of a fund end with it"
    assert (status.published, status.done) == (len(offered), len(offered))

    quotes = sk.TimeSeriesReader(redis, namespace=namespace).quotes()
    stored = {
        (row["cnpj"], row["date"].date()): {
            metric: Decimal(repr(float(row[metric]))) for metric in METRICS if row[metric] == row[metric]
        }
        for row in quotes.astype({"holders": "float64"}).to_dict("records")
    }
    assert stored.keys() == oracle.keys()
    assert stored == oracle

    cards = sk.TimeSeriesReader(redis, namespace=namespace).funds()
    names = {row["pk"]: row["name"] for row in listed}
    assert {cnpj: names[fund.pk] for cnpj, fund in funds.items()} == cards["name"].to_dict()


def test_the_available_months_are_those_of_the_sample(redis, namespace, oracle):
    with sk.Replica.start() as site, sk.CvmPages(site.url) as source:
        fund = source.find_fund("18.993.924/0001-00")
        months = source.available_months(fund)
    assert months == sorted({f"{day:%Y-%m}" for cnpj, day in oracle if cnpj == fund.cnpj})
    assert fund.pk == "132922"


def test_a_site_that_fails_at_random_causes_delays_but_no_loss(redis, namespace):
    settings = sk.Settings.load(namespace=namespace, backoff=0.05, max_attempts=20, http_retries=1, threads=4)
    with sk.Replica.start(error_rate=0.3) as site, sk.CvmPages(site.url, settings=settings) as source:
        fund = sk.Fund("18993924000100", "132922")
        with sk.Subscriber(redis, source, settings=settings):
            batch = sk.Publisher(redis, namespace=namespace).publish(fund.months("2022-01", "2022-12"))
            status = batch.wait(240)
    assert (status.done, status.failed) == (12, 0)
