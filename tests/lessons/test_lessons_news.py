"""The exercises of lesson 08: the right answers pass, and each wrong one gets a hint that fits."""

from __future__ import annotations

import pytest
from support.fakes import FakeSite

from scraperkit import lessons
from scraperkit.lessons import news_live
from scraperkit.models import Fund
from scraperkit.publisher import Publisher
from scraperkit.subscriber import Subscriber

MONTHS = {f"2023-{month:02d}" for month in range(7, 13)}


@pytest.fixture
def lesson(redis_url):
    lesson = lessons.begin("08_news_live", redis_url=redis_url)
    yield lesson
    lesson.close()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda news: max(stored.month for stored in news), None),
        (lambda news: news[-1].month, "they arrive in no fixed order"),
        (lambda news: news[0].month, "they arrive in no fixed order"),
        (lambda news: print(len(news)), "end it with return"),
        (lambda news: "2022-11", "a single announcement"),
        (lambda news: max(stored.days for stored in news), "a single announcement"),
        ("2022-11", "the function itself"),
        (3, "this is a int"),
    ],
)
def test_hints_for_a_function_for_the_news(lesson, answer, hint):
    said = news_live.check_1(lesson, answer)
    assert said is None if hint is None else hint in said


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (12, None),
        (4, "what one listener receives"),
        (24, "by one worker only"),
        (8, "by one worker only"),
        (7, "who gets a copy"),
        (12.0, "a whole number"),
        (True, "a whole number"),
    ],
)
def test_hints_for_the_number_of_copies(lesson, answer, hint):
    said = news_live.check_2(lesson, answer)
    assert said is None if hint is None else hint in said


def test_hints_for_a_late_listener(lesson):
    assert "2023-07 is not stored" in news_live.check_3(lesson, MONTHS)
    with Subscriber(lesson.redis, FakeSite(), threads=2):
        Publisher(lesson.redis).publish(Fund("18993924000100", "132922").months("2023-07", "2023-12")).wait(60)
    assert news_live.check_3(lesson, MONTHS) is None
    assert news_live.check_3(lesson, sorted(MONTHS)) is None
    assert "that is what you heard" in news_live.check_3(lesson, {"2023-10", "2023-11", "2023-12"})
    assert "that is what you read" in news_live.check_3(lesson, {"2023-07", "2023-08", "2023-09"})
    assert "missing or unexpected: 2023-07" in news_live.check_3(lesson, MONTHS - {"2023-07"})
    assert "a set of months" in news_live.check_3(lesson, "2023-07")
    assert "a set of months" in news_live.check_3(lesson, 6)
