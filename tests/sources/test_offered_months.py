"""Months that the site does not offer: when a fund ended, and how often the others are requested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.workers import subscriber

import scraperkit as sk
from scraperkit.models import today
from scraperkit.replica import Replica
from scraperkit.sources import CvmPages

NORMAL, LIQUIDATED, CANCELLED = "18993924000100", "99101014000169", "99101015000103"


@pytest.fixture
def site() -> Iterator[Replica]:
    with Replica.start() as site:
        yield site


def test_the_months_of_an_ended_fund_end_with_it(site):
    with CvmPages(site.url) as source:
        for cnpj, last in ((LIQUIDATED, "2022-08"), (CANCELLED, "2021-11")):
            fund = source.find_fund(cnpj)
            assert fund.last_month.iso == last
            offered = source.available_months(fund)
            assert [request.period.iso for request in fund.months()] == offered
            assert [request.period.iso for request in fund.months("2021-05", f"{today():%Y-%m}")] == offered[4:]
            assert last in fund._view().text()


def test_the_end_of_an_operating_fund_is_not_requested(site):
    with CvmPages(site.url) as source:
        assert source.find_fund(NORMAL).ended_on is None
    assert site.requests["daily_get"] == 0


@pytest.mark.parametrize("delivery", ["stream", "pubsub"])
def test_one_page_settles_all_months_that_are_not_offered(redis, namespace, site, delivery):
    """The fund is built by hand, without its end."""
    fund = sk.Fund(LIQUIDATED, "901104")
    with CvmPages(site.url) as source, subscriber(redis, namespace, source, threads=4):
        batch = sk.Publisher(redis, namespace=namespace, delivery=delivery).publish(fund.months("2022-07", "2025-06"))
        status = batch.wait(60)
    assert (status.published, status.done, status.not_offered) == (36, 2, 34)
    assert site.requests["daily_get"] == 1
    assert len(sk.DeadLetters(redis, namespace=namespace)) == 0
    events = batch.events()
    assert events["outcome"].value_counts().to_dict() == {"done": 2, "not_offered": 34}
    assert set(events["attempt"]) == {1}
