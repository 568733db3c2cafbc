"""A site that drips bytes holds no thread beyond its deadline, nor beyond close() and stop()."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import wait_until

from scraperkit.config import Settings
from scraperkit.errors import ScraperKitError, SiteUnavailable
from scraperkit.keys import Keys
from scraperkit.models import Fund, ScrapeRequest
from scraperkit.publisher import Publisher
from scraperkit.sources import CvmPages
from scraperkit.subscriber import Subscriber

JOB = ScrapeRequest(document="18993924000100", fund_pk="1", month_year="01/2022")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
DRIP = 0.02
FOREVER = {"read_timeout": 3600.0, "page_timeout": 3600.0, "robots_timeout": 3600.0}


class Dripping:
    """A server that sends `begin` and then a byte every 20 ms, without end; its robots.txt is served at once by
    default."""

    def __init__(self, begin: bytes = HEAD, *, robots: bytes = NOT_FOUND, is_robots_dripping: bool = False) -> None:
        self._begin, self._robots, self._is_robots_dripping = begin, robots, is_robots_dripping
        self._leaving = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self.dripped = 0
        self.hung_up = threading.Semaphore(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> Dripping:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._talk, args=(connection,)))
                self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.1)
        with connection, contextlib.suppress(OSError):
            asked = b""
            while not self._leaving.is_set():
                with contextlib.suppress(TimeoutError):
                    part = connection.recv(65_536)
                    if not part:
                        return
                    asked += part
                if b"\r\n\r\n" not in asked:
                    continue
                is_robots, asked = b"GET /robots.txt" in asked, b""
                if is_robots and not self._is_robots_dripping:
                    connection.sendall(self._robots)
                else:
                    self._drip(connection)

    def _drip(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self._begin)
            while not self._leaving.wait(DRIP):
                connection.sendall(b"x")
                self.dripped += 1
        except OSError:
            self.hung_up.release()
            raise


@contextlib.contextmanager
def fetching(source: CvmPages) -> Iterator[tuple[threading.Thread, list[ScraperKitError]]]:
    """Yield a thread that fetches, and its errors; it is a daemon, so that a failing test ends."""
    caught: list[ScraperKitError] = []

    def fetch() -> None:
        try:
            source.fetch(JOB)
        except ScraperKitError as error:
            caught.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    yield thread, caught


@pytest.mark.parametrize("begin", [HEAD, b"HTTP/1.1 200 OK\r\nX-Long: ", b""], ids=["the body", "a header", "all"])
def test_a_dripping_page_is_abandoned_at_its_deadline(begin):
    settings = Settings(page_timeout=0.5, http_retries=3)
    with (
        Dripping(begin) as site,
        CvmPages(site.url, settings=settings) as source,
        fetching(source) as (thread, caught),
    ):
        thread.join(30)
        assert not thread.is_alive()
        assert "does not send the whole response in time" in str(caught[0])
        assert "SCRAPERKIT_PAGE_TIMEOUT" in str(caught[0])
        assert caught[0].retryable
        assert site.hung_up.acquire(timeout=30)
        assert not site.hung_up.acquire(blocking=False), "retries share the time of the page"


def test_a_dripping_robots_txt_does_not_stop_the_source():
    settings = Settings(robots_timeout=0.5, page_timeout=0.5, http_retries=0)
    with (
        Dripping(is_robots_dripping=True) as site,
        CvmPages(site.url, settings=settings) as source,
        contextlib.ExitStack() as stack,
    ):
        threads = [stack.enter_context(fetching(source)) for _ in range(4)]
        for thread, caught in threads:
            thread.join(30)
            assert not thread.is_alive()
            assert "robots.txt" not in caught[0].url


@pytest.mark.parametrize("is_robots_dripping", [False, True])
def test_close_frees_threads_held_by_a_dripping_site(is_robots_dripping):
    settings = Settings(**FOREVER)
    with (
        Dripping(is_robots_dripping=is_robots_dripping) as site,
        CvmPages(site.url, settings=settings) as source,
        fetching(source) as (thread, caught),
    ):
        assert wait_until(lambda: site.dripped > 2)
        source.close()
        thread.join(30)
        assert not thread.is_alive()
        assert "closed here" in str(caught[0])
        assert site.hung_up.acquire(timeout=30)
        assert source.politeness._alone._failures == 0, "not a fault of the site"


def test_interrupt_ends_only_the_waits_of_the_named_threads():
    with Dripping() as site, CvmPages(site.url, settings=Settings(**FOREVER)) as source:
        with fetching(source) as (one, caught), fetching(source) as (two, _):
            assert wait_until(lambda: site.dripped > 2)
            # Both wait for one first page: one thread requests it, the other waits for that one.
            while one.is_alive():
                source.interrupt({one.ident})
                one.join(0.05)
            assert isinstance(caught[0], SiteUnavailable)
            assert two.is_alive()
            source.close()
            two.join(30)
            assert not two.is_alive()


def test_stop_frees_the_threads_that_a_dripping_site_holds(redis, namespace):
    settings = Settings.load(namespace=namespace, threads=3, stop_deadline=0.2, **FOREVER)
    months = Fund(JOB.document, JOB.fund_pk).months("2022-01", "2022-03")
    with Dripping() as site, CvmPages(site.url, settings=settings) as source:
        subscriber = Subscriber(redis, source, settings=settings)
        with subscriber:
            batch = Publisher(redis, namespace=namespace).publish(months)
            assert wait_until(lambda: site.dripped > 2)
            theirs = [thread for thread in threading.enumerate() if thread.name.startswith("scraper-")]
        assert not any(thread.is_alive() for thread in theirs)
        status = batch.status()
        assert (status.pending, status.failed) == (3, 0), "other workers may take the jobs"
        redis.delete(Keys.robots(source.politeness.site))


def test_a_slow_page_within_its_deadline_is_complete():
    """The deadline is for the page: reads that are shorter than read_timeout add up."""
    body = b"<html>Em manuten\xe7\xe3o</html>"
    begin = b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n%s" % (len(body) + 10, body)
    with (
        Dripping(begin) as site,
        CvmPages(site.url, settings=Settings(http_retries=0)) as source,
        ThreadPoolExecutor(1) as pool,
        pytest.raises(SiteUnavailable, match="HTTP 503; it says"),
    ):
        began = time.monotonic()
        try:
            pool.submit(source.fetch, JOB).result(60)
        finally:
            assert time.monotonic() - began >= 9 * DRIP
