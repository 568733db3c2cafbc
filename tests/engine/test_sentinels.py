"""Redis behind sentinels: every client finds the primary, also after a failover."""

from __future__ import annotations

import datetime as dt
import subprocess
import warnings

import pytest
from chaos.processes import COMMAND, WORK, Child, environment
from support.fakes import FUND, SteadySite, months
from support.sentinels import client, guarded_redis
from support.waiting import wait_until

from scraperkit.connection import address_of, async_client, connect
from scraperkit.errors import ConfigError, RedisUnreachable
from scraperkit.models import DailyQuote
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

NAMESPACE = "guarded"


@pytest.fixture
def guarded(tmp_path):
    with guarded_redis(tmp_path) as service:
        yield service


def test_a_client_connects_to_the_sentinels_primary_and_shows_no_password(guarded):
    with connect(guarded.url) as redis:
        assert redis.info("server")["tcp_port"] == guarded.primary
        assert address_of(redis).startswith("prices (sentinels 127.0.0.1:")


@pytest.mark.parametrize("delivery", ["stream", "pubsub"])
def test_work_continues_after_the_primary_is_killed_under_load(guarded, delivery):
    site = SteadySite()
    with connect(guarded.url) as redis:
        publisher = Publisher(redis, namespace=NAMESPACE, delivery=delivery)
        with Subscriber(redis, site, threads=2, namespace=NAMESPACE, delivery=delivery) as worker:
            first = publisher.publish(months(24))
            assert site.inside.acquire(timeout=60)
            with client(guarded.primary) as server:
                server.set("fence", 1)
                server.execute_command("WAIT", 1, 0)  # the replica has all published messages
            before = guarded.primary
            guarded.kill(before)
            guarded.wait_for_another(before)
            site.gate.set()
            if delivery == "stream":
                assert first.wait(120).done == 24, first.failures()["error"].tolist()
            else:  # a message published before the workers resubscribe is lost
                with warnings.catch_warnings(action="ignore"):
                    assert wait_until(lambda: publisher.publish(months(1, year=2022), force=True).wait(60).done == 1)
            again = publisher.publish(months(3, year=2023))
            assert again.wait(120).done == 3
            assert wait_until(lambda: worker.health().alive), "its heart beats again"
        prices = TimeSeriesReader(redis, NAMESPACE).prices()[FUND.cnpj]
        assert set(prices.index.year) >= {2023}
        if delivery == "stream":
            assert len(prices) == 27, "the prices of every job that counts as done are there"


def test_the_old_primary_returns_as_a_replica_and_gets_no_writes(guarded):
    with connect(guarded.url) as redis:
        store, reader = SeriesStore(redis, NAMESPACE), TimeSeriesReader(redis, NAMESPACE)
        store.write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 3), quota=1.0)])
        with client(guarded.primary) as server:
            server.set("fence", 1)
            server.execute_command("WAIT", 1, 0)
        before = guarded.primary
        guarded.kill(before)
        after = guarded.wait_for_another(before)
        guarded.start_again(before)
        with client(before) as old:
            assert wait_until(lambda: old.execute_command("ROLE")[0] == "slave", 180), guarded.told()
        store.write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 4), quota=2.0)])
        assert reader.prices()[FUND.cnpj].tolist() == [1.0, 2.0]
        assert redis.info("server")["tcp_port"] == after


def test_sentinels_that_are_gone_are_skipped(guarded):
    hosts = guarded.url.replace("redis+sentinel://", "redis+sentinel://127.0.0.1:1,")
    with connect(hosts) as redis:
        assert redis.ping()


def test_commands_accept_a_sentinel_address(guarded, tmp_path):
    def run(*words: str) -> str:
        given = environment(guarded.url, NAMESPACE)
        return subprocess.run([COMMAND, *words], env=given, capture_output=True, text=True, timeout=120).stdout

    with (
        Replica.start() as site,
        Child((*WORK, "--url", site.url), environment(guarded.url, NAMESPACE), tmp_path / "log"),
    ):
        words = [FUND.cnpj, "--from", "2022-01", "--to", "2022-02", "--url", site.url]
        assert "2 published, 2 done" in run("publish", *words, "--wait")
        assert "2022-02-25" in run("prices", FUND.cnpj, "--start", "2022-01-01", "--end", "2022-02-28")
        assert "is alive: 8 threads" in run("health")
        assert "with TimeSeries (REDIS_URL)" in run("doctor")


def test_an_asyncio_client_finds_the_primary(guarded):
    import asyncio

    async def port():
        async with async_client(redis) as other:
            return (await other.info("server"))["tcp_port"]

    with connect(guarded.url) as redis:
        assert asyncio.run(port()) == guarded.primary


def test_a_service_that_no_sentinel_knows_is_reported(guarded):
    with pytest.raises(RedisUnreachable, match="no sentinel knows the primary: .* it knows no service 'other'"):
        connect(guarded.url.replace("/prices", "/other"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://:secret@/prices", "REDIS_URL|url: not the hosts of sentinels"),
        ("redis+sentinel://:secret@a:26379,b:x/prices", "not the hosts of sentinels"),
        ("redis+sentinel://:secret@a:26379", "no name of a service"),
        ("redis+sentinel://:secret@a:26379/prices/0", "no name of a service"),
        ("redis+sentinel://:secret@a:26379/prices?sid=1", "unsupported option"),
    ],
)
def test_an_invalid_address_is_refused_without_showing_its_password(url, message):
    with pytest.raises(ConfigError, match=message) as refused:
        connect(url)
    assert "secret" not in str(refused.value)
