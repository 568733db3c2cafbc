"""A worker's behaviour and log while Redis is away."""

from __future__ import annotations

from support.fakes import GatedSite, months
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber


class TestAnOutage:
    def test_does_not_end_a_worker_that_a_takeover_fills_meanwhile(self, subscriber, proxy, publisher, redis, keys):
        batch = publisher.publish(months(4))
        redis.xreadgroup(keys.group, "ghost", {keys.jobs: ">"}, count=4)
        site = GatedSite()
        one = subscriber(site, delivery="stream", lease=0.5, prefetch=0, stop_deadline=0.1)
        # The reader does not get through, but housekeeping does.
        for _ in range(10):
            proxy.lose_request("XGROUP")
        proxy.cut_all()
        assert wait_until(lambda: len(one.worker.held) == 2)
        proxy.calm()
        # The fault can happen only while the worker is full, and nothing shows that it has not.
        if wait_until(lambda: not one.running, 1.5):
            one.stop()
        site.gate.set()
        assert batch.wait(60).done == 4

    def test_is_not_declared_over_by_a_worker_that_requests_nothing(self, own_server, namespace, caplog):
        settings = Settings.load(namespace=namespace, heartbeat=0.1)
        with connect(own_server.url) as redis, caplog.at_level("WARNING", "scraperkit"):
            site = GatedSite()
            worker = Subscriber(redis, site, threads=1, settings=settings).start()
            Publisher(redis, namespace=namespace).publish(months(3))
            site.inside.acquire(timeout=20)
            own_server.kill()
            try:
                assert wait_until(lambda: "Redis is away" in caplog.text, 60)
                site.gate.set()
                worker.stop(0.5)
                assert "Redis is back" not in caplog.text
            finally:
                own_server.start()
