"""The live chart: when it is redrawn, what it shows, and that it cleans up."""

from __future__ import annotations

import base64
import datetime as dt
import re
import sys
import threading
from dataclasses import replace

import pytest
from matplotlib import pyplot as plt
from support.fakes import FUND, FakeSite, months
from support.kernels import reply_to
from support.servers import connections
from support.views import Words
from support.waiting import wait_until
from support.workers import subscriber

from scraperkit import plot
from scraperkit.connection import connect
from scraperkit.embedded.server import EmbeddedServer
from scraperkit.errors import ConfigError, UnknownFund
from scraperkit.models import DailyQuote
from scraperkit.notebook.live_chart import live_prices
from scraperkit.timeseries.store import SeriesStore

OTHER = "99101011000125"
PNG = re.compile(r"<img alt='([^']*)' style='[^']*' src='data:image/png;base64,([A-Za-z0-9+/=]+)'>")


def picture_of(live) -> bytes:
    return base64.b64decode(PNG.search(live.widget.value)[2])


def text_of(live) -> str:
    return " ".join(Words(live.widget.value).words)


@pytest.fixture
def store(redis, namespace) -> SeriesStore:
    return SeriesStore(redis, namespace)


def quote(day: int, cnpj: str = FUND.cnpj) -> DailyQuote:
    return DailyQuote(cnpj, dt.date(2022, 1, day), 1.0 + day / 100)


class TestWhatItShows:
    def test_it_shows_a_chart_from_the_first_prices_on(self, redis, namespace, store, publisher):
        with live_prices(redis, [FUND, OTHER], every=0.2, namespace=namespace) as live:
            assert "Prices of 2 funds live prices no prices yet" in text_of(live)
            assert not PNG.search(live.widget.value)
            with subscriber(redis, namespace, FakeSite()):
                publisher.publish(months(2)).wait(60)
            assert wait_until(lambda: "2 days, to 2021-02-01" in text_of(live))
            assert picture_of(live).startswith(b"\x89PNG")
            assert PNG.search(live.widget.value)[1] == "Chart of 2 funds: 2 days, to 2021-02-01"
            assert "nothing yet for 99.101.011/0001-25" in text_of(live)
            one = picture_of(live)
            store.write([quote(3, OTHER), quote(4, OTHER)])
            assert wait_until(lambda: "4 days, to 2022-01-04" in text_of(live))
            assert picture_of(live) != one
            assert "nothing yet" not in text_of(live)
        assert "Prices of 2 funds closed" in text_of(live)
        assert plt.get_fignums() == [], "pyplot belongs to the main thread"

    def test_it_finds_a_fund_by_its_stored_name(self, redis, namespace, store):
        store.save_funds([replace(FUND, name="FUNDO AROEIRA FIC DE ACOES")])
        store.write([quote(3), quote(4)])
        with live_prices(redis, "aroeira", namespace=namespace) as live:
            assert wait_until(lambda: "2 days, to 2022-01-04" in text_of(live))
        with pytest.raises(UnknownFund, match="jatoba"):
            live_prices(redis, "jatoba", namespace=namespace)

    def test_it_draws_the_requested_days_and_chart(self, redis, namespace, store):
        store.write([quote(day) for day in (3, 4, 5)])
        drawn = []

        def chart(frame, ax):
            drawn.append(frame)
            plot.drawdown(frame, ax)

        with live_prices(redis, FUND.cnpj, "2022-01-04", "2022-01-31", chart=chart, namespace=namespace) as live:
            assert repr(live) == "<LivePrices of 1 fund: live; 2 days, to 2022-01-05>"
        assert [len(frame) for frame in drawn] == [2, 2]

    def test_a_failing_chart_is_reported_and_the_last_picture_stays(self, redis, namespace, store):
        store.write([quote(3)])
        broken = threading.Event()

        def chart(frame, ax):
            if broken.is_set():
                raise ZeroDivisionError("<b>of the chart</b>")
            plot.prices(frame, ax)

        with live_prices(redis, FUND, chart=chart, every=0.2, namespace=namespace) as live:
            before = picture_of(live)
            broken.set()
            store.write([quote(4)])
            assert wait_until(lambda: "not drawn anew ZeroDivisionError: <b>of the chart</b>" in text_of(live))
            assert picture_of(live) == before
            broken.clear()
            store.write([quote(5)])
            assert wait_until(lambda: "3 days" in text_of(live))
            assert "not drawn anew" not in text_of(live)

    def test_without_widgets_it_is_a_snapshot(self, redis, namespace, store, monkeypatch):
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
        threads = threading.active_count()
        live = live_prices(redis, FUND, namespace=namespace)
        assert (live.widget, threading.active_count()) == (None, threads)
        assert "no prices yet" in live._repr_html_()
        store.write([quote(3)])
        bundle = live._repr_mimebundle_()
        assert bundle.keys() == {"text/plain", "text/html"}
        assert "snapshot" in bundle["text/plain"]
        assert PNG.search(bundle["text/html"])
        live.close()

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"every": 0.1}, "every"),
            ({"every": float("nan")}, "every"),
            ({"funds": []}, "funds"),
            ({"funds": 7}, "funds"),
            ({"start": "yesterday"}, "start"),
        ],
    )
    def test_an_invalid_argument_is_refused_and_leaves_no_connection(self, redis, namespace, given, field):
        before = connections(redis)
        with pytest.raises(ConfigError, match=f"^{field}"):
            live_prices(redis, **{"funds": FUND, "namespace": namespace} | given)
        assert wait_until(lambda: not connections(redis) - before)


class TestWhenItIsDrawn:
    def test_it_ignores_other_funds_and_respects_its_interval(self, redis, namespace, store):
        with live_prices(redis, FUND, every=30.0, namespace=namespace) as live:
            assert live.drawings == 0
            store.write([quote(3, OTHER)])
            store.write([quote(3)])
            assert wait_until(lambda: live.drawings == 1)
            for day in range(4, 20):
                store.write([quote(day)])
            assert live.drawings == 1
            assert "1 day, to 2022-01-03" in text_of(live)
        assert "17 days, to 2022-01-19" in text_of(live), "the last state"
        assert live.drawings == 2

    def test_a_closed_chart_is_not_redrawn(self, redis, namespace, store):
        before = connections(redis)
        live = live_prices(redis, FUND, every=0.2, namespace=namespace)
        live.close()
        live.close()
        assert live.closed
        assert wait_until(lambda: not connections(redis) - before)
        store.write([quote(3)])
        assert "no prices yet" in text_of(live)

    def test_it_is_redrawn_when_redis_recovers(self, tmp_path, namespace):
        """It also shows what was stored during the outage."""
        with EmbeddedServer(tmp_path) as server, connect(server.url) as redis:
            SeriesStore(redis, namespace).write([quote(3)])
            with live_prices(redis, FUND, every=0.2, namespace=namespace) as live:
                server.kill()
                live.refresh()
                assert "not drawn anew RedisUnreachable" in text_of(live)
                server.start()
                with connect(server.url) as again:
                    SeriesStore(again, namespace).write([quote(3), quote(4)])
                assert wait_until(lambda: "2 days, to 2022-01-04" in text_of(live))
                assert "not drawn anew" not in text_of(live)


CELL = """
import threading
import scraperkit as sk

class Site:
    gate = threading.Event()
    def fetch(self, request):
        if request.month > 1:
            self.gate.wait(300)
        return [sk.DailyQuote(request.document, request.first_day, 1.0 + request.month)]

redis = sk.connect()
fund = sk.Fund("18993924000100", "132922")
live = sk.live_prices(redis, fund, every=0.2)
display(live)
with live, sk.Subscriber(redis, Site(), threads=2):
    batch = sk.Publisher(redis).publish(fund.months("2021-01", "2021-03"))
    threading.Thread(target=lambda: redis.blpop("{gate}") and Site.gate.set()).start()
    batch.wait(120)
"""


def test_it_is_redrawn_while_a_cell_waits(kernel, redis, keys):
    """In a real kernel: what the front end receives while the main thread waits for the batch."""
    _, client = kernel
    gate = keys.worker("gate")
    asked = client.execute(CELL.replace("{gate}", gate))
    shown, opened = "", False
    while "3 days, to 2021-03-01" not in shown or not PNG.search(shown):
        message = client.get_iopub_msg(timeout=60)
        assert message["msg_type"] != "error", message["content"]["traceback"]
        if message["msg_type"] == "comm_msg":
            shown = str(message["content"]["data"].get("state", {}).get("value", ""))
        if "1 day, to 2021-01-01" in shown and not opened:
            opened = bool(redis.rpush(gate, "open"))
    assert opened, "the first month was drawn before the others came"
    assert reply_to(client, asked)["content"]["status"] == "ok"
