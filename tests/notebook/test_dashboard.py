"""The live view of a subscriber: what it shows, when it refreshes, and that it cleans up."""

from __future__ import annotations

import re
import sys
import threading

import pytest
import redis as redis_py
from support.fakes import FakeSite, GatedSite, months
from support.kernels import reply_to
from support.servers import connections
from support.views import EVIL, Words
from support.waiting import wait_until
from support.workers import subscriber

from scraperkit.errors import ConfigError
from scraperkit.keys import Keys
from scraperkit.models import Fund
from scraperkit.notebook.dashboard import Dashboard


def html_of(dashboard: Dashboard) -> str:
    return dashboard.widget.children[0].value


def text_of(dashboard: Dashboard) -> str:
    return " ".join(Words(html_of(dashboard)).words)


def buttons_of(dashboard: Dashboard):
    return dashboard.widget.children[1].children


class TestWhatItShows:
    def test_it_shows_the_job_of_each_thread(self, redis, namespace, publisher):
        site = GatedSite()
        with subscriber(redis, namespace, site, threads=3, name="anna") as one:
            dashboard = one.dashboard(every=0.05)
            assert "scraper-1 idle scraper-2 idle scraper-3 idle" in text_of(dashboard)
            publisher.publish(months(2))
            assert wait_until(lambda: len(one.worker.busy) == 2)
            since = r"18\.993\.924/0001-00 Exemplo 02/2021 \d+\.\d s"
            assert wait_until(lambda: re.search(since, text_of(dashboard)))
            assert "Subscriber anna is listening" in text_of(dashboard)
            assert "in hand 2" in text_of(dashboard)
            assert "jobs a second" in text_of(dashboard)
            site.gate.set()
            assert wait_until(lambda: "settled 2 done" in text_of(dashboard))

    def test_it_shows_queue_retries_and_dead_letters(self, redis, namespace, publisher):
        def respond(request):
            raise OSError("reset")

        with subscriber(redis, namespace, FakeSite(respond), max_attempts=2, backoff=0) as one:
            publisher.publish(months(2)).wait(60)
            text = " ".join(one.dashboard()._view().text().split())
            one.pause()
            publisher.publish(months(3, year=2022))
            assert "3 waiting, oldest job" in one.dashboard()._view().text()
        assert "settled 2 dead, 2 retry" in text
        assert "dead letters 2" in text
        assert "queue 0 waiting" in text

    def test_it_shows_the_same_as_text(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite(), threads=1) as one:
            bundle = one.dashboard()._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert sorted(bundle["text/plain"].split()) == sorted(Words(bundle["text/html"]).words)

    def test_it_escapes_the_name_of_a_fund(self, redis, namespace, publisher):
        site = GatedSite()
        with subscriber(redis, namespace, site) as one:
            dashboard = one.dashboard(every=0.05)
            publisher.publish(Fund("18993924000100", "132922", EVIL).months("2021-01", "2021-01"))
            assert wait_until(lambda: EVIL in text_of(dashboard))
            assert "<script" not in html_of(dashboard)
            site.gate.set()

    def test_it_says_that_redis_does_not_respond(self, redis, namespace):
        away = redis_py.Redis(port=1, protocol=3, decode_responses=True)
        dashboard = Dashboard(subscriber(redis, namespace, FakeSite()), away)
        assert "queue Redis does not respond" in text_of(dashboard)

    def test_without_widgets_it_is_plain_html(self, redis, namespace, monkeypatch):
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
        with subscriber(redis, namespace, FakeSite(), name="anna") as one:
            threads = threading.active_count()
            dashboard = one.dashboard()
            assert (dashboard.widget, dashboard.live, threading.active_count()) == (None, False, threads)
            assert dashboard._repr_mimebundle_().keys() == {"text/plain", "text/html"}
            assert "anna is listening" in dashboard._repr_html_()
            one.pause()
            assert "anna is paused" in dashboard._repr_html_()

    def test_an_invalid_refresh_interval_is_refused(self, redis, namespace):
        with pytest.raises(ConfigError, match="^every: "):
            subscriber(redis, namespace, FakeSite()).dashboard(every=0)


class TestItsLife:
    def test_it_refreshes_whenever_its_subscriber_runs(self, redis, namespace, publisher):
        one = subscriber(redis, namespace, FakeSite())
        dashboard = one.dashboard(every=0.05)
        assert "Subscriber stopped" in text_of(dashboard)
        for year in (2021, 2022):
            with one:
                assert dashboard.live
                publisher.publish(months(4, year=year)).wait(60)
            assert not dashboard.live
        assert "settled 8 done" in text_of(dashboard)
        assert "jobs a second" not in text_of(dashboard)
        assert "Subscriber stopped" in text_of(dashboard)

    def test_it_stops_refreshing_after_a_crash(self, redis, namespace, publisher):
        with subscriber(redis, namespace, FakeSite(), name="anna") as one:
            dashboard = one.dashboard(every=0.05)
            one.crash_next()
            publisher.publish(months(1))
            assert wait_until(lambda: not dashboard.live)
            assert "anna crashed" in text_of(dashboard)

    def test_it_stops_refreshing_when_closed(self, redis, namespace):
        before = connections(redis)
        one = subscriber(redis, namespace, FakeSite())
        with one:
            dashboard = one.dashboard(every=0.05)
            dashboard.close()
            assert not dashboard.live
        with one:
            assert not dashboard.live
        assert wait_until(lambda: not connections(redis) - before)


class TestItsButtons:
    def test_the_first_button_pauses_and_resumes(self, redis, namespace, publisher):
        with subscriber(redis, namespace, FakeSite(), name="anna") as one:
            dashboard = one.dashboard()
            pause, stop = buttons_of(dashboard)
            pause.click()
            assert one.paused
            assert "anna is paused" in text_of(dashboard)
            assert (pause.description, stop.disabled) == ("Resume", False)
            pause.click()
            assert publisher.publish(months(1)).wait(60).done == 1
            assert pause.description == "Pause"

    def test_the_second_button_stops_the_subscriber(self, redis, namespace, publisher):
        one = subscriber(redis, namespace, FakeSite()).start()
        dashboard = one.dashboard(every=0.05)
        pause, stop = buttons_of(dashboard)
        stop.click()
        assert wait_until(lambda: not one.running and not dashboard.live)
        assert (pause.disabled, stop.disabled) == (True, True)
        assert "Subscriber stopped" in text_of(dashboard)


CELL = """
import threading
import scraperkit as sk

class Site:
    gate = threading.Event()
    def fetch(self, request):
        self.gate.wait(300)
        return []

redis = sk.connect()
fund = sk.Fund("18993924000100", "132922")
with sk.Subscriber(redis, Site(), threads=2) as subscriber:
    dashboard = subscriber.dashboard(every=0.05)
    batch = sk.Publisher(redis).publish(fund.months("2021-01", "2021-12"))
    threading.Thread(target=lambda: redis.blpop("{gate}") and Site.gate.set()).start()
    batch.wait(120)
"""


def test_it_refreshes_while_a_cell_waits(kernel, redis, namespace):
    """In a real kernel: what the front end receives while the main thread waits for the batch."""
    _, client = kernel
    gate = Keys(namespace).worker("gate")
    asked = client.execute(CELL.replace("{gate}", gate))
    at_work = "10 waiting"
    shown = ""
    while at_work not in shown or "01/2021" not in shown:
        message = client.get_iopub_msg(timeout=60)
        assert message["msg_type"] != "error", message["content"]["traceback"]
        if message["msg_type"] == "comm_msg":
            shown = str(message["content"]["data"].get("state", {}).get("value", ""))
    redis.rpush(gate, "open")
    assert reply_to(client, asked)["content"]["status"] == "ok"
