"""Lesson 05: its tools do what the text says, and its checks know a right answer from a wrong one."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from support.fakes import FakeSite, GatedSite, months

from scraperkit import lessons, plot
from scraperkit.config import Settings
from scraperkit.deadletters import DeadLetters
from scraperkit.lessons import failures
from scraperkit.lessons.own_redis import own_redis
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber

AT_ONCE = {"threads": 2, "max_attempts": 1}


@pytest.fixture
def lesson(redis_url):
    lesson = lessons.begin("05_when_things_fail", redis_url=redis_url)
    yield lesson
    lesson.close()
    plt.close("all")


def worker(lesson, answer=None, **settings) -> Subscriber:
    site = FakeSite(answer) if answer else FakeSite()
    return Subscriber(lesson.redis, site, settings=Settings.load(**AT_ONCE | settings))


class TestARedisOfItsOwn:
    def test_leaves_no_folder(self):
        with own_redis() as server:
            assert server.running
        assert not server.running
        assert not server.folder.exists()
        server.close()

    def test_is_closed_with_its_lesson_when_the_first_cell_is_run_again(self):
        first = own_redis()
        lessons.begin("05_when_things_fail", redis_url=first.url).enter(first, last=True)
        with own_redis() as second:
            lesson = lessons.begin("05_when_things_fail", redis_url=second.url)
            assert not first.running
            assert not first.folder.exists()
            assert lesson.end().done

    def test_keeps_its_data_when_killed_and_ends_after_the_lesson(self):
        server = own_redis()
        lesson = lessons.begin("05_when_things_fail", redis_url=server.url)
        lesson.enter(server, last=True)
        batch = Publisher(lesson.redis).publish(months(3))
        server.kill()
        assert not server.running
        server.restart()
        assert batch.status().pending == 3
        assert lesson.end().done
        assert not server.folder.exists()


@pytest.mark.parametrize("delivery", ["stream", "pubsub"])
def test_unsettled_messages_of_a_worker_are_found_for_both_deliveries(lesson, delivery):
    site = GatedSite()
    with Subscriber(lesson.redis, site, threads=1) as anna:
        batch = Publisher(lesson.redis, delivery=delivery).publish(months(1))
        assert site.inside.acquire(timeout=60)
        assert failures.in_hand(lesson, anna, batch) == ["01/2021"]
        site.gate.set()
        batch.wait(60, progress=False)
        assert failures.in_hand(lesson, anna, batch) == []


class TestCharts:
    def test_a_moment_after_the_last_job_is_marked(self, lesson):
        with worker(lesson):
            batch = Publisher(lesson.redis).publish(months(4))
            batch.wait(60)
        later = batch.events()["published_at"].min() + pd.Timedelta(seconds=9)
        ax = failures.mark(plot.timeline(batch.events()), batch, {"the end": later})
        assert ax.lines[-1].get_xdata()[0] == 9
        assert ax.get_xlim()[1] > 9
        assert ax.texts[-1].get_text() == "the end"

    def test_bars_count_the_outcomes_of_a_batch(self, lesson):
        with worker(lesson, lambda request: [] if request.month < 3 else 1 / 0):
            batches = {"a": Publisher(lesson.redis).publish(months(4))}
            batches["a"].wait(60, progress=False)
        ax = failures.outcomes(batches)
        assert [bar.get_width() for bar in ax.patches] == [2, 2]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["done", "failed"]

    def test_deaths_are_drawn_on_one_scale(self, lesson):
        drawn = {}
        for name, year in (("a", 2021), ("b", 2022)):
            with worker(lesson):
                batch = Publisher(lesson.redis).publish(months(3, year=year))
                batch.wait(60, progress=False)
            drawn[name] = (batch, batch.events()["published_at"].min() + pd.Timedelta(seconds=len(drawn)))
        figure = failures.deaths(drawn).figure
        assert len({ax.get_xlim() for ax in figure.axes}) == 1
        assert figure.axes[0].get_title(loc="left") == "a: 3 published, 3 done"


class TestMonthsDoneTwice:
    @pytest.fixture
    def log(self, lesson):
        for batch, month, outcome in (
            *(("one", "01/2022", "done"), ("one", "01/2022", "superseded"), ("one", "02/2022", "done")),
            *(("two", "03/2022", "superseded"), ("two", "03/2022", "done")),
        ):
            event = json.dumps({"batch": batch, "month": month})
            lesson.redis.xadd(lesson.keys.events, {"outcome": outcome, "attempt": 1, "event": event})

    @pytest.mark.parametrize("answer", [["01/2022"], pd.Series(["01/2022"]), "01/2022", {"03/2022"}])
    def test_the_superseded_months_are_right(self, lesson, log, answer):
        assert lesson.check(1, answer).done

    @pytest.mark.parametrize(
        ("answer", "hint"),
        [
            ([], "the list is empty"),
            (7, "a list of months"),
            (["02/2022"], "these are not the months"),
            (["01/2022", "02/2022"], "too many months"),
        ],
    )
    def test_other_answers_get_a_hint(self, lesson, log, answer, hint):
        assert hint in lesson.check(1, answer).text


class TestMonthsThatAChannelLost:
    """Two of four months are done over a channel, two are lost."""

    @pytest.fixture
    def lost(self, lesson):
        channel = Publisher(lesson.redis, delivery="pubsub")
        with pytest.warns(match="no subscriber on"):
            channel.publish(months(2))
        with worker(lesson):
            channel.publish(months(4)[2:]).wait(60)
        return months(4)[:2]

    def check(self, lesson, requests, **options):
        with worker(lesson):
            batch = Publisher(lesson.redis).publish(requests, **options)
            batch.wait(60)
        return lesson.check(2, batch)

    def test_publishing_only_missing_months_is_right(self, lesson, lost):
        assert self.check(lesson, months(4), only_missing=True).done

    def test_months_done_before_get_a_hint(self, lesson, lost):
        assert "2 of these months were done before, such as 03/2021" in self.check(lesson, months(4), force=True).text

    def test_pending_months_get_a_hint(self, lesson, lost):
        assert "1 are pending" in lesson.check(2, Publisher(lesson.redis).publish(lost[:1])).text

    def test_a_batch_of_another_fund_gets_a_hint(self, lesson):
        assert "another fund" in self.check(lesson, months(1)).text


class TestDeadLetterOfAPoisonMessage:
    @pytest.fixture
    def letters(self, lesson):
        texts = ["hello", '{"document": "18993924000101", "fund_pk": "132922", "month_year": "12/2022"}']
        with worker(lesson, lambda _: 1 / 0) as subscriber:
            Publisher(lesson.redis).publish(months(1)).wait(60, progress=False)
            for text in texts:
                lesson.redis.xadd(lesson.keys.jobs, {"message": text})
            lesson.wait_until(lambda: subscriber.outcomes["dead"] == 3)
        return list(DeadLetters(lesson.redis).list().index)

    def test_its_id_is_right(self, lesson, letters):
        assert lesson.check(3, letters[2]).done

    def test_other_letters_get_a_hint(self, lesson, letters):
        assert "failed for another reason: ZeroDivisionError" in lesson.check(3, letters[0]).text
        assert "not about the document" in lesson.check(3, letters[1]).text
        assert "no dead letter with that id" in lesson.check(3, "1-1").text
