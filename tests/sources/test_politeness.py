"""All workers of a Redis together keep a site's rate limit, and pause while it keeps failing."""

from __future__ import annotations

import http.server
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.connection import connect
from scraperkit.errors import SiteUnavailable
from scraperkit.health import Health
from scraperkit.keys import Keys
from scraperkit.lua.scripts import Turn
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.sources import CvmPages
from scraperkit.sources.http import HttpClient
from scraperkit.sources.politeness import Politeness, crawl_delay
from scraperkit.subscriber import Subscriber


class Site:
    """A site that records its requests, and responds as the test specifies."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.requests = 0
        self.robots = ""
        self.respond: Callable[[], tuple[int, dict[str, str]]] = lambda: (200, {})
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.requests += 1
                if self.path == "/robots.txt":
                    status, headers, body = 200 if site.robots else 404, {}, site.robots.encode()
                else:
                    site.asked.append(self.path)
                    (status, headers), body = site.respond(), b"page"
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture
def make(site, redis, redis_url):
    """Make clients as two workers would have them: each with a Politeness and a Redis client of its own."""
    opened: list[HttpClient] = []
    clients = []

    def make_client(*, shared: bool = True, **settings) -> HttpClient:
        given = Settings.load(**{"http_retries": 0, "breaker_failures": 1_000, "connect_timeout": 60.0, **settings})
        politeness = Politeness(site.url, given)
        if shared:
            clients.append(connect(redis_url))
            politeness.share(clients[-1])
        opened.append(HttpClient(given, politeness))
        return opened[-1]

    yield make_client
    for client in opened:
        client.close()
    for client in clients:
        client.close()
    for key in (Keys.site(_host(site)), Keys.robots(_host(site)), Keys.turn(_host(site)), Keys.sites()):
        redis.delete(key)


class Grant(NamedTuple):
    """A turn at the site, for some moment between `earliest` and `latest`."""

    earliest: float
    latest: float


@pytest.fixture
def grants(monkeypatch) -> list[Grant]:
    """Record each granted turn; on a busy machine, spaced requests may reach the site in a bunch."""
    found: list[Grant] = []
    next_turn = Politeness._next_turn

    def next_turn_and_note(*given) -> Turn:
        asked_at = time.time()
        turn = next_turn(*given)
        if turn.is_promised:
            found.append(Grant(asked_at + turn.seconds, time.time() + turn.seconds))
        return turn

    monkeypatch.setattr(Politeness, "_next_turn", next_turn_and_note)
    return found


def _host(site: Site) -> str:
    return site.url.split("/")[2]


def ask(client: HttpClient, site: Site, times: int) -> None:
    for _ in range(times):
        client.get(site.url + "page")


def together(*clients: HttpClient, site: Site, times: int) -> None:
    threads = [threading.Thread(target=ask, args=(client, site, times)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def most_in(seconds: float, grants: list[Grant]) -> int:
    """Return the largest number of turns that were certainly granted within a window of so many seconds."""
    return max(
        sum(first.earliest <= each.earliest and each.latest < first.earliest + seconds for each in grants)
        for first in grants
    )


class TestTheRate:
    def test_is_shared_by_all_on_a_redis(self, site, make, grants):
        together(make(rate=10), make(rate=10), site=site, times=11)
        assert (len(site.asked), len(grants)) == (22, site.requests)
        assert most_in(1.0, grants) <= 10

    def test_holds_without_a_redis_too(self, site, make, grants):
        ask(make(rate=5, shared=False), site, 7)
        assert (len(site.asked), len(grants)) == (7, site.requests)
        assert most_in(1.0, grants) <= 5

    def test_below_one_a_second_is_kept(self, site, make, grants):
        ask(make(rate=0.5), site, 2)
        assert (len(site.asked), len(grants)) == (2, site.requests)
        assert most_in(2.0, grants) <= 1

    def test_of_the_live_site_is_two_a_second_and_of_this_machine_unlimited(self):
        settings = Settings.load()
        assert Politeness("https://site.example/", settings).rate == 2
        assert Politeness("http://127.0.0.1:8000/", settings).rate == float("inf")
        assert Politeness("http://localhost/", Settings.load(rate=3)).rate == 3

    def test_a_wait_ends_when_the_client_is_closed(self, site, make):
        client = make(rate=0.02)  # its first turn goes to robots.txt
        ended = threading.Event()

        def wait() -> None:
            with pytest.raises(SiteUnavailable, match="closed here"):
                ask(client, site, 1)
            ended.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert wait_until(lambda: site.requests)
        client.close()
        waiting.join(60)
        assert ended.is_set()


class TestTheCrawlDelay:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("", 0),
            ("User-agent: *\nCrawl-delay: 10", 10),
            ("User-agent: *\nCrawl-Delay: 10\n\nUser-agent: scraperkit\nCrawl-delay: 3", 3),
            ("User-agent: other\nCrawl-delay: 10", 0),
            ("User-agent: *\nCrawl-delay: soon", 0),
            ("User-agent: *\nCrawl-delay: ²\nUser-agent: scraperkit\nCrawl-delay: 3", 3),
            ("User-agent: *\nCrawl-delay: ²", 0),
            ("User-agent: *\nCrawl-delay: 2.5 # seconds", 3),
            ("User-agent: *\nRequest-rate: ²/1\nDisallow: //[\nCrawl-delay: 10", 10),
            ("User-agent: *\nCrawl-delay: 99999", 60),
            (f"User-agent: *\nCrawl-delay: {'9' * 5000}", 0),
            ("<html>\x00\xff", 0),
        ],
    )
    def test_is_read_from_robots_txt(self, text, seconds):
        assert crawl_delay(text, "scraperkit/1.0") == seconds

    def test_is_kept_if_it_is_stricter_than_the_rate(self, site, make, grants):
        site.robots = "User-agent: *\nCrawl-delay: 1"
        together(make(rate=100), make(rate=100), site=site, times=2)
        assert (len(site.asked), len(grants)) == (4, site.requests)
        of_robots = site.requests - 4
        assert most_in(1.0, sorted(grants)[of_robots:]) <= 1

    def test_is_ignored_if_the_rate_is_stricter(self, site, make, grants):
        site.robots = "User-agent: *\nCrawl-delay: 1"
        ask(make(rate=0.5), site, 2)
        assert (len(site.asked), len(grants)) == (2, site.requests)
        assert most_in(2.0, grants) <= 1

    def test_is_read_once_for_all_workers(self, site, make, redis):
        site.robots = "User-agent: *\nCrawl-delay: 1"
        ask(make(), site, 1)
        site.robots = ""
        second = make()
        ask(second, site, 1)
        assert second._politeness.crawl_delay == 1


class TestRetryAfter:
    def test_is_kept_by_all_workers(self, site, make, monkeypatch):
        times, told = [], threading.Event()
        pause = Politeness.pause

        def respond():
            times.append(time.monotonic())
            return (200, {}) if len(times) > 1 else (503, {"Retry-After": "1"})

        def pause_and_tell(*given) -> None:
            pause(*given)
            told.set()

        site.respond = respond
        monkeypatch.setattr(Politeness, "pause", pause_and_tell)
        first, second = make(http_retries=1), make()
        asking = threading.Thread(target=ask, args=(first, site, 1))
        asking.start()
        assert told.wait(60)
        ask(second, site, 1)
        asking.join()
        assert len(site.asked) == 3
        # The pause begins after the first request, so a busy machine only makes this longer. Redis counts whole ms.
        assert min(times[1:]) - times[0] >= 0.999

    @pytest.mark.parametrize("retries", [0, 1])
    def test_is_kept_even_after_the_last_retry(self, site, make, retries):
        responses = iter([(503, {})] * retries + [(503, {"Retry-After": "500"})])
        site.respond = lambda: next(responses, (200, {}))
        with pytest.raises(SiteUnavailable):
            make(http_retries=retries).get(site.url)
        assert 300 < make()._politeness._seconds_open() <= 500


class TestASiteThatKeepsFailing:
    def failing(self, make, caplog, *, pause: float):
        """Return two `Politeness` objects on one Redis, after three failures of the site."""
        caplog.set_level(logging.WARNING, "scraperkit")
        settings = {"breaker_failures": 3, "breaker_pause": pause, "read_timeout": 3600.0}
        one, two = (make(**settings)._politeness for _ in range(2))
        for politeness in (one, two, one):
            politeness.failed("SiteUnavailable: the site returns 500")
        return one, two

    def test_opens_the_circuit_for_all_and_is_reported(self, make, site, redis, caplog, namespace):
        one, two = self.failing(make, caplog, pause=300)
        assert 100 < one._seconds_open() <= 300
        assert 100 < two._seconds_open() <= 300
        assert "keeps failing: circuit open" in caplog.text
        health = Health.read(redis, namespace=namespace)
        assert _host(site) in health.open_circuits
        assert "circuit open" in str(health)

    def test_health_counts_the_seconds_by_the_whole_clock_of_redis(self, redis, namespace):
        assert wait_until(lambda: redis.time()[1] > 500_000)
        seconds, microseconds = redis.time()
        redis.zadd(Keys.sites(), {"a-site": seconds * 1000 + microseconds / 1000 + 10_000})
        try:
            assert 0 < Health.read(redis, namespace=namespace).open_circuits["a-site"] <= 10
        finally:
            redis.zrem(Keys.sites(), "a-site")

    def test_is_probed_by_one_at_a_time_and_left_longer_if_it_fails_again(self, make, site, redis, caplog):
        one, two = self.failing(make, caplog, pause=0.5)
        assert wait_until(lambda: one._seconds_open() == 0)
        assert two._seconds_open() > 0
        assert one._seconds_open() == 0, "the one who tries needs several requests"
        one.failed("SiteUnavailable: still")
        assert [record.args[1] for record in caplog.records] == [0.5, 1.0]

    def test_closes_the_circuit_for_all_when_it_recovers(self, make, site, redis, caplog, namespace):
        one, two = self.failing(make, caplog, pause=0.5)
        assert wait_until(lambda: one._seconds_open() == 0)
        one.succeeded()
        assert two._seconds_open() == 0
        assert not Health.read(redis, namespace=namespace).open_circuits
        assert not redis.exists(Keys.site(_host(site)))

    def test_opens_the_circuit_without_a_redis_too(self, make):
        alone = make(shared=False, breaker_failures=2, breaker_pause=300)._politeness
        for _ in range(2):
            alone.failed("SiteUnavailable")
        assert alone._seconds_open() > 100
        alone.succeeded()
        assert alone._seconds_open() == 0

    def test_does_not_use_up_the_attempts_of_every_job(self, redis, namespace):
        settings = Settings.load(
            namespace=namespace,
            threads=4,
            backoff=0.01,
            max_attempts=4,
            http_retries=0,
            breaker_failures=4,
            breaker_pause=0.25,
        )
        with Replica.start() as replica, CvmPages(replica.url, settings=settings) as source:
            months = Fund("18993924000100", "132922").months("2021-01", "2023-12")
            replica.error_rate = 1  # an outage would say for how long to stay away
            with Subscriber(redis, source, settings=settings):
                batch = Publisher(redis, namespace=namespace).publish(months)
                assert wait_until(lambda: len(batch.events()) >= 6)
                replica.error_rate = 0
                status = batch.wait(60)
            redis.delete(Keys.site(replica.url.split("/")[2]), Keys.sites())
        assert status.done == 36
        assert len(batch.events()) < 36 + 20, "most jobs waited instead of failing"


def without_redis(client: HttpClient) -> HttpClient:
    pool = client._politeness._shared[0].connection_pool
    pool.disconnect()
    pool.connection_kwargs["port"] = 1
    return client


def test_without_redis_a_site_without_a_rate_is_still_requested(site, make):
    client = without_redis(make())
    client._politeness.failed("SiteUnavailable")
    client._politeness.pause(0.01)
    client._politeness.succeeded()
    ask(client, site, 2)
    assert len(site.asked) == 2


def test_without_redis_a_rate_limit_is_not_exceeded(site, make):
    client = without_redis(make(rate=100))
    turn = client._politeness._next_turn(math.inf)
    assert not turn.is_promised
    assert turn.seconds > 0
