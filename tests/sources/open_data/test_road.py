"""From the archive to TimeSeries: as a source for workers, and loaded in bulk."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.errors import MonthNotOffered, NotDownloaded, SiteUnavailable
from scraperkit.models import ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader

FUND = "18993924000100"
PROCESS = """
import sys
import scraperkit as sk
from scraperkit.sources.open_data import downloads

imports, import_zip = [], downloads.import_zip
downloads.import_zip = lambda *given: imports.append(given) or import_zip(*given)
url, archive, fund = sys.argv[1:]
with sk.OpenData(url, archive=archive) as market:
    print("ready", flush=True)
    sys.stdin.readline()
    print(len(market.fetch(sk.ScrapeRequest(document=fund, month_year="06/2024", source="open_data"))), len(imports))
"""


@pytest.fixture(scope="module")
def site():
    with Replica.start() as replica:
        replica.portal.crawl_delay = 0
        yield replica


@pytest.fixture
def market(site, tmp_path):
    with sk.OpenData(site.open_data_url, archive=tmp_path) as market:
        yield market


@pytest.fixture
def reader(redis, namespace):
    return TimeSeriesReader(redis, namespace)


@pytest.fixture
def split(market) -> str:
    """The CNPJ of a fund that has subclasses in November 2024."""
    market.download("2024-11", "2024-11")
    rows = market.market("2024-11")
    return rows[rows["subclass"] != ""]["cnpj"].iloc[0]


class TestAsASource:
    def test_a_worker_stores_what_the_archive_has(self, redis, namespace, market, reader, split):
        requests = [
            ScrapeRequest(document=cnpj, month_year=month, source="open_data")
            for cnpj in (FUND, split)
            for month in ("10/2024", "11/2024")
        ]
        with Subscriber(redis, market, namespace=namespace, threads=3):
            assert str(Publisher(redis, namespace=namespace).publish(requests).wait(60)) == "4 published, 4 done"
        kept = market.quotes(start="2024-10", end="2024-11")
        kept = kept[kept["cnpj"].isin([FUND, split])].reset_index(drop=True)
        pd.testing.assert_frame_equal(reader.quotes(), kept)
        assert set(reader.months()["source"]) == {"open_data"}

    def test_the_requests_of_a_found_fund_name_this_source(self, market):
        fund = market.find_fund(FUND)
        assert {request.source for request in fund.months("2024-01", "2024-03")} == {"open_data"}

    def test_a_file_is_requested_and_imported_once_for_all_processes(self, site, tmp_path):
        before = site.portal.requests
        words = [sys.executable, "-c", PROCESS, site.open_data_url, str(tmp_path), FUND]
        pipe = subprocess.PIPE
        with contextlib.ExitStack() as stack:
            fetchers = [
                stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
                for _ in range(4)
            ]
            assert [fetcher.stdout.readline() for fetcher in fetchers] == ["ready\n"] * 4
            for fetcher in fetchers:
                fetcher.stdin.write("go\n")
                fetcher.stdin.flush()
            told = [fetcher.communicate(timeout=120) for fetcher in fetchers]
        assert {out.split()[0] for out, _ in told} == {"20"}, told
        asked = site.portal.requests - before
        assert (asked["file"], asked["not_modified"]) == (1, 0)
        assert sorted(out.split()[1] for out, _ in told) == ["0", "0", "0", "1"], "imports"

    def test_a_file_is_requested_once_for_all_threads(self, market):
        ready = threading.Barrier(8)

        def fetch(_: int) -> int:
            ready.wait(30)
            return len(market.fetch(ScrapeRequest(document=FUND, month_year="05/2024", source="open_data")))

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(fetch, range(8)))) == 1
        assert market.archive_info()["outcome"].tolist() == ["new"]

    def test_a_fund_without_rows_in_a_month_has_no_quotes(self, market):
        assert market.fetch(ScrapeRequest(document="12ABC34501DE35", month_year="05/2024", source="open_data")) == []

    def test_a_month_without_a_file_is_not_offered(self, market):
        with pytest.raises(MonthNotOffered, match="the portal has no data for 2025-03"):
            market.fetch(ScrapeRequest(document=FUND, month_year="03/2025", source="open_data"))

    def test_an_unreachable_portal_is_an_error_unless_the_month_is_stored(self, tmp_path):
        request = ScrapeRequest(document=FUND, month_year="06/2024", source="open_data")
        kept = ScrapeRequest(document=FUND, month_year="05/2024", source="open_data")
        with Replica.start() as site, sk.OpenData(site.open_data_url, archive=tmp_path) as market:
            site.portal.crawl_delay = 0
            there = market.fetch(kept)
            site.open_data_up = False
            with pytest.raises(SiteUnavailable):
                market.fetch(request)
            assert there
            assert market.fetch(kept) == there


class TestLoad:
    def test_fills_time_series_with_what_the_archive_has(self, redis, namespace, market, reader, split):
        count = market.load(redis, namespace=namespace)
        stored = reader.quotes()
        pd.testing.assert_frame_equal(stored, market.quotes(start="2024-11", end="2024-11"))
        assert count == int(stored[["quota", "net_worth", "holders", "inflow", "outflow", "portfolio"]].count().sum())
        assert set(reader.months()["month"]) == {"2024-11"}

    def test_replaces_whole_months_and_only_those_of_its_funds(self, redis, namespace, market, reader, split):
        gone, other = f"{split}:GONE1", "12ABC34501DE35"
        store = sk.SeriesStore(redis, namespace)
        day = pd.Timestamp("2024-11-04").date()
        store.write([sk.DailyQuote(split, day, 7.0, subclass="GONE1"), sk.DailyQuote(other, day, 7.0)])
        market.load(redis, [split], namespace=namespace)
        assert reader.prices([gone, other])[other].tolist() == [7.0]
        assert reader.prices(gone).empty

    def test_announces_what_it_stored_and_withdrew(self, redis, namespace, market, split):
        day = pd.Timestamp("2024-11-04").date()
        sk.SeriesStore(redis, namespace).write([sk.DailyQuote(split, day, 7.0, subclass="GONE1")])
        heard = []
        with sk.on_stored(redis, heard.extend, namespace=namespace):
            market.load(redis, [split], namespace=namespace)
            assert wait_until(lambda: bool(heard) and heard[-1].days == 0)
        assert heard[-1] == sk.Stored(split, "GONE1", "2024-11", 0, None)
        quotes = market.quotes(start="2024-11", end="2024-11")
        days = quotes[quotes["cnpj"] == split].groupby("subclass")["date"].count()
        assert {stored.subclass: stored.days for stored in heard[:-1]} == days.to_dict()

    def test_prints_the_memory_it_needs_first(self, redis, namespace, market, split, capsys):
        capsys.readouterr()
        market.load(redis, [split], namespace=namespace)  # in a script, too
        assert "Redis will need about" in capsys.readouterr().err
        market.load(redis, [split], namespace=namespace, progress=False)
        assert capsys.readouterr().err == ""

    def test_of_an_empty_archive_says_what_to_do(self, redis, namespace, market):
        with pytest.raises(NotDownloaded, match=r"call download\(start, end\) or run"):
            market.load(redis, namespace=namespace)
