"""News of stored prices as server-sent events: their receivers, gaps and end."""

from __future__ import annotations

import asyncio
import datetime as dt
import json

import httpx
import pytest
from support.fakes import FakeSite, one_quote
from support.pricer import CNPJ, FORMATTED, pricer, served
from support.waiting import wait_until
from support.workers import subscriber

import scraperkit as sk
from scraperkit.api import batches, newsroom
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.models import DailyQuote, Fund
from scraperkit.timeseries.store import SeriesStore

PATH = "/v1/stored/events"
OTHER = "99101011000125"


def following(lines):
    """Return the next event and its data; skip comments."""
    event = next(line for line in lines if line.startswith("event: ")).removeprefix("event: ")
    return event, json.loads(next(lines).removeprefix("data: "))


def quote(cnpj: str, subclass: str = "") -> DailyQuote:
    return DailyQuote(cnpj, dt.date(2022, 1, 3), 1.0, subclass=subclass)


@pytest.fixture
def store(redis, namespace) -> SeriesStore:
    return SeriesStore(redis, namespace)


class TestWatching:
    def test_watchers_receive_what_workers_store(self, redis, redis_url, namespace, publisher):
        with pricer(redis_url, namespace) as api, api.stream("GET", PATH) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Cache-Control"] == "no-store"
            lines = response.iter_lines()
            assert following(lines) == ("listening", [])
            with subscriber(redis, namespace, FakeSite(one_quote)):
                publisher.publish(Fund(CNPJ, "132922").months("2022-01", "2022-01")).wait(60)
            told = [{"cnpj": CNPJ, "subclass": "", "month": "2022-01", "days": 1, "changed": 0}]
            assert following(lines) == ("stored", told)

    def test_one_listener_sends_each_watcher_its_own_funds(self, redis, redis_url, namespace, store, keys):
        wanted = {CNPJ: {"fund": FORMATTED}, f"{OTHER}:B2": {"fund": [f"{OTHER}:b2", f"{OTHER}:B3"]}}
        store.write([quote(CNPJ), quote(OTHER), quote(OTHER, "B2")])
        with pricer(redis_url, namespace) as api:
            with (
                api.stream("GET", PATH, params=wanted[CNPJ]) as one,
                api.stream("GET", PATH, params=wanted[f"{OTHER}:B2"]) as two,
            ):
                both = one.iter_lines(), two.iter_lines()
                assert [following(lines)[0] for lines in both] == ["listening"] * 2
                assert redis.pubsub_numsub(keys.stored)[0][1] == 1
                store.write([quote(OTHER)])
                store.write([quote(CNPJ), quote(OTHER), quote(OTHER, "B2")])
                found = [following(lines)[1] for lines in both]
            assert [[f"{each['cnpj']}:{each['subclass']}" for each in told] for told in found] == [
                [f"{CNPJ}:"],
                [f"{OTHER}:B2"],
            ]
            assert wait_until(lambda: redis.pubsub_numsub(keys.stored)[0][1] == 0), "nobody watches any more"

    def test_a_quiet_stream_is_kept_alive_by_comments(self, redis_url, namespace, monkeypatch):
        monkeypatch.setattr(batches, "HEARTBEAT", 0.01)
        with pricer(redis_url, namespace) as api, api.stream("GET", PATH) as response:
            assert any(line.startswith(":") for line in response.iter_lines())

    def test_an_invalid_fund_returns_422_and_too_many_watchers_503(self, redis_url, namespace, monkeypatch):
        with pricer(redis_url, namespace) as api:
            assert api.get(PATH, params={"fund": "7"}).status_code == 422
            assert api.get(PATH, params={"funds": CNPJ}).status_code == 422
            monkeypatch.setattr(batches, "WATCHERS", 0)
            response = api.get(PATH)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "10")

    def test_the_stream_ends_when_the_server_stops(self, redis, redis_url, namespace, keys):
        with served(redis_url, namespace) as (url, server), httpx.Client(base_url=url, timeout=60) as api:
            with api.stream("GET", PATH) as response:
                lines = response.iter_lines()
                assert following(lines) == ("listening", [])
                server.should_exit = True
                assert [line for line in lines if line] == []
        assert redis.pubsub_numsub(keys.stored)[0][1] == 0

    def test_the_stream_says_when_news_may_have_been_missed(self, tmp_path, namespace):
        with EmbeddedServer(tmp_path) as server, pricer(server.url, namespace) as api:
            with api.stream("GET", PATH) as response:
                lines = response.iter_lines()
                assert following(lines) == ("listening", [])
                server.kill()
                server.start()
                assert following(lines) == ("listening", [])
                with sk.connect(server.url) as redis:
                    SeriesStore(redis, namespace).write([quote(CNPJ)])
                assert following(lines)[0] == "stored"


class TestAWatcher:
    def test_a_watcher_that_lags_behind_gets_a_gap(self):
        watcher = newsroom.Watcher([])
        news = [sk.Stored(CNPJ, "", "2022-01", 1, 0)]
        for _ in range(newsroom.UNREAD):
            watcher.tell(news)
        watcher.tell(news)
        watcher.end()

        async def read() -> list:
            return [await watcher.next(1) for _ in range(3)]

        assert asyncio.run(read()) == [newsroom.GAP, news, None]
