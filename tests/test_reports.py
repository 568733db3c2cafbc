"""No content of a message, valid or not, breaks a report, while it waits or after it is settled."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator

import httpx
import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from support.fakes import FakeSite, months, one_quote
from support.pricer import pricer
from support.workers import AT_ONCE, step
from typer.testing import CliRunner

import scraperkit as sk
from scraperkit import plot
from scraperkit.batch import Batch
from scraperkit.cli import app
from scraperkit.config import Settings
from scraperkit.deadletters import DeadLetters
from scraperkit.engine.worker import Worker
from scraperkit.errors import MonthNotOffered, PageChanged
from scraperkit.health import Health
from scraperkit.models import ScrapeRequest
from scraperkit.notebook.dashboard import Dashboard
from scraperkit.subscriber import Subscriber

mpl.use("Agg")
MEMBERS = [json.loads(request.to_json()) for request in months(3)]


def respond(request: ScrapeRequest):
    if request.month == 2:
        raise PageChanged("no such\ncolumn")
    if request.month == 3:
        raise MonthNotOffered("no such\nmonth")
    return one_quote(request)


def short(value: object) -> str:
    return repr(value)[:20]


class Reports:
    """Every report on a batch and its namespace."""

    def __init__(self, redis, redis_url: str, namespace: str, batch: Batch, client: httpx.Client) -> None:
        self.redis, self.url, self.namespace, self.batch, self.client = redis, redis_url, namespace, batch, client
        self.dashboard = Dashboard(Subscriber(redis, FakeSite(), namespace=namespace), redis)

    def read(self) -> pd.DataFrame:
        """Read them all; return the events."""
        batch = self.batch
        status = batch.status(search_up_to=math.inf)
        over = (status.done, status.failed, status.lost, status.cancelled, status.not_offered)
        assert status.published == sum(over) + status.pending
        assert status.pending >= 0
        assert len(batch.jobs()) == len(MEMBERS)
        assert set(batch.failures()["state"]) <= {"failed", "lost"}
        letters = DeadLetters(self.redis, namespace=self.namespace)
        for letter in letters.list().index:
            assert letters.history(letter)
        health = Health.read(self.redis, namespace=self.namespace)
        for shown in (batch, status, health, letters, self.dashboard._view()):
            assert str(shown)
        for shown in (batch, status, health):
            assert shown._repr_html_()
        self.dashboard.refresh()
        for path in (f"/v1/batches/{batch.id}", "/v1/dead", "/metrics", "/v1/funds"):
            assert self.client.get(path).status_code == 200, path
        for command in (["batch", "status", batch.id], ["dead", "list"]):
            shown = CliRunner(env={"REDIS_URL": self.url}).invoke(app, [*command, "--namespace", self.namespace])
            assert (shown.exit_code, shown.exception) == (0, None)
        events = batch.events()
        for draw in (plot.timeline, plot.latency):
            draw(events).figure.canvas.draw()
        plt.close("all")
        return events


@pytest.fixture
def reports(redis, redis_url, namespace, publisher) -> Iterator[Reports]:
    batch = publisher.publish(months(3))
    redis.delete(publisher.keys.jobs)  # the tests write the entries by hand
    with pricer(redis_url, namespace) as client:
        yield Reports(redis, redis_url, namespace, batch, client)


def work(redis, namespace: str) -> None:
    step(Worker(redis, FakeSite(respond), settings=Settings.load(namespace=namespace, **AT_ONCE)), times=2)


def typed(redis, reports: Reports, raw: bytes) -> None:
    redis.xadd(f"{reports.namespace}:jobs", {"message": raw.replace(b'"THE BATCH"', f'"{reports.batch.id}"'.encode())})


_numbers = st.integers() | st.floats() | st.sampled_from([1e300, -1e300, 10**400, 1_700_000_000_000, -1, True])
_odd = st.none() | st.booleans() | _numbers | st.text(max_size=40) | st.lists(st.integers(), max_size=2)
_times = st.floats(0, 4_102_444_799) | _numbers | _numbers.map(str) | st.text(max_size=5)
_fields = st.fixed_dictionaries(
    {},
    optional={
        "published_at": _times,
        "acked": _odd,
        "message_id": st.uuids().map(str) | st.uuids().map(lambda number: number.hex) | _odd,
        "fund_pk": st.integers(0, 10**13) | st.from_regex(r"\d{1,12}") | _odd,
        "month_year": st.from_regex(r"(0\d|1[0-2])/(19|20)\d\d") | _odd,
        "document": st.sampled_from(["12.abc.345/01de-35", "18993924/0001-00"]) | _odd,
        "batch_id": _odd,
        "fund": _odd,
        "error": _odd,
    },
)
_messages = st.builds(
    lambda member, fields: json.dumps(member | {"batch_id": "THE BATCH"} | fields).encode("utf-8", "surrogatepass"),
    st.sampled_from(MEMBERS),
    _fields,
)
_raw = st.binary(max_size=60) | st.binary(max_size=20).map(lambda rest: b'{"batch_id": "THE BATCH"' + rest)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(messages=st.lists(_messages | _raw, min_size=1, max_size=6))
@example([b"\xff\xfe"])
def test_no_message_breaks_a_report(redis, namespace, reports, messages):
    with sk.monitor(redis, namespace=namespace) as seen:
        for raw in messages:
            typed(redis, reports, raw)
        with warnings.catch_warnings(action="error", category=RuntimeWarning):
            reports.read()
            work(redis, namespace)
            reports.read()
    assert len(seen.table()) >= len(messages)
    assert seen._repr_html_()


@pytest.mark.parametrize("moment", [-1, 1_700_000_000_000, 1e300, 10**400, math.nan, math.inf, "tomorrow"], ids=short)
def test_an_invalid_time_is_refused_by_name_and_breaks_no_report(redis, namespace, reports, moment):
    typed(redis, reports, json.dumps(MEMBERS[0] | {"batch_id": "THE BATCH", "published_at": moment}).encode())
    work(redis, namespace)
    assert reports.read().empty
    assert DeadLetters(redis, namespace=namespace).list()["error"].item().startswith("BadMessage: published_at: ")


@pytest.mark.parametrize(
    "moment", [-1, 1_700_000_000_000, 1e300, 10**400, math.nan, math.inf, "tomorrow", [1], None], ids=short
)
def test_events_logged_by_older_versions_break_no_report(redis, keys, reports, moment):
    event = {
        "batch": reports.batch.id,
        "message": "m",
        "worker": "lab-1/aa",
        "thread": "scraper-1",
        "delivery": "stream",
    }
    times = {"received_at": 1.0, "started_at": 2.0, "fetched_at": 3.0, "stored_at": 4.0, "published_at": moment}
    text = json.dumps(event | times | {"cnpj": "18993924000100", "month": "12/2022", "quotes": 1})
    redis.xadd(keys.events, {"outcome": "done", "attempt": 1, "event": text})
    events = reports.read()
    assert list(events["stored_at"]) == [pd.Timestamp(4, unit="s", tz="UTC")]
    assert events["published_at"].isna().all()


def test_events_that_no_worker_wrote_are_ignored(redis, keys, reports):
    for text in (reports.batch.id, f'["{reports.batch.id}"]', f'{{"batch": "{reports.batch.id}"}}'):
        redis.xadd(keys.events, {"event": text, "outcome": "done", "attempt": "x"})
    redis.xadd(keys.events, {"event": f'{{"batch": "{reports.batch.id}"}}'})
    assert reports.read().empty


def test_invalid_counts_in_an_event_read_as_0(redis, keys, reports):
    event = {"batch": reports.batch.id, "quotes": "many", "changed": 2**70, "withdrawn": None}
    redis.xadd(keys.events, {"outcome": "done", "attempt": 1, "event": json.dumps(event)})
    assert reports.read()[["quotes", "changed", "withdrawn"]].values.tolist() == [[0, 0, 0]]
