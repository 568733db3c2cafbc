"""A failover behind one address: the old primary becomes a replica and keeps its connections open."""

from __future__ import annotations

import datetime as dt

import pytest
from chaos.proxy import Proxy
from support.fakes import FUND, FakeSite, months
from support.ports import unused_port
from support.servers import redis_server
from support.waiting import wait_until

from scraperkit.connection import connect
from scraperkit.engine.registry import live_workers
from scraperkit.errors import RedisRefused, ScraperKitWarning
from scraperkit.failover import roles
from scraperkit.models import DailyQuote
from scraperkit.notebook import monitor
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber
from scraperkit.timeseries.reader import TimeSeriesReader
from scraperkit.timeseries.store import SeriesStore

NAMESPACE = "failover"


@pytest.fixture
def pair(tmp_path):
    ports = [unused_port(), unused_port()]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    urls = [f"redis://127.0.0.1:{port}" for port in ports]
    with (
        redis_server(folders[0], "--port", str(ports[0])),
        redis_server(folders[1], "--port", str(ports[1]), "--replicaof", f"127.0.0.1 {ports[0]}"),
        connect(urls[0]) as first,
        connect(urls[1]) as second,
        Proxy(urls[0]) as proxy,
        connect(proxy.url) as client,
    ):
        assert wait_until(lambda: second.info("replication")["master_link_status"] == "up")

        def fail_over() -> None:
            first.set("fence", 1)  # WAIT covers its own connection's last write, and so all writes before it
            first.execute_command("WAIT", 1, 0)
            second.replicaof("NO", "ONE")
            # Its primary does not exist, so its figures grow stale; and it closes no connection.
            first.replicaof("127.0.0.1", "1")
            proxy.lead_to(urls[1])

        yield client, second, fail_over


@pytest.mark.parametrize("delivery", ["stream", "pubsub"])
def test_workers_and_publishers_continue_at_the_new_primary(pair, delivery):
    client, second, fail_over = pair
    publisher = Publisher(client, delivery=delivery, namespace=NAMESPACE)
    with Subscriber(client, FakeSite(), threads=2, namespace=NAMESPACE, delivery=delivery) as worker:
        assert publisher.publish(months(3)).wait(60).done == 3
        fail_over()
        if delivery == "pubsub":  # messages published before the workers resubscribe would be lost
            seconds, microseconds = second.time()
            moved = seconds + microseconds / 1e6
            assert wait_until(lambda: any(each.subscribed_at > moved for each in live_workers(second, publisher.keys)))
        batch = publisher.publish(months(3, year=2022))
        assert batch.wait(60).done == 3, batch.failures()["error"].tolist()
        assert second.xlen(publisher.keys.events) == 6
        assert worker.health().alive


def test_pending_jobs_are_done_at_the_new_primary(pair):
    client, _, fail_over = pair
    publisher = Publisher(client, namespace=NAMESPACE)
    batch = publisher.publish(months(12))
    fail_over()
    with Subscriber(client, FakeSite(), threads=2, namespace=NAMESPACE):
        assert batch.wait(60).done == 12


def test_a_reader_that_never_writes_leaves_the_old_primary(pair, monkeypatch):
    monkeypatch.setattr(roles, "ROLE_EVERY", 0.0)
    client, second, fail_over = pair
    reader = TimeSeriesReader(client, NAMESPACE)
    SeriesStore(client, NAMESPACE).write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 3), quota=1.5)])
    assert reader.prices()[FUND.cnpj].tolist() == [1.5]
    fail_over()
    SeriesStore(second, NAMESPACE).write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 4), quota=2.5)])
    assert reader.prices()[FUND.cnpj].tolist() == [1.5, 2.5]


def test_a_store_that_writes_in_bulk_leaves_the_old_primary(pair):
    client, second, fail_over = pair
    SeriesStore(client, NAMESPACE).write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 3), quota=1.5)])
    table = TimeSeriesReader(client, NAMESPACE).quotes()
    fail_over()
    SeriesStore(client, NAMESPACE).write([DailyQuote(FUND.cnpj, dt.date(2022, 1, 4), quota=2.5)])
    SeriesStore(client, NAMESPACE).write_frame(table.assign(date=dt.date(2022, 1, 5)))
    assert TimeSeriesReader(second, NAMESPACE).prices()[FUND.cnpj].tolist() == [1.5, 2.5, 1.5]
    assert client.info("replication")["role"] == "master"


def test_a_monitor_says_that_commands_are_missing(pair):
    client, _, fail_over = pair
    seen = monitor(client, namespace=NAMESPACE)
    seen.__enter__()
    fail_over()
    with pytest.warns(ScraperKitWarning, match="connection lost, later commands are missing"):  # Redis closes it
        seen.__exit__(None, None, None)


def test_writing_to_a_permanent_replica_is_refused(pair):
    _, second, _ = pair
    with pytest.raises(RedisRefused, match="a replica, which takes no writes; connect to the primary"):
        Publisher(second, namespace=NAMESPACE).publish(months(1))
    assert TimeSeriesReader(second, NAMESPACE).funds().empty, "reading from one is fine"
