"""Checks of the exercises of ``01_publish_batches``."""

from __future__ import annotations

from typing import Any

from scraperkit.batch import Batch
from scraperkit.errors import BadMessage
from scraperkit.lessons.answers import AGAIN, batch_of, unfinished
from scraperkit.lessons.lesson import Lesson
from scraperkit.models import Fund, Month, ScrapeRequest

_FUND = Fund("18993924000100", "132922")


def check_1(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a message written by hand: March 2023 of the lesson's fund."""
    if not isinstance(answer, str):
        return f"a message is text, in quotes; this is a {type(answer).__name__}."
    try:
        request = ScrapeRequest.parse(answer)
    except BadMessage as error:
        return f"a worker would put this among the dead letters: {error}."
    if (request.document, request.fund_pk) != (_FUND.cnpj, _FUND.pk):
        return "a fine message, but for another fund: compare document and fund_pk with the one above."
    if request.acked:
        return "acked says that it is already done, so no worker would do it."
    return None if request.month_year == "03/2023" else f"a fine message, but it asks for {request.month_year}."


def check_2(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a batch of six months that went over the channel and was done."""
    batch, hint = batch_of(answer, set(map(str, Month(2021, 1).until(Month(2021, 6)))))
    if batch is None:
        return hint
    kept = batch.receivers is None and batch.status().pending
    if kept or (batch.events()["delivery"] == "stream").any():
        return f"these went to the stream, where nothing is lost anyway; the channel is delivery='pubsub'. {AGAIN}"
    return unfinished(batch)


def check_3(lesson: Lesson, answer: Any) -> str | None:
    """Check a batch of those months of a year that were missing: all of the year is stored now."""
    if not isinstance(answer, Batch):
        return batch_of(answer, set())[1]
    months = set(answer.jobs()["month"])
    if not months:
        return "nothing was missing: the whole year is stored by now. Take 2023, after you have collected a part of it."
    if len(months) == 12:
        return "this requests all twelve months again; one argument of publish leaves out what is stored."
    if hint := unfinished(answer):
        return hint
    years = {Month.parse(month).year for month in months}
    stored = set(lesson.redis.hkeys(lesson.keys.months(_FUND.cnpj)))
    missing = {Month(year, month).iso for year in years for month in range(1, 13)} - stored
    if missing:
        return f"{min(missing)} is not stored yet, though the exercise asks for the whole year."
    return None
