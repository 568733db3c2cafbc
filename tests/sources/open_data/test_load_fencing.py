"""A month belongs to the last source that fetched it; a file is fetched when last sent or confirmed."""

from __future__ import annotations

import datetime as dt
import json

import pandas as pd
import pytest
from support.fakes import FakeSite
from support.waiting import wait_until

import scraperkit as sk
from scraperkit.errors import ScraperKitWarning, StoreError
from scraperkit.keys import Keys
from scraperkit.models import METRICS, DailyQuote, Fund
from scraperkit.sources.open_data.folder import Entry
from scraperkit.sources.open_data.road import fetched_at
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.month_writes import MonthWriter
from scraperkit.timeseries.reader import TimeSeriesReader

FUND, OTHER = "18993924000100", "99101011000125"
FILE = "inf_diario_fi_202411.zip"


class Pages(FakeSite):
    """The regulator's pages, with one day in each month."""

    name = "cvm_pages"

    def __init__(self) -> None:
        super().__init__(lambda request: [DailyQuote(request.document, request.first_day, 7.0)])


@pytest.fixture
def loaded(market, redis, namespace):
    """Return a function that loads November 2024, and returns the samples written."""
    market.download("2024-11", "2024-11")
    return lambda *funds: market.load(redis, list(funds) or [FUND, OTHER], namespace=namespace)


@pytest.fixture
def reader(redis, namespace):
    return TimeSeriesReader(redis, namespace)


@pytest.fixture
def scrape(redis, namespace, publisher):
    """Return a function that has a worker fetch November 2024 of the fund from the pages."""

    def scrape() -> None:
        with Subscriber(redis, Pages(), namespace=namespace):
            batch = publisher.publish(Fund(FUND).months("2024-11", "2024-11"), force=True)
            assert batch.wait(60, progress=False).done == 1

    return scrape


def sources(reader) -> dict[str, str]:
    months = reader.months()
    return dict(zip(months["cnpj"], months["source"], strict=True))


class TestOrder:
    def test_a_fetch_before_the_file_is_replaced(self, market, reader, redis, namespace, scrape):
        scrape()
        assert reader.prices(FUND)[FUND].tolist() == [7.0]
        market.download("2024-11", "2024-11")
        market.load(redis, FUND, namespace=namespace)
        pd.testing.assert_frame_equal(reader.quotes(FUND), market.quotes(FUND))
        assert sources(reader) == {FUND: "open_data"}

    def test_a_fetch_after_the_file_stays_with_a_warning(self, loaded, market, reader, scrape):
        scrape()
        with pytest.warns(ScraperKitWarning, match=r"1 months stay as they are.*993\.924/0001-00 2024-11; call d"):
            samples = loaded()
        assert reader.prices(FUND)[FUND].tolist() == [7.0]
        assert sources(reader) == {FUND: "cvm_pages", OTHER: "open_data"}
        kept = market.quotes(OTHER)
        pd.testing.assert_frame_equal(reader.quotes(OTHER), kept)
        assert samples == int(kept[list(METRICS)].count().sum())

    def test_a_file_confirmed_later_replaces_the_fetch(self, loaded, market, reader, scrape):
        scrape()
        assert market.download("2024-11", "2024-11")["outcome"].tolist() == ["unchanged"]
        loaded(FUND)
        pd.testing.assert_frame_equal(reader.quotes(FUND), market.quotes(FUND))

    @pytest.mark.parametrize("fault", ["away", "missing"])
    def test_an_unconfirmed_file_does_not_replace_the_fetch(self, site, loaded, market, reader, scrape, fault):
        scrape()
        if fault == "away":
            site.open_data_up = False
        else:
            site.portal.remove("2024-11")
        market.download("2024-11", "2024-11")
        with pytest.warns(ScraperKitWarning, match="stay as they are"):
            loaded(FUND)
        assert reader.prices(FUND)[FUND].tolist() == [7.0]

    def test_a_fetch_after_the_load_replaces_it(self, loaded, reader, scrape):
        loaded(FUND)
        scrape()
        assert reader.prices(FUND)[FUND].tolist() == [7.0]

    def test_loading_twice_writes_twice(self, loaded):
        assert loaded() == loaded() > 0

    def test_a_month_stored_between_check_and_write_is_not_overwritten(self, loaded, reader, scrape, monkeypatch):
        look, came = MonthWriter._newer, []

        def slow(self, *given):
            found = look(self, *given)
            if not came:
                came.append(True)
                scrape()
            return found

        monkeypatch.setattr(MonthWriter, "_newer", slow)
        with pytest.warns(ScraperKitWarning, match="stay as they are"):
            loaded(FUND)
        assert reader.prices(FUND)[FUND].tolist() == [7.0]
        assert sources(reader) == {FUND: "cvm_pages"}


class TestASubclassAlone:
    def test_is_loaded_without_a_record_of_the_month(self, market, reader, redis, namespace):
        market.download("2024-10", "2024-10")
        rows = market.market("2024-10")
        name = (rows["cnpj"] + ":" + rows["subclass"])[rows["subclass"] != ""].iloc[0]
        market.load(redis, name, namespace=namespace)
        assert reader.funds().index.tolist() == [name]
        assert reader.months().empty


class TestTheClock:
    ENTRY = Entry(FILE, "", confirmed_at="2026-01-01T00:00:00+00:00")
    AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()

    def test_of_this_machine_is_corrected_to_that_of_redis(self):
        assert fetched_at(self.ENTRY, self.AT + 3_600, self.AT + 60) == self.AT + 3_540

    def test_that_was_set_back_yields_no_future_token(self):
        assert fetched_at(self.ENTRY, self.AT - 10, self.AT - 10) == self.AT - 10

    def test_measured_with_noise_yields_the_same_token(self):
        tokens = {fetched_at(self.ENTRY, self.AT + 60 + noise, self.AT + 60) for noise in (-0.2, 0.0, 0.3)}
        assert tokens == {self.AT}

    def test_of_a_file_without_an_entry_is_older_than_any_fetch(self, market, redis, namespace, loaded, reader, scrape):
        (market.archive / "ledger" / f"{FILE}.json").unlink()
        loaded(FUND)
        scrape()
        with pytest.warns(ScraperKitWarning, match="stay as they are"):
            loaded(FUND)

    def test_of_the_ledger_shows_the_last_confirmation_by_the_portal(self, market):
        market.download("2024-11", "2024-11")
        path = market.archive / "ledger" / f"{FILE}.json"
        first = json.loads(path.read_text())
        market.download("2024-11", "2024-11")
        again = json.loads(path.read_text())
        assert first["fetched_at"] == again["fetched_at"] == first["confirmed_at"] < again["confirmed_at"]
        assert str(market.archive_info()["confirmed_at"].dtype) == "datetime64[us, UTC]"


def test_a_user_without_transactions_is_refused_before_anything_is_written(market, redis, redis_url, namespace, reader):
    rights = {"passwords": ["+word"], "keys": ["*"], "categories": ["+@all"], "commands": ["-watch"]}
    redis.acl_setuser(namespace, enabled=True, **rights)
    market.download("2024-11", "2024-11")
    host, port = redis.connection_pool.connection_kwargs["host"], redis.connection_pool.connection_kwargs["port"]
    try:
        with sk.connect(f"redis://{namespace}:word@{host}:{port}") as other, pytest.raises(StoreError, match="NOPERM"):
            market.load(other, FUND, namespace=namespace)
    finally:
        redis.acl_deluser(namespace)
    assert redis.hget(Keys(namespace).months(FUND), "2024-11") is None


class TestNews:
    def test_each_chunk_is_one_message_about_the_written_months_only(self, redis, namespace, loaded, scrape):
        heard: list[list[sk.Stored]] = []
        with sk.on_stored(redis, heard.append, namespace=namespace):
            loaded()
            assert wait_until(lambda: heard)
        (message,) = heard
        assert {(stored.cnpj, stored.month, stored.changed) for stored in message} == {
            (FUND, "2024-11", None),
            (OTHER, "2024-11", None),
        }
        assert [stored.days for stored in message] == [len(TimeSeriesReader(redis, namespace).prices(FUND))] * 2

    def test_a_month_kept_by_a_newer_fetch_is_not_announced(self, redis, namespace, loaded, scrape):
        loaded()
        scrape()
        heard: list[sk.Stored] = []
        with sk.on_stored(redis, heard.extend, namespace=namespace):
            with pytest.warns(ScraperKitWarning, match="newer"):
                loaded()
            assert wait_until(lambda: heard)
        assert {stored.cnpj for stored in heard} == {OTHER}
