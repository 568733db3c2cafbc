"""Checks of the exercises of ``02_subscribe_step_by_step``."""

from __future__ import annotations

from typing import Any

from scraperkit.lessons.answers import AGAIN, batch_of, unfinished
from scraperkit.lessons.lesson import Lesson
from scraperkit.models import Month


def check_1(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a number of rounds: seven messages, three threads."""
    if isinstance(answer, bool) or not isinstance(answer, int):
        return f"the answer is a whole number; this is a {type(answer).__name__}."
    if answer == 4:
        return "not quite: does the last of these rounds still find anything to do?"
    return None if answer == 3 else "not quite: in a round, a worker takes one message for each of its threads."


def check_2(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a batch of one message that three workers did."""
    batch, hint = batch_of(answer, {"08/2021"})
    if batch is None:
        return hint
    events = batch.events()
    if (events["delivery"] == "stream").any():
        return f"from a stream each message goes to one worker only; which delivery reaches everybody? {AGAIN}"
    workers = events.loc[events["outcome"] == "done", "worker"].nunique()
    if workers == 1 and batch.receivers and batch.receivers > 1:
        return f"{batch.receivers} received it, but one claimed it and the others ignored it. {AGAIN}"
    return None if workers == 3 else f"{workers} of three workers have done it. {AGAIN}"


def check_3(lesson: Lesson, answer: Any) -> str | None:  # noqa: ARG001
    """Check a batch of six messages that two workers shared, four to two."""
    batch, hint = batch_of(answer, set(map(str, Month(2022, 1).until(Month(2022, 6)))))
    if batch is None:
        return hint
    if hint := unfinished(batch):
        return hint
    events = batch.events()
    if (events["delivery"] != "stream").any():
        return f"these went over the channel; the stream is what a group shares. {AGAIN}"
    shares = sorted(events["worker"].value_counts(), reverse=True)
    if shares == [4, 2]:
        return None
    shown = " and ".join(map(str, shares))
    return f"the shares are {shown}. How many does a worker with two threads do in a round? {AGAIN}"
