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

    def test_keeps_what_it_was_told_and_ends_after_the_lesson_s_keys(self):
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
def test_what_a_worker_has_in_hand_is_known_for_both_deliveries(lesson, delivery):
    site = GatedSite()
    with Subscriber(lesson.redis, site, threads=1) as anna:
        batch = Publisher(lesson.redis, delivery=delivery).publish(months(1))
        assert site.inside.acquire(timeout=60)
        assert failures.in_hand(lesson, anna, batch) == ["01/2021"]
        site.gate.set()
        batch.wait(60, progress=False)
        assert failures.in_hand(lesson, anna, batch) == []


class TestPictures:
    def test_a_moment_is_marked_where_it_was_even_after_the_last_job(self, lesson):
        with worker(lesson):
            batch = Publisher(lesson.redis).publish(months(4))
            batch.wait(60)
        later = batch.events()["published_at"].min() + pd.Timedelta(seconds=9)
        ax = failures.mark(plot.timeline(batch.events()), batch, {"the end": later})
        assert ax.lines[-1].get_xdata()[0] == 9
        assert ax.get_xlim()[1] > 9
        assert ax.texts[-1].get_text() == "the end"

    def test_outcomes_are_bars_as_long_as_the_batch(self, lesson):
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


class TestWhatWasDoneTwice:
    @pytest.fixture
    def log(self, lesson):
        for batch, month, outcome in (
            *(("one", "01/2022", "done"), ("one", "01/2022", "superseded"), ("one", "02/2022", "done")),
            *(("two", "03/2022", "superseded"), ("two", "03/2022", "done")),
        ):
            event = json.dumps({"batch": batch, "month": month})
            lesson.redis.xadd(lesson.keys.events, {"outcome": outcome, "attempt": 1, "event": event})

    @pytest.mark.parametrize("answer", [["01/2022"], pd.Series(["01/2022"]), "01/2022", {"03/2022"}])
    def test_is_found(self, lesson, log, answer):
        assert lesson.check(1, answer).done

    @pytest.mark.parametrize(
        ("answer", "hint"),
        [
            ([], "the list is empty"),
            (7, "a list of months"),
            (["02/2022"], "these are not the months"),
            (["01/2022", "02/2022"], "months too many"),
        ],
    )
    def test_is_missed(self, lesson, log, answer, hint):
        assert hint in lesson.check(1, answer).text


class TestWhatWasLost:
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

    def test_is_brought_back(self, lesson, lost):
        assert self.check(lesson, months(4), only_missing=True).done

    def test_and_nothing_else_is_wanted(self, lesson, lost):
        assert "2 of these months were done before, 03/2021" in self.check(lesson, months(4), force=True).text

    def test_but_still_to_be_done(self, lesson, lost):
        assert "1 are pending" in lesson.check(2, Publisher(lesson.redis).publish(lost[:1])).text

    def test_in_another_batch_than_that_of_another_fund(self, lesson):
        assert "another fund" in self.check(lesson, months(1)).text


class TestAPoisonedStream:
    @pytest.fixture
    def letters(self, lesson):
        texts = ["hello", '{"document": "18993924000101", "fund_pk": "132922", "month_year": "12/2022"}']
        with worker(lesson, lambda _: 1 / 0) as subscriber:
            Publisher(lesson.redis).publish(months(1)).wait(60, progress=False)
            for text in texts:
                lesson.redis.xadd(lesson.keys.jobs, {"message": text})
            lesson.wait_until(lambda: subscriber.outcomes["dead"] == 3)
        return list(DeadLetters(lesson.redis).list().index)

    def test_has_the_letter(self, lesson, letters):
        assert lesson.check(3, letters[2]).done

    def test_has_other_letters_too(self, lesson, letters):
        assert "died of something else: ZeroDivisionError" in lesson.check(3, letters[0]).text
        assert "about something else than the document" in lesson.check(3, letters[1]).text
        assert "no dead letter of that id" in lesson.check(3, "1-1").text
