"""A lesson begins in its own namespace, checks answers with hints, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import threading

import pandas as pd
import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.fakes import FakeSite

from scraperkit import lessons
from scraperkit.engine.worker import Worker, WorkerLoop
from scraperkit.errors import ConfigError, WorkerError
from scraperkit.lessons import LESSONS, Lesson, Verdict, publishing, subscribing, tour
from scraperkit.lessons import lesson as lesson_module
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.sources.rates import rates
from scraperkit.subscriber import Subscriber

FUND = Fund("18993924000100", "132922")


@pytest.fixture
def begin(redis_url, monkeypatch):
    """Begin lessons on the test's Redis; close them after the test."""
    monkeypatch.delenv("SCRAPERKIT_NAMESPACE", raising=False)
    begun: list[Lesson] = []

    def begin_one(name: str = "01_publish_batches", **options) -> Lesson:
        begun.append(lessons.begin(name, redis_url=redis_url, **options))
        return begun[-1]

    yield begin_one
    for lesson in begun:
        lesson.close()


def keys_of(redis, lesson: Lesson) -> set[str]:
    return set(redis.scan_iter(lesson.keys.pattern))


# ------------------------------------------------------------------ begin and end


def test_a_call_without_a_namespace_uses_the_lessons(begin, redis):
    lesson = begin()
    batch = Publisher(lesson.redis).publish(FUND.months("2022-01", "2022-03"))
    assert batch.keys.namespace == lesson.namespace
    assert lesson.keys.jobs in keys_of(redis, lesson)


def test_the_end_deletes_the_lessons_keys_and_no_others(begin, redis, namespace):
    others = Publisher(redis, namespace=namespace).publish(FUND.months("2022-01"))
    lesson = begin()
    Publisher(lesson.redis).publish(FUND.months("2022-01", "2022-03"))
    verdict = lesson.end()
    assert verdict.done
    assert "no worker failed" in verdict.text
    assert keys_of(redis, lesson) == set()
    assert others.status().pending > 0
    assert "SCRAPERKIT_NAMESPACE" not in os.environ


def test_tables_show_errors_in_full_and_do_not_wrap_dates(begin):
    before = pd.get_option("display.max_colwidth")
    lesson = begin()
    error = "NotACvmPage: not the daily page: " + "it has no element, " * 9 + "none"
    assert error in pd.DataFrame({"error": [error]})._repr_html_()
    assert "table.dataframe th, table.dataframe td:not(:last-child) { white-space: nowrap; }" in lesson._repr_html_()
    lesson.end()
    assert pd.get_option("display.max_colwidth") == before


def test_rates_come_from_the_offline_site_until_the_end(begin, redis):
    lesson = begin()
    assert lesson.site is not None
    cdi = rates("cdi", "2022-01-03", "2022-01-05", redis=redis)
    assert cdi.attrs["source"].startswith("invented figures of a replica")
    lesson.end()
    assert "SCRAPERKIT_SGS_URL" not in os.environ


def test_a_lesson_knows_the_address_of_its_redis(begin, redis_url, monkeypatch):
    assert begin().redis_url == redis_url
    monkeypatch.setenv("REDIS_URL", redis_url)
    another = lessons.begin("01_publish_batches")
    assert another.redis_url == redis_url
    another.close()


def test_the_end_restores_the_earlier_namespace(begin, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", "mine")
    lesson = begin()
    assert os.environ["SCRAPERKIT_NAMESPACE"] == lesson.namespace
    lesson.end()
    assert os.environ["SCRAPERKIT_NAMESPACE"] == "mine"


def test_running_the_first_cell_again_closes_the_open_lesson(begin, redis):
    first = begin()
    site = first.site
    Publisher(first.redis).publish(FUND.months("2022-01"))
    second = begin()
    assert first.namespace != second.namespace
    assert keys_of(redis, first) == set()
    assert "stopped" in repr(site)
    assert "over" in repr(first)
    assert second.end().done


def test_end_may_be_called_twice(begin):
    lesson = begin()
    lesson.end()
    assert "already over" in lesson.end().text


def test_a_kernel_shut_down_in_the_middle_cleans_up(redis, redis_url):
    code = (
        "import os, scraperkit as sk\n"
        "lesson = sk.lessons.begin('01_publish_batches')\n"
        "sk.Publisher(lesson.redis).publish(sk.Fund('18993924000100', '132922').months('2022-01', '2022-03'))\n"
        "sk.Subscriber(lesson.redis, lesson.source, threads=1).start()\n"
        "print(lesson.namespace, lesson.redis.exists(lesson.keys.jobs))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "REDIS_URL": redis_url}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    name, there = done.stdout.split()
    assert there == "1"
    assert list(redis.scan_iter(f"{name}:*")) == []


def test_an_unknown_lesson_is_refused():
    with pytest.raises(ConfigError, match="unknown lesson '07_nothing'; choose one of 00_tour"):
        lessons.begin("07_nothing")


def test_the_lesson_that_breaks_its_site_refuses_to_run_live(redis_url):
    with pytest.raises(ConfigError, match="^live: .* leave LIVE = False"):
        lessons.begin("05_when_things_fail", live=True, redis_url=redis_url)


def test_a_live_lesson_has_no_offline_site(begin):
    lesson = begin(live=True)
    assert lesson.site is None
    assert lesson.source.url.startswith("https://cvmweb.cvm.gov.br")
    assert lesson.cnpjs == ["18993924000100"]
    assert "live" in lesson._repr_html_()


def test_the_funds_of_a_lesson_are_on_the_site(begin):
    lesson = begin()
    assert len(lesson.cnpjs) >= 10
    assert lesson.source.find_fund(lesson.cnpjs[9]).cnpj == lesson.cnpjs[9]


# ----------------------------------------------------------------- what end asserts


def test_the_end_names_a_subscriber_that_was_left_running(begin, redis):
    lesson = begin()
    subscriber = Subscriber(lesson.redis, FakeSite(), threads=1).start()
    name = subscriber.name
    with pytest.raises(WorkerError, match=f"{name} was still listening: end a subscriber with stop"):
        lesson.end()
    assert not subscriber.running
    assert keys_of(redis, lesson) == set()


def test_the_end_reports_a_failed_engine(begin, monkeypatch):
    async def broken(self):
        raise ZeroDivisionError("the engine is broken")

    lesson = begin()
    subscriber = Subscriber(lesson.redis, FakeSite(), threads=1).start()
    monkeypatch.setattr(WorkerLoop, "keep_house", broken)
    lesson.wait_until(lambda: subscriber.error is not None)
    with pytest.raises(WorkerError, match="ZeroDivisionError: the engine is broken"):
        lesson.end()


def test_the_end_names_a_worker_that_was_stepped_and_not_closed(begin, monkeypatch):
    monkeypatch.setattr(lesson_module, "_JOIN_SECONDS", 0.05)
    lesson = begin()

    async def step_and_forget():
        worker = Worker(lesson.redis, FakeSite(), threads=1)
        await worker.step()
        name = worker.name
        with pytest.raises(WorkerError, match=f"still at work: {name} .*await worker.close"):
            lesson.end()
        await worker.close()

    asyncio.run(step_and_forget())


def test_the_end_names_a_thread_that_still_runs(begin, monkeypatch):
    monkeypatch.setattr(lesson_module, "_JOIN_SECONDS", 0.05)
    lesson = begin()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="scraper-9")
    thread.start()
    try:
        with pytest.raises(WorkerError, match="threads still run: scraper-9"):
            lesson.end()
    finally:
        gate.set()
        thread.join()


def test_the_end_reports_an_unreachable_redis(begin, redis):
    lesson = begin()
    namespace = lesson.namespace
    lesson.redis.close()
    lesson.redis = redis_py.Redis(port=1, retry=Retry(NoBackoff(), 0))
    with pytest.raises(WorkerError, match=f"Redis does not respond, so the keys of {namespace} are still there"):
        lesson.end()
    assert "SCRAPERKIT_NAMESPACE" not in os.environ


def test_context_managers_are_exited_latest_first(begin):
    lesson = begin()
    left = []

    class Resource:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            return self

        def __exit__(self, *_):
            left.append(self.name)

    assert lesson.enter(Resource("first")).name == "first"
    lesson.enter(Resource("last of all"), last=True)
    lesson.enter(Resource("second"))
    lesson.end()
    assert left == ["second", "first", "last of all"]


def test_waiting_too_long_raises_a_clear_error(begin):
    lesson = begin()
    lesson.wait_until(lambda: True)
    with pytest.raises(TimeoutError, match=r"still false after 0\.01 s"):
        lesson.wait_until(lambda: False, seconds=0.01)


# ------------------------------------------------------------------------- checks


def test_an_unsolved_exercise_says_what_to_do(begin):
    verdict = begin().check(1, ...)
    assert not verdict.done
    assert verdict.text == "Exercise 1: put your answer in place of the dots, run that cell, then this one."


def test_an_answer_that_breaks_the_check_gets_a_hint(begin):
    lesson = begin("02_subscribe_step_by_step")
    batch = Publisher(lesson.redis).publish(FUND.months("2021-08", "2021-08"))
    lesson.redis.set(batch.keys.events, "not a stream")
    verdict = lesson.check(2, batch)
    assert not verdict.done
    assert verdict.text.startswith("Exercise 2: this answer cannot be checked (RedisRefused: ")


def test_an_unknown_exercise_is_refused(begin):
    with pytest.raises(ConfigError, match="lesson 01_publish_batches has no exercise 9"):
        begin().check(9, 1)


@pytest.mark.parametrize("name", LESSONS)
def test_every_check_answers_nonsense_with_a_hint(begin, name):
    lesson = begin(name)
    numbers = [number for number in range(1, 5) if hasattr(module_of(name), f"check_{number}")]
    assert len(numbers) in (2, 3)
    for number in numbers:
        for nonsense in (None, "", "no", -1, 10**9, 0.5, [], {}, object()):
            verdict = lesson.check(number, nonsense)
            assert not verdict.done, (number, nonsense)
            assert verdict.text.startswith(f"Exercise {number}: ")
            assert "cannot be checked" not in verdict.text, (number, nonsense, verdict)


def module_of(name: str):
    return importlib.import_module(f"scraperkit.lessons.{LESSONS[name]}")


def test_a_verdict_is_escaped_in_html():
    shown = Verdict(False, "<b>&")._repr_html_()
    assert "&lt;b&gt;&amp;" in shown
    assert "✔" not in shown
    assert "✔" in Verdict(True, "done")._repr_html_()
    assert repr(Verdict(True, "done")) == "done"


# ---------------------------------------------------- the hints of the first lessons


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ({"document": "18993924000100"}, "a message is text, in quotes; this is a dict."),
        ("{'document': 1}", "a worker would put this among the dead letters"),
        ('{"document": "18993924000100", "fund_pk": "132922", "month_year": "3/2023"}', "must be a month (MM/YYYY)"),
        ('{"document": "99101011000125", "fund_pk": "132922", "month_year": "03/2023"}', "for another fund"),
        ('{"document": "18993924000100", "fund_pk": "132922", "month_year": "04/2023"}', "it asks for 04/2023"),
        (
            '{"document": "18993924000100", "fund_pk": "132922", "month_year": "03/2023", "acked": true}',
            "acked says that it is already done",
        ),
        ('{"document": "18.993.924/0001-00", "fund_pk": 132922, "month_year": "03/2023"}', None),
    ],
)
def test_hints_for_a_handwritten_message(begin, answer, hint):
    said = publishing.check_1(begin(), answer)
    assert said is None if hint is None else hint in said


def test_hints_for_a_batch_over_a_channel(begin):
    lesson = begin()
    half_a_year = FUND.months("2021-01", "2021-06")
    channel = Publisher(lesson.redis, delivery="pubsub")
    assert "these months are missing or unexpected: 06/2021" in publishing.check_2(
        lesson, stream(lesson, half_a_year[:5])
    )
    kept = stream(lesson, half_a_year)
    assert "went to the stream" in publishing.check_2(lesson, kept)
    with Subscriber(lesson.redis, FakeSite(), threads=2):
        kept.wait(60)
    said_once_more = channel.publish(half_a_year)
    assert "Publish with force=True when you try again" in publishing.check_2(lesson, said_once_more)
    with pytest.warns(UserWarning, match="no subscriber on"):
        lost = channel.publish(half_a_year, force=True)
    assert "6 are lost" in publishing.check_2(lesson, lost)
    with Subscriber(lesson.redis, FakeSite(), threads=2):
        done = channel.publish(half_a_year, force=True)
        done.wait(60)
    assert publishing.check_2(lesson, done) is None


def test_hints_for_the_missing_months(begin):
    lesson = begin()
    year = FUND.months("2022-01", "2022-12")
    early = stream(lesson, year[:7])
    with Subscriber(lesson.redis, FakeSite(), threads=2):
        early.wait(60)
    assert "2022-08 is not stored yet" in publishing.check_3(lesson, early)
    missing = Publisher(lesson.redis).publish(year, only_missing=True)
    assert "5 are pending" in publishing.check_3(lesson, missing)
    with Subscriber(lesson.redis, FakeSite(), threads=2):
        missing.wait(60)
    assert publishing.check_3(lesson, missing) is None
    assert "all twelve months" in publishing.check_3(lesson, stream(lesson, year))
    nothing = Publisher(lesson.redis).publish(year, only_missing=True)
    assert "nothing was missing" in publishing.check_3(lesson, nothing)


def test_hints_for_the_number_of_rounds(begin):
    lesson = begin("02_subscribe_step_by_step")
    assert subscribing.check_1(lesson, 3) is None
    assert "still find anything" in subscribing.check_1(lesson, 4)
    assert "one message for each of its threads" in subscribing.check_1(lesson, 7)
    assert "a whole number" in subscribing.check_1(lesson, "3")
    assert "a whole number" in subscribing.check_1(lesson, True)


@pytest.mark.parametrize(
    ("delivery", "claim", "workers", "hint"),
    [
        ("pubsub", False, 3, None),
        ("pubsub", False, 2, "2 of three workers have done it. Publish with force=True"),
        ("pubsub", True, 3, "3 received it, but one claimed it"),
        ("stream", True, 3, "from a stream each message goes to one worker only"),
    ],
)
def test_hints_for_one_message_and_three_workers(begin, delivery, claim, workers, hint):
    lesson = begin("02_subscribe_step_by_step")

    async def work():
        crowd = [Worker(lesson.redis, FakeSite(), threads=1, claim=claim) for _ in range(workers)]
        for worker in crowd:
            await worker.start()
        batch = Publisher(lesson.redis, delivery=delivery).publish(FUND.months("2021-08", "2021-08"))
        for worker in crowd:
            await worker.step()
            await worker.close()
        return batch

    said = subscribing.check_2(lesson, asyncio.run(work()))
    assert said is None if hint is None else hint in said


@pytest.mark.parametrize(
    ("delivery", "rounds", "hint"),
    [
        ("stream", (2, 1), None),
        ("stream", (3, 0), "the shares are 6."),
        ("stream", (1, 1), "2 are pending"),
        ("pubsub", (2, 1), "the stream is what a group shares"),
    ],
)
def test_hints_for_an_uneven_share(begin, delivery, rounds, hint):
    lesson = begin("02_subscribe_step_by_step")

    async def work():
        pair = [Worker(lesson.redis, FakeSite(), threads=2) for _ in range(2)]
        for worker in pair:
            await worker.start()
        batch = Publisher(lesson.redis, delivery=delivery).publish(FUND.months("2022-01", "2022-06"))
        for worker, count in zip(pair, rounds, strict=True):
            for _ in range(count if delivery == "stream" else 3):
                await worker.step()
        said = subscribing.check_3(lesson, batch)
        for worker in pair:
            await worker.close()
        return said

    said = asyncio.run(work())
    assert said is None if hint is None else hint in said


def test_hints_for_the_deepest_fall(begin):
    lesson = begin("00_tour")
    with Subscriber(lesson.redis, lesson.source, threads=4):
        requests = [r for cnpj in lesson.cnpjs[:2] for r in lesson.source.find_fund(cnpj).months("2022-01", "2022-03")]
        Publisher(lesson.redis).publish(requests).wait(60)
    assert tour.check_1(lesson, "18.993.924/0001-00") is None
    assert "fell least" in tour.check_1(lesson, lesson.cnpjs[1])
    assert "that is not a CNPJ" in tour.check_1(lesson, "Fundo")
    assert "a CNPJ, as text" in tour.check_1(lesson, 1)


def test_hints_for_a_year_of_the_first_fund(begin):
    lesson = begin("00_tour")
    year = ("2021-01", "2021-12")
    other = Fund(lesson.cnpjs[1], "1")
    assert "not for the first fund" in tour.check_2(lesson, stream(lesson, other.months(*year)))
    assert "12 are pending" in tour.check_2(lesson, stream(lesson, FUND.months(*year)))
    with Subscriber(lesson.redis, FakeSite(), threads=2):
        batch = stream(lesson, FUND.months(*year))
        batch.wait(60)
    assert tour.check_2(lesson, batch) is None


def stream(lesson: Lesson, requests):
    return Publisher(lesson.redis).publish(requests)
