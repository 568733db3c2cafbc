"""How much a worker holds and reads at once depends on the measured speed of its threads."""

from __future__ import annotations

import time

import pytest
from support.fakes import FakeSite, months, one_quote
from support.workers import subscriber

from scraperkit.config import Settings
from scraperkit.engine.jobs import Job, Result
from scraperkit.engine.thread_pool import Prefetch

JOB = Job("{}", None, "stream", "1-0", "", False, 0.0)


def pace(seconds: float, **settings) -> Prefetch:
    """Return a prefetch that has seen many fetches of this duration."""
    found = Prefetch(Settings.load(**{"threads": 8, "prefetch": 384, **settings}))
    found.watch([Result(JOB, (), None, "scraper-1", 0.0, seconds, 0.0)] * 200)
    return found


def test_before_the_first_fetch_pages_are_assumed_slow():
    unknown = Prefetch(Settings.load(threads=8, prefetch=384))
    assert (unknown.hold, unknown.read_at_once, unknown.handful) == (8, 8, 1)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 30.0])
def test_with_slow_pages_one_message_per_thread_is_held(seconds):
    assert (pace(seconds).hold, pace(seconds).read_at_once, pace(seconds).handful) == (8, 8, 1)


def test_as_many_more_are_held_as_the_threads_finish_in_50_ms():
    assert pace(0.0099).hold == 8 + 40


def test_the_prefetch_setting_limits_the_messages_held():
    assert pace(0.0).hold == 8 + 384
    assert pace(0.0, prefetch=0).hold == 8


def test_at_most_half_are_read_at_once_so_that_reads_overlap_work():
    assert pace(0.0).read_at_once == 196
    assert pace(0.0099).read_at_once == 24


def test_a_thread_takes_several_short_fetches_at_once():
    assert pace(0.0).handful == 16
    assert pace(0.0099).handful == 1


def test_results_gather_until_half_of_the_held_messages_are_done_or_25_ms_pass():
    assert pace(0.004, threads=1).hold == 1 + 12
    assert pace(0.002, threads=1, prefetch=9).gathering == pytest.approx(0.01, rel=0.01)
    assert pace(0.00002).gathering == pytest.approx(0.0005, rel=0.05)
    assert pace(0.2).gathering == 0.025


def test_pages_in_quick_succession_are_settled_together(redis, namespace, publisher, monkeypatch):
    monkeypatch.setattr(Prefetch, "hold", 100)
    monkeypatch.setattr(Prefetch, "gathering", 0.5)

    def respond(request):
        time.sleep(0.002)
        return one_quote(request)

    with subscriber(redis, namespace, FakeSite(respond), threads=1):
        batch = publisher.publish(months(40))
        batch.wait(60, progress=False)
    events = batch.events()
    assert len(events) == 40
    # The events of one settlement have the same time.
    assert events["stored_at"].nunique() < 10
