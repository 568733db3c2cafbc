"""A fetched month replaces the stored one: restated and withdrawn figures, older fetches, refused samples."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import threading
from dataclasses import replace

import pandas as pd
import pytest
from support.fakes import FUND, FakeSite, months
from support.servers import redis_server

from scraperkit.config import Settings
from scraperkit.connection import async_client, connect, sibling
from scraperkit.engine import registry
from scraperkit.keys import Keys
from scraperkit.lua import scripts
from scraperkit.models import METRICS, DailyQuote, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.commands import SERIES_OPTIONS, month_words
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

JANUARY = months(1)
ONE_ATTEMPT = Settings.load(max_attempts=1)
JANUARY_BOUNDS = (1_609_459_200_000, 1_612_137_599_999)


def three_days(request: ScrapeRequest) -> list[DailyQuote]:
    return [
        DailyQuote(request.document, request.first_day.replace(day=day), 1.5 + day, 1e6 + day, day, 0.0, 0.25, 1e7)
        for day in (3, 4, 5)
    ]


@pytest.fixture
def reader(redis, namespace):
    return TimeSeriesReader(redis, namespace)


@pytest.fixture
def scrape(redis, namespace, publisher):
    """Scrape January again from a source with this response; return the event."""

    def scrape(response, requests=JANUARY) -> pd.Series:
        with Subscriber(redis, FakeSite(response), threads=1, namespace=namespace):
            batch = publisher.publish(requests, force=True)
            assert batch.wait(60).done == len(requests), batch.failures()["error"].tolist()
        return batch.events().iloc[-1]

    return scrape


class TestARestatedMonth:
    def test_shows_its_newer_figures_and_logs_the_older(self, scrape, reader):
        scrape(three_days)
        event = scrape(lambda request: [replace(three_days(request)[0], quota=9.75), *three_days(request)[1:]])
        assert (event["changed"], event["withdrawn"]) == (1, 0)
        assert reader.prices(FUND)[FUND.cnpj].tolist() == [9.75, 5.5, 6.5]
        (change,) = reader.changes(FUND).to_dict("records")
        assert change.pop("changed_at") >= event["fetched_at"].floor("ms")
        assert change == {
            "cnpj": FUND.cnpj,
            "subclass": "",
            "date": pd.Timestamp("2021-01-03"),
            "metric": "quota",
            "old": 4.5,
            "new": 9.75,
            "source": "fake_site",
        }

    def test_withdraws_all_metrics_of_a_day_that_has_disappeared(self, scrape, reader):
        scrape(three_days)
        event = scrape(lambda request: three_days(request)[:2])
        assert (event["changed"], event["withdrawn"]) == (0, 6)
        assert reader.quotes(FUND)["date"].dt.day.tolist() == [3, 4]
        changes = reader.changes(FUND)
        assert set(changes["metric"]) == set(METRICS)
        assert (changes["date"] == "2021-01-05").all()
        assert changes["new"].isna().all()

    def test_withdraws_a_figure_whose_cell_is_now_empty(self, scrape, reader):
        scrape(three_days)
        scrape(lambda request: [replace(quote, holders=None) for quote in three_days(request)])
        quotes = reader.quotes(FUND)
        assert quotes["holders"].isna().all()
        assert quotes["quota"].tolist() == [4.5, 5.5, 6.5]

    def test_overwrites_figures_that_another_program_wrote(self, redis, namespace, scrape, reader):
        scrape(three_days)
        SeriesStore(redis, namespace).write([DailyQuote(FUND.cnpj, dt.date(2021, 1, 3), quota=7.0)])
        assert scrape(three_days)["changed"] == 1
        assert reader.prices(FUND)[FUND.cnpj].tolist() == [4.5, 5.5, 6.5]

    def test_does_not_change_neighbouring_months(self, scrape, reader):
        scrape(three_days, months(3))
        scrape(lambda _: [], months(3)[1:2])
        assert reader.quotes(FUND)["date"].dt.month.unique().tolist() == [1, 3]

    def test_without_changes_writes_no_sample(self, redis, scrape, reader):
        scrape(three_days)
        before = reader.months(FUND)
        written = []
        with sibling(redis).monitor() as monitor:
            listening = threading.Thread(target=lambda: written.extend(commands_until(monitor, "the end")))
            listening.start()
            event = scrape(three_days)
            redis.echo("the end")
            listening.join()
        assert (event["changed"], event["withdrawn"]) == (0, 0)
        assert "replace_months" not in written, "script names are not sent; this shows that the monitor works"
        assert "HSET" in written
        assert not {"TS.ADD", "TS.MADD", "TS.DEL", "TS.CREATE"} & set(written)
        assert (reader.months(FUND)["fetched_at"] > before["fetched_at"]).all()
        assert reader.changes(FUND).empty

    def test_logs_figures_exactly(self, scrape, reader):
        values = [0.1 + 0.2, 1e-300, 123456789.12345679]
        for value in values:
            scrape(lambda request, value=value: [DailyQuote(request.document, request.first_day, quota=value)])
        changes = reader.changes(FUND)
        assert changes["old"].tolist() == values[:2]
        assert changes["new"].tolist() == values[1:]

    def test_counts_its_changes_even_if_the_reply_is_lost(self, subscriber, proxy, publisher, reader, monkeypatch):
        # Each reading of the clock differs, yet a repeated request must count as the same fetch.
        drift = itertools.count()
        monkeypatch.setattr(registry.RedisClock, "at", lambda _, local: local + next(drift))
        responses = iter([three_days, lambda request: three_days(request)[:2]])
        subscriber(FakeSite(lambda request: next(responses)(request)))
        publisher.publish(JANUARY, force=True).wait(60)
        fault = proxy.lose_reply("replace_months")
        batch = publisher.publish(JANUARY, force=True)
        assert batch.wait(60).done == 1
        assert fault.struck()
        assert batch.events()["withdrawn"].tolist() == [6]
        assert len(reader.changes(FUND)) == 6


class TestAMonthOfManySubclasses:
    """Lua unpacks at most 8,000 values at once: about twenty subclasses of a month."""

    @pytest.mark.parametrize("whole", [False, True])
    def test_is_stored_restated_and_withdrawn_like_any_other(self, redis, namespace, publisher, reader, whole):
        quota, count = 1.0, 60

        def many(request: ScrapeRequest) -> list[DailyQuote]:
            return [
                DailyQuote(FUND.cnpj, request.first_day.replace(day=day), quota, 2.0, 3, 0.0, 0.25, 4.0, f"S{number}")
                for number in range(count)
                for day in range(1, 24)
            ]

        site = FakeSite(many)
        site.has_subclasses = whole
        with Subscriber(redis, site, threads=2, namespace=namespace, settings=ONE_ATTEMPT):
            assert publisher.publish(months(3)).wait(60).done == 3
            names = [f"{FUND.cnpj}:S{number}" for number in range(60)]
            assert len(reader.quotes(names)) == 3 * 60 * 23
            quota, count = 1.5, 59
            again = publisher.publish(JANUARY, force=True)
            assert again.wait(60).done == 1
        withdrawn = 23 * len(METRICS) if whole else 0
        assert again.events()[["changed", "withdrawn"]].values.tolist() == [[59 * 23, withdrawn]]
        (known,) = redis.xrange(Keys(namespace).changes(FUND.cnpj))
        assert len(json.loads(known[1]["changes"])) == 59 * 23 + withdrawn

    def test_names_a_refused_sample_beyond_the_first_portion(self, redis, namespace, keys, publisher):
        def many(request: ScrapeRequest) -> list[DailyQuote]:
            days = [request.first_day.replace(day=day) for day in range(1, 24)]
            return [DailyQuote(FUND.cnpj, day, 1.0, subclass=f"S{number:03d}") for number in range(200) for day in days]

        refused = keys.series(f"{FUND.cnpj}:S150", "quota")
        redis.set(refused, "another thing")
        with Subscriber(redis, FakeSite(many), threads=1, namespace=namespace, settings=ONE_ATTEMPT):
            batch = publisher.publish(JANUARY)
            assert batch.wait(60).failed == 1
        assert batch.failures()["error"].iloc[0].startswith(f"StoreError: Redis refused {refused} on 2021-01-01: ")


def commands_until(monitor, end: str) -> list[str]:
    found = []
    for line in monitor.listen():
        if end in line["command"]:
            return found
        found.append(line["command"].split()[0].upper())
    return found


class TestTheNewestFetchWins:
    @pytest.mark.parametrize("claim", [True, False], ids=["one worker a message", "every worker"])
    def test_over_a_fetch_that_began_earlier_and_ends_later(self, redis, namespace, reader, claim):
        slow, gate = threading.Event(), threading.Event()

        def new_page(request):
            return [replace(quote, quota=99.0) for quote in three_days(request)]

        def old_page(request):
            if slow.is_set():
                return new_page(request)
            slow.set()
            assert gate.wait(60)
            return three_days(request)

        channel = Publisher(redis, namespace=namespace, delivery="pubsub")
        with Subscriber(redis, FakeSite(old_page), threads=1, namespace=namespace, claim=claim):
            old = channel.publish(JANUARY, force=True)
            assert slow.wait(60)
            with Subscriber(redis, FakeSite(new_page), threads=1, namespace=namespace, claim=claim):
                channel.publish(JANUARY, force=True).wait(60)
                assert reader.prices(FUND)[FUND.cnpj].tolist() == [99.0] * 3
                gate.set()
                old.wait(60)
        assert reader.prices(FUND)[FUND.cnpj].tolist() == [99.0] * 3
        assert reader.changes(FUND).empty

    def test_even_if_one_call_stores_both(self, redis, keys):
        """Two batches may request the same month, and settle together."""

        def fetched(token: str, quota: float) -> scripts.MonthFetched:
            words = month_words(keys, [DailyQuote(FUND.cnpj, dt.date(2021, 1, 3), quota=quota)])
            return scripts.MonthFetched("2021-01", *JANUARY_BOUNDS, token, words)

        both = [fetched("5.000000", 5.5), fetched("4.000000", 4.5)]
        fund = scripts.FundFetched(FUND.cnpj, FUND.pk, False, {FUND.cnpj: None}, both)

        async def replace() -> list:
            async with async_client(redis) as client:
                return await scripts.replace_months(
                    client, keys, [fund], source="pages", is_whole=False, metrics=METRICS, options=SERIES_OPTIONS
                )

        assert asyncio.run(replace()) == [[scripts.MonthStored(), scripts.MonthStored(is_kept=True)]]
        assert redis.execute_command("TS.GET", keys.series(FUND.cnpj, "quota"))[1] == 5.5
        assert not redis.exists(keys.changes(FUND.cnpj))

    def test_by_the_clock_of_redis_not_of_the_machine(self, redis, namespace, publisher, reader, monkeypatch):
        """A worker whose clock is an hour fast does not block others from the month."""
        from scraperkit.engine import thread_pool

        with monkeypatch.context() as fast:
            fast.setattr(thread_pool.time, "time", lambda now=thread_pool.time.time: now() + 3600)
            with Subscriber(redis, FakeSite(three_days), threads=1, namespace=namespace):
                publisher.publish(JANUARY, force=True).wait(60)
        with Subscriber(redis, FakeSite(lambda _: []), threads=1, namespace=namespace):
            publisher.publish(JANUARY, force=True).wait(60)
        assert reader.quotes(FUND).empty


class TestTheReaderReports:
    def test_which_source_wrote_a_month_last(self, redis, namespace, publisher, reader):
        class Pages(FakeSite):
            name = "pages"

        with Subscriber(redis, [FakeSite(three_days), Pages(three_days)], threads=1, namespace=namespace):
            publisher.publish(months(2)).wait(60)
            publisher.publish(replace(FUND, source="pages").months("2021-01", "2021-01")).wait(60)
        table = reader.months(FUND)
        assert table[["cnpj", "month", "source"]].values.tolist() == [
            [FUND.cnpj, "2021-01", "pages"],
            [FUND.cnpj, "2021-02", "fake_site"],
        ]
        assert (table["stored_at"] >= table["fetched_at"].dt.floor("s")).all()

    def test_months_that_an_earlier_version_stored(self, redis, keys, scrape, reader):
        scrape(three_days)
        redis.hset(keys.months(FUND.cnpj), "2020-12", "1609459200")
        assert reader.months()["source"].tolist() == ["", "fake_site"]
        assert reader.months()["stored_at"].iloc[0] == pd.Timestamp("2021-01-01", tz="UTC")

    def test_an_invalid_record_as_unknown_and_its_month_is_fetched_again(self, redis, namespace, keys, scrape, reader):
        redis.hset(keys.months(FUND.cnpj), "2021-01", "1e3 abc s d e f")
        scrape(three_days)
        redis.hset(keys.months(FUND.cnpj), "2021-02", "1e3 abc s d e f")
        assert reader.months()["stored_at"].isna().tolist() == [False, True]
        assert scrape(three_days, months(2)[1:])["outcome"] == "done"
        for time in ("inf", "1e400", "0x7f", "9" * 18):
            redis.hset(keys.months(FUND.cnpj), "2021-02", f"1700000000 {time} pages d 0 0")
            assert reader.months()["fetched_at"].isna().tolist() == [False, True]
            assert scrape(three_days, months(2)[1:])["outcome"] == "done"
            assert reader.months()["source"].tolist() == ["fake_site"] * 2, "the record blocks no later fetch"
        redis.hset(keys.months(FUND.cnpj), "2021-02", "yesterday")
        missing = Publisher(redis, namespace=namespace).publish(months(2), only_missing=True)
        assert missing.jobs()["month"].tolist() == ["02/2021"]

    def test_no_months_or_changes_of_a_fund_without_any(self, redis, namespace, reader):
        SeriesStore(redis, namespace).write([DailyQuote(FUND.cnpj, dt.date(2021, 1, 3), quota=7.0)])
        for table in (reader.months(), reader.changes(FUND)):
            assert table.empty
        assert str(reader.months().dtypes["fetched_at"]) == "datetime64[us, UTC]"
        assert str(reader.changes().dtypes["old"]) == "float64"


def test_a_source_name_has_only_letters_digits_hyphens_and_underscores(redis, namespace):
    class Odd(FakeSite):
        name = "a source"

    with pytest.raises(Exception, match=r"source\.name: 'a source' is not a valid name"):
        Subscriber(redis, Odd(), namespace=namespace)


class TestASampleThatIsRefusedOrDropped:
    @pytest.fixture
    def failing(self, redis, namespace, publisher, keys):
        """Change the quota's series once it exists, then scrape; return why the first job failed."""

        def failing(*change: object, requests=JANUARY) -> str:
            settings = Settings.load(max_attempts=1, namespace=namespace)
            with Subscriber(redis, FakeSite(three_days), threads=1, settings=settings):
                publisher.publish(months(1, year=2022), force=True).wait(60)
                redis.execute_command("TS.ALTER", keys.series(FUND.cnpj, "quota"), *change)
                batch = publisher.publish(requests, force=True)
                assert batch.wait(60).failed == len(requests)
            return batch.failures()["error"].iloc[0]

        return failing

    def test_because_its_series_has_a_retention_fails_its_job(self, keys, failing, reader):
        series = keys.series(FUND.cnpj, "quota")
        assert failing("RETENTION", 86_400_000).startswith(f"StoreError: Redis refused {series} on 2021-01-03: ")
        assert reader.months(FUND)["month"].tolist() == ["2022-01"]

    def test_because_its_series_ignores_small_changes_fails_its_job(self, keys, failing):
        series = keys.series(FUND.cnpj, "quota")
        error = failing("IGNORE", 30 * 86_400_000, 5.0, requests=months(1, year=2023))
        assert error == f"StoreError: Redis refused {series} on 2023-01-04: it was dropped"

    @pytest.mark.parametrize("change", [("RETENTION", 86_400_000), ("IGNORE", 30 * 86_400_000, 5.0)])
    def test_by_a_series_with_other_options_is_stored_after_a_worker_alters_it(
        self, redis, keys, scrape, reader, change
    ):
        labels = ("LABELS", "kit", keys.namespace, "metric", "quota", "cnpj", FUND.cnpj)
        redis.execute_command("TS.CREATE", keys.series(FUND.cnpj, "quota"), *change, *labels)
        scrape(three_days, months(24))
        assert len(reader.prices(FUND)) == 72

    @pytest.mark.parametrize("what", ["quota", "months"])
    def test_because_a_key_has_the_wrong_type_fails_only_its_job(self, redis, namespace, keys, publisher, what, scrape):
        redis.set(keys.series(FUND.cnpj, "quota") if what == "quota" else keys.months(FUND.cnpj), "another thing")
        settings = Settings.load(max_attempts=1, namespace=namespace)
        with Subscriber(redis, FakeSite(three_days), threads=1, settings=settings):
            batch = publisher.publish(months(3))
            assert batch.wait(60).failed == 3
            assert batch.failures()["error"].str.startswith("StoreError: Redis refused").all()
        other = [ScrapeRequest(document="00000000000191", fund_pk="1", month_year="01/2021")]
        assert scrape(three_days, other)["outcome"] == "done"

    def test_because_its_changes_cannot_be_logged_fails_its_job_and_is_logged_later(
        self, redis, namespace, keys, publisher, scrape, reader
    ):
        scrape(three_days)
        log = keys.changes(FUND.cnpj)
        redis.set(log, "another thing")

        def restated(request):
            return [replace(quote, quota=9.5) for quote in three_days(request)][:2]

        with Subscriber(redis, FakeSite(restated), threads=1, namespace=namespace, settings=ONE_ATTEMPT):
            batch = publisher.publish(JANUARY, force=True)
            assert batch.wait(60).failed == 1
        assert batch.failures()["error"].iloc[0].startswith(f"StoreError: Redis refused {log} on 2021-01-01: WRONGTYPE")
        assert reader.prices(FUND)[FUND.cnpj].tolist() == [4.5, 5.5, 6.5]
        redis.delete(log)
        event = scrape(restated)
        assert (event["changed"], event["withdrawn"], len(reader.changes(FUND))) == (2, 6, 8)

    @pytest.mark.filterwarnings("ignore:Redis deletes old samples of 1 series")
    def test_leaves_a_log_of_the_changes_before_it(self, redis, namespace, keys, publisher, reader):
        """The newer days are written, the oldest is refused: the log has what readers now see."""
        quota = 0.5
        site = FakeSite(lambda request: [replace(quote, quota=quota) for quote in three_days(request)])
        with Subscriber(redis, site, threads=1, settings=Settings.load(max_attempts=1, namespace=namespace)):
            publisher.publish(JANUARY, force=True).wait(60)
            redis.execute_command("TS.ALTER", keys.series(FUND.cnpj, "quota"), "RETENTION", 86_400_000)
            quota = 7.5
            assert publisher.publish(JANUARY, force=True).wait(60).failed == 1
        assert dict(reader.prices(FUND)[FUND.cnpj].dropna()) == dict(reader.changes(FUND).set_index("date")["new"])
        assert reader.changes(FUND)["new"].tolist() == [7.5, 7.5]


def test_no_server_default_for_new_series_loses_a_figure(tmp_path):
    """Every policy that a server can apply to new series: retention, duplicates, small changes, compactions."""
    policy = ("RETENTION_POLICY", "1000", "DUPLICATE_POLICY", "BLOCK", "CHUNK_SIZE_BYTES", "128")
    policy += ("IGNORE_MAX_TIME_DIFF", "999999999999", "IGNORE_MAX_VAL_DIFF", "999")
    policy += ("COMPACTION_POLICY", "avg:1h:1d", "ENCODING", "uncompressed")
    with (
        redis_server(tmp_path, "--port", "0", policy=policy),
        connect(f"unix://{tmp_path}/ready.sock") as redis,
        Subscriber(redis, FakeSite(three_days), threads=2, namespace="strict"),
    ):
        requests = FUND.months("2019-01", "2022-12")
        publisher, reader = Publisher(redis, namespace="strict"), TimeSeriesReader(redis, "strict")
        assert publisher.publish(requests).wait(60).done == 48
        assert len(reader.quotes()) == 48 * 3
        SeriesStore(redis, "strict").write([replace(one, cnpj="00000000000191") for one in three_days(requests[0])])
        assert len(reader.quotes("00000000000191")) == 3
        assert reader.funds()["days"].tolist() == [3, 48 * 3]
        assert len(redis.execute_command("TS.QUERYINDEX", "kit=strict")) == 12, "no series but those of the kit"
