"""Charts of events are correct: lanes, bars, waiting, outcomes, medians."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from support.fakes import FakeSite, months

from scraperkit import plot
from scraperkit.errors import ConfigError
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber

mpl.use("Agg")
TEXTS = ["message", "outcome", "worker", "thread"]
TIMES = ["published_at", "received_at", "started_at", "fetched_at", "stored_at"]
START = pd.Timestamp("2026-01-05 12:00", tz="UTC")


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def events(*rows: dict) -> pd.DataFrame:
    """Events whose times are given as seconds after START."""
    given = {
        "outcome": "done",
        "attempt": 1,
        "worker": "lab-1/aa",
        "thread": "scraper-1",
        "published_at": 0.0,
        "quotes": 20,
    }
    frame = pd.DataFrame([given | {"message": str(place)} | row for place, row in enumerate(rows)])
    for column in TIMES:
        frame[column] = START + pd.to_timedelta(frame[column].astype("float64"), unit="s")
    return frame.astype(dict.fromkeys(TEXTS, "str"))


def job(start: float, end: float, **more) -> dict:
    return {"received_at": start, "started_at": start, "fetched_at": end, "stored_at": end + 0.01} | more


def bars(ax: Axes) -> list[tuple[float, float, float, str]]:
    """Return start, end, height and colour of each bar."""
    found = []
    for collection in ax.collections:
        for path in collection.get_paths():
            box = path.get_extents()
            if len(path.vertices) == 5:
                row = round((box.y0 + box.y1) / 2)
                found.append((round(box.x0, 6), round(box.x1, 6), row, to_hex(collection.get_facecolor()[0])))
    return sorted(found)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_bar_spans_the_fetch_in_the_lane_of_its_thread():
    ax = plot.timeline(events(job(1, 2), job(1.5, 4, thread="scraper-2"), job(2, 3, worker="lab-2/bb")))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["scraper-1", "scraper-2", "scraper-1"]
    rows = [round(place) for place in ax.get_yticks()]
    assert [(start, end, row) for start, end, row, _ in bars(ax)] == [
        (1, 2, rows[0]),
        (1.5, 4, rows[1]),
        (2, 3, rows[2]),
    ]
    assert texts(ax)[1:] == ["lab-1: 2 attempts", "lab-2: 1 attempt"]
    assert ax.get_xlabel() == "seconds since the first message was published"
    assert rows == sorted(set(rows))


def test_workers_and_threads_are_sorted_by_name_and_number():
    ax = plot.timeline(
        events(
            job(2, 3, worker="a/1", thread="scraper-10"),
            job(3, 4, worker="a/1", thread="scraper-9"),
            job(1, 2, worker="z/1"),
            job(1, 2, worker="lab-10/1"),
            job(2, 3, worker="lab-9/1"),
        )
    )
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["scraper-9", "scraper-10"]
    assert [text.partition(":")[0] for text in texts(ax)[1:]] == ["a", "lab-9", "lab-10", "z"]


def test_jobs_taken_over_are_hatched_and_named():
    handed, taken = job(0, 1, taken_from=""), job(1, 2, taken_from="lab-2")
    ax = plot.timeline(events(handed, taken))
    hatches = {round(float(bar.get_paths()[0].get_extents().x0)): bar.get_hatch() for bar in ax.collections[1:]}
    assert hatches == {0: None, 1: "////"}
    assert legend(ax) == ["done (2)", "taken over from another worker (1)"]
    assert legend(plot.timeline(events(handed))) == ["done (1)"]


def test_no_grid_line_crosses_the_text_above_lanes():
    ax = plot.timeline(events(job(0, 1)))
    assert all(text.get_bbox_patch().get_facecolor() == (1, 1, 1, 1) and text.get_zorder() > 6 for text in ax.texts)


def test_workers_with_a_reused_name_are_distinguished():
    ax = plot.timeline(events(job(0, 1, worker="lab-1/aa"), job(2, 3, worker="lab-1/bb")))
    assert texts(ax)[1:] == ["lab-1/aa: 1 attempt", "lab-1/bb: 1 attempt"]


def test_outcomes_differ_in_colour_and_in_marker():
    outcomes = ["done", "not_offered", "retry", "failed", "dead", "superseded", "ignored", "cancelled", "new to us"]
    ax = plot.timeline(events(*(job(place, place + 1, outcome=name) for place, name in enumerate(outcomes))))
    assert legend(ax) == [f"{name.replace('_', ' ')} (1)" for name in outcomes]
    drawn = {round(start): colour for start, _, _, colour in bars(ax)}
    markers = {
        round(line.get_xdata()[0]) - 1: line.get_marker() for line in ax.get_lines() if len(line.get_xdata()) == 1
    }
    looks = {(drawn[place], markers.get(place)) for place in range(len(outcomes))}
    assert len(looks) == len(outcomes)
    assert 0 not in markers
    ax.figure.canvas.draw()


def test_a_second_attempt_has_its_own_bar_but_is_the_same_job():
    ax = plot.timeline(events(job(0, 1, message="m", outcome="retry"), job(2, 3, message="m", attempt=2)))
    assert len(bars(ax)) == 2
    assert texts(ax) == ["published, not yet begun: at most 1 message", "lab-1: 2 attempts"]


def test_a_channel_keeps_no_message_waiting():
    one, other = job(1, 2, delivery="pubsub"), job(3, 4, delivery="stream")
    assert texts(plot.timeline(events(one, one)))[0] == "a channel: no message waits in Redis"
    assert texts(plot.timeline(events(one, one, other)))[0] == "published, not yet begun: at most 1 message"


def test_waiting_counts_messages_published_and_not_begun():
    rows = [job(start, start + 1, published_at=published) for published, start in ((0, 3), (0, 1), (2, 4))]
    ax = plot.timeline(events(*rows))
    assert texts(ax)[0] == "published, not yet begun: at most 2 messages"


def test_a_job_of_0_seconds_is_visible():
    [(start, end, *_), _] = bars(plot.timeline(events(job(0, 0), job(0, 10, thread="scraper-2"))))
    assert end > start


def test_messages_typed_by_hand_need_no_publication_time():
    ax = plot.timeline(events(job(5, 6, published_at=None), job(6, 7, published_at=None)))
    assert [start for start, *_ in bars(ax)] == [0, 1]


@pytest.mark.parametrize("draw", [plot.timeline, plot.latency])
def test_a_chart_without_events_says_so_on_the_given_axes(draw):
    _, ax = plt.subplots()
    assert draw(events(job(0, 1)).head(0), ax=ax) is ax
    assert texts(ax) == ["no events"]
    with pytest.raises(ConfigError, match=r"events: no column message, outcome.*Batch\.events"):
        draw(pd.DataFrame({"a": [1]}))


def test_many_lanes_do_not_overlap():
    rows = [
        job(place, place + 1, worker=f"lab-{place % 6}/x", thread=f"scraper-{place % 48 // 6}") for place in range(96)
    ]
    ax = plot.timeline(events(*rows))
    ax.figure.canvas.draw()
    boxes = sorted((label.get_window_extent() for label in ax.get_yticklabels()), key=lambda box: box.y0)
    assert len(boxes) == 48
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in itertools.pairwise(boxes))


def test_latency_is_in_milliseconds_and_named_with_its_median():
    rows = [job(0.1 * place, 0.1 * place + 0.05) for place in (1, 2, 3)]
    ax = plot.latency(events(*rows, job(9, 9.05, message="0", attempt=2)))
    assert legend(ax) == ["waited, median 200 ms", "fetched, median 50 ms", "stored, median 10 ms"]
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "milliseconds, logarithmic")


def test_latency_accepts_clocks_that_disagree():
    ax = plot.latency(events(job(-1, 1, published_at=0)))
    assert legend(ax)[0] == "waited, median 0.1 ms"
    ax.figure.canvas.draw()


def test_throughput_has_a_line_in_proportion_to_threads():
    frame = pd.DataFrame({"jobs_per_second": [10.0, 30.0, 14.0, 18.0]}, index=pd.Index([1, 4, 2, 2], name="threads"))
    ax = plot.throughput(frame)
    ideal, measured, dots = (np.asarray(line.get_ydata()).tolist() for line in ax.get_lines())
    assert (ideal, measured, sorted(dots)) == ([10, 20, 40], [10, 16, 30], [10, 14, 18, 30])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4"]


def test_throughput_draws_one_run_and_none():
    frame = pd.DataFrame({"jobs_per_second": [10.0]}, index=[4])
    assert plot.throughput(frame).get_legend() is None
    assert texts(plot.throughput(frame.head(0))) == ["no runs"]
    with pytest.raises(ConfigError, match="no column jobs_per_second"):
        plot.throughput(pd.DataFrame({"rate": [1.0]}))


def test_events_of_a_real_batch_can_be_drawn(redis, namespace):
    with Subscriber(redis, FakeSite(), threads=3, namespace=namespace):
        batch = Publisher(redis, namespace=namespace).publish(months(12))
        batch.wait(timeout=60, progress=False)
    found = batch.events()
    before = found.copy()
    ax = plot.timeline(found)
    assert len(bars(ax)) == 12
    assert legend(ax) == ["done (12)"]
    assert legend(plot.latency(found))[0].startswith("waited, median ")
    pd.testing.assert_frame_equal(found, before)
