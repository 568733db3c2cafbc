"""Checks of the exercises of ``03_workers_in_the_background``."""

from __future__ import annotations

from typing import Any

from scraperkit.batch import Batch
from scraperkit.lessons.answers import batch_of, unfinished
from scraperkit.lessons.lesson import Lesson
from scraperkit.models import Month

_TWO_YEARS = set(map(str, Month(2021, 1).until(Month(2022, 12))))
_THREADS = 6
_ATTEMPTS = 3


def check_1(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a batch that one subscriber began and another finished."""
    batch, hint = batch_of(answer, _TWO_YEARS)
    if batch is None:
        return hint
    if hint := unfinished(batch):
        return hint
    workers = batch.events()["worker"].nunique()
    return None if workers >= 2 else "one subscriber did all of it: it has to stop earlier. Is the site slow enough?"


def check_2(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a batch that six threads of one subscriber have done."""
    if not isinstance(answer, Batch):
        return f"the answer is the batch that publish() returns; this is a {type(answer).__name__}."
    if hint := unfinished(answer):
        return hint
    events = answer.events()
    if events.empty:
        return "this batch fetched nothing: force=True fetches stored months again."
    if events["worker"].nunique() > 1:
        return "more than one subscriber took part."
    threads = events["thread"].nunique()
    return None if threads == _THREADS else f"{threads} threads took part."


def check_3(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a batch of one job that was tried three times and is a dead letter."""
    if not isinstance(answer, Batch):
        return f"the answer is the batch that publish() returns; this is a {type(answer).__name__}."
    status = answer.status()
    if status.published != 1:
        return f"one job is enough; this batch has {status.published}."
    if status.pending:
        return "the job is still pending: wait for the batch while a subscriber works."
    events = answer.events()
    if list(events["outcome"]).count("dead") != 1:
        return "the job is not a dead letter."
    attempts = len(events)
    return None if attempts == _ATTEMPTS else f"it was tried {attempts} times. Which setting says how often?"
