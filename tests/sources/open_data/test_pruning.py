"""Pruned months stay away until a call names them, even if a file holds a year."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from scraperkit.models import Month, ScrapeRequest
from scraperkit.replica.open_data import load_open_data

FUND = "18993924000100"


def months(market) -> list[str]:
    return [month.iso for month in market._folder.months()]


def make_old(market) -> None:
    """Make everything due, as if the ledger were a year old."""
    long_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=365)).isoformat()
    for path in (market.archive / "ledger").glob("*.json"):
        entry = market._folder.entry(path.stem)
        market._folder.note(dataclasses.replace(entry, checked_at=long_ago))


@pytest.fixture
def year(market) -> str:
    """Download the newest year that the portal has in one file, and prune all but its last four months."""
    year = max(month[:4] for month in load_open_data().months if month < "2021")
    market.download(f"{year}-01", f"{year}-12")
    assert len(months(market)) == 12
    market.prune(4)
    return year


class TestAYearlyFile:
    def test_does_not_bring_pruned_months_back_by_itself(self, site, market, year):
        kept = months(market)
        make_old(market)
        path = site.portal.path(f"{year}-12")
        files = market.download()
        assert files.set_index("file")["outcome"][path.rpartition("/")[2]] == "unchanged"
        assert months(market)[:4] == kept

    def test_that_is_rewritten_updates_only_the_stored_months(self, site, market, year):
        kept = months(market)
        site.portal.restate(f"{year}-12")
        site.portal.restate(f"{year}-01")
        (row,) = market.download(f"{year}-12", f"{year}-12").to_dict("records")
        assert (row["outcome"], months(market)) == ("changed", kept)
        assert set(market.changes()["date"].dt.month) == {12}

    def test_brings_back_only_the_months_that_a_call_names(self, market, year):
        kept = months(market)
        market.download(f"{year}-03", f"{year}-04")
        assert months(market) == [f"{year}-03", f"{year}-04", *kept]
        market.download(f"{year}-12", f"{year}-12")
        assert months(market) == [f"{year}-03", f"{year}-04", *kept]
        market.download(f"{year}-01", f"{year}-12")
        assert len(months(market)) == 12

    def test_brings_back_the_month_of_a_message(self, market, year):
        quotes = market.fetch(ScrapeRequest(document=FUND, month_year=f"02/{year}", source="open_data"))
        assert f"{year}-02" in months(market)
        assert f"{year}-03" not in months(market)
        assert {Month.of(quote.date).iso for quote in quotes} <= {f"{year}-02"}


class TestMonthlyFiles:
    def test_are_not_requested_once_pruned(self, market):
        market.download("2024-09", "2024-12")
        market.prune(2)
        make_old(market)
        market.download()
        assert months(market)[:2] == ["2024-11", "2024-12"]
        assert market.download("2024-09", "2024-09")["outcome"].tolist() == ["new"]
        assert months(market)[:3] == ["2024-09", "2024-11", "2024-12"]

    def test_that_were_pruned_are_downloaded_for_a_message(self, market):
        market.download("2024-11", "2024-12")
        market.prune(1)
        assert market.fetch(ScrapeRequest(document=FUND, month_year="11/2024", source="open_data"))
