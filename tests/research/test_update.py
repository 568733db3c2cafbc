"""`sk.update` fetches only the newest days and months that may have been revised."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from support.fakes import FUND, FakeSite, one_quote

import scraperkit as sk
from scraperkit.errors import ConfigError
from scraperkit.models import Month, today
from scraperkit.research import planning

A = FUND.cnpj
NOW = Month.of(today())


@pytest.fixture
def days_pass(monkeypatch):
    """Return a function that moves the clock of the planner forward by days."""
    import time

    now = time.time
    return lambda days: monkeypatch.setattr(planning.time, "time", lambda: now() + days * 86_400)


def collected(site, redis, months=3):
    sk.prices(FUND, NOW.shift(1 - months).iso, source=site, redis=redis)


def test_only_the_newest_months_are_requested_again_after_a_day(offline, redis, days_pass):
    site = FakeSite()
    collected(site, redis)
    assert sum(site.asked.values()) == 3
    sk.update(source=site, redis=redis)
    assert sum(site.asked.values()) == 3, "nothing can be new yet"
    days_pass(1)
    sk.update(source=site, redis=redis)
    assert site.asked == {str(NOW): 2, str(NOW.shift(-1)): 2, str(NOW.shift(-2)): 1}


def test_new_days_and_changed_figures_are_counted(offline, redis, days_pass):
    site = FakeSite()
    collected(site, redis)
    days_pass(1)

    def restated(request):
        (quote,) = one_quote(request)
        return [
            replace(quote, quota=quote.quota + 1, inflow=9.0),
            replace(quote, date=quote.date + dt.timedelta(days=1)),
        ]

    site.respond = restated
    news = sk.update(source=site, redis=redis)
    assert news.index.tolist() == [A]
    assert news.loc[A, ["new_days", "changed", "problem"]].tolist() == [2, 4, ""]
    assert news.loc[A, "last"].date() == NOW.first_day + dt.timedelta(days=1)


def test_gaps_between_stored_months_stay_gaps(offline, redis):
    site = FakeSite()
    for months in ((-8, -8), (-2, 0)):
        sk.prices(FUND, NOW.shift(months[0]).iso, NOW.shift(months[1]).iso, source=site, redis=redis)
    sk.update(source=site, redis=redis)
    assert set(site.asked) == {str(NOW.shift(back)) for back in (-8, -2, -1, 0)}


def test_each_fund_is_requested_from_the_source_of_its_newest_month(offline, redis):
    other = next(fund.cnpj for fund in offline.replica.funds if fund.active and fund.cnpj != A)
    sk.prices(A, "2023-11", "2023-12", source="cvm_pages")
    sk.prices(other, "2023-11", "2023-12", source="open_data")
    before = offline.replica.requests["search"]
    news = sk.update()
    assert sorted(news.index) == sorted([A, other])
    assert news["problem"].tolist() == ["", ""]
    assert offline.replica.requests["search"] == before
    # The pages end with 2023, the files a year later.
    assert news["last"].dt.strftime("%Y-%m-%d").to_dict() == {A: "2023-12-29", other: "2024-12-31"}


def test_problems_are_in_the_table(offline, redis, days_pass, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_MAX_ATTEMPTS", "1")
    site = FakeSite()
    collected(site, redis)
    days_pass(1)

    def away(request):
        raise OSError("no route to host")

    site.respond = away
    news = sk.update(source=site, redis=redis)
    assert "OSError: no route to host (and 1 month more)" in news.loc[A, "problem"]


def test_an_empty_store_and_a_missing_source_of_your_own_are_refused(offline, redis):
    with pytest.raises(
        ConfigError,
        match="nothing is stored in namespace .*; collect prices with sk.prices or `scraperkit publish` first",
    ):
        sk.update()
    sk.prices(FUND, NOW.iso, source=FakeSite(), redis=redis)
    with pytest.raises(ConfigError, match="figures came from 'fake_site', a source of your own; give it as `source`"):
        sk.update()
