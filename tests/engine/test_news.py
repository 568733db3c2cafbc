"""News of stored months: publishers, listeners, lost connections and missing rights."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading

import pandas as pd
import pytest
import redis as redis_py
from chaos.processes import HANDS
from support.fakes import FUND, FakeSite, months, one_quote
from support.servers import connections
from support.waiting import wait_until
from support.workers import subscriber

from scraperkit.connection import connect
from scraperkit.errors import PageChanged, RedisRefused, RedisUnreachable
from scraperkit.models import DailyQuote, Stored
from scraperkit.timeseries.news import on_stored
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

SERIES = "99101035000184:B8MNP1726012800"


class Ear(list):
    """Keeps each message, and when it came, with what the reader saw just then."""

    def series(self) -> set[str]:
        return {stored.series for message in self for stored in message}

    def flat(self) -> list[Stored]:
        return [stored for message in self for stored in message]


@pytest.fixture
def ear(redis, namespace):
    heard = Ear()
    with on_stored(redis, heard.append, namespace=namespace):
        yield heard


@pytest.fixture
def collect(redis, namespace, publisher):
    """Collect months from a source, once more if they are stored."""

    def collect(response, requests) -> None:
        with subscriber(redis, namespace, FakeSite(response)):
            assert publisher.publish(requests, force=True).wait(60).pending == 0

    return collect


def two_series(request):
    first = request.first_day
    return [
        DailyQuote(request.document, first, 1.0),
        *(DailyQuote(request.document, first + dt.timedelta(days=day), 2.0, subclass="A1") for day in range(3)),
    ]


class TestAWorker:
    def test_announces_each_month_of_each_series(self, ear, collect):
        collect(two_series, months(2))
        assert wait_until(lambda: len(ear.flat()) >= 4)
        assert sorted(ear.flat()) == [
            Stored(FUND.cnpj, "", "2021-01", 1, 0),
            Stored(FUND.cnpj, "", "2021-02", 1, 0),
            Stored(FUND.cnpj, "A1", "2021-01", 3, 0),
            Stored(FUND.cnpj, "A1", "2021-02", 3, 0),
        ]

    def test_counts_restated_and_withdrawn_figures(self, ear, collect):
        collect(one_quote, months(1))
        collect(lambda request: [DailyQuote(request.document, request.first_day, quota=7.0)], months(1))
        collect(lambda request: [], months(1))
        assert wait_until(lambda: len(ear) >= 3)
        # The second has another quota, and lacks five of six figures; the third lacks that one, too.
        assert [(stored.days, stored.changed) for stored in ear.flat()] == [(1, 0), (1, 6), (0, 1)]

    def test_announces_no_month_that_changed_nothing(self, ear, collect, redis, keys):
        def fail(request):
            raise PageChanged("no such page")

        collect(one_quote, months(1))
        collect(one_quote, months(1))  # the same again
        collect(lambda request: [], months(1, year=2020))
        collect(fail, months(1, year=2019))
        redis.publish(keys.stored, "[]")
        assert wait_until(lambda: ear[-1:] == [[]])
        assert ear == [[Stored(FUND.cnpj, "", "2021-01", 1, 0)], []]

    @pytest.mark.parametrize("words", [(), ("--name", "anna")], ids=["another", "its next life"])
    def test_announces_a_month_that_a_dead_worker_had_stored(self, ear, publisher, process, proxy, tmp_path, words):
        dying = process(HANDS, str(tmp_path), *words, url=proxy.url).ready()
        fault = proxy.before("commit", dying.kill)
        batch = publisher.publish(months(1))
        assert fault.struck()
        process(HANDS, str(tmp_path), *words).ready()
        assert batch.wait(60).done == 1
        assert wait_until(lambda: ear.flat() == [Stored(FUND.cnpj, "", "2021-01", 1, 0)])

    def test_sends_one_message_per_commit(self, ear, redis, namespace, publisher):
        batch = publisher.publish(months(60))
        with subscriber(redis, namespace, FakeSite()):
            assert batch.wait(60).done == 60
        assert wait_until(lambda: len(ear.flat()) == 60)
        assert len(ear) < 30

    def test_announces_only_months_that_can_be_read(self, redis, namespace, collect):
        reader = TimeSeriesReader(redis, namespace)
        seen = []

        def look(told):
            seen.extend(len(reader.prices(each.series, each.month, each.month)) == each.days for each in told)

        with on_stored(redis, look, namespace=namespace):
            collect(two_series, months(6))
            assert wait_until(lambda: len(seen) == 12)
        assert all(seen)

    def test_without_the_right_to_publish_news_loses_nothing_else(
        self, redis, redis_url, namespace, publisher, ear, caplog
    ):
        """A user without the right: neither a commit nor a write fails, and the log says so once."""
        redis.execute_command("ACL", "SETUSER", "mute", "on", ">secret", "~*", "resetchannels", "&*parser", "+@all")
        try:
            host = redis_url.rpartition("@")[2]
            with connect(f"redis://mute:secret@{host}") as mute, caplog.at_level(logging.WARNING, "scraperkit"):
                with subscriber(mute, namespace, FakeSite(), threads=1):
                    for year in (2020, 2021):
                        assert publisher.publish(months(3, year=year)).wait(60).done == 3
                store = SeriesStore(mute, namespace)
                for value in (1.0, 2.0):
                    store.write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 3), value)])
                    store.write_frame(frame(3), replace=True)
                with pytest.raises(RedisRefused, match=f"{namespace}:stored|channel"):
                    on_stored(mute, ear.append, namespace=namespace)
        finally:
            redis.execute_command("ACL", "DELUSER", "mute")
        refused = [
            record.message for record in caplog.records if "cannot publish news of stored prices" in record.message
        ]
        assert len(refused) == 2, "one of the worker and one of the store"
        assert len(TimeSeriesReader(redis, namespace).prices(FUND.cnpj)) == 6 + 3
        assert ear == []


def frame(days: int, cnpj: str = FUND.cnpj, start: str = "2022-01-30") -> pd.DataFrame:
    return pd.DataFrame({"cnpj": cnpj, "date": pd.date_range(start, periods=days), "quota": 1.0, "holders": 3})


class TestTheStore:
    def test_announces_quotes(self, ear, redis, namespace):
        store = SeriesStore(redis, namespace)
        day = dt.date(2022, 1, 31)
        store.write([DailyQuote("18.993.924/0001-00", day, 1.0), DailyQuote(FUND.cnpj, day, 2.0)])
        store.write([DailyQuote(FUND.cnpj, day)])  # no figure
        store.write([DailyQuote(FUND.cnpj, dt.date(2022, 2, 1), 1.0, subclass="A1")])
        assert wait_until(lambda: f"{FUND.cnpj}:A1" in ear.series())
        assert set(ear.flat()) == {
            Stored(FUND.cnpj, "", "2022-01", 1, None),
            Stored(FUND.cnpj, "A1", "2022-02", 1, None),
        }

    @pytest.mark.parametrize("replace", [False, True])
    def test_announces_a_frame_by_chunk(self, ear, redis, namespace, replace):
        two = pd.concat([frame(40), frame(3, SERIES[:14]).assign(subclass=SERIES[15:])])
        two.loc[two["date"] == "2022-03-10", ["quota", "holders"]] = None
        SeriesStore(redis, namespace).write_frame(two.fillna({"subclass": ""}), replace=replace)
        assert wait_until(lambda: len(ear) == 1)
        assert sorted(ear.flat()) == [
            Stored(FUND.cnpj, "", "2022-01", 2, None),
            Stored(FUND.cnpj, "", "2022-02", 28, None),
            Stored(FUND.cnpj, "", "2022-03", 9, None),
            Stored(SERIES[:14], SERIES[15:], "2022-01", 2, None),
            Stored(SERIES[:14], SERIES[15:], "2022-02", 1, None),
        ]
        SeriesStore(redis, namespace).write_frame(frame(12_000, start="1990-01-01"))
        assert wait_until(lambda: sum(stored.days for stored in ear.flat()) == 42 + 12_000)
        assert len(ear) == 1 + 3

    def test_announces_months_that_a_frame_empties(self, ear, redis, namespace):
        empty = frame(1).assign(quota=float("nan"), holders=float("nan"))
        SeriesStore(redis, namespace).write_frame(empty)
        SeriesStore(redis, namespace).write_frame(empty, replace=True)
        assert wait_until(lambda: bool(ear))
        assert ear == [[Stored(FUND.cnpj, "", "2022-01", 0, None)]]

    def test_announces_new_series_once_they_can_be_read(self, redis, namespace):
        """At the first announcement, there was nothing to read yet."""
        reader, seen = TimeSeriesReader(redis, namespace), []
        with on_stored(redis, lambda told: seen.append(len(reader.prices(told[0].cnpj))), namespace=namespace):
            SeriesStore(redis, namespace).write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 31), 1.0)])
            assert wait_until(lambda: seen[-1:] == [1])


class TestAListener:
    def test_survives_errors_of_its_callback_and_invalid_messages(self, redis, namespace, keys, caplog):
        heard = []

        def stumble(told):
            heard.extend(told)
            raise ZeroDivisionError("of the callback")

        good = '{"cnpj":"18993924000100","subclass":"","month":"2021-01","days":3,"changed":null,"later":1}'
        bad = [
            b"\xff\xfe",
            *("", "\x1b[31m", "7", '{"cnpj":1}', "[7]", "[{}]", f"[{good.replace('01', '13', 1)[:40]}"),
            f"[{good.replace('3,', '-3,')}]",
            f"[{good.replace('2021-01', '2021-13')}]",
            f"[{good.replace('2021-01', '2021-01-01')}]",
            f"[{good.replace('null', 'true')}]",
        ]
        with on_stored(redis, stumble, namespace=namespace), caplog.at_level(logging.WARNING, "scraperkit"):
            for text in [f"[{good}]", *bad, f"[{good}]"]:
                redis.publish(keys.stored, text)
            assert wait_until(lambda: len(heard) == 2)
            assert wait_until(lambda: caplog.text.count("the callback of on_stored failed") == 2)
        ignored = [record.message for record in caplog.records if "ignored" in record.message]
        assert len(ignored) == len(bad)
        assert "\x1b" not in "".join(ignored)
        assert heard[0] == Stored(FUND.cnpj, "", "2021-01", 3, None)

    def test_leaves_no_connection_and_receives_nothing_once_closed(self, redis, namespace, keys):
        before, heard = connections(redis), []
        listener = on_stored(redis, heard.append, namespace=namespace)
        assert redis.pubsub_numsub(keys.stored)[0][1] == 1, "confirmed before it returns"
        assert listener.listening
        listener.close()
        listener.close()
        assert not listener.listening
        assert redis.publish(keys.stored, "[]") == 0
        assert wait_until(lambda: not connections(redis) - before)
        assert heard == []

    def test_may_be_closed_by_its_own_callback(self, redis, namespace, keys):
        heard, made = [], threading.Event()

        def once(told):
            made.wait(60)
            heard.append(told)
            listener.close()

        listener = on_stored(redis, once, namespace=namespace)
        redis.publish(keys.stored, "[]")
        redis.publish(keys.stored, "[]")
        made.set()
        assert wait_until(lambda: redis.pubsub_numsub(keys.stored)[0][1] == 0)
        assert heard == [[]]

    def test_receives_only_its_own_namespace(self, ear, redis, keys):
        redis.publish("another:stored", json.dumps([Stored(FUND.cnpj, "", "2021-01", 1, 0)._asdict()]))
        redis.publish(keys.stored, "[]")
        assert wait_until(lambda: bool(ear))
        assert ear == [[]]

    def test_raises_at_once_if_redis_is_unreachable(self):
        with pytest.raises(RedisUnreachable):
            on_stored(redis_py.Redis(port=1, protocol=3, decode_responses=True), print)

    @pytest.mark.parametrize("trouble", ["cut", "mute"])
    def test_waits_for_a_lost_redis_and_reports_the_gap(self, proxy, redis, namespace, keys, trouble):
        heard, gaps = [], []
        with connect(proxy.url) as client:
            client.connection_pool.connection_kwargs["socket_timeout"] = 0.5
            with on_stored(client, heard.append, on_gap=lambda: gaps.append(1), namespace=namespace):
                if trouble == "cut":
                    proxy.cut_all()
                else:
                    proxy.mute_all()
                assert wait_until(lambda: bool(gaps))
                redis.publish(keys.stored, "[]")
                assert wait_until(lambda: heard == [[]])

    def test_ends_in_time_while_redis_is_away(self, own_server, namespace):
        with connect(own_server.url) as redis:
            listener = on_stored(redis, print, namespace=namespace)
            own_server.kill()
            try:
                listener.close()
            finally:
                own_server.start()
