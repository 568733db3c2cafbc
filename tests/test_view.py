"""Notebook views of the kit's objects: HTML and text show the same, and foreign HTML is escaped."""

from __future__ import annotations

import re

import pytest
from support.fakes import FUND, FakeSite, months, one_quote
from support.views import EVIL, shown
from support.workers import subscriber

from scraperkit.batch import Batch
from scraperkit.health import Health
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.replica import Replica
from scraperkit.view import Table, View


@pytest.fixture
def failing_batch(redis, namespace):
    """Return a batch of five jobs: one done, three failed for one reason, one for another, which contains HTML."""

    def respond(request):
        if request.month == 1:
            return one_quote(request)
        raise OSError(f"{EVIL} of {request.month_year}" if request.month == 2 else f"reset in {request.month_year}")

    with subscriber(redis, namespace, FakeSite(respond), max_attempts=1):
        batch = Publisher(redis, namespace=namespace).publish(months(5))
        batch.wait(60)
    return batch


class TestABatch:
    def test_shows_counts_and_groups_failures_by_reason(self, failing_batch):
        text, html = shown(failing_batch)
        assert failing_batch.id in text
        assert re.search(r"done +1\n", text)
        assert re.search(r"failed +4\n", text)
        assert re.search(r"3 +OSError: reset in … +18\.993\.924/0001-00 03/2021", text)
        assert EVIL in text
        assert "<script" not in html

    def test_has_a_bar_as_wide_as_its_counts(self, failing_batch):
        _, html = shown(failing_batch)
        assert "aria-label='1 of 5 done'" in html
        assert re.findall(r"width: ([\d.]+)%", html) == ["20", "80"]

    def test_that_is_not_finished_is_in_progress(self, redis, namespace):
        text, _ = shown(Publisher(redis, namespace=namespace).publish(months(3)))
        assert "in progress" in text
        assert re.search(r"pending +3", text)

    def test_has_a_status_with_its_own_view(self, failing_batch):
        assert shown(failing_batch.status())[0] == "Finished: 5 published, 1 done, 4 failed"

    def test_without_jobs_is_finished(self, redis, namespace):
        text, _ = shown(Publisher(redis, namespace=namespace).publish([]))
        assert "finished" in text

    def test_that_has_expired_still_shows_its_id(self, redis, namespace):
        text, _ = shown(Batch(redis, "b-1", namespace=namespace))
        assert text == "Batch b-1: its counts cannot be read now"


class TestOthers:
    def test_a_fund_shows_its_fields(self):
        text, _ = shown(FUND)
        for fact in ("Fundo Exemplo", "18.993.924/0001-00", "132922", "EM FUNCIONAMENTO NORMAL", "2019-01-02"):
            assert fact in text

    def test_a_hostile_name_of_a_fund_is_escaped(self):
        text, html = shown(Fund("18993924000100", "132922", EVIL + "\x1b[31m\nsecond line", EVIL))
        assert "<script" not in html
        assert "\x1b" not in text + html
        assert len(text.splitlines()) == 4

    def test_a_subscriber_shows_its_state(self, redis, namespace):
        with subscriber(redis, namespace, FakeSite(), threads=2, name="anna") as one:
            Publisher(redis, namespace=namespace).publish(months(2)).wait(60)
            text, _ = shown(one)
            assert "anna is listening" in text
            assert "0 busy of 2" in text
            assert re.search(r"done +2", text)
            one.pause()
            assert "anna is paused" in shown(one)[0]
        assert "stopped" in shown(one)[0]

    @pytest.mark.parametrize(("delivery", "place"), [("stream", "jobs"), ("pubsub", "fund_parser")])
    def test_a_publisher_shows_its_destination(self, redis, namespace, delivery, place):
        text, _ = shown(Publisher(redis, namespace=namespace, delivery=delivery))
        assert f"{namespace}:{place}" in text

    def test_health_lists_the_workers(self, redis, namespace):
        assert "no worker is alive" in shown(Health.read(redis, namespace=namespace))[0]
        with subscriber(redis, namespace, FakeSite(), threads=3, name="anna"):
            text, _ = shown(Health.read(redis, namespace=namespace))
        assert "1 worker is alive" in text
        assert re.search(r"anna +cvm_pages +3 +both", text)

    def test_a_replica_shows_its_address_and_latency(self):
        with Replica.start(latency=0.25) as site:
            text, _ = shown(site)
            assert site.url in text
            assert "0.25 s" in text
        assert "stopped" in shown(site)[0]


class TestAView:
    def test_is_not_longer_than_a_page(self):
        table = Table(("number",), [(str(number),) for number in range(1000)])
        view = View("Title", "state " * 1000, (("label", "x" * 10_000),), tables=(table,))
        assert len(view.text().splitlines()) < 40
        assert "… and 970 more" in view.text()
        assert "… and 970 more" in view.html()
        assert len(view.html()) < 10_000
