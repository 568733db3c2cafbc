"""After a site recovers, all workers may request pages again."""

from __future__ import annotations

import threading

from scraperkit.config import Settings
from scraperkit.connection import connect, sibling
from scraperkit.keys import Keys
from scraperkit.sources.politeness import Politeness

AN_HOUR = 3600.0


class TestASiteThatHasRecovered:
    def test_is_open_to_all_even_if_the_worker_that_opened_its_circuit_died(self, redis):
        """The first of three workers opens the circuit and dies, the second succeeds, the third must not wait."""
        settings = Settings.load(breaker_failures=1, breaker_pause=0.05, read_timeout=AN_HOUR)
        ill, well, third = (Politeness("http://127.0.0.1:1/", settings) for _ in range(3))
        for worker in (ill, well, third):
            worker.share(redis)
        try:
            ill.failed("503")
            assert well.wait(threading.Event())
            well.succeeded()
            assert _in_time(third)
        finally:
            redis.delete(Keys.site(ill.site), Keys.sites())

    def test_is_open_to_all_even_if_redis_missed_the_first_report_of_success(self, redis, proxy):
        settings = Settings.load(breaker_failures=1, breaker_pause=0.05, read_timeout=AN_HOUR)
        with connect(proxy.url) as client, sibling(client, retry=None) as behind:
            one, other = (Politeness("http://127.0.0.1:1/", settings) for _ in range(2))
            one.share(behind)
            other.share(redis)
            try:
                one.failed("503")
                assert one.wait(threading.Event())
                proxy.lose_request("agree_on_site")
                one.succeeded()
                one.succeeded()  # the next fetch
                assert _in_time(other)
            finally:
                redis.delete(Keys.site(one.site), Keys.sites())


def _in_time(politeness: Politeness) -> bool:
    """Return whether a request is allowed within a minute."""
    closed = threading.Event()
    timer = threading.Timer(60, closed.set)
    timer.start()
    try:
        return politeness.wait(closed)
    finally:
        timer.cancel()
        timer.join()
