"""How much a worker holds and reads at once follows from how fast its threads turn out to be."""

from __future__ import annotations

import pytest

from scraperkit.config import Settings
from scraperkit.engine.jobs import Job, Result
from scraperkit.engine.thread_pool import Prefetch

JOB = Job("{}", None, "stream", "1-0", "", False, 0.0)


def pace(seconds: float, **settings) -> Prefetch:
    """What is known after many fetches that took so long."""
    found = Prefetch(Settings.load(**{"threads": 8, "prefetch": 384, **settings}))
    found.watch([Result(JOB, (), None, "scraper-1", 0.0, seconds, 0.0)] * 200)
    return found


def test_who_knows_nothing_expects_slow_pages():
    unknown = Prefetch(Settings.load(threads=8, prefetch=384))
    assert (unknown.hold, unknown.read_at_once, unknown.handful) == (8, 8, 1)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 30.0])
def test_slow_pages_are_held_one_a_thread(seconds):
    assert (pace(seconds).hold, pace(seconds).read_at_once, pace(seconds).handful) == (8, 8, 1)


def test_what_the_threads_will_have_done_in_a_twentieth_of_a_second_is_held_besides():
    assert pace(0.0099).hold == 8 + 40


def test_the_prefetch_bounds_it():
    assert pace(0.0).hold == 8 + 384
    assert pace(0.0, prefetch=0).hold == 8


def test_of_many_half_are_read_at_once_so_that_reads_and_work_alternate():
    assert pace(0.0).read_at_once == 196
    assert pace(0.0099).read_at_once == 24


def test_a_thread_takes_short_fetches_by_the_handful():
    assert pace(0.0).handful == 16
    assert pace(0.0099).handful == 1
